//! Whether a field block can be decompressed at all (RFC 7541).
//!
//! The fields themselves are the `h2` crate's to decode. It does not tell a block that cannot be decompressed, which is a
//! `COMPRESSION_ERROR` (RFC 9113 section 4.3), from a malformed one, and it forgets the pseudo-fields of trailers. So blocks
//! are walked through beforehand: of the dynamic table only the sizes are kept.

use std::collections::VecDeque;

/// Octets of a dynamic table (RFC 7541 section 4.2): the initial value, and none of our settings changes it.
const TABLE: usize = 4096;

/// What an entry counts besides its octets (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// The largest integer that is taken: no string is longer than what fits into the frames of one block.
const MOST: usize = 1 << 24;

/// Lengths of the names in the static table (RFC 7541 appendix A), by index; 0 has none.
const STATIC: [u8; 62] = [
    0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16,
    14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6,
    10, 25, 17, 10, 4, 3, 16,
];

/// The last entry of the static table that is a pseudo-field.
const LAST_PSEUDO: usize = 14;

/// The Huffman code (RFC 7541 appendix B) is canonical: how many codes there are of each length says all that is needed
/// to tell how long a string is. For each length, the codes below `limit`, as the first bits of 32, that are not shorter.
const CODES: [(u32, u64); 21] = {
    let counts = [
        (5, 10),
        (6, 26),
        (7, 32),
        (8, 6),
        (10, 5),
        (11, 3),
        (12, 2),
        (13, 6),
        (14, 2),
        (15, 3),
        (19, 3),
        (20, 8),
        (21, 13),
        (22, 26),
        (23, 29),
        (24, 12),
        (25, 4),
        (26, 15),
        (27, 19),
        (28, 29),
        // The last of them is EOS, which may not occur.
        (30, 3),
    ];
    let mut codes = [(0, 0); 21];
    let mut limit = 0;
    let mut n = 0;
    while n < codes.len() {
        let (length, count) = counts[n];
        limit += count << (32 - length);
        codes[n] = (length, limit);
        n += 1;
    }
    codes
};

/// The code of a colon, 7 bits long, with which the names of pseudo-fields begin.
const COLON: u8 = 0x5c;

/// A block cannot be decompressed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// What a walk through a block has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) pseudo: bool,
    /// How large the fields are decompressed, as `SETTINGS_MAX_HEADER_LIST_SIZE` counts (RFC 9113 section 6.5.2), but for the
    /// values of the static table, which are short.
    pub(crate) size: usize,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Decompressor {
    entries: VecDeque<Entry>,
    size: usize,
    /// What the peer has made of [`TABLE`], if it has.
    most: Option<usize>,
    /// Octets of a block that do not make a whole representation yet.
    rest: Vec<u8>,
    /// Whether a representation of this block has come, after which the table may not be resized.
    begun: bool,
    met: Met,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u16,
    size: u16,
    pseudo: bool,
}

/// A name or value: how long it is decoded, and whether it begins with a colon.
struct Text {
    length: usize,
    colon: bool,
}

impl Decompressor {
    /// Walks through the next fragment of a block; at its `end`, tells what the block had.
    pub(crate) fn fragment(&mut self, bytes: &[u8], end: bool) -> Result<Met, Broken> {
        let joined;
        let mut block = bytes;
        if !self.rest.is_empty() {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            joined = rest;
            block = &joined;
        }
        while !block.is_empty() {
            let mut next = Reader(block);
            match self.representation(&mut next) {
                Ok(()) => block = next.0,
                Err(Stop::Broken) => return Err(Broken),
                Err(Stop::Short) if end => return Err(Broken),
                Err(Stop::Short) => {
                    self.rest = block.to_vec();
                    break;
                }
            }
        }
        if end {
            self.begun = false;
            return Ok(std::mem::take(&mut self.met));
        }
        Ok(self.met)
    }

