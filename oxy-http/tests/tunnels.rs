//! Exchanges that become tunnels, and requests to a forward proxy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::net::TcpListener;

use oxy_core::offramp::{AnyOfframp, EgressPolicy, Offramp};
use oxy_core::{Ended, ErrorKind, Far, FlowInfo, Layer, Result, Side, Target};
use oxy_http::Http;
use support::{Bench, End, Origin, Peer, eventually};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends back all that comes, until it ends.
fn echo_bytes(peer: &mut Peer) {
    while let Ok(byte) = peer.try_read(1) {
        peer.send(byte);
    }
    peer.finish_sending();
}

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/2, other\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat/2\r\nX: y\r\n\r\n";

/// RFC 9110 section 7.8; what was sent too early on either side is not lost.
#[test]
fn an_upgrade_becomes_a_tunnel() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            let request = peer.request().unwrap();
            assert_eq!(request.field("connection").as_deref(), Some("upgrade"));
            assert_eq!(request.field("upgrade").as_deref(), Some("chat/2"));
            peer.send(format!("{SWITCH}welcome "));
            echo_bytes(peer);
        })
    });
    let mut client = bench.client();
    client.send(format!("{UPGRADE}early "));
    let head = client.head().unwrap();
    assert_eq!(head.status(), 101);
    assert_eq!(head.field("connection").as_deref(), Some("upgrade"));
    assert_eq!(head.field("upgrade").as_deref(), Some("chat/2"));
    assert_eq!(head.field("x").as_deref(), Some("y"));
    assert_eq!(client.read(14), b"welcome early ");
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.read(18), b"GET / HTTP/1.1\r\n\r\n");
    // Each way ends by itself.
    client.send("last");
    client.finish_sending();
    assert_eq!(client.rest(), (b"last".to_vec(), End::Closed));
    drop(client);
    assert!(eventually(|| bench.closed().len() == 2));
    let layers = [(Layer::Upgrade, Ended::Done), (Layer::Tcp, Ended::Done)];
    assert_eq!(bench.closed(), layers, "the child first");
    let finished = bench.finish();
    assert_eq!((finished[0].status, finished[0].error), (101, None));
}

#[test]
fn a_reset_crosses_a_tunnel() {
    let bench = Bench::new(|| {
        Origin::once(|mut peer| {
            peer.request().unwrap();
            peer.send(SWITCH);
            peer.read(1);
            peer.reset();
        })
    });
    let mut client = bench.client();
    client.send(UPGRADE);
    assert_eq!(client.head().unwrap().status(), 101);
    client.send("x");
    assert_eq!(client.end(), End::Reset);
    drop(client);
    bench.finish();
}

