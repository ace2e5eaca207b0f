//! What goes wrong at either end, and what the other end sees of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::net::TcpListener;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use oxy_core::{ErrorKind, Side};
use support::{Bench, End, Origin, Peer, eventually};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Long enough for a loaded machine to do something else in, short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

/// Asks once, and gives the status and what the books say of it.
fn outcome(bench: Bench) -> (u16, support::Finished) {
    let mut client = bench.client();
    client.send(GET);
    let response = client.response();
    drop(client);
    let finished = bench.finish();
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].status, response.status());
    (response.status(), finished[0].clone())
}

#[test]
fn an_origin_that_refuses_is_a_bad_gateway() {
    let setup = Bench::alone();
    // Nobody listens where somebody has just listened.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let bench = setup.proxy((), |proxy| proxy, |http| http.to(address));
    let (status, finished) = outcome(bench);
    assert_eq!(status, 502);
    assert_eq!(finished.error, Some((ErrorKind::Connect, Side::Up)));
}

#[test]
fn an_origin_that_ends_before_the_end_of_its_head_is_a_bad_gateway() {
    for head in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        for reset in [false, true] {
            let bench = Bench::new(|| {
                Origin::once(move |mut peer| {
                    peer.request().unwrap();
                    peer.send(head);
                    if reset {
                        peer.reset();
                    }
                })
            });
            let mut client = bench.client();
            client.send(GET);
            let mut response = client.response();
            if response.status() == 103 {
                response = client.response();
            }
            drop(client);
            assert_eq!(response.status(), 502, "{head:?}, {reset}");
            let finished = bench.finish();
            assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Up)));
        }
    }
}

/// What a client sees of a response that its origin ends too early.
fn cut(request: &'static str, response: &'static str, reset: bool) -> (String, End) {
    let (seen, saw) = mpsc::channel();
    let saw = Mutex::new(saw);
    let bench = Bench::new(|| {
        Origin::once(move |mut peer| {
            peer.request().unwrap();
            peer.send(response);
            // A reset would take along what has not been read.
            saw.lock().unwrap().recv().unwrap();
            if reset {
                peer.reset();
            }
        })
    });
    let mut client = bench.client();
    client.send(request);
    let head = client.raw_head().unwrap();
    let first = client.read(1);
    seen.send(()).unwrap();
    let (rest, end) = client.rest();
    drop(client);
    let finished = bench.finish();
    assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Up)));
    let all = [head.as_bytes(), &first, &rest].concat();
    (String::from_utf8(all).unwrap(), end)
}

/// RFC 9112 section 8: a message is incomplete without all of its body.
#[test]
fn a_body_that_ends_early_never_looks_whole() {
    for reset in [false, true] {
        let (text, end) = cut(
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
            reset,
        );
        assert!(text.contains("Content-Length: 10\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n12345"), "{text}");
        assert_ne!(end, End::Open);

        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let (text, end) = cut(GET, chunks, reset);
        assert!(text.ends_with("\r\n\r\n5\r\nhello\r\n"), "{text}");
        assert_ne!(end, End::Open);

        // Only the connection's end tells an HTTP/1.0 client that a chunked body is over.
        let (text, end) = cut("GET / HTTP/1.0\r\n\r\n", chunks, reset);
        assert!(text.ends_with("\r\n\r\nhello"), "{text}");
        assert_eq!(end, End::Reset);
    }
}

/// RFC 9112 section 8: a response that is delimited by the connection's end is incomplete if that end is a reset.
#[test]
fn a_reset_does_not_end_a_body() {
    let response = "HTTP/1.1 200 OK\r\n\r\nhello";
    let (text, end) = cut(GET, response, true);
    assert!(text.ends_with("\r\n\r\n5\r\nhello\r\n"), "{text}");
    assert_ne!(end, End::Open);
    let (text, end) = cut("GET / HTTP/1.0\r\n\r\n", response, true);
    assert!(text.ends_with("\r\n\r\nhello"), "{text}");
    assert_eq!(end, End::Reset);
}

#[test]
fn an_origin_that_says_nothing_is_given_up() {
    for start in ["", "HTTP/1.1 200", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let setup = Bench::before(|| {
            Origin::once(move |mut peer| {
                peer.request().unwrap();
                peer.send(start);
                assert_ne!(peer.end(), End::Open, "it was not let go");
            })
        });
        let bench = setup.options(|options| options.timeouts.first_byte = SOON);
        let mut client = bench.client();
        client.send(GET);
        let mut response = client.response();
        if response.status() == 100 {
            response = client.response();
        }
        assert_eq!(response.status(), 504, "{start:?}");
        drop(client);
        let finished = bench.finish();
        assert_eq!(finished[0].error, Some((ErrorKind::Timeout, Side::Up)));
    }
}

