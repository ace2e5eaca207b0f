//! Finding where a run of bytes ends, sixteen at a time: most of what reading a head costs.

use wide::u8x16;

use super::token;

/// How many bytes at the start of `text` may stand in a field value (RFC 9110 section 5.5).
#[inline]
pub(crate) fn field_bytes(text: &[u8]) -> usize {
    let stops = |block| at_most(block, b' ' - 1) | equal(block, 0x7f);
    run(text, stops, token::is_field_byte)
}

/// How many bytes at the start of `text` are visible ASCII, as all of a request target is.
#[inline]
pub(crate) fn visible(text: &[u8]) -> usize {
    let stops = |block| !between(block, b'!', b'~');
    run(text, stops, |byte| byte.is_ascii_graphic())
}

/// How many bytes at the start of `text` may stand in a token (RFC 9110 section 5.6.2).
#[inline]
pub(crate) fn token_bytes(text: &[u8]) -> usize {
    run(text, unusual_in_token, token::is_tchar)
}

/// How many bytes at the start of `text` pass. `stops` has all ones for each byte of a block that may be one which does not;
/// it may be wrong about bytes that pass.
#[inline]
fn run(text: &[u8], stops: impl Fn(u8x16) -> u8x16, passes: impl Fn(u8) -> bool) -> usize {
    // The first byte of `block` from `skip` on that does not pass.
    let first_stop = |block: &[u8; 16], skip: usize| {
        let mut stops = stops(u8x16::new(*block)).to_bitmask() >> skip << skip;
        while stops != 0 {
            let stop = stops.trailing_zeros() as usize;
            if !passes(block[stop]) {
                return Some(stop);
            }
            stops &= stops - 1;
        }
        None
    };
    let mut rest = text;
    while let Some((block, after)) = rest.split_first_chunk() {
        if let Some(stop) = first_stop(block, 0) {
            return text.len() - rest.len() + stop;
        }
        rest = after;
    }
    if let Some(last) = text.last_chunk() {
        let stop = first_stop(last, last.len() - rest.len());
        return stop.map_or(text.len(), |stop| text.len() - last.len() + stop);
    }
    // A zero passes nowhere.
    let mut padded = [0; 16];
    padded[..text.len()].copy_from_slice(text);
    first_stop(&padded, 0).unwrap_or_default()
}

#[inline]
fn at_most(block: u8x16, most: u8) -> u8x16 {
    equal(block, block.min(u8x16::splat(most)))
}

#[inline]
fn between(block: u8x16, least: u8, most: u8) -> u8x16 {
    // What is less wraps around, and is more.
    at_most(block - u8x16::splat(least), most - least)
}

#[inline]
fn equal(block: u8x16, to: impl Into<u8x16>) -> u8x16 {
    block.simd_eq(to.into())
}

/// What is neither a letter nor a digit nor a hyphen, which names hardly have.
#[inline]
fn unusual_in_token(block: u8x16) -> u8x16 {
    let letters = between(block | u8x16::splat(0x20), b'a', b'z');
    !(letters | between(block, b'0', b'9') | equal(block, b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte value, at each place in a text that is longer than a word, between bytes that pass.
    #[test]
    fn every_byte_stops_where_it_should() {
        for length in 1..40 {
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
        for length in 0..40 {
            let tabs = [&b"\t\xff".repeat(length)[..], b"\x7f"].concat();
            assert_eq!(field_bytes(&tabs), 2 * length);
            assert_eq!(visible(&tabs), 0);
        }
    }
}
