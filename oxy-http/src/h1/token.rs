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

/// Whether `text` is `word` in any case, where `text` has no control characters and `word` nothing but lower-case letters,
/// digits and hyphens: of those, each differs from one other character in the bit that is left out here, from its upper
/// case or from a control character.
#[inline(always)]
pub(crate) fn is_word(text: &[u8], word: &[u8]) -> bool {
    /// What may be compared of eight bytes, and of four.
    const fn fold(bytes: [u8; 8]) -> u64 {
        u64::from_ne_bytes(bytes) | 0x2020_2020_2020_2020
    }
    const fn fold_short(bytes: [u8; 4]) -> u32 {
        u32::from_ne_bytes(bytes) | 0x2020_2020
    }
    if text.len() != word.len() {
        return false;
    }
    if let (Some(end), Some(word_end)) = (text.last_chunk(), word.last_chunk()) {
        let chunks = text.as_chunks().0.iter().zip(word.as_chunks().0);
        // The last one overlaps the one before.
        fold(*end) == fold(*word_end)
            && chunks.fold(true, |all, (a, b)| all & (fold(*a) == fold(*b)))
    } else if let (Some((start, _)), Some((word_start, _))) =
        (text.split_first_chunk(), word.split_first_chunk())
        && let (Some(end), Some(word_end)) = (text.last_chunk(), word.last_chunk())
    {
        fold_short(*start) == fold_short(*word_start) && fold_short(*end) == fold_short(*word_end)
    } else {
        text.iter().zip(word).all(|(a, b)| a | 0x20 == b | 0x20)
    }
}

/// Whether `byte` may stand in a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5).
pub(crate) const fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `text` without the optional whitespace around it (RFC 9110 section 5.6.3).
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// `text` without the optional whitespace before it.
pub(crate) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
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
    fn words_are_told_from_what_differs_in_a_byte() {
        let words = [
            "te",
            "via",
            "host",
            "expect",
            "upgrade",
            "keep-aliv3",
            "transfer-encoding",
        ];
        for word in words.map(str::as_bytes) {
            assert!(is_word(word, word) && is_word(&word.to_ascii_uppercase(), word));
            assert!(!is_word(&word[1..], word) && !is_word(&[word, b"x"].concat(), word));
            for at in 0..word.len() {
                let mut text = word.to_vec();
                for byte in (0..=255).filter(|byte| is_field_byte(*byte)) {
                    text[at] = byte;
                    let expected = text.eq_ignore_ascii_case(word);
                    assert_eq!(is_word(&text, word), expected, "{text:?}");
                }
            }
        }
    }

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