    /// RFC 7541 section 6.
    fn representation(&mut self, from: &mut Reader<'_>) -> Result<(), Stop> {
        let first = from.peek()?;
        if first & 0xe0 == 0x20 {
            let most = from.integer(5)?;
            if self.begun || most > TABLE {
                return Err(Stop::Broken);
            }
            self.most = Some(most);
            self.evict(0);
            return Ok(());
        }
        if first & 0x80 != 0 {
            let index = from.integer(7)?;
            let entry = self.entry(index)?;
            self.begun = true;
            self.met.pseudo |= entry.pseudo;
            self.met.size += usize::from(entry.size.max(entry.name));
            return Ok(());
        }
        let kept = first & 0x40 != 0;
        let index = from.integer(if kept { 6 } else { 4 })?;
        let (name, pseudo) = if index == 0 {
            let name = from.text()?;
            (name.length, name.colon)
        } else {
            let entry = self.entry(index)?;
            (entry.name.into(), entry.pseudo)
        };
        let value = from.text()?.length;
        self.begun = true;
        self.met.pseudo |= pseudo;
        self.met.size += name + value + OVERHEAD;
        if kept {
            self.keep(name, value, pseudo);
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<Entry, Stop> {
        match STATIC.get(index) {
            Some(&name) if index > 0 => Ok(Entry {
                name: name.into(),
                size: 0,
                pseudo: index <= LAST_PSEUDO,
            }),
            Some(_) => Err(Stop::Broken),
            None => {
                let entry = self.entries.get(index - STATIC.len());
                entry.copied().ok_or(Stop::Broken)
            }
        }
    }

    /// RFC 7541 section 4.4.
    fn keep(&mut self, name: usize, value: usize, pseudo: bool) {
        let size = name + value + OVERHEAD;
        self.evict(size);
        if let (Ok(name), Ok(short)) = (u16::try_from(name), u16::try_from(size))
            && size <= self.most.unwrap_or(TABLE)
        {
            self.size += size;
            self.entries.push_front(Entry {
                name,
                size: short,
                pseudo,
            });
        }
    }

    /// Makes room for an entry of `size`, which may be more than there is.
    fn evict(&mut self, size: usize) {
        let most = self.most.unwrap_or(TABLE);
        while self.size + size > most {
            let Some(last) = self.entries.pop_back() else {
                return;
            };
            self.size -= usize::from(last.size);
        }
    }
}

/// Why a representation could not be read.
#[derive(Debug)]
enum Stop {
    /// It goes on in the next fragment.
    Short,
    Broken,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.0.first().copied().ok_or(Stop::Short)
    }

    fn octet(&mut self) -> Result<u8, Stop> {
        let (&first, rest) = self.0.split_first().ok_or(Stop::Short)?;
        self.0 = rest;
        Ok(first)
    }

    /// RFC 7541 section 5.1.
    fn integer(&mut self, prefix: u32) -> Result<usize, Stop> {
        let mask = (1_u8 << prefix) - 1;
        let mut value = usize::from(self.octet()? & mask);
        if value < usize::from(mask) {
            return Ok(value);
        }
        // Four octets hold all that is taken; more of them say nothing, or too much.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if value > MOST {
                return Err(Stop::Broken);
            }
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Broken)
    }

    /// RFC 7541 section 5.2.
    fn text(&mut self) -> Result<Text, Stop> {
        let coded = self.peek()? & 0x80 != 0;
        let length = self.integer(7)?;
        let text = self.0.get(..length).ok_or(Stop::Short)?;
        self.0 = &self.0[length..];
        let first = text.first().copied().unwrap_or_default();
        Ok(Text {
            length: if coded { decoded(text)? } else { length },
            colon: if coded {
                first >> 1 == COLON
            } else {
                first == b':'
            },
        })
    }
}

