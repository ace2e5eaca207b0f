//! What the targets share: a reader of heads that is as simple as can be, to judge the real one by.

use oxy_http::h1::index::Framing;

/// A head taken apart by splitting it at CRLF: the start line, and the fields with lower-case names.
pub struct Plain {
    /// The start line.
    pub start: String,
    /// The fields.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Plain {
    /// Reads a head that ends `bytes`; panics where it is not one.
    pub fn read(bytes: &[u8]) -> Self {
        let text = bytes
            .strip_suffix(b"\r\n\r\n")
            .expect("a blank line at the end");
        let mut lines = Vec::new();
        let mut start = 0;
        for at in 0..text.len() {
            if text[at..].starts_with(b"\r\n") {
                lines.push(&text[start..at]);
                start = at + 2;
            }
        }
        lines.push(&text[start..]);
        for line in &lines {
            assert!(
                !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
                "stray control"
            );
        }
        let fields = lines[1..]
            .iter()
            .map(|line| {
                let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
                let name =
                    String::from_utf8(line[..colon].to_ascii_lowercase()).expect("an ASCII name");
                assert!(
                    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()),
                    "a name"
                );
                (name, line[colon + 1..].trim_ascii().to_vec())
            })
            .collect();
        Self {
            start: String::from_utf8_lossy(lines[0]).into_owned(),
            fields,
        }
    }

    /// The values of `name`.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| &value[..])
            .collect()
    }

    /// Panics unless the fields say `framing`, once and in one way.
    pub fn assert_framing(&self, framing: Framing) {
        let lengths = self.all("content-length");
        let codings = self.all("transfer-encoding");
        match framing {
            Framing::None | Framing::UntilClose => {
                assert!(lengths.is_empty() && codings.is_empty())
            }
            Framing::Length(length) => {
                assert!(codings.is_empty());
                assert_eq!(lengths, [length.to_string().as_bytes()]);
            }
            Framing::Chunked => {
                assert!(lengths.is_empty());
                assert_eq!(codings, [b"chunked"]);
            }
        }
    }

    /// Panics if a field is left that goes no further than one hop.
    pub fn assert_no_hop_fields(&self) {
        for name in [
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "proxy-authorization",
        ] {
            assert!(self.all(name).is_empty(), "{name}");
        }
    }
}
