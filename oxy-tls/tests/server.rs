//! What a server does with certificates, clients' certificates, sessions, early data, and those who do not behave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxy_core::{ErrorKind, Side, StreamIo};
use oxy_tls::{
    CertFiles, ClientAuthMode, ClientOptions, Mint, Outcome, ServerOptions, TlsClient, TlsServer,
    TlsVersion,
};
use rustls::ClientConfig;
use support::authority::expired;
use support::{Authority, Dir, Raw, World, accept};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WIDE: usize = 64 * 1024;

/// The first host name of the certificate that the server showed.
async fn shown(world: &World, host: &str) -> Result<String, oxy_core::Error> {
    let session = world.session(host, StreamIo::pair(WIDE)).await?;
    Ok(session.near_facts.peer_identity.unwrap().dns[0].clone())
}

fn many(options: &mut ServerOptions, dir: &Dir, authority: &Authority) {
    let names: [&[&str]; 3] = [
        &["default.test", "127.0.0.1"],
        &["exact.example.com"],
        &["*.example.com"],
    ];
    options.certificates = names
        .iter()
        .map(|names| dir.cert(&names[0].replace('*', "star"), authority, names))
        .collect();
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let world = World::with(many, |options, _, _| options.insecure_skip_verify = true);
    for (host, cert) in [
        ("exact.example.com", "exact.example.com"),
        ("EXACT.example.com", "exact.example.com"),
        ("other.example.com", "*.example.com"),
        ("example.com", "default.test"),
        ("a.b.example.com", "default.test"),
        ("127.0.0.1", "default.test"),
    ] {
        assert_eq!(shown(&world, host).await.unwrap(), cert, "{host}");
    }
}

#[tokio::test]
async fn strict_servers_know_their_names() {
    let world = World::with(
        |options, dir, authority| {
            many(options, dir, authority);
            options.strict_sni = true;
        },
        |options, _, _| options.insecure_skip_verify = true,
    );
    assert_eq!(
        shown(&world, "x.example.com").await.unwrap(),
        "*.example.com"
    );
    for host in ["other.test", "127.0.0.1"] {
        let (near, far) = world.both(host, StreamIo::pair(WIDE)).await;
        let (near, far) = (near.unwrap_err(), far.unwrap_err());
        assert_eq!((far.kind(), far.side()), (ErrorKind::Tls, Side::Down));
        assert!(
            format!("{far:?}").contains("no certificate for the name"),
            "{far:?}"
        );
        assert!(format!("{near:?}").contains("UnrecognisedName"), "{near:?}");
    }
    assert_eq!(world.server.stats().count(Outcome::UnknownName), 2);
    assert_eq!(world.client.stats().count(Outcome::UnknownName), 2);
}

#[tokio::test]
async fn a_resolver_makes_certificates_as_they_are_asked_for() {
    let mint = Arc::new(Mint::new().unwrap());
    let dir = Dir::new();
    let mut options = ClientOptions::default();
    options.ca = vec![dir.put("ca.pem", mint.ca_pem())];
    let client = TlsClient::new(options).unwrap();
    let server = TlsServer::with_resolver(ServerOptions::default(), {
        let mint = mint.clone();
        move |hello| match hello.server_name.as_deref() {
            Some("refused.test") => {
                Err(oxy_core::Error::down(ErrorKind::Denied).context("not that one"))
            }
            _ => mint.for_hello(hello, "127.0.0.1"),
        }
    })
    .unwrap();
    let world = World {
        server,
        client,
        ..World::new()
    };
    for host in ["a.test", "b.test", "127.0.0.1"] {
        world.session(host, StreamIo::pair(WIDE)).await.unwrap();
    }
    // Sessions go on although each client gets a configuration of its own.
    let again = world.session("a.test", StreamIo::pair(WIDE)).await.unwrap();
    drop(again);
    assert!(Arc::ptr_eq(
        &mint.leaf(&["a.test"]).unwrap(),
        &mint.leaf(&["A.test"]).unwrap()
    ));
    let error = world
        .session("refused.test", StreamIo::pair(WIDE))
        .await
        .err()
        .unwrap();
    assert!(format!("{error:?}").contains("not that one"), "{error:?}");
}