/// How long a Huffman-coded string is.
fn decoded(text: &[u8]) -> Result<usize, Stop> {
    let mut octets = text.iter();
    let mut bits = 0_u64;
    let mut have = 0_u32;
    let mut length = 0;
    loop {
        while have <= 32
            && let Some(&octet) = octets.next()
        {
            bits = bits << 8 | u64::from(octet);
            have += 8;
        }
        // The first 32 of them, with ones for what is not there: the padding, if there is no more than that.
        let window = if have >= 32 {
            bits >> (have - 32)
        } else {
            bits << (32 - have) | ((1_u64 << (32 - have)) - 1)
        } & 0xffff_ffff;
        if have < 8 && window == 0xffff_ffff {
            return Ok(length);
        }
        let code = CODES.iter().find(|(_, limit)| window < *limit);
        match code {
            Some(&(bits, _)) if bits <= have => have -= bits,
            // EOS, or padding that is too long or not of ones.
            _ => return Err(Stop::Broken),
        }
        length += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .map(|b| (b as char).to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    fn sizes(decompressor: &Decompressor) -> Vec<u16> {
        let entries = decompressor.entries.iter();
        entries.map(|entry| entry.size).collect()
    }

    /// The examples of RFC 7541 appendix C.4 and C.5 (with C.6's coding), at every split.
    #[test]
    fn the_table_is_as_in_the_examples() {
        let requests = [
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", vec![57]),
            ("8286 84be 5886 a8eb 1064 9cbf", vec![53, 57]),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                vec![54, 53, 57],
            ),
        ];
        for cut in 1..30 {
            let mut decompressor = Decompressor::default();
            for (block, expected) in &requests {
                let block = hex(block);
                let mut parts = block.chunks(cut).peekable();
                while let Some(part) = parts.next() {
                    let end = parts.peek().is_none();
                    let met = decompressor.fragment(part, end).unwrap();
                    assert!(!end || met.pseudo);
                }
                assert_eq!(&sizes(&decompressor), expected, "{cut}");
            }
        }
        let mut decompressor = Decompressor::default();
        // A table of 256 octets, as those examples have it.
        decompressor.fragment(&hex("3fe101"), true).unwrap();
        for (block, expected) in [
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                vec![63, 65, 52, 42],
            ),
            ("4883 640e ffc1 c0bf", vec![42, 63, 65, 52]),
        ] {
            decompressor.fragment(&hex(block), true).unwrap();
            assert_eq!(sizes(&decompressor), expected);
        }
    }

    #[test]
    fn what_cannot_be_decompressed_is_broken() {
        for block in [
            "80",                // index 0
            "be",                // an index beyond the table
            "ffff ffff ff0f",    // an index beyond everything
            "ff80 8080 8080 00", // an integer that does not end
            "3fe2 1f",           // a table above the limit
            "8220",              // a change of the table's size that is not at the beginning
            "0081 0001 61",      // a name whose code is not complete
            "0001 6182 1fff ff", // the next is padded with more than seven bits
            "0001 6182 1fff",
            "0001 6181 18",        // padding that is not of ones
            "0001 6184 ffff ffff", // EOS
            "0001 6185 1fff ffff ff",
            "0005 61", // cut short
            "40",
            "7f",
        ] {
            let done = Decompressor::default().fragment(&hex(block), true);
            assert_eq!(done, Err(Broken), "{block}");
        }
    }

    #[test]
    fn what_can_be_is_walked_through() {
        for (block, pseudo) in [
            ("", false),
            ("20", false),
            ("203f e11f", false),
            ("82", true),
            ("90", false),
            ("0003 3a78 7901 61", true),
            ("0082 b94f 0161", true), // ":a"
            ("0001 6180", false),
            ("0001 6181 1f", false),
            ("1f2e 0161", false),
            ("0f2e 0161", false),
        ] {
            let met = Decompressor::default().fragment(&hex(block), true);
            assert_eq!(met.unwrap().pseudo, pseudo, "{block}");
        }
    }

    #[test]
    fn what_is_indexed_counts_in_full() {
        let mut decompressor = Decompressor::default();
        let met = decompressor.fragment(&hex("4001 6103 6263 64be be"), true);
        assert_eq!(met.unwrap().size, 3 * 36);
        let met = decompressor.fragment(&hex("bebe bebe"), true);
        assert_eq!(met.unwrap().size, 4 * 36);
    }

    #[test]
    fn an_entry_that_does_not_fit_empties_the_table() {
        let mut decompressor = Decompressor::default();
        decompressor.fragment(&hex("4001 6101 62"), true).unwrap();
        assert_eq!(sizes(&decompressor), [34]);
        let mut large = hex("4001 617f 8120");
        large.resize(large.len() + 127 + 4097, b'x');
        decompressor.fragment(&large, true).unwrap();
        assert_eq!(sizes(&decompressor), [0; 0]);
        assert_eq!(decompressor.size, 0);
    }
}
