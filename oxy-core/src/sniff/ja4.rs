//! JA4: a fingerprint of TLS clients by what they offer (`FoxIO`'s specification, which is under the BSD licence).

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::ClientHello;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// The fingerprint of a client that comes over `transport`: `t` for TCP, `q` for QUIC.
pub(super) fn of(hello: &ClientHello, transport: char) -> String {
    let mut text = String::with_capacity(36);
    let version = match hello.versions.iter().max() {
        Some(0x0304) => "13",
        Some(0x0303) => "12",
        Some(0x0302) => "11",
        Some(0x0301) => "10",
        Some(0x0300) => "s3",
        Some(0x0002) => "s2",
        _ => "00",
    };
    let name = if hello.extensions.contains(&SERVER_NAME) {
        'd'
    } else {
        'i'
    };
    let (first, last) = protocol(hello);
    let _ = write!(
        text,
        "{transport}{version}{name}{:02}{:02}{first}{last}_",
        hello.cipher_suites.len().min(99),
        hello.extensions.len().min(99),
    );
    let mut suites = hello.cipher_suites.clone();
    suites.sort_unstable();
    hash(&mut text, &list(&suites));
    text.push('_');
    let counts = |kind: &u16| !matches!(*kind, SERVER_NAME | ALPN);
    let mut extensions: Vec<u16> = hello.extensions.iter().copied().filter(counts).collect();
    extensions.sort_unstable();
    let mut last = list(&extensions);
    if !hello.signature_algorithms.is_empty() {
        last.push('_');
        last.push_str(&list(&hello.signature_algorithms));
    }
    hash(&mut text, &last);
    text
}

/// The first and the last character of the first protocol that is offered; of its hexadecimal digits if one of them is
/// neither a letter nor a digit.
fn protocol(hello: &ClientHello) -> (char, char) {
    let (Some(&first), Some(&last)) = (
        hello.alpn.first().and_then(|name| name.first()),
        hello.alpn.first().and_then(|name| name.last()),
    ) else {
        return ('0', '0');
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return (first.into(), last.into());
    }
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    (digit(first >> 4), digit(last & 15))
}

fn list(values: &[u16]) -> String {
    let mut text = String::with_capacity(5 * values.len());
    for (index, value) in values.iter().enumerate() {
        let _ = write!(text, "{}{value:04x}", if index > 0 { "," } else { "" });
    }
    text
}

/// Six bytes of the SHA-256 of `list`, or noughts where it is empty.
fn hash(text: &mut String, list: &str) {
    let hash = Sha256::digest(list.as_bytes());
    for byte in &hash[..6] {
        let byte = if list.is_empty() { 0 } else { *byte };
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client of the specification's own example.
    fn chrome() -> ClientHello {
        ClientHello {
            server_name: Some("example.com".into()),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            versions: vec![0x0304, 0x0303],
            cipher_suites: vec![
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            signature_algorithms: vec![
                0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
            ],
            encrypted: false,
        }
    }

    #[test]
    fn the_specifications_example_is_met() {
        assert_eq!(chrome().ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        assert_eq!(chrome().ja4_quic(), "q13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn what_is_left_out_is_noughts() {
        let hello = ClientHello::default();
        assert_eq!(hello.ja4(), "t00i000000_000000000000_000000000000");
        let hello = ClientHello {
            alpn: vec![vec![0xab, b'x', 0xcd]],
            versions: vec![0x0303],
            cipher_suites: vec![0x1301],
            extensions: vec![0x0010, 0x002b],
            ..ClientHello::default()
        };
        // `printf 1301 | sha256sum`, and the same of 002b: no underscore where no signature algorithms are.
        assert_eq!(hello.ja4(), "t12i0102ad_0f2cb44170f4_b9a491fefe05");
        let many = ClientHello {
            cipher_suites: vec![1; 120],
            ..ClientHello::default()
        };
        assert!(many.ja4().starts_with("t00i990000_"));
    }
}