#[tokio::test]
async fn protocols_must_have_something_in_common() {
    for (offer, outcome) in [
        (vec!["h2".to_string()], None),
        (vec![], None),
        (vec!["smtp".into()], Some(Outcome::NoProtocol)),
    ] {
        let world = World::with(|_, _, _| {}, |options, _, _| options.alpn = offer.clone());
        let session = world.session("localhost", StreamIo::pair(WIDE)).await;
        match outcome {
            None => assert_eq!(
                session.unwrap().far_facts.alpn.as_deref(),
                offer.first().map(String::as_bytes)
            ),
            Some(outcome) => {
                assert_eq!(session.err().unwrap().kind(), ErrorKind::Tls);
                assert_eq!(world.server.stats().count(outcome), 1);
                assert_eq!(world.client.stats().count(outcome), 1);
            }
        }
    }
    let world = World::with(
        |options, _, _| options.min_version = TlsVersion::V1_3,
        |options, _, _| options.max_version = TlsVersion::V1_2,
    );
    assert!(
        world
            .session("localhost", StreamIo::pair(WIDE))
            .await
            .is_err()
    );
    assert_eq!(world.server.stats().count(Outcome::NoVersion), 1);
    assert_eq!(world.client.stats().count(Outcome::NoVersion), 1);
}

/// A world whose server asks for certificates, and whose client shows one by `issuer`, if any.
fn mutual(
    mode: ClientAuthMode,
    shows: Option<(&Authority, u64)>,
    version: TlsVersion,
    revoked: &[u64],
) -> World {
    World::with(
        |options, dir, authority| {
            options.max_version = version;
            options.client_auth.mode = mode;
            options.client_auth.ca = vec![dir.put("clients.pem", authority.pem())];
            if !revoked.is_empty() {
                options.client_auth.crl = vec![dir.put("revoked.pem", authority.revoke(revoked))];
            }
        },
        |options, dir, authority| {
            if let Some((issuer, serial)) = shows {
                let issuer = if serial == 0 { issuer } else { authority };
                let (cert, key) = issuer.client(serial.max(1));
                options.cert = Some(dir.put("alice.pem", cert));
                options.key = Some(dir.put("alice.key", key));
            }
        },
    )
}

#[tokio::test]
async fn clients_show_who_they_are() {
    let stranger = Authority::new("a stranger");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for mode in [ClientAuthMode::Optional, ClientAuthMode::Required] {
            let world = mutual(mode, Some((&stranger, 0x2a)), version, &[7]);
            let session = world
                .session("localhost", StreamIo::pair(WIDE))
                .await
                .unwrap();
            let identity = session.far_facts.peer_identity.as_ref().unwrap();
            assert_eq!(identity.subject, "O=Example\\, Inc.,CN=alice");
            assert_eq!(identity.dns, ["alice.example.com"]);
            assert_eq!(identity.uris, ["spiffe://example.com/alice"]);
            assert_eq!(identity.emails, ["alice@example.com"]);
            assert_eq!(identity.serial, "2a");
            assert_eq!(identity.fingerprint.len(), 64);
            assert!(identity.not_after > std::time::SystemTime::now());
            // A session that goes on knows its client still.
            drop(session);
            let again = again(&world).await;
            assert!(again.far_facts.resumed);
            assert_eq!(again.far_facts.peer_identity.unwrap().serial, "2a");
        }
        for (shows, mode, revoked, outcome) in [
            (
                None,
                ClientAuthMode::Required,
                &[][..],
                Outcome::NoCertificate,
            ),
            (
                Some((&stranger, 0)),
                ClientAuthMode::Required,
                &[],
                Outcome::UnknownCa,
            ),
            (
                Some((&stranger, 0)),
                ClientAuthMode::Optional,
                &[],
                Outcome::UnknownCa,
            ),
            (
                Some((&stranger, 9)),
                ClientAuthMode::Required,
                &[7, 9],
                Outcome::Revoked,
            ),
        ] {
            let world = mutual(mode, shows, version, revoked);
            let error = world
                .session("localhost", StreamIo::pair(WIDE))
                .await
                .err()
                .unwrap();
            assert_eq!(
                (error.kind(), error.side()),
                (ErrorKind::Tls, Side::Down),
                "{error:?}"
            );
            assert_eq!(world.server.stats().count(outcome), 1, "{error:?}");
        }
        let world = mutual(ClientAuthMode::Optional, None, version, &[]);
        let session = world
            .session("localhost", StreamIo::pair(WIDE))
            .await
            .unwrap();
        assert!(session.far_facts.peer_identity.is_none());
    }
}

