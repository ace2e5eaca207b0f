//! The small grammar that every part of a message shares (RFC 9110 section 5.6).

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
#[inline]
pub(crate) const fn is_tchar(byte: u8) -> bool {
    TCHARS[byte as usize]
}

/// One load for each byte of a name, where the set itself takes several comparisons.
const TCHARS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Whether `text` is a token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_tchar(byte))
}

/// Whether `byte` may stand in a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5).
pub(crate) const fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `text` without the optional whitespace around it (RFC 9110 section 5.6.3).
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list without quoted strings (RFC 9110 section 5.6.1), empty ones left out.
pub(crate) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// The value of a Content-Length, a Max-Forwards and the like: digits and nothing else (RFC 9110 section 8.6), and
/// small enough for an `i64`, so that sums of lengths cannot wrap further on.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    i64::try_from(value).is_ok().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_digits() {
        assert_eq!(digits(b"0"), Some(0));
        assert_eq!(digits(b"0005"), Some(5));
        assert_eq!(digits(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in [
            "",
            "+5",
            "-5",
            "5 5",
            "0x5",
            "5,",
            "9223372036854775808",
            "18446744073709551621",
        ] {
            assert_eq!(digits(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn lists_skip_empty_elements() {
        let all: Vec<_> = elements(b" a,, b\t,").collect();
        assert_eq!(all, [b"a", b"b"]);
    }
}
