//! What a client makes of servers, and the way out through TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use oxy_core::offramp::{AnyOfframp, Offramp};
use oxy_core::{Carrier, ErrorKind, Facts, Far, FlowInfo, Result, Retry, Side, StreamIo, Target};
use oxy_tls::{ClientOptions, Outcome, TlsClient, TlsOfframp};
use support::authority::expired;
use support::{Authority, Dir, World, accept, flow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WIDE: usize = 64 * 1024;

/// A world whose server has a certificate for `names`, changed by `change`, by another authority if `stranger`.
fn world(
    names: &[&str],
    change: impl FnOnce(&mut rcgen::CertificateParams),
    stranger: bool,
) -> World {
    World::with(
        |options, dir, authority| {
            let other = Authority::new("a stranger");
            let issuer = if stranger { &other } else { authority };
            let key = rcgen::KeyPair::generate().unwrap();
            let (cert, key) = issuer.server_with(names, change, &key);
            options.certificates[0].cert = dir.put("other.pem", cert);
            options.certificates[0].key = dir.put("other.key", key);
        },
        |_, _, _| {},
    )
}

#[tokio::test]
async fn only_the_right_certificate_will_do() {
    for (world, host, outcome, said) in [
        (
            world(&["localhost"], |_| {}, true),
            "localhost",
            Outcome::UnknownCa,
            "nobody whom we trust",
        ),
        (
            world(&["other.test"], |_| {}, false),
            "localhost",
            Outcome::WrongName,
            "for another name",
        ),
        (
            world(&["localhost"], |_| {}, false),
            "127.0.0.1",
            Outcome::WrongName,
            "for another name",
        ),
        (
            world(&["localhost"], expired, false),
            "localhost",
            Outcome::Expired,
            "not valid now",
        ),
    ] {
        let (near, far) = world.both(host, StreamIo::pair(WIDE)).await;
        let error = near.unwrap_err();
        assert_eq!((error.kind(), error.side()), (ErrorKind::Tls, Side::Up));
        assert_eq!((error.retryable(), error.status()), (Retry::Safe, 502));
        assert!(format!("{error:?}").contains(said), "{error:?}");
        assert_eq!(world.client.stats().count(outcome), 1);
        let error = far.err().unwrap();
        assert!(
            format!("{error:?}").contains("does not trust our certificate"),
            "{error:?}"
        );
        assert_eq!(world.server.stats().count(Outcome::Distrusted), 1);
    }
    for (names, host) in [
        (&["127.0.0.1"][..], "127.0.0.1"),
        (&["::1"], "::1"),
        (&["*.example.com"], "a.example.com"),
        (&["example.com"], "Example.com."),
    ] {
        let world = world(names, |_| {}, false);
        let session = world.session(host, StreamIo::pair(WIDE)).await.unwrap();
        let asked = session.far_facts.server_name.as_deref();
        assert_eq!(
            asked.is_some(),
            host.ends_with(['m', '.']),
            "{host}: {asked:?}"
        );
    }
}

#[tokio::test]
async fn names_can_be_set_and_verification_left_out() {
    let named = World::with(
        |options, dir, authority| {
            options.certificates = vec![dir.cert("inner", authority, &["inner.test"])];
        },
        |options, _, _| options.server_name = Some("inner.test".into()),
    );
    let session = named
        .session("127.0.0.1", StreamIo::pair(WIDE))
        .await
        .unwrap();
    assert_eq!(session.far_facts.server_name.as_deref(), Some("inner.test"));
    let careless = World::with(
        |options, dir, _| {
            options.certificates = vec![dir.cert("x", &Authority::new("stranger"), &["x.test"])];
        },
        |options, _, _| options.insecure_skip_verify = true,
    );
    careless
        .session("localhost", StreamIo::pair(WIDE))
        .await
        .unwrap();
}

#[test]
fn settings_that_cannot_work_say_which_file() {
    let dir = Dir::new();
    let (authority, empty) = (Authority::new("a"), dir.put("empty.pem", ""));
    let ca = dir.put("ca.pem", authority.pem());
    let fails = |change: &dyn Fn(&mut ClientOptions)| {
        let mut options = ClientOptions::default();
        options.ca = vec![ca.clone()];
        change(&mut options);
        format!("{:?}", TlsClient::new(options).unwrap_err())
    };
    for (said, change) in [
        (
            "/missing.ca",
            &(|o: &mut ClientOptions| o.ca = vec!["/missing.ca".into()])
                as &dyn Fn(&mut ClientOptions),
        ),
        ("empty.pem", &|o| o.ca = vec![empty.clone()]),
        ("needs its key", &|o| o.cert = Some(ca.clone())),
        ("empty.pem", &|o| {
            o.cert = Some(ca.clone());
            o.key = Some(empty.clone());
        }),
    ] {
        let text = fails(change);
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let world = World::new();
    let (near, _far) = StreamIo::pair(WIDE);
    let start = tokio::time::Instant::now();
    let error = world
        .client
        .connect(near, &"localhost".parse().unwrap())
        .await
        .err()
        .unwrap();
    assert_eq!((error.kind(), error.side()), (ErrorKind::Timeout, Side::Up));
    assert!(start.elapsed() >= Duration::from_secs(10));
    let (near, far) = StreamIo::pair(WIDE);
    drop(far);
    let error = world
        .client
        .connect(near, &"localhost".parse().unwrap())
        .await
        .err()
        .unwrap();
    assert_eq!((error.kind(), error.side()), (ErrorKind::Closed, Side::Up));
    let (near, mut far) = StreamIo::pair(WIDE);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    let error = world
        .client
        .connect(near, &"localhost".parse().unwrap())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert_eq!(world.client.stats().count(Outcome::NotTls), 1);
}

/// Reaches whatever was put into it.
struct Reach(Mutex<Vec<StreamIo>>);

impl Offramp for Reach {
    async fn open(&self, target: &Target, _: &FlowInfo) -> Result<Far> {
        Ok(Far {
            carrier: Carrier::Stream(self.0.lock().unwrap().pop().unwrap()),
            target: target.clone(),
            peer: None,
            facts: Facts::default(),
        })
    }
}

#[tokio::test]
async fn the_way_out_tells_what_was_settled() {
    let world = World::new();
    let (near, far) = StreamIo::pair(WIDE);
    let reach = AnyOfframp::new(Reach(Mutex::new(vec![near])));
    let offramp = TlsOfframp::new(reach, world.client.clone());
    let info = flow(StreamIo::pair(1).0).info;
    let target = "localhost:443".parse().unwrap();
    let (opened, accepted) = tokio::join!(
        Offramp::open(&offramp, &target, &info),
        accept(&world.server, far)
    );
    let Far { carrier, facts, .. } = opened.unwrap();
    assert_eq!(
        facts.tls.get().unwrap().alpn.as_deref(),
        Some(&b"http/1.1"[..])
    );
    let Carrier::Stream(mut near) = carrier else {
        panic!("no stream")
    };
    near.write_all(b"hi").await.unwrap();
    accepted.unwrap().0.read_exact(&mut [0; 2]).await.unwrap();
    // What has no name that TLS could verify is not dialled at all.
    let target = "unix:/run/app.sock".parse().unwrap();
    let error = Offramp::open(&offramp, &target, &info).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::Tls, Side::Local));
}

