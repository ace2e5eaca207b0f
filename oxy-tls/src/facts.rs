//! What a handshake has settled, in the core's plain words.

use std::time::SystemTime;

use aws_lc_rs::digest;
use bytes::Bytes;
use oxy_core::{PeerIdentity, TlsFacts};
use rustls::{CommonState, HandshakeKind};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What `session` has settled; `server_name` is what the client asked for.
pub(crate) fn of(session: &CommonState, server_name: Option<&str>) -> TlsFacts {
    let mut facts = TlsFacts::default();
    facts.version = session.protocol_version().map_or(0, u16::from);
    facts.cipher_suite = session
        .negotiated_cipher_suite()
        .map_or(0, |suite| suite.suite().into());
    facts.group = session
        .negotiated_key_exchange_group()
        .map(|group| group.name().into());
    facts.alpn = session.alpn_protocol().map(Box::from);
    facts.server_name = server_name.map(Box::from);
    facts.resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    facts.peer_identity = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| Box::new(identity(leaf)));
    facts
}

/// Who the owner of `certificate` is. What cannot be read of it (it has been verified, which reads most of it) is left out.
pub(crate) fn identity(certificate: &[u8]) -> PeerIdentity {
    let mut identity = PeerIdentity::new(Bytes::copy_from_slice(certificate));
    identity.fingerprint = hex(digest::digest(&digest::SHA256, certificate).as_ref());
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return identity;
    };
    let parsed = parsed.tbs_certificate();
    identity.subject = parsed.subject().to_string();
    identity.serial = hex(parsed.serial_number().as_bytes());
    identity.not_after = SystemTime::UNIX_EPOCH + parsed.validity().not_after.to_unix_duration();
    for name in alternatives(parsed) {
        match name {
            GeneralName::DnsName(name) => identity.dns.push(name.to_string()),
            GeneralName::UniformResourceIdentifier(uri) => identity.uris.push(uri.to_string()),
            GeneralName::Rfc822Name(mail) => identity.emails.push(mail.to_string()),
            _ => {}
        }
    }
    identity
}

/// The host names that `certificate` is for, lower-cased.
pub(crate) fn host_names(certificate: &[u8]) -> Vec<String> {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return Vec::new();
    };
    alternatives(parsed.tbs_certificate())
        .into_iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string().to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn alternatives(certificate: &x509_cert::TbsCertificate) -> Vec<GeneralName> {
    match certificate.get_extension::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0,
        _ => Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