/// A second session of the same client, after it has got its tickets from a first.
async fn again(world: &World) -> support::Session {
    let mut session = world
        .session("localhost", StreamIo::pair(WIDE))
        .await
        .unwrap();
    session.far.write_all(b"!").await.unwrap();
    session.near.read_exact(&mut [0]).await.unwrap();
    world
        .session("localhost", StreamIo::pair(WIDE))
        .await
        .unwrap()
}

#[tokio::test]
async fn sessions_go_on_whoever_serves_them() {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let world = World::with(|options, _, _| options.max_version = version, |_, _, _| {});
        let first = again(&world).await;
        assert!(first.far_facts.resumed && first.near_facts.resumed);
        // Another thread, with its own runtime, is what another worker is.
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let server = world.server.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                far.set_nonblocking(true).unwrap();
                let far = tokio::net::UnixStream::from_std(far).unwrap();
                accept(&server, far.into()).await.unwrap().1.resumed
            })
        });
        near.set_nonblocking(true).unwrap();
        let near = tokio::net::UnixStream::from_std(near).unwrap();
        let (mut near, facts) = world
            .client
            .connect(near.into(), &"localhost".parse().unwrap())
            .await
            .unwrap();
        near.flush().await.unwrap();
        assert!(facts.resumed);
        assert!(
            tokio::task::spawn_blocking(|| thread.join().unwrap())
                .await
                .unwrap()
        );

        let world = World::with(
            |options, _, _| {
                options.max_version = version;
                options.resumption = false;
            },
            |_, _, _| {},
        );
        assert!(!again(&world).await.far_facts.resumed);
    }
}

#[tokio::test]
async fn a_reload_takes_new_files_and_keeps_the_old_where_they_are_bad() {
    let world = World::new();
    let mut open = world.connect().await;
    let old = open.near_facts.peer_identity.clone().unwrap().fingerprint;
    let fingerprint = async || {
        // A new client each time: one that goes on with its session gets no certificate.
        let client = World::with(
            |_, _, _| {},
            |options, _, _| options.insecure_skip_verify = true,
        )
        .client;
        let (near, far) = StreamIo::pair(WIDE);
        let host = "localhost".parse().unwrap();
        let connect = async {
            let (mut near, facts) = client.connect(near, &host).await?;
            near.flush().await?;
            Ok::<_, oxy_core::Error>((near, facts))
        };
        let (near, far) = tokio::join!(connect, accept(&world.server, far));
        far.unwrap();
        near.unwrap().1.peer_identity.unwrap().fingerprint
    };
    assert_eq!(fingerprint().await, old);
    world.dir.put("localhost.pem", "no certificate");
    let error = world.server.reload().unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::Tls, Side::Local));
    assert!(format!("{error:?}").contains("localhost.pem"), "{error:?}");
    assert_eq!(fingerprint().await, old);
    let (cert, _) = world.authority.server(&["localhost"]);
    world.dir.put("localhost.pem", cert);
    let error = world.server.reload().unwrap_err();
    assert!(
        format!("{error:?}").contains("localhost.key"),
        "not its key: {error:?}"
    );
    assert_eq!(fingerprint().await, old);
    world
        .dir
        .cert("localhost", &world.authority, &["localhost"]);
    world.server.reload().unwrap();
    assert_ne!(fingerprint().await, old);
    open.near.write_all(b"still here").await.unwrap();
    open.far.read_exact(&mut [0; 10]).await.unwrap();
}

