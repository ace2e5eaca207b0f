//! What clients send, made safe for a line of text.

use std::fmt::{self, Write};

/// Shows a text with everything but printable ASCII escaped, quotes and backslashes too: it can neither end a line, nor
/// leave its quotes, nor steer a terminal.
#[derive(Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Escaped<'_> {
    /// The text, if there is nothing to escape, as there almost never is.
    pub(super) fn plain(&self) -> Option<&str> {
        // All bytes are looked at whatever they are, so that many can be at a time.
        let plain = self
            .0
            .bytes()
            .fold(true, |so_far, byte| so_far & is_plain(byte));
        plain.then_some(self.0)
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(plain) = self.plain() {
            return f.write_str(plain);
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
            let is_plain = Escaped(text).plain().is_some();
            assert_eq!(is_plain, text == shown, "{text:?}");
        }
    }
}
