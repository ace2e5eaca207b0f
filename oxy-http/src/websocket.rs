//! What the WebSocket handshake proves (RFC 6455 section 1.3), for where it crosses versions of HTTP: over HTTP/2 it has no
//! key (RFC 8441 section 5).

use std::hash::{BuildHasher, RandomState};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use sha1::{Digest, Sha1};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What Sec-WebSocket-Accept answers to `key`.
pub(crate) fn accept(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    header(&digest)
}

/// A key for a handshake of our own: it need not be secret, only not be the same each time.
pub(crate) fn key() -> HeaderValue {
    let random = RandomState::new();
    let halves = [
        random.hash_one(0).to_ne_bytes(),
        random.hash_one(1).to_ne_bytes(),
    ];
    header(halves.as_flattened())
}

fn header(bytes: &[u8]) -> HeaderValue {
    let text = BASE64_STANDARD.encode(bytes);
    // Base64 has nothing that a field may not have.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let accept = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_have_sixteen_bytes_and_differ() {
        assert_eq!(key().len(), 24);
        assert_ne!(key(), key());
    }
}
