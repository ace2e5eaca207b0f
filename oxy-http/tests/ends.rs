//! How connections end that nobody broke: idle, worn out, stuck, or cut because the process goes away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::time::Duration;

use oxy_core::{ErrorKind, Side};
use support::{Bench, End, Origin, eventually};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Long enough for a loaded machine to do something else in, short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

/// RFC 9112 section 9.5: an idle connection is closed, and nothing is said on it.
#[test]
fn idle_clients_are_let_go() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.options(|options| options.timeouts.idle = SOON);
    let mut silent = bench.client();
    assert_eq!(silent.rest(), (Vec::new(), End::Closed));
    let mut idle = bench.client();
    idle.send(GET);
    assert_eq!(idle.response().status(), 200);
    assert_eq!(idle.rest(), (Vec::new(), End::Closed));
    drop((silent, idle));
    assert_eq!(bench.finish().len(), 1);
}

#[test]
fn idle_connections_to_origins_are_closed() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            peer.request().unwrap();
            peer.send(OK);
            assert_eq!(peer.rest(), (Vec::new(), End::Closed), "it is kept");
        })
    });
    let bench = setup.options(|options| options.pool.idle = SOON);
    assert_eq!(bench.ask(GET).status(), 200);
    // The pool looks every other second; the origin's script sees its end well before its own patience does.
    bench.finish_when_origin_closes();
}

#[test]
fn connections_to_origins_wear_out() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.options(|options| options.pool.max_requests = 2);
    let mut client = bench.client();
    for turn in 1..=6_usize {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        assert_eq!(bench.accepted(), turn.div_ceil(2));
    }
    drop(client);
    bench.finish_with_pool();
}

#[test]
fn a_pool_has_room_for_some() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.options(|options| options.pool.max_idle = 0);
    let mut client = bench.client();
    for turn in 1..=3 {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        assert_eq!(bench.accepted(), turn);
    }
    drop(client);
    bench.finish();
}

/// A client that does not read holds nothing for long.
#[test]
fn a_client_that_stops_reading_is_cut() {
    for framing in [
        "Content-Length: 100000000",
        "Transfer-Encoding: chunked",
        "X: y",
    ] {
        let piece = match framing {
            "Transfer-Encoding: chunked" => format!("186a0\r\n{}\r\n", "x".repeat(100_000)),
            _ => "x".repeat(100_000),
        };
        let setup = Bench::before(|| {
            Origin::each(move |peer| {
                peer.request().unwrap();
                peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
                let sent = (0..1000).take_while(|_| peer.try_send(&piece).is_ok());
                assert!(sent.count() < 1000, "it was not cut");
            })
        });
        let bench = setup.options(|options| options.timeouts.body = SOON);
        let client = bench.client();
        client.send(GET);
        let finished = bench.finished(1);
        assert_eq!(
            finished[0].error,
            Some((ErrorKind::Timeout, Side::Down)),
            "{framing}"
        );
        drop(client);
        bench.finish();
    }
}

/// An origin that says nothing but "wait" has said nothing.
#[test]
fn interim_responses_are_counted() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            peer.request().unwrap();
            let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
            // It may be closed before all of this has been sent.
            let _ = peer.try_send(hints);
            peer.end();
        })
    });
    let mut client = bench.client();
    client.send(GET);
    let mut interim = 0;
    let status = loop {
        match client.response().status() {
            103 => interim += 1,
            status => break status,
        }
    };
    assert_eq!(status, 502);
    assert!(interim < 100, "{interim}");
    drop(client);
    bench.finish();
}

/// RFC 9112 section 8: what a process cuts on its way out does not look whole; and the books are closed all the same.
#[test]
fn what_is_cut_does_not_look_whole() {
    for (request, response, start) in [
        (GET, "", ""),
        (
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "hello",
        ),
        (
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "hello",
        ),
        (GET, "HTTP/1.1 200 OK\r\n\r\nhello", "5\r\nhello\r\n"),
        (
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "hello",
        ),
    ] {
        let mut bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.request().unwrap();
                peer.send(response);
                assert_ne!(peer.end(), End::Open, "it was not cut");
            })
        });
        let mut client = bench.client();
        client.send(request);
        assert!(eventually(|| bench.seen() == 1));
        if !response.is_empty() {
            client.raw_head().unwrap();
            assert_eq!(client.read(start.len()), start.as_bytes());
        }
        drop(bench.take_running());
        let (rest, end) = client.rest();
        assert_eq!(rest, b"", "{request:?}, {response:?}");
        assert_ne!(end, End::Open);
        if request.contains("1.0") {
            assert_eq!(end, End::Reset, "{response:?}");
        }
        drop(client);
        let finished = bench.stopped();
        assert_eq!(finished[0].error, Some((ErrorKind::Draining, Side::Local)));
    }
}