#[test]
fn a_response_that_stalls_is_cut() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        let setup = Bench::before(|| {
            Origin::once(move |mut peer| {
                peer.request().unwrap();
                peer.send(response);
                assert_ne!(peer.end(), End::Open, "it was not let go");
            })
        });
        let bench = setup.options(|options| options.timeouts.body = SOON);
        let mut client = bench.client();
        client.send(GET);
        let (text, end) = client.rest_text();
        assert_ne!(end, End::Open);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
        drop(client);
        let finished = bench.finish();
        assert_eq!(finished[0].error, Some((ErrorKind::Timeout, Side::Up)));
    }
}

/// RFC 9112 section 6.3: what follows a response that is over belongs to no request.
#[test]
fn bytes_behind_a_response_reach_nobody() {
    let bulk = "x".repeat(200_000);
    let responses = [
        ("GET", OK.to_owned()),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ),
        (
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{bulk}"),
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n".to_owned(),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_owned(),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ),
    ];
    for (method, response) in responses {
        let expected = response.clone();
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                while peer.request().is_ok() {
                    let extra = "HTTP/1.1 299 Smuggled\r\nContent-Length: 0\r\n\r\n";
                    // It may be closed before all of this has been sent.
                    let _ = peer.try_send(format!("{response}{extra}"));
                }
            })
        });
        let mut client = bench.client();
        for turn in 1..=3 {
            client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = if method == "HEAD" {
                client.head().unwrap()
            } else {
                client.response()
            };
            assert_ne!(answer.status(), 299, "{expected:.80}");
            assert!(expected.starts_with(&answer.start), "{answer:?}");
            if method == "GET" && expected.contains("200000") {
                assert!(answer.body == bulk.as_bytes());
            }
            assert_eq!(bench.accepted(), turn, "{expected:.80}");
        }
        drop(client);
        assert_eq!(bench.finish().len(), 3);
    }
}

#[test]
fn bytes_on_an_idle_connection_reach_nobody() {
    let (send, told) = mpsc::channel::<()>();
    let (sent, done) = mpsc::channel();
    let (told, sent) = (Mutex::new(told), Mutex::new(sent));
    let bench = Bench::new(|| {
        Origin::new(move |peer, turn| {
            let Some(peer) = peer else { return };
            while peer.request().is_ok() {
                peer.send(OK);
                if turn == 0 {
                    told.lock().unwrap().recv().unwrap();
                    peer.send("HTTP/1.1 299 Smuggled\r\nContent-Length: 0\r\n\r\n");
                    sent.lock().unwrap().send(()).unwrap();
                }
            }
        })
    });
    let mut client = bench.client();
    client.send(GET);
    assert_eq!(client.response().text(), "ok");
    send.send(()).unwrap();
    done.recv().unwrap();
    client.send(GET);
    assert_eq!(client.response().text(), "ok");
    assert_eq!(bench.accepted(), 2);
    drop(client);
    bench.finish();
}

#[test]
fn what_is_no_response_is_a_bad_gateway() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        &long,
    ] {
        let bytes = garbage.to_owned();
        let (status, finished) = outcome(Bench::new(|| {
            Origin::each(move |peer| {
                peer.request().unwrap();
                // It may be closed before all of this has been sent.
                let _ = peer.try_send(&bytes);
                peer.end();
            })
        }));
        assert_eq!(status, 502, "{garbage:.80}");
        assert_eq!(finished.error.unwrap().1, Side::Up);
    }
}

/// RFC 9112 section 7.1: a body whose chunks are broken is not ended as if it were whole.
#[test]
fn broken_chunks_are_not_passed_on_as_an_end() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            peer.request().unwrap();
            peer.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n0\r\n\r\n",
            );
            peer.end();
        })
    });
    let mut client = bench.client();
    client.send(GET);
    let (text, end) = client.rest_text();
    assert_ne!(end, End::Open);
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    drop(client);
    let finished = bench.finish();
    assert_eq!(finished[0].error.unwrap().1, Side::Up);
}

/// RFC 9112 section 9.5: an origin may answer and close before it has read a request.
#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    const TOO_LARGE: &str =
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch";
    for closes in [false, true] {
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.head().unwrap();
                peer.send(TOO_LARGE);
                if !closes {
                    assert_ne!(peer.end(), End::Open, "it was not let go");
                }
            })
        });
        let mut client = bench.client();
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
        client.send(vec![b'x'; 50_000]);
        let response = client.response();
        assert_eq!((response.status(), response.text()), (413, "much"));
        drop(client);
        bench.finish();
    }
}

