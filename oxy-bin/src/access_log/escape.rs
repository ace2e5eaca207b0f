//! What clients send, made safe for a line of text.

use std::fmt::{self, Write};

/// Shows a text with everything but printable ASCII escaped, quotes and backslashes too: it can neither end a line, nor
/// leave its quotes, nor steer a terminal.
#[derive(Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Almost always nothing is to be escaped.
        if self.0.bytes().all(is_plain) {
            return f.write_str(self.0);
        }
        self.0.chars().try_for_each(|c| {
            if u8::try_from(c).is_ok_and(is_plain) {
                return f.write_char(c);
            }
            c.escape_default().try_for_each(|c| f.write_char(c))
        })
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_left() {
        for (text, shown) in [
            ("/a'b", "/a'b"),
            ("\"", "\\\""),
            ("a\\b", "a\\\\b"),
            ("a\r\nb", "a\\r\\nb"),
            ("\x1b[31m", "\\u{1b}[31m"),
            ("\u{e9}\u{202e}", "\\u{e9}\\u{202e}"),
            ("\x7f", "\\u{7f}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown, "{text:?}");
        }
    }
}
