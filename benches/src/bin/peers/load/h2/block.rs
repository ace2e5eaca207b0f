//! Header blocks (HPACK, RFC 7541): the request's is written once, and of an
//! answer's only the status is read.

/// Entries of the static table.
const AUTHORITY: u8 = 1;
const METHOD_GET: u8 = 2;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const SCHEME_HTTPS: u8 = 7;
const STATUS_200: u8 = 8;
const ACCEPT: u8 = 19;
const USER_AGENT: u8 = 58;

/// "Indexed header field".
const INDEXED: u8 = 0x80;

/// The bits and the value of a change of the dynamic table's size, which may stand first.
const RESIZE: (u8, u8) = (0xe0, 0x20);

/// The block of a GET. Its literals are not to be indexed, so that it means the same
/// each time and on every connection.
pub(super) fn request(path: &str, authority: &str, tls: bool) -> Vec<u8> {
    let scheme = if tls { SCHEME_HTTPS } else { SCHEME_HTTP };
    let mut block = vec![INDEXED | METHOD_GET, INDEXED | scheme];
    for (name, value) in [
        (PATH, path),
        (AUTHORITY, authority),
        (USER_AGENT, "peers/1"),
        (ACCEPT, "*/*"),
    ] {
        // An index from 15 on goes on in a second byte.
        match name.checked_sub(15) {
            None => block.push(name),
            Some(rest) => block.extend([15, rest]),
        }
        // Nothing here is longer than the 126 bytes that one byte can say.
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// Whether an answer is a 200. Every peer has it first and as the static table's entry.
pub(super) fn is_ok(mut block: &[u8]) -> bool {
    while let [first, rest @ ..] = block
        && first & RESIZE.0 == RESIZE.1
    {
        // A size of 31 or more goes on in bytes that have their highest bit set but for the last.
        let more = match rest.iter().position(|byte| byte & 0x80 == 0) {
            Some(last) if first & 0x1f == 0x1f => last + 1,
            _ => 0,
        };
        block = &rest[more..];
    }
    block.first() == Some(&(INDEXED | STATUS_200))
}

#[cfg(test)]
mod tests {
    use super::{is_ok, request};

    #[test]
    fn a_request_as_the_standard_writes_it() {
        let block = request("/b/1/2", "a:1", true);
        assert_eq!(
            block,
            b"\x82\x87\x04\x06/b/1/2\x01\x03a:1\x0f\x2b\x07peers/1\x0f\x04\x03*/*"
        );
    }

    #[test]
    fn finds_the_status() {
        assert!(is_ok(b"\x88"));
        assert!(is_ok(b"\x20\x88\x61"));
        assert!(is_ok(b"\x3f\xe1\x1f\x88")); // the table's size is 4096
        assert!(!is_ok(b"\x8d"));
        assert!(!is_ok(b""));
    }
}