#[tokio::test]
async fn the_way_out_asks_for_the_name_that_the_target_was_found_under() {
    let world = World::new();
    let info = flow(StreamIo::pair(1).0).info;
    let target = "127.0.0.1:443".parse().unwrap();
    for (name, is_believed) in [
        (Some("localhost"), true),
        (Some("b.test"), false),
        (None, false),
    ] {
        let (near, far) = StreamIo::pair(WIDE);
        let reach = AnyOfframp::new(Reach(Mutex::new(vec![near])));
        let offramp = AnyOfframp::new(TlsOfframp::new(reach, world.client.clone()));
        let host = name.map(|name| name.parse().unwrap());
        let opening = async {
            let Far { carrier, facts, .. } = offramp.open_as(&target, host.as_ref(), &info).await?;
            let Carrier::Stream(mut stream) = carrier else {
                panic!("no stream")
            };
            stream.flush().await?;
            Ok::<_, oxy_core::Error>((stream, facts))
        };
        let (opened, accepted) = tokio::join!(opening, accept(&world.server, far));
        match opened {
            Ok(_) => {
                assert!(is_believed, "{name:?}");
                let asked = accepted.unwrap().1.server_name;
                assert_eq!(asked.as_deref(), name);
            }
            Err(error) => {
                assert!(!is_believed, "{name:?}: {error:?}");
                assert_eq!((error.kind(), error.side()), (ErrorKind::Tls, Side::Up));
            }
        }
    }
}