/// RFC 9112 section 9.3: what is left of a body that nobody wants any more is read and dropped, however it was being moved,
/// and the next request is found behind it.
#[test]
fn a_client_goes_on_after_an_early_answer() {
    const LENGTH: usize = 200_000;
    // Less than is worth `splice(2)`, and more.
    for sent_first in [1000, 150_000] {
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                if peer.head().unwrap().start.starts_with("POST") {
                    peer.read(sent_first / 2);
                }
                peer.send(OK);
                peer.end();
            })
        });
        let mut client = bench.client();
        client.send(format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
        ));
        client.send(vec![b'x'; sent_first]);
        let response = client.response();
        assert_eq!(
            (response.status(), response.field("connection")),
            (200, None)
        );
        client.send(vec![b'x'; LENGTH - sent_first]);
        client.send(GET);
        assert_eq!(client.response().text(), "ok", "{sent_first}");
        drop(client);
        assert_eq!(bench.finish().len(), 2);
    }
}

/// An origin whose first connection answers one request and then fails on the next one.
fn dying(reset: bool, last: &'static str) -> Origin {
    Origin::new(move |slot, turn| {
        let Some(peer) = slot else { return };
        while peer.head().is_ok() {
            if turn == 0 {
                peer.send(OK);
                let _ = peer.head();
                peer.send(last);
                if let Some(peer) = slot.take().filter(|_| reset) {
                    peer.reset();
                }
                return;
            }
            peer.send(OK);
        }
    })
}

/// RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1: what is idempotent is tried again on a fresh connection.
#[test]
fn a_request_survives_a_connection_that_was_about_to_close() {
    for reset in [false, true] {
        for method in ["GET", "DELETE", "PUT"] {
            let bench = Bench::new(|| dying(reset, ""));
            let mut client = bench.client();
            client.send(GET);
            assert_eq!(client.response().status(), 200);
            client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.response().text(), "ok", "{method}, {reset}");
            assert_eq!(bench.accepted(), 2);
            drop(client);
            let finished = bench.finish();
            assert_eq!((finished[1].retries, finished[1].status), (1, 200));
            assert_eq!(finished[1].error, None);
        }
    }
}

/// RFC 9110 section 9.2.2: what may have been done once is not done again.
#[test]
fn a_request_that_may_have_been_done_is_not_sent_twice() {
    for request in [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "PATCH /x HTTP/1.1\r\nHost: a\r\n\r\n",
        // Its body is gone once it has been sent.
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "BREW /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let bench = Bench::new(|| dying(false, ""));
        let mut client = bench.client();
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        client.send(request);
        assert_eq!(client.response().status(), 502, "{request}");
        assert_eq!(bench.accepted(), 1, "{request}");
        drop(client);
        assert_eq!(bench.finish()[1].retries, 0);
    }
}

#[test]
fn a_request_that_was_being_answered_is_not_sent_twice() {
    let bench = Bench::new(|| dying(false, "HTTP/1.1 200 O"));
    let mut client = bench.client();
    client.send(GET);
    assert_eq!(client.response().status(), 200);
    client.send(GET);
    assert_eq!(client.response().status(), 502);
    assert_eq!(bench.accepted(), 1);
    drop(client);
    bench.finish();
}

#[test]
fn a_client_that_leaves_within_its_head_bothers_no_origin() {
    for start in ["", "GET / HTTP/1.1\r\nHo", "\r\n"] {
        for reset in [false, true] {
            let bench = Bench::new(|| Origin::answering(OK));
            let client = bench.client();
            client.send(start);
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            assert!(eventually(|| bench.closed().len() == 1));
            assert_eq!(bench.accepted(), 0);
            assert!(bench.finish().is_empty());
        }
    }
}

/// RFC 9112 section 8: what an origin gets of a request that was cut short must not look whole.
#[test]
fn a_client_that_leaves_within_its_body_aborts_the_upload() {
    for (head, reset) in [
        ("Content-Length: 10\r\n\r\nhello", false),
        ("Content-Length: 10\r\n\r\nhello", true),
        ("Content-Length: 100000\r\n\r\nhello", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
    ] {
        let (got, gets) = mpsc::channel();
        let got = Mutex::new(got);
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.head().unwrap();
                let mut text = Vec::new();
                while !text.windows(5).any(|w| w == b"hello") {
                    text.extend(peer.read(1));
                }
                got.lock().unwrap().send((Vec::new(), End::Open)).unwrap();
                let (rest, end) = peer.rest();
                got.lock().unwrap().send((rest, end)).unwrap();
            })
        });
        let client = bench.client();
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{head}"));
        gets.recv().unwrap();
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        let (rest, end) = gets.recv().unwrap();
        assert_ne!(end, End::Open, "{head:?}, {reset}");
        assert!(!rest.windows(3).any(|w| w == b"0\r\n"), "{rest:?}");
        let finished = bench.finish();
        assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Down)));
        assert_eq!(finished[0].status, 0, "nothing was said");
    }
}