#[test]
fn an_upgrade_may_be_declined() {
    let bench = Bench::new(|| Origin::answering(OK));
    let mut client = bench.client();
    for _ in 0..2 {
        client.send(UPGRADE);
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(bench.accepted(), 1);
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9110 section 7.8: an origin changes to nothing that was not asked for.
#[test]
fn an_upgrade_that_nobody_asked_for() {
    for request in [
        GET,
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: chat/2\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: chat/2\r\n\r\n",
        // Requests inside it would pass the proxy unseen.
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let bench = Bench::new(|| {
            Origin::each(|peer| {
                let request = peer.request().unwrap();
                assert_eq!(request.field("upgrade"), None);
                peer.send(SWITCH);
                peer.end();
            })
        });
        let mut client = bench.client();
        client.send(request);
        assert_eq!(client.response().status(), 502, "{request}");
        drop(client);
        bench.finish();
    }
}

fn connect_to(address: impl std::fmt::Display) -> String {
    format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n")
}

/// RFC 9110 section 9.3.6.
#[test]
fn connect_opens_a_tunnel() {
    for early in ["", "early "] {
        let setup = Bench::before(|| {
            Origin::each(|peer| {
                peer.send("hello ");
                echo_bytes(peer);
            })
        });
        let origin = setup.origin();
        let bench = setup.forward(EgressPolicy::open());
        let mut client = bench.client();
        client.send(format!("{}{early}", connect_to(origin)));
        let head = client.head().unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.field("content-length"), None);
        assert_eq!(head.field("transfer-encoding"), None);
        client.send("later");
        client.finish_sending();
        let expected = format!("hello {early}later");
        assert_eq!(client.rest_text(), (expected, End::Closed));
        drop(client);
        assert!(eventually(|| bench.closed().len() == 2));
        let layers = [(Layer::Connect, Ended::Done), (Layer::Tcp, Ended::Done)];
        assert_eq!(bench.closed(), layers, "the child first");
        let finished = bench.finish();
        assert_eq!((finished[0].status, finished[0].error), (200, None));
        assert_eq!(finished[0].method, "CONNECT");
        assert!(finished[0].upstream.is_some());
    }
}

#[test]
fn connect_goes_where_it_may() {
    let setup = Bench::before(|| Origin::answering(OK));
    let origin = setup.origin();
    let bench = setup.forward(EgressPolicy::default());
    let mut client = bench.client();
    for request in [
        connect_to(origin),
        connect_to("localhost:80"),
        connect_to("10.0.0.1:443"),
        connect_to("169.254.169.254:80"),
        connect_to("[::ffff:127.0.0.1]:80"),
        format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n"),
    ] {
        client.send(&request);
        assert_eq!(client.response().status(), 403, "{request}");
    }
    assert_eq!(bench.accepted(), 0);
    drop(client);
    for request in bench.finish() {
        assert_eq!(request.error.unwrap().0, ErrorKind::Denied);
    }
}

#[test]
fn connect_to_nobody() {
    let setup = Bench::alone();
    // Nobody listens where somebody has just listened.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let bench = setup.forward(EgressPolicy::open());
    let mut client = bench.client();
    client.send(connect_to(address));
    assert_eq!(client.response().status(), 502);
    drop(client);
    bench.finish();
}

/// RFC 9110 section 9.3.6: a port is not optional, and a gateway is no tunnel.
#[test]
fn connect_that_is_refused() {
    let bench = Bench::new(|| Origin::answering(OK));
    let mut client = bench.client();
    client.send(connect_to("127.0.0.1:80"));
    assert_eq!(client.response().status(), 403);
    assert_eq!(bench.accepted(), 0);
    drop(client);
    bench.finish();

    let bench = Bench::alone().forward(EgressPolicy::open());
    for target in [
        "127.0.0.1",
        "/",
        "http://127.0.0.1:80/",
        "127.0.0.1:0",
        "127.0.0.1:99999",
    ] {
        let mut client = bench.client();
        client.send(connect_to(target));
        assert_eq!(client.response().status(), 400, "{target}");
    }
    bench.finish();
}

/// RFC 9112 section 3.2.2.
#[test]
fn a_forward_proxy_goes_where_requests_say() {
    let setup = Bench::before(Origin::echo);
    let origin = setup.origin();
    let bench = setup.forward(EgressPolicy::open());
    let mut client = bench.client();
    for _ in 0..2 {
        client.send(format!("GET http://{origin}/x?y HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n\r\n"));
        let response = client.response();
        let text = response.text();
        assert!(text.starts_with("GET /x?y HTTP/1.1\r\n"), "{text}");
        assert!(text.contains(&format!("Host: {origin}\r\n")), "{text}");
        assert!(!text.contains("other"), "{text}");
        assert!(!text.contains("Proxy-Connection"), "{text}");
    }
    assert_eq!(bench.accepted(), 1);
    client.send(GET);
    assert_eq!(
        client.response().status(),
        400,
        "it names no place to go to"
    );
    client.send("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status(), 501, "https needs CONNECT");
    drop(client);
    bench.finish_with_pool();
}

/// Never gets anywhere.
struct Nowhere;

impl Offramp for Nowhere {
    async fn open(&self, _: &Target, _: &FlowInfo) -> Result<Far> {
        std::future::pending().await
    }
}

#[test]
fn nobody_is_dialled_for_a_client_that_is_gone() {
    for request in [
        connect_to("192.0.2.1:80"),
        "GET http://192.0.2.1/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
    ] {
        let nowhere = |proxy: oxy_core::Proxy<_>| proxy.offramp(|_| Ok(AnyOfframp::new(Nowhere)));
        let bench = Bench::alone().proxy((), nowhere, Http::forward);
        let client = bench.client();
        client.send(&request);
        assert!(eventually(|| bench.seen() == 1));
        client.reset();
        let finished = bench.finish();
        assert_eq!(
            finished[0].error,
            Some((ErrorKind::Closed, Side::Down)),
            "{request}"
        );
    }
}

/// RFC 9110 section 9.3.6: a CONNECT has no body; what claims to be one is neither lost nor taken for something else.
#[test]
fn connect_with_a_body_is_refused() {
    let setup = Bench::before(|| Origin::each(echo_bytes));
    let origin = setup.origin();
    let bench = setup.forward(EgressPolicy::open());
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = bench.client();
        client.send(format!(
            "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n{framing}"
        ));
        assert_eq!(client.response().status(), 400, "{framing}");
    }
    assert_eq!(bench.accepted(), 0);
    bench.finish();
}

/// RFC 9110 section 7.8: an upgrade comes after the request's body. Here one with a body is not passed on as an upgrade.
#[test]
fn an_upgrade_with_a_body_stays_a_request() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            while let Ok(request) = peer.request() {
                assert_eq!(request.field("upgrade"), None);
                assert_eq!(request.field("connection"), None);
                peer.send(OK);
            }
        })
    });
    let mut client = bench.client();
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n");
        client.send(framing);
        assert_eq!(client.response().text(), "ok");
    }
    drop(client);
    bench.finish_with_pool();
}