#[tokio::test]
async fn revocations_are_read_again_and_end_sessions_that_could_go_on() {
    let stranger = Authority::new("a stranger");
    let world = mutual(
        ClientAuthMode::Required,
        Some((&stranger, 9)),
        TlsVersion::V1_3,
        &[7],
    );
    assert!(again(&world).await.far_facts.resumed);
    world
        .dir
        .put("revoked.pem", world.authority.revoke(&[7, 9]));
    assert!(again(&world).await.far_facts.resumed, "not yet");
    world.server.reload().unwrap();
    let error = world
        .session("localhost", StreamIo::pair(WIDE))
        .await
        .err()
        .unwrap();
    assert!(
        format!("{error:?}").contains("has been revoked"),
        "{error:?}"
    );
}

#[test]
fn settings_that_cannot_work_say_which_file() {
    let (authority, dir) = (Authority::new("a"), Dir::new());
    let good = dir.cert("good", &authority, &["localhost"]);
    let empty = dir.put("empty.pem", "");
    let fails = |change: &dyn Fn(&mut ServerOptions)| {
        let mut options = ServerOptions::default();
        options.certificates = vec![good.clone()];
        change(&mut options);
        format!("{:?}", TlsServer::new(options).unwrap_err())
    };
    for (said, change) in [
        (
            "no certificates",
            &(|o: &mut ServerOptions| o.certificates.clear()) as &dyn Fn(&mut ServerOptions),
        ),
        ("/missing.pem", &|o| {
            o.certificates[0].cert = "/missing.pem".into();
        }),
        ("/missing.key", &|o| {
            o.certificates[0].key = "/missing.key".into();
        }),
        ("/missing.ocsp", &|o| {
            o.certificates[0].ocsp = Some("/missing.ocsp".into());
        }),
        ("empty.pem", &|o| o.certificates[0].cert = empty.clone()),
        ("empty.pem", &|o| o.certificates[0].key = empty.clone()),
        ("no authority is trusted", &|o| {
            o.client_auth.mode = ClientAuthMode::Required;
        }),
        ("/missing.ca", &|o| {
            o.client_auth.mode = ClientAuthMode::Optional;
            o.client_auth.ca = vec!["/missing.ca".into()];
        }),
        ("version", &|o| {
            o.min_version = TlsVersion::V1_3;
            o.max_version = TlsVersion::V1_2;
        }),
    ] {
        let text = fails(change);
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn keys_come_in_three_forms() {
    // `openssl ecparam -name prime256v1 -genkey`, and the same key in PKCS #8, with its certificate.
    let dir = Dir::new();
    let authority = Authority::new("a");
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let (cert, key) = authority.server_with(&["localhost"], |_| {}, &key);
        let files = CertFiles::new(dir.put("c.pem", cert), dir.put("c.key", key));
        let mut options = ServerOptions::default();
        options.certificates = vec![files];
        TlsServer::new(options).unwrap();
    }
}

#[tokio::test]
async fn the_key_fits_the_client() {
    // An RSA certificate is the default's sibling: clients that cannot do ECDSA get that one.
    let world = World::with(
        |options, dir, authority| {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
            let (cert, key) = authority.server_with(&["localhost"], |_| {}, &key);
            options.certificates.push(CertFiles::new(
                dir.put("rsa.pem", cert),
                dir.put("rsa.key", key),
            ));
        },
        |_, _, _| {},
    );
    let mut config = Raw::client_config(&world.authority);
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Watching::rsa_only()));
    let (near, far) = StreamIo::pair(WIDE);
    let mut client = Raw::client(&Arc::new(config), near);
    let (shaken, accepted) = tokio::join!(client.shake(), accept(&world.server, far));
    shaken.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn a_staple_is_delivered_and_read_again() {
    let world = World::with(
        |options, dir, _| options.certificates[0].ocsp = Some(dir.put("staple", b"a staple")),
        |_, _, _| {},
    );
    let seen = async || {
        let mut config = Raw::client_config(&world.authority);
        let watching = Arc::new(Watching::default());
        config
            .dangerous()
            .set_certificate_verifier(watching.clone());
        let (near, far) = StreamIo::pair(WIDE);
        let mut client = Raw::client(&Arc::new(config), near);
        let (shaken, accepted) = tokio::join!(client.shake(), accept(&world.server, far));
        shaken.unwrap();
        accepted.unwrap();
        watching.staple.lock().unwrap().clone()
    };
    assert_eq!(seen().await, b"a staple");
    world.dir.put("staple", b"another");
    world.server.reload().unwrap();
    assert_eq!(seen().await, b"another");
}

