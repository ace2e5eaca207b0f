//! Writing the framing of bodies (RFC 9112 section 7.1).

/// The end of a line, and of the data of a chunk.
pub const CRLF: &[u8] = b"\r\n";

/// The last chunk with an empty trailer section: the end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The last chunk where trailers follow; the section ends with [`CRLF`].
pub const LAST_CHUNK_BEFORE_TRAILERS: &[u8] = b"0\r\n";

/// Longest line that begins a chunk: sixteen digits and CRLF.
pub const MAX_CHUNK_HEAD: usize = 18;

/// Appends the line that begins a chunk of `length` bytes. A chunk of none would end the body: the caller does not
/// write one.
pub fn chunk_head(length: u64, out: &mut Vec<u8>) {
    let mut line = [0; MAX_CHUNK_HEAD];
    out.extend_from_slice(chunk_head_in(length, &mut line));
}

/// The line that begins a chunk of `length` bytes, in `line`: for a vectored write.
pub fn chunk_head_in(length: u64, line: &mut [u8; MAX_CHUNK_HEAD]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line[16..].copy_from_slice(CRLF);
    let mut at = 16;
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = DIGITS[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            return &line[at..];
        }
    }
}

/// Most digits of a number.
pub const MAX_DECIMAL: usize = 20;

/// `number` in decimal, in `digits`.
pub fn decimal_in(number: u64, digits: &mut [u8; MAX_DECIMAL]) -> &[u8] {
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in [
            0,
            1,
            9,
            10,
            15,
            16,
            255,
            4096,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut out = Vec::new();
            chunk_head(number, &mut out);
            assert_eq!(out, format!("{number:x}\r\n").into_bytes());
            assert_eq!(
                decimal_in(number, &mut [0; MAX_DECIMAL]),
                number.to_string().as_bytes()
            );
        }
    }
}
