//! As much of an HTTP/1.1 head as the origin and the load generator need.

use memchr::memmem;

/// A head that ends within the bytes seen so far.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Everything up to and including the empty line.
    bytes: &'a [u8],
}

impl<'a> Head<'a> {
    /// The head at the start of `bytes`, if its empty line has arrived.
    pub fn find(bytes: &'a [u8]) -> Option<Self> {
        let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
        Some(Self {
            bytes: &bytes[..end],
        })
    }

    /// Where it ends, empty line included.
    pub fn end(self) -> usize {
        self.bytes.len()
    }

    /// The request or status line.
    pub fn first_line(self) -> &'a str {
        self.lines().next().unwrap_or_default()
    }

    /// The value of a field, by its lower-case name.
    pub fn field(self, name: &str) -> Option<&'a str> {
        self.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The declared length of the body.
    pub fn content_length(self) -> Option<usize> {
        self.field("content-length")?.parse().ok()
    }

    /// Whether the sender will close, or wants the connection closed, after this message.
    pub fn closes(self) -> bool {
        self.first_line().contains("HTTP/1.0")
            || self
                .field("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The lines without their ends; a head that is not text has none.
    fn lines(self) -> impl Iterator<Item = &'a str> {
        std::str::from_utf8(self.bytes)
            .unwrap_or_default()
            .split("\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Head;

    #[test]
    fn reads_what_is_needed() {
        let head =
            Head::find(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 12\r\nConnection: Close\r\n\r\nbody")
                .unwrap();
        assert_eq!(head.first_line(), "HTTP/1.1 200 OK");
        assert_eq!(head.content_length(), Some(12));
        assert!(head.closes());
        assert_eq!(head.end(), 58);
    }

    #[test]
    fn waits_for_the_empty_line() {
        assert!(Head::find(b"HTTP/1.1 200 OK\r\nA: b\r\n").is_none());
    }
}