/// Takes any certificate, and remembers what was stapled to it.
#[derive(Debug, Default)]
struct Watching {
    staple: Mutex<Vec<u8>>,
    rsa_only: bool,
}

impl Watching {
    fn rsa_only() -> Self {
        Self {
            rsa_only: true,
            ..Self::default()
        }
    }
}

impl rustls::client::danger::ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        staple: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let mut schemes = vec![rustls::SignatureScheme::RSA_PSS_SHA256];
        if !self.rsa_only {
            schemes.push(rustls::SignatureScheme::ECDSA_NISTP256_SHA256);
        }
        schemes
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_takes_no_longer_than_it_may() {
    let world = World::with(|options, _, _| options.max_handshakes = 1, |_, _, _| {});
    for said in [
        &b""[..],
        &[22, 3, 1],
        b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c",
    ] {
        let (mut near, far) = StreamIo::pair(WIDE);
        near.write_all(said).await.unwrap();
        let start = tokio::time::Instant::now();
        let error = accept(&world.server, far).await.err().unwrap();
        assert_eq!(
            (error.kind(), error.side()),
            (ErrorKind::Timeout, Side::Down)
        );
        assert!(
            start.elapsed() >= Duration::from_secs(10) && start.elapsed() < Duration::from_secs(11)
        );
    }
    assert_eq!(world.server.stats().count(Outcome::Timeout), 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_handshakes_go_on_at_once_than_may() {
    let world = World::with(|options, _, _| options.max_handshakes = 1, |_, _, _| {});
    let config = Arc::new(Raw::client_config(&world.authority));
    // One that stops after its first words keeps the place for as long as its time.
    let (near, far) = StreamIo::pair(WIDE);
    let mut slow = Raw::client(&config, near);
    slow.send().await.unwrap();
    let server = world.server.clone();
    let stalled = tokio::spawn(async move { accept(&server, far).await.err().unwrap().kind() });
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The next one waits its turn, and gets it.
    let start = tokio::time::Instant::now();
    world
        .session("localhost", StreamIo::pair(WIDE))
        .await
        .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(4));
    assert_eq!(stalled.await.unwrap(), ErrorKind::Timeout);
    // Those who have said nothing take nobody's place; those for whom it takes too long are told so.
    let (silent, far) = StreamIo::pair(WIDE);
    let server = world.server.clone();
    tokio::spawn(async move { accept(&server, far).await.err() });
    world
        .session("localhost", StreamIo::pair(WIDE))
        .await
        .unwrap();
    drop(silent);
    // Three who stop after their first words: the last to speak was the first to come, and its time is over while the second
    // has the place.
    let mut slow = Vec::new();
    let mut served = Vec::new();
    for (come, speak) in [(0, 0), (2, 2), (1, 3)] {
        let (near, far) = StreamIo::pair(WIDE);
        let mut client = Raw::client(&config, near);
        let server = world.server.clone();
        let tick = Duration::from_secs(1);
        served.push(tokio::spawn(async move {
            tokio::time::sleep(come * tick).await;
            accept(&server, far).await.err().unwrap().kind()
        }));
        slow.push(tokio::spawn(async move {
            tokio::time::sleep(speak * tick).await;
            client.send().await.unwrap();
            client
        }));
    }
    let mut kinds = Vec::new();
    for served in served {
        kinds.push(served.await.unwrap());
    }
    use ErrorKind::{Overloaded, Timeout};
    assert_eq!(kinds, [Timeout, Timeout, Overloaded]);
}

#[tokio::test]
async fn those_who_speak_no_tls_are_told() {
    let world = World::new();
    for (said, answer, outcome) in [
        (
            &b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"[..],
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            Outcome::PlainHttp,
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            &[21, 3, 3, 0, 2, 2, 50],
            Outcome::NotTls,
        ),
        (
            b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
            &[21, 3, 3, 0, 2, 2, 50],
            Outcome::NotTls,
        ),
    ] {
        let (mut near, far) = StreamIo::pair(WIDE);
        near.write_all(said).await.unwrap();
        let error = accept(&world.server, far).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tls);
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        assert!(got.starts_with(answer), "{got:?}");
        if let Some(length) = got.windows(16).position(|it| it == b"content-length: ") {
            let text = String::from_utf8(got.clone()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length: usize = head[length + 16..].parse().unwrap();
            assert_eq!(body.len(), length);
        }
        assert_eq!(
            world.server.stats().count(outcome),
            if outcome == Outcome::NotTls && said[0] == 22 {
                2
            } else {
                1
            }
        );
    }
    let (near, far) = StreamIo::pair(WIDE);
    drop(near);
    assert_eq!(
        accept(&world.server, far).await.err().unwrap().kind(),
        ErrorKind::Closed
    );
}

/// A client's configuration that sends early data, with a session to go on with.
async fn early_client(world: &World) -> Arc<ClientConfig> {
    let mut config = Raw::client_config(&world.authority);
    config.enable_early_data = true;
    let any = Arc::new(Watching::default());
    config.dangerous().set_certificate_verifier(any);
    let config = Arc::new(config);
    let (near, far) = StreamIo::pair(WIDE);
    let mut client = Raw::client(&config, near);
    let (shaken, accepted) = tokio::join!(client.shake(), accept(&world.server, far));
    shaken.unwrap();
    let mut server = accepted.unwrap().0;
    server.write_all(b"!").await.unwrap();
    client.hear(1).await;
    config
}

fn send_early(client: &mut Raw, data: &[u8]) {
    let rustls::Connection::Client(conn) = &mut client.conn else {
        panic!("no client")
    };
    let mut early = conn.early_data().unwrap();
    std::io::Write::write_all(&mut early, data).unwrap();
}

fn was_early(client: &Raw) -> bool {
    let rustls::Connection::Client(conn) = &client.conn else {
        panic!("no client")
    };
    conn.is_early_data_accepted()
}

#[tokio::test]
async fn early_data_is_read_early_and_known_as_such_until_the_handshake_is_over() {
    let world = World::with(
        |options, _, _| options.max_early_data = 16 * 1024,
        |_, _, _| {},
    );
    let config = early_client(&world).await;
    let (near, far) = StreamIo::pair(WIDE);
    let mut client = Raw::client(&config, near);
    send_early(&mut client, b"GET /early");
    client.send().await.unwrap();
    let (mut server, facts) = accept_only(&world.server, far).await;
    assert!(facts.resumed && facts.may_be_replay());
    let mut got = [0; 10];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"GET /early");
    assert!(
        facts.may_be_replay(),
        "the client has not proved anything yet"
    );
    // The answer does not wait for the rest of the handshake.
    server.write_all(b"early answer").await.unwrap();
    assert!(facts.may_be_replay());
    client.shake().await.unwrap();
    assert!(was_early(&client));
    assert_eq!(client.hear(12).await, b"early answer");
    client.say(b"late").await;
    let mut got = [0; 4];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"late");
    assert!(!facts.may_be_replay());
}

