//! What a settings file says of TLS towards clients, as clients meet it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::support::authority::Authority;
use crate::support::http::{Response, connect, read};
use crate::support::tls::Client;
use crate::support::{Dir, Oxy, origin};

/// `oxy run` with a listener `web` whose `tls` has these lines, in front of `origin`.
fn start(dir: &Dir, tls: &[String], origin: SocketAddr) -> Oxy {
    let tls = tls.join("\n      ");
    let text = format!(
        "listeners:\n  - name: web\n    listen: ['https://127.0.0.1:0']\n    tls:\n      {tls}\n    http: {{to: ['{origin}']}}\n"
    );
    let file = dir.file("oxy.yaml", &text);
    Oxy::start(&["run", "-c", &file], 1)
}

/// A client that is rustls as it comes.
fn raw(authority: &Authority) -> (ClientConfig, Arc<Watching>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = std::fs::read(&authority.ca).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let watching = Arc::new(Watching {
        inner: inner.build().unwrap(),
        staple: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(watching.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (config, watching)
}

/// Verifies as rustls does, and remembers what was stapled to the certificate.
#[derive(Debug)]
struct Watching {
    inner: Arc<WebPkiServerVerifier>,
    staple: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = ocsp_response.to_vec();
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Sends `request` as early as it can be sent, and says whether the server took it before the handshake was over.
fn ask(config: &Arc<ClientConfig>, at: SocketAddr, request: &str) -> (bool, Response) {
    let name = "a.example".try_into().unwrap();
    let mut client = ClientConnection::new(config.clone(), name).unwrap();
    let early = client
        .early_data()
        .map(|mut early| early.write_all(request.as_bytes()));
    let mut socket = connect(at);
    let is_sent = early.is_some_and(|sent| sent.is_ok());
    let mut stream = rustls::Stream::new(&mut client, &mut socket);
    if !is_sent {
        stream.write_all(request.as_bytes()).unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    (is_sent && client.is_early_data_accepted(), read(&bytes[..]))
}

#[test]
fn early_requests_are_served_where_they_may_be_done_twice() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "any", &["a.example"]);
    let tls = [
        format!("certificates: [{{cert: {}, key: {}}}]", pair.cert, pair.key),
        "max_early_data: 16384".into(),
    ];
    let oxy = start(&dir, &tls, origin::echoing_heads());
    let at = oxy.at("web");
    let (mut config, _) = raw(&authority);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let request = |method: &str| {
        format!(
            "{method} /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    // The first handshake is a whole one, and leaves a session.
    let (is_early, response) = ask(&config, at, &request("GET"));
    assert_eq!((is_early, response.status), (false, 200));
    let upstream = response.body.to_ascii_lowercase();
    assert!(!upstream.contains("early-data"), "{upstream}");
    // RFC 8470 section 5.1: the origin is told.
    let (is_early, response) = ask(&config, at, &request("GET"));
    assert_eq!((is_early, response.status), (true, 200));
    let upstream = response.body.to_ascii_lowercase();
    assert!(upstream.contains("\r\nearly-data: 1\r\n"), "{upstream}");
    // RFC 8470 section 5.2: what must not be done twice has to be asked again.
    let (is_early, response) = ask(&config, at, &request("POST"));
    assert_eq!((is_early, response.status), (true, 425), "{response:?}");
    // Once the handshake is over it is served.
    let (mut config, _) = raw(&authority);
    config.enable_early_data = false;
    let (is_early, response) = ask(&Arc::new(config), at, &request("POST"));
    assert_eq!((is_early, response.status), (false, 200));
    oxy.stop();
}

#[test]
fn a_revoked_certificate_is_no_certificate() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "any", &["a.example"]);
    let [good, revoked] = [("good", 7), ("revoked", 8)].map(|(file, serial)| {
        authority.numbered_pair(&dir, file, &["client.example"], Some(serial))
    });
    let list = authority.revoke(&dir, 8);
    let tls = [
        format!("certificates: [{{cert: {}, key: {}}}]", pair.cert, pair.key),
        format!(
            "client_auth: {{mode: required, ca: [{}], crl: [{list}]}}",
            authority.ca
        ),
    ];
    let oxy = start(&dir, &tls, origin::answering("hello"));
    let at = oxy.at("web");
    for alpn in ["h2", "http/1.1"] {
        let client = || Client::trusting(&authority).speaking(alpn);
        let got = client().with(&good).get(at, "a.example", "/").unwrap();
        assert_eq!((got.status, got.body.as_str()), (200, "hello"));
        client()
            .with(&revoked)
            .get(at, "a.example", "/")
            .unwrap_err();
        client().get(at, "a.example", "/").unwrap_err();
    }
    oxy.stop();
}

#[test]
fn a_staple_is_served_to_who_asks() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "any", &["a.example"]);
    let staple = dir.file("staple.der", "as the responder has said it");
    let tls = [format!(
        "certificates: [{{cert: {}, key: {}, ocsp: {staple}}}]",
        pair.cert, pair.key
    )];
    let oxy = start(&dir, &tls, origin::answering("hello"));
    // rustls always asks (RFC 6066 section 8).
    let (config, watching) = raw(&authority);
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let (_, response) = ask(&Arc::new(config), oxy.at("web"), request);
    assert_eq!(response.body, "hello");
    let seen = watching.staple.lock().unwrap().clone();
    assert_eq!(seen, b"as the responder has said it");
    oxy.stop();
}

#[test]
fn strict_servers_serve_the_names_that_they_know() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "any", &["a.example"]);
    for is_strict in [true, false] {
        let tls = [
            format!("certificates: [{{cert: {}, key: {}}}]", pair.cert, pair.key),
            format!("strict_sni: {is_strict}"),
        ];
        let oxy = start(&dir, &tls, origin::answering("hello"));
        let at = oxy.at("web");
        let client = Client::trusting(&authority);
        assert_eq!(client.get(at, "a.example", "/").unwrap().body, "hello");
        let error = client.get(at, "b.example", "/").unwrap_err();
        // Who is not strict shows the certificate that it has, which the client refuses.
        let is_refused = error.contains("UnrecognisedName");
        assert_eq!(is_refused, is_strict, "{error}");
        oxy.stop();
    }
}
