//! Options as a settings file has them.
#![cfg(feature = "settings")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::time::Duration;

use oxy_tls::{CertFiles, ClientAuthMode, ClientOptions, ServerOptions, TlsVersion};

#[test]
fn options_are_read_from_a_file_and_have_defaults() {
    let text = "
certificates:
  - cert: /a.pem
    key: /a.key
    names: ['*.example.com']
min_version: 1.3
client_auth:
  mode: optional
  ca: [/ca.pem]
handshake_timeout: 3s
";
    let read: ServerOptions = serde_saphyr::from_str(text).unwrap();
    let mut expected = ServerOptions::default();
    let mut files = CertFiles::new("/a.pem", "/a.key");
    files.names = vec!["*.example.com".into()];
    expected.certificates = vec![files];
    expected.min_version = TlsVersion::V1_3;
    expected.client_auth.mode = ClientAuthMode::Optional;
    expected.client_auth.ca = vec!["/ca.pem".into()];
    expected.handshake_timeout = Duration::from_secs(3);
    assert_eq!(read, expected);
    let read: ClientOptions = serde_saphyr::from_str("insecure_skip_verify: true").unwrap();
    let mut expected = ClientOptions::default();
    expected.insecure_skip_verify = true;
    assert_eq!(read, expected);
    assert!(serde_saphyr::from_str::<ServerOptions>("min_version: 1.1").is_err());
    assert!(serde_saphyr::from_str::<ServerOptions>("no_such: 1").is_err());
    let text = serde_saphyr::to_string(&ServerOptions::default()).unwrap();
    let again: ServerOptions = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(again, ServerOptions::default());
}