#[test]
fn a_client_that_leaves_within_the_response_stops_the_origin() {
    for framing in [
        "Content-Length: 1000000000",
        "Transfer-Encoding: chunked",
        "X: y",
    ] {
        let chunk = match framing {
            "Transfer-Encoding: chunked" => format!("2710\r\n{}\r\n", "x".repeat(10_000)),
            _ => "x".repeat(10_000),
        };
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.request().unwrap();
                peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
                while peer.try_send(&chunk).is_ok() {}
            })
        });
        let mut client = bench.client();
        client.send(GET);
        client.read(100_000);
        drop(client);
        let finished = bench.finish();
        assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Down)));
        assert_eq!(finished[0].status, 200);
    }
}

#[test]
fn a_client_that_leaves_within_both_bodies_ends_the_upload() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            peer.head().unwrap();
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            assert_eq!(peer.read(5), b"hello");
            assert_ne!(peer.end(), End::Open, "the upload goes on");
        })
    });
    let mut client = bench.client();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    client.raw_head().unwrap();
    client.send("hello");
    assert_eq!(client.read(5 + 3), b"5\r\nfirst");
    client.reset();
    let finished = bench.finish();
    assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Down)));
}

#[test]
fn a_client_that_stalls_in_its_head_is_told_so() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.options(|options| options.timeouts.head = SOON);
    let mut client = bench.client();
    client.send("GET / HTTP/1.1\r\nHost:");
    let response = client.response();
    assert_eq!(response.status(), 408);
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert_eq!(client.end(), End::Closed);
    drop(client);
    assert!(bench.finish().is_empty());
}

/// A head that comes in drops is bounded as a whole.
#[test]
fn a_head_in_drops_does_not_renew_its_time() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.options(|options| options.timeouts.head = SOON);
    let mut client = bench.client();
    client.send("GET / HTTP/1.1\r\n");
    let dribble = std::thread::spawn({
        let socket = client.socket().clone();
        move || {
            let pause = Duration::from_millis(20);
            let drops = (0..500).take_while(|_| {
                std::thread::sleep(pause);
                std::io::Write::write_all(&mut &*socket, b"X: y\r\n").is_ok()
            });
            drops.count()
        }
    });
    assert_eq!(client.response().status(), 408);
    client.end();
    let _ = client.socket().shutdown(std::net::Shutdown::Both);
    assert!(dribble.join().unwrap() < 500);
    drop(client);
    assert!(bench.finish().is_empty());
}

#[test]
fn a_client_that_stalls_in_its_body_is_told_so() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            peer.head().unwrap();
            assert_ne!(peer.end(), End::Open, "it was not let go");
        })
    });
    let bench = setup.options(|options| {
        options.timeouts.body = SOON;
        options.timeouts.first_byte = SOON;
    });
    let mut client = bench.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response().status(), 408);
    drop(client);
    let finished = bench.finish();
    assert_eq!(finished[0].error, Some((ErrorKind::Timeout, Side::Down)));
}

/// RFC 9112 section 9.6: a client may close its side and still wait for the answer.
#[test]
fn a_client_that_has_no_more_to_say_is_answered() {
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let (told, tell) = mpsc::channel();
        let tell = Mutex::new(tell);
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.request().unwrap();
                tell.lock().unwrap().recv().unwrap();
                peer.send(OK);
                peer.end();
            })
        });
        let mut client = bench.client();
        client.send(request);
        client.finish_sending();
        told.send(()).unwrap();
        assert_eq!(client.response().text(), "ok");
        assert_eq!(client.end(), End::Closed);
        drop(client);
        assert_eq!(bench.finish()[0].error, None);
    }
}

#[test]
fn a_client_that_resets_while_it_waits_cancels_the_request() {
    for (request, start) in [
        (GET, ""),
        (
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello",
        ),
        (
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nhi",
            "",
        ),
    ] {
        let (got, gets) = mpsc::channel();
        let got = Mutex::new(got);
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.head().unwrap();
                peer.send(start);
                got.lock().unwrap().send(()).unwrap();
                assert_ne!(peer.end(), End::Open, "the request was not cancelled");
            })
        });
        let mut client = bench.client();
        client.send(request);
        gets.recv().unwrap();
        if !start.is_empty() {
            client.raw_head().unwrap();
            client.read(5);
        }
        Peer::reset(client);
        let finished = bench.finish();
        assert_eq!(finished.len(), 1, "{request:?}, {start:?}");
        assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Down)));
    }
}
