//! Finding where a run of bytes ends, eight at a time: most of what reading a head costs.

use super::token;

/// How many bytes at the start of `text` may stand in a field value (RFC 9110 section 5.5).
#[inline]
pub(crate) fn field_bytes(text: &[u8]) -> usize {
    let stops = |word| below(word, b' ') | equal(word, 0x7f);
    run(text, stops, token::is_field_byte)
}

/// How many bytes at the start of `text` are visible ASCII, as all of a request target is.
#[inline]
pub(crate) fn visible(text: &[u8]) -> usize {
    let stops = |word| below(word, b'!') | equal(word, 0x7f) | (word & all(0x80));
    run(text, stops, |byte| byte.is_ascii_graphic())
}

/// How many bytes at the start of `text` may stand in a token (RFC 9110 section 5.6.2).
#[inline]
pub(crate) fn token_bytes(text: &[u8]) -> usize {
    run(text, unusual_in_token, token::is_tchar)
}

/// How many bytes at the start of `text` pass. `stops` has the high bit of each byte of a word that may be one which does
/// not; it may be wrong about bytes that pass.
#[inline]
fn run(text: &[u8], stops: impl Fn(u64) -> u64, passes: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = text.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let mut stops = stops(u64::from_le_bytes(*word));
        while stops != 0 {
            let stop = (stops.trailing_zeros() / 8) as usize;
            if !passes(word[stop]) {
                return 8 * at + stop;
            }
            stops &= stops - 1;
        }
    }
    let stop = rest.iter().position(|&byte| !passes(byte));
    stop.map_or(text.len(), |stop| text.len() - rest.len() + stop)
}

/// A word of eight times `byte`.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of each byte of `word` that is below `limit`, which is at most 0x7f. Bytes above one that is may have theirs,
/// too: subtracting borrows from them.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(all(limit)) & !word & all(0x80)
}

/// The high bit of each byte of `word` that is `byte`, and maybe of some above one that is, as in [`below`].
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ all(byte), 1)
}

/// The high bit of each byte of `word` that is neither a letter nor a digit nor a hyphen, which names hardly have.
const fn unusual_in_token(word: u64) -> u64 {
    // Without their high bits bytes can be added to without a carry to the next.
    let ascii = word & all(0x7f);
    let lower = ascii | all(0x20);
    let letters = at_least(lower, b'a') & !at_least(lower, b'z' + 1);
    let digits = at_least(ascii, b'0') & !at_least(ascii, b'9' + 1);
    let hyphens = at_least(ascii, b'-') & !at_least(ascii, b'-' + 1);
    (word | !(letters | digits | hyphens)) & all(0x80)
}

/// The high bit of each byte of `ascii` that is `limit` or more; the other bits mean nothing.
const fn at_least(ascii: u64, limit: u8) -> u64 {
    ascii + all(0x80 - limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte value, at each place in a text that is longer than a word, between bytes that pass.
    #[test]
    fn every_byte_stops_where_it_should() {
        for length in 1..20 {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    // What comes after a stop has no say.
                    text[at + 1..].fill(b'\n');
                    let stop = |passes: bool| if passes { length.min(at + 1) } else { at };
                    assert_eq!(field_bytes(&text), stop(token::is_field_byte(byte)));
                    assert_eq!(visible(&text), stop((0x21..0x7f).contains(&byte)));
                    assert_eq!(token_bytes(&text), stop(token::is_tchar(byte)));
                }
            }
        }
    }

    #[test]
    fn runs_of_the_unusual_pass() {
        for length in 0..20 {
            let tabs = [&b"\t\xff".repeat(length)[..], b"\x7f"].concat();
            assert_eq!(field_bytes(&tabs), 2 * length);
            assert_eq!(visible(&tabs), 0);
        }
    }
}