#[tokio::test]
async fn early_data_comes_a_byte_at_a_time() {
    let world = World::with(
        |options, _, _| options.max_early_data = 16 * 1024,
        |_, _, _| {},
    );
    let config = early_client(&world).await;
    let (near, far) = StreamIo::pair(1);
    let mut client = Raw::client(&config, near);
    send_early(&mut client, b"GET /early");
    let client = tokio::spawn(async move {
        client.shake().await.unwrap();
        assert!(was_early(&client));
        client.say(b"late").await;
        assert_eq!(client.hear(12).await, b"early answer");
    });
    let (mut server, facts) = accept_only(&world.server, far).await;
    assert!(facts.early_data.is_some());
    let mut got = [0; 14];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"GET /earlylate");
    assert!(!facts.may_be_replay());
    server.write_all(b"early answer").await.unwrap();
    server.flush().await.unwrap();
    client.await.unwrap();
}

/// Without the flush that [`accept`] does: nothing but the handshake.
async fn accept_only(server: &TlsServer, stream: StreamIo) -> (StreamIo, oxy_core::TlsFacts) {
    let flow = support::flow(StreamIo::pair(1).0);
    server.accept(stream, &flow.info).await.unwrap()
}

#[tokio::test]
async fn a_session_is_good_for_early_data_once() {
    let world = World::with(
        |options, _, _| options.max_early_data = 16 * 1024,
        |_, _, _| {},
    );
    let config = early_client(&world).await;
    // What a client has sent is sent again by somebody who has seen it pass.
    let (near, mut tap) = StreamIo::pair(WIDE);
    let mut client = Raw::client(&config, near);
    send_early(&mut client, b"GET /early");
    client.send().await.unwrap();
    let mut seen = vec![0; WIDE];
    let n = tap.read(&mut seen).await.unwrap();
    for early in [true, false] {
        let (mut near, far) = StreamIo::pair(WIDE);
        near.write_all(&seen[..n]).await.unwrap();
        let server = world.server.clone();
        let accepted = tokio::spawn(async move { accept_only(&server, far).await });
        if early {
            assert!(accepted.await.unwrap().1.may_be_replay());
        } else {
            // It is asked to prove itself first, which it cannot.
            near.read_exact(&mut [0; 100]).await.unwrap();
            assert!(!accepted.is_finished());
            accepted.abort();
        }
    }
}

