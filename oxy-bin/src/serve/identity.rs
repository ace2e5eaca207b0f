//! Telling origins who a client is, by its verified certificate.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};
use oxy_core::{FlowInfo, PeerIdentity};
use oxy_http::Req;

/// Puts the client's identity into `field` of `req`, in the place of whatever the client has said itself.
pub(super) fn tell(field: &HeaderName, info: &FlowInfo, req: &mut Req) {
    let identity = info.tls().and_then(|tls| tls.peer_identity.as_deref());
    match identity.map(value) {
        Some(value) => {
            req.headers_mut().insert(field, value);
        }
        // A message that has no such field stays as it came.
        None if req.headers().contains_key(field) => {
            req.headers_mut().remove(field);
        }
        None => {}
    }
}

/// The identity as Envoy's x-forwarded-client-cert has it.
fn value(identity: &PeerIdentity) -> HeaderValue {
    let mut text = format!("Hash={}", identity.fingerprint);
    let _ = write!(text, ";Subject={}", quoted(&identity.subject));
    for uri in &identity.uris {
        let _ = write!(text, ";URI={}", bare_or_quoted(uri));
    }
    for name in &identity.dns {
        let _ = write!(text, ";DNS={}", bare_or_quoted(name));
    }
    // Certificates of authorities that we trust may still have anything in their names.
    let bytes: Vec<u8> = text
        .bytes()
        .map(|byte| if byte.is_ascii_control() { b'?' } else { byte })
        .collect();
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A quoted string, as the elements' separators may be in it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn bare_or_quoted(text: &str) -> String {
    if text.contains([',', ';', '=', '"', '\\']) {
        quoted(text)
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn names_cannot_add_elements() {
        let mut identity = PeerIdentity::new(Bytes::new());
        identity.fingerprint = "ab".into();
        identity.subject = "CN=a\\\"b;URI=x\r\n".into();
        identity.uris = vec!["spiffe://a/b".into(), "x;DNS=evil".into()];
        identity.dns = vec!["a.example".into()];
        assert_eq!(
            value(&identity).to_str().unwrap(),
            r#"Hash=ab;Subject="CN=a\\\"b;URI=x??";URI=spiffe://a/b;URI="x;DNS=evil";DNS=a.example"#
        );
    }
}
