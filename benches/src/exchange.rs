//! A GET of 1 KiB, byte for byte as its two ends have it, without I/O: for programs that count what a proxy spends on it
//! and must not count what the ends do.

use crate::head::Head;

/// How a client speaks; origins speak HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1, one request after another on a connection that is kept.
    Http1,
    /// HTTP/2 with prior knowledge, one stream after another.
    Http2,
}

/// What a client has to send now, and what it makes of what comes.
#[derive(Debug)]
pub struct Client {
    version: Version,
    /// What was sent as yet.
    stream: Option<u32>,
    out: Vec<u8>,
    came: Vec<u8>,
    /// Bytes of the body that came over HTTP/2.
    body: usize,
}

const SIZE: usize = 1024;

const REQUEST: &[u8] = b"GET /b/1024/0 HTTP/1.1\r\n\
Host: 127.0.0.1:8000\r\n\
User-Agent: peers/1\r\n\
Accept: */*\r\n\
\r\n";

/// The same (RFC 7541): two fields by their index, four with an indexed name and a literal value that is not to be indexed,
/// so that it means the same each time.
const BLOCK: &[u8] =
    b"\x82\x86\x04\x09/b/1024/0\x01\x0e127.0.0.1:8000\x0f\x2b\x07peers/1\x0f\x04\x03*/*";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// As much as a peer may be allowed beyond what it is from the start (RFC 9113 section 6.9.1), for all that is to come.
const WINDOW: u32 = 0x7fff_ffff - 0xffff;

impl Client {
    /// A client that has just connected.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            stream: None,
            out: Vec::new(),
            came: Vec::new(),
            body: 0,
        }
    }

    /// What the next request is asked with.
    pub fn request(&mut self) -> &[u8] {
        if self.version == Version::Http1 {
            return REQUEST;
        }
        let stream = if let Some(last) = self.stream {
            last + 2
        } else {
            self.out.extend_from_slice(PREFACE);
            self.frame(SETTINGS, 0, 0, b"");
            self.frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
            1
        };
        self.stream = Some(stream);
        self.body = 0;
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, BLOCK);
        &self.out
    }

    /// These bytes have come; whether the answer is whole with them, and nothing if it is not what it should be.
    pub fn came(&mut self, bytes: &[u8]) -> Option<bool> {
        self.out.clear();
        self.came.extend_from_slice(bytes);
        match self.version {
            Version::Http1 => self.came_as_text(),
            Version::Http2 => self.came_in_frames(),
        }
    }

    fn came_as_text(&mut self) -> Option<bool> {
        let Some(head) = Head::find(&self.came) else {
            return Some(false);
        };
        let is_ok = head.first_line() == "HTTP/1.1 200 OK" && head.content_length() == Some(SIZE);
        let whole = head.end() + SIZE;
        if !is_ok || self.came.len() > whole {
            return None;
        }
        let is_whole = self.came.len() == whole;
        if is_whole {
            self.came.clear();
        }
        Some(is_whole)
    }

    fn came_in_frames(&mut self) -> Option<bool> {
        while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = &self.came[..] {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if rest.len() < length {
                break;
            }
            let (kind, flags) = (*kind, *flags);
            let first = rest.first().copied();
            self.came.drain(..9 + length);
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, b""),
                // `:status: 200`, or first a change of the table's size.
                HEADERS if !matches!(first, Some(0x88 | 0x20..=0x3f)) => return None,
                DATA => self.body += length,
                SETTINGS | HEADERS | WINDOW_UPDATE => {}
                _ => return None,
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return (self.body == SIZE).then_some(true);
            }
        }
        Some(false)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // None is as long as what two bytes can say.
        let [high, low] = (payload.len() as u16).to_be_bytes();
        self.out.extend_from_slice(&[0, high, low, kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }
}

/// Whether `came` ends with a request's head: requests have no bodies, and come one after another.
pub fn is_asked(came: &[u8]) -> bool {
    came.ends_with(b"\r\n\r\n")
}

/// What an origin answers.
pub fn answer() -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {SIZE}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + SIZE, b'x');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = answer();
        for split in 0..answer.len() {
            let mut client = Client::new(Version::Http1);
            assert!(is_asked(client.request()));
            assert_eq!(client.came(&answer[..split]), Some(false));
            assert_eq!(client.came(&answer[split..]), Some(true));
        }
    }

    #[test]
    fn frames_make_an_answer() {
        let mut origin = Client::new(Version::Http2);
        origin.frame(SETTINGS, 0, 0, b"");
        origin.frame(HEADERS, END_HEADERS, 1, b"\x88");
        origin.frame(DATA, 0, 1, &[b'x'; 24]);
        origin.frame(DATA, END_STREAM, 1, &[b'x'; 1000]);
        let answer = origin.out;
        for split in 0..answer.len() {
            let mut client = Client::new(Version::Http2);
            assert!(client.request().starts_with(PREFACE));
            assert_eq!(client.came(&answer[..split]), Some(false));
            assert_eq!(client.came(&answer[split..]), Some(true));
        }
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        let came = |version, bytes: &[u8]| Client::new(version).came(bytes);
        let text = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1024\r\n\r\n";
        assert_eq!(came(Version::Http1, text), None);
        assert_eq!(came(Version::Http1, &[&answer()[..], b"x"].concat()), None);
        let reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\0";
        assert_eq!(came(Version::Http2, reset), None);
        let short = b"\0\0\x01\x01\x05\0\0\0\x01\x88";
        assert_eq!(came(Version::Http2, short), None);
    }
}