#[tokio::test]
async fn early_data_that_is_not_taken_is_skipped() {
    let world = World::with(
        |options, _, _| options.max_early_data = 16 * 1024,
        |_, _, _| {},
    );
    for size in [1, WIDE] {
        let config = early_client(&world).await;
        // Another server, which does not know the session and takes no early data.
        let other = World {
            server: World::with(|_, _, _| {}, |_, _, _| {}).server,
            ..World::new()
        };
        let (near, far) = StreamIo::pair(size);
        let mut client = Raw::client(&config, near);
        send_early(&mut client, b"GET /early");
        let (shaken, accepted) = tokio::join!(client.shake(), accept_only(&other.server, far));
        shaken.unwrap();
        let (mut server, facts) = accepted;
        assert!(!was_early(&client) && facts.early_data.is_none());
        let mut got = [0; 4];
        let (read, ()) = tokio::join!(server.read_exact(&mut got), client.say(b"late"));
        read.unwrap();
        assert_eq!(&got, b"late");
    }
}

#[test]
fn when_certificates_end_is_known() {
    let (authority, dir) = (Authority::new("a"), Dir::new());
    let (cert, key) =
        authority.server_with(&["old.test"], expired, &rcgen::KeyPair::generate().unwrap());
    let old = CertFiles::new(dir.put("old.pem", cert), dir.put("old.key", key));
    let store =
        oxy_tls::CertStore::from_files(vec![old, dir.cert("new", &authority, &["new.test"])])
            .unwrap();
    let now = std::time::SystemTime::now();
    let ends: Vec<_> = store
        .expiries()
        .into_iter()
        .map(|(name, end)| (name, end < now))
        .collect();
    assert_eq!(
        ends,
        [("new.test".into(), false), ("old.test".into(), true)]
    );
}
