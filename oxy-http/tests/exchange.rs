//! Messages as they pass: connections, framing, fields, interim responses, limits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use oxy_http::HttpOptions;
use support::{Bench, End, Message, Origin, Peer, eventually};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What [`Origin::echo`] got: the head's lines, and what came behind it.
fn echoed(response: &Message) -> (Vec<&str>, &str) {
    let (head, body) = response.text().split_once("\r\n\r\n").unwrap();
    (head.split("\r\n").collect(), body)
}

fn has(response: &Message, line: &str) -> bool {
    echoed(response).0.contains(&line)
}

/// Whether the connection can be used for another request.
fn goes_on(client: &mut Peer) -> bool {
    client.try_send(GET).is_ok() && client.try_response().is_ok()
}

/// RFC 9112 section 9.3.
#[test]
fn connections_persist_on_both_sides() {
    let bench = Bench::new(|| Origin::answering(OK));
    let mut client = bench.client();
    for _ in 0..5 {
        client.send(GET);
        let response = client.response();
        assert_eq!((response.status(), response.text()), (200, "ok"));
        assert_eq!(response.field("connection"), None);
    }
    assert_eq!(bench.accepted(), 1);
    drop(client);
    let finished = bench.finish_with_pool();
    let reused: Vec<_> = finished.iter().map(|request| request.reused).collect();
    assert_eq!(reused, [false, true, true, true, true]);
}

/// RFC 9112 section 9.3: an HTTP/1.0 origin closes unless it says otherwise.
#[test]
fn old_origins() {
    for (field, connections) in [("X: y", 2), ("Connection: keep-alive", 1)] {
        let bench = Bench::new(|| {
            Origin::answering(format!(
                "HTTP/1.0 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\nok"
            ))
        });
        let mut client = bench.client();
        for _ in 0..2 {
            client.send(GET);
            let response = client.response();
            assert_eq!(response.start, "HTTP/1.1 200 OK", "RFC 9110 section 6.2");
            assert!(response.field("via").unwrap().starts_with("1.0 oxy-"));
            assert_eq!(response.text(), "ok");
        }
        assert_eq!(bench.accepted(), connections, "{field}");
        drop(client);
        bench.finish_with_pool();
    }
}

/// RFC 9112 section 9.3.2.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::new(Origin::echo);
    let mut client = bench.client();
    let all = (0..30).map(|n| match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            _ => format!(
                "PUT /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
            ),
        });
    let all: Vec<_> = all.collect();
    client.send(all.concat());
    for n in 0..30 {
        let response = client.response();
        let (head, body) = echoed(&response);
        let line = format!(" /{n} HTTP/1.1");
        assert!(head[0].ends_with(&line), "{n}: {head:?}");
        assert_eq!(body, if n % 3 == 0 { "" } else { "hello" });
    }
    drop(client);
    assert_eq!(bench.finish_with_pool().len(), 30);
}

/// RFC 9112 sections 9.3 and 9.6.
#[test]
fn who_says_close_gets_it() {
    let bench = Bench::new(|| Origin::answering(OK));
    for (request, answer) in [
        ("GET / HTTP/1.0\r\n\r\n", Some("close")),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Some("close"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n",
            Some("close"),
        ),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            Some("keep-alive"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            None,
        ),
    ] {
        let mut client = bench.client();
        client.send(request);
        let response = client.response();
        assert_eq!(response.field("connection").as_deref(), answer, "{request}");
        if answer == Some("close") {
            assert_eq!(client.rest(), (Vec::new(), End::Closed), "{request}");
        } else {
            assert!(goes_on(&mut client), "{request}");
        }
    }
    // What the origin does with its connection is no business of the client's.
    drop(bench.finish_with_pool());
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            peer.request().unwrap();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        })
    });
    let mut client = bench.client();
    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.response().field("connection"), None);
    }
    assert_eq!(bench.accepted(), 3);
    drop(client);
    bench.finish();
}

/// RFC 9112 section 6.3: no body follows, whatever the fields say; they are passed on where they mean something (RFC
/// 9110 section 8.6).
#[test]
fn responses_without_a_body() {
    for (method, response, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            Some("7"),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            Some("7"),
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n",
            None,
        ),
    ] {
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                while let Ok(request) = peer.request() {
                    peer.send(if request.start.contains("/x") {
                        OK
                    } else {
                        response
                    });
                }
            })
        });
        let mut client = bench.client();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.head().unwrap();
        assert!(response.starts_with(&head.start), "{head:?}");
        assert_eq!(head.field("content-length").as_deref(), length, "{head:?}");
        assert_eq!(head.field("transfer-encoding"), None, "{head:?}");
        assert!(goes_on(&mut client));
        assert_eq!(bench.accepted(), 1);
        drop(client);
        bench.finish_with_pool();
    }
}

/// RFC 9112 section 6.3 on the way in, section 7.1 on the way out: the client's connection lives where it can.
#[test]
fn a_body_that_ends_with_its_connection() {
    for length in [0, 5, 300_000] {
        let body = "x".repeat(length);
        let expected = body.clone();
        let bench = Bench::new(|| {
            Origin::each(move |peer| {
                peer.request().unwrap();
                peer.send("HTTP/1.1 200 OK\r\n\r\n");
                peer.send(&body);
            })
        });
        let mut client = bench.client();
        for _ in 0..2 {
            client.send(GET);
            let response = client.response();
            assert_eq!(
                response.field("transfer-encoding").as_deref(),
                Some("chunked")
            );
            assert!(response.text() == expected);
        }
        let mut old = bench.client();
        old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = old.response();
        assert_eq!(response.field("transfer-encoding"), None);
        assert_eq!(response.field("content-length"), None);
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        assert!(response.text() == expected);
        drop((client, old));
        bench.finish();
    }
}

/// RFC 9112 section 6.1: an HTTP/1.0 client is sent no transfer coding.
#[test]
fn a_chunked_body_for_an_old_client() {
    let bench = Bench::new(|| {
        Origin::answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
        )
    });
    let mut client = bench.client();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "abcde");
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9112 sections 7.1.1 and 7.1.2, RFC 9110 section 6.5.1: extensions are between two hops, trailers go on, and what
/// frames or routes a message cannot be a trailer.
#[test]
fn chunked_bodies_with_trailers() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            while let Ok(request) = peer.request() {
                let (name, value) = &request.trailers[0];
                assert_eq!(request.trailers.len(), 1, "{request:?}");
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n");
                peer.send(format!("X-Request-Trailer: {name}={value}\r\n\r\n"));
                peer.send("5;a=b;c=\"d;\"\r\n");
                peer.send("hello\r\n");
                peer.send("6;x\r\n world\r\n0;last\r\nX-Sum: 42\r\nContent-Length: 3\r\nHost: evil\r\n\r\n");
            }
        })
    });
    let mut client = bench.client();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-In\r\n",
        );
        client.send("Transfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhi\r\n0\r\nX-In: 7\r\nTransfer-Encoding: x\r\n\r\n");
        let raw = client.raw_head().unwrap();
        assert!(raw.contains("Trailer: X-Sum\r\n"), "{raw}");
        assert!(raw.contains("X-Request-Trailer: X-In=7\r\n"), "{raw}");
        let mut body = String::new();
        while !body.ends_with("\r\n\r\n") {
            body.push(client.read(1)[0].into());
        }
        assert!(body.ends_with("\r\n0\r\nX-Sum: 42\r\n\r\n"), "{body:?}");
        assert!(!body.contains(';'), "{body:?}");
    }
    assert_eq!(bench.accepted(), 1);
    drop(client);
    bench.finish_with_pool();
}

const EXPECTING: &str =
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// RFC 9110 section 10.1.1.
#[test]
fn an_expectation_is_the_origins_to_meet() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            while let Ok(mut request) = peer.head() {
                assert_eq!(request.field("expect").as_deref(), Some("100-continue"));
                peer.send("HTTP/1.1 100 Continue\r\nX-From: origin\r\n\r\n");
                request.body = peer.read(5);
                assert_eq!(request.text(), "hello");
                peer.send(OK);
            }
        })
    });
    let mut client = bench.client();
    for _ in 0..2 {
        client.send(EXPECTING);
        let go_on = client.response();
        assert_eq!(go_on.status(), 100);
        assert_eq!(go_on.field("x-from").as_deref(), Some("origin"));
        client.send("hello");
        assert_eq!(client.response().status(), 200);
    }
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9110 section 10.1.1: a final answer says that the body is not wanted.
#[test]
fn an_expectation_may_be_disappointed() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            peer.head().unwrap();
            peer.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
            // It never gets the body, and no other request on this connection.
            assert_eq!(peer.rest().0, b"");
        })
    });
    let mut client = bench.client();
    client.send(EXPECTING);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (401, "no"));
    // A client that sends the body all the same can go on.
    client.send("hello");
    client.send(EXPECTING);
    assert_eq!(client.response().status(), 401);
    assert_eq!(bench.accepted(), 2);
    drop(client);
    bench.finish();
}

/// RFC 9110 section 10.1.1: an origin may not know of expectations.
#[test]
fn a_client_that_expects_is_not_kept_waiting_for_ever() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            peer.head().unwrap();
            assert_eq!(peer.read(5), b"hello");
            peer.send(OK);
            peer.end();
        })
    });
    let mut client = bench.client();
    client.send(EXPECTING);
    assert_eq!(client.response().status(), 100);
    client.send("hello");
    assert_eq!(client.response().status(), 200);
    drop(client);
    bench.finish();
}

/// RFC 9110 section 15.2: interim responses are passed on, but not to HTTP/1.0.
#[test]
fn early_hints() {
    let bench = Bench::new(|| {
        Origin::answering(format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n{OK}"
        ))
    });
    let mut client = bench.client();
    client.send(GET);
    let hints = client.response();
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.field("link").as_deref(), Some("</a>"));
    assert_eq!((hints.field("x"), hints.field("connection")), (None, None));
    assert_eq!(client.response().status(), 103);
    assert_eq!(client.response().text(), "ok");
    let mut old = bench.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().text(), "ok");
    drop((client, old));
    bench.finish_with_pool();
}

/// RFC 9110 section 7.6.1.
#[test]
fn what_is_for_one_hop_goes_no_further() {
    let bench = Bench::new(Origin::echo);
    let response = bench.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, keep-alive, host\r\nX-One: 1\r\nX-Two: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: secret\r\n\r\n",
    );
    let (lines, _) = echoed(&response);
    let names: Vec<_> = lines[1..]
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let expected = [
        "Host",
        "X-Two",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
    ];
    assert_eq!(names, expected, "{lines:?}");
    bench.finish_with_pool();

    let bench = Bench::new(|| {
        Origin::answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-One, close\r\nX-One: 1\r\nX-Two: 2\r\n\
             Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nDate: then\r\n\r\nok",
        )
    });
    let response = bench.ask(GET);
    let names: Vec<_> = response
        .fields
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["X-Two", "Date", "Content-Length", "Via"]);
    bench.finish();
}

/// RFC 9110 section 7.6.3, and what is customary instead of RFC 7239.
#[test]
fn a_proxy_says_that_it_was_there() {
    let bench = Bench::new(Origin::echo);
    let response = bench.ask(
        "GET / HTTP/1.1\r\nHost: a:1\r\nVia: 1.0 fred\r\nX-Forwarded-For: 8.8.8.8\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=8.8.8.8\r\n\r\n",
    );
    let (lines, _) = echoed(&response);
    for line in [
        "Host: a:1",
        "Via: 1.0 fred",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: a:1",
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    assert!(!response.text().contains("8.8.8.8"), "{lines:?}");
    assert!(!response.text().contains("evil"), "{lines:?}");
    let ours = lines
        .iter()
        .filter(|line| line.starts_with("Via: 1.1 oxy-"));
    assert_eq!(ours.count(), 1, "{lines:?}");
    assert!(response.field("via").unwrap().starts_with("1.1 oxy-"));
    assert!(response.field("date").is_some(), "RFC 9110 section 6.6.1");
    bench.finish_with_pool();
}

/// RFC 9110 section 7.6.2.
#[test]
fn max_forwards_is_counted_down() {
    let bench = Bench::new(Origin::echo);
    for (request, line) in [
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n",
            "Max-Forwards: 4",
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n",
            "Max-Forwards: 0",
        ),
        // It has no meaning for others.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            "Max-Forwards: 0",
        ),
    ] {
        let response = bench.ask(request);
        assert!(has(&response, line), "{request}: {response:?}");
        let start = request.split("\r\n").next().unwrap();
        assert!(has(&response, start), "{request}: {response:?}");
    }
    bench.finish_with_pool();
}

/// RFC 9110 sections 7.6.2, 9.3.7 and 9.3.8.
#[test]
fn the_last_that_a_request_may_reach_answers_it() {
    let bench = Bench::new(Origin::echo);
    let mut client = bench.client();
    client.send("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    let response = client.response();
    assert!(matches!(response.status(), 200 | 204), "{response:?}");
    client
        .send("TRACE /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX: y\r\nCookie: secret\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 200);
    let kind = response.field("content-type");
    assert_eq!(kind.as_deref(), Some("message/http"));
    assert!(
        response.text().starts_with("TRACE /x HTTP/1.1\r\n"),
        "{response:?}"
    );
    assert!(response.text().contains("X: y\r\n"), "{response:?}");
    assert!(!response.text().contains("secret"), "{response:?}");
    assert!(goes_on(&mut client));
    assert_eq!(bench.accepted(), 1, "neither went on");
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9110 section 7.6.3: Via tells of loops.
#[test]
fn a_request_that_has_been_here_is_refused() {
    let mut options = HttpOptions::default();
    options.forward.instance = Some("0123".parse().unwrap());
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.proxy((), |proxy| proxy, |http| http.options(options));
    let mut client = bench.client();
    for (via, status) in [
        ("1.1 oxy-0123", 508),
        ("1.0 fred, 1.1 oxy-0123 (comment)", 508),
        ("1.1 oxy-4567", 200),
        ("1.1 oxy", 200),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n"));
        assert_eq!(client.response().status(), status, "{via}");
    }
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9112 sections 3.2.2 and 3.2.4.
#[test]
fn forms_of_targets() {
    let bench = Bench::new(Origin::echo);
    for (request, line, host) in [
        (
            "GET http://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x?y HTTP/1.1",
            "b:8",
        ),
        (
            "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1",
            "b",
        ),
        (
            "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?q HTTP/1.1",
            "b",
        ),
        (
            "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1",
            "b",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1",
            "a",
        ),
        // What an origin makes of these is for it to say.
        (
            "GET //e/%2e%2e/./ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET //e/%2e%2e/./ HTTP/1.1",
            "a",
        ),
    ] {
        let response = bench.ask(request);
        assert!(has(&response, line), "{response:?}");
        assert!(has(&response, &format!("Host: {host}")), "{response:?}");
    }
    // RFC 9112 section 3.2: an HTTP/1.1 request has a Host, whoever the client was.
    let response = bench.ask("GET /x HTTP/1.0\r\n\r\n");
    let hosts = echoed(&response).0;
    assert_eq!(
        hosts
            .iter()
            .filter(|line| line.starts_with("Host: 127."))
            .count(),
        1
    );
    bench.finish_with_pool();
}

#[test]
fn limits_on_requests() {
    let setup = Bench::before(Origin::echo);
    let bench = setup.options(|options| {
        options.body.max_request = 1000;
        options.head.max_head = 4000;
        options.head.max_target = 1000;
        options.head.max_fields = 20;
    });
    let (x1000, x1001) = ("x".repeat(1000), "x".repeat(1001));
    let fields = |n| "X: y\r\n".repeat(n);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (request, status) in [
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{x1000}"),
            200,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".into(),
            413,
        ),
        (
            format!(
                "{chunked}1f4\r\n{0}\r\n1f4\r\n{0}\r\n0\r\n\r\n",
                &x1000[..500]
            ),
            200,
        ),
        (
            format!(
                "{chunked}1f4\r\n{0}\r\n1f5\r\n{0}x\r\n0\r\n\r\n",
                &x1000[..500]
            ),
            413,
        ),
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &x1000[1..]),
            200,
        ),
        (format!("GET /{x1000} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(19)),
            200,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(20)),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {x1001}{x1001}{x1001}{x1000}\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", x1000.repeat(5)),
            431,
        ),
    ] {
        let mut client = bench.client();
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status(), status, "{request:.90}");
        // No second response to one request.
        client.finish_sending();
        assert_eq!(client.rest(), (Vec::new(), End::Closed), "{request:.90}");
    }
    bench.finish_with_pool();
}

/// RFC 9112 sections 2.2, 3, 5.1, 6.1, 6.3 and 7.1: what could be read in two ways is read in none, and nothing that
/// follows it either.
#[test]
fn requests_that_are_none() {
    let bench = Bench::new(|| Origin::answering(OK));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
            400,
        ),
    ] {
        let mut client = bench.client();
        client.send(format!("{request}{smuggled}"));
        assert_eq!(client.response().status(), status, "{request:?}");
        assert_eq!(client.rest().0, b"", "{request:?}");
    }
    let finished = bench.finish_with_pool();
    assert!(
        finished.iter().all(|request| request.target == "/"),
        "{finished:?}"
    );
}

/// What [`oxy_http::ExchangeSummary`] says.
#[test]
fn the_books_are_right() {
    let bench = Bench::new(|| {
        Origin::each(|peer| {
            while peer.request().is_ok() {
                peer.send("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
            }
        })
    });
    let mut client = bench.client();
    let big = "x".repeat(100_000);
    for request in [
        "PUT /a?b HTTP/1.1\r\nHost: c:1\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "PUT http://c:1/a?b HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\nyou\r\n0\r\n\r\n".into(),
        format!("PUT /a?b HTTP/1.1\r\nHost: c:1\r\nContent-Length: 100000\r\n\r\n{big}"),
    ] {
        client.send(request);
        assert_eq!(client.response().text(), "abcdefg");
    }
    drop(client);
    let finished = bench.finish_with_pool();
    let received: Vec<_> = finished.iter().map(|request| request.received).collect();
    for (request, target) in finished.iter().zip(["/a?b", "http://c:1/a?b", "/a?b"]) {
        assert_eq!(request.method, "PUT");
        assert_eq!(request.target, target);
        assert_eq!(request.host, "c:1");
        assert_eq!((request.status, request.sent), (201, 7));
        assert!(request.upstream.is_some());
        assert_eq!((request.retries, request.error), (0, None));
    }
    assert_eq!(received, [5, 5, 100_000]);
}

/// A client that sends its body too slowly holds nothing for long ([`oxy_http::options::BodyLimits::min_rate`]).
#[test]
fn a_body_has_a_least_rate() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            peer.head().unwrap();
            assert_ne!(peer.end(), End::Open, "it was not let go");
        })
    });
    let bench = setup.options(|options| {
        options.body.min_rate = 1000;
        options.body.grace = Duration::from_millis(500);
    });
    let mut client = bench.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let drops = std::thread::spawn({
        let socket = client.socket().clone();
        move || {
            let drops = (0..400).take_while(|_| {
                std::thread::sleep(Duration::from_millis(20));
                std::io::Write::write_all(&mut &*socket, b"x").is_ok()
            });
            drops.count()
        }
    });
    let status = client.try_response().map(|response| response.status());
    let _ = client.socket().shutdown(std::net::Shutdown::Both);
    assert!(drops.join().unwrap() < 400, "{status:?}");
    assert_eq!(status, Ok(408));
    drop(client);
    bench.finish();
}

/// RFC 9112 section 9.6: what has begun is finished, and said to be the last.
#[test]
fn a_drain_lets_what_has_begun_finish() {
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let mut bench = Bench::new(|| {
        Origin::each(move |peer| {
            while let Ok(request) = peer.request() {
                if request.start.contains("/slow") {
                    told.lock().unwrap().recv().unwrap();
                }
                peer.send(OK);
            }
        })
    });
    let mut idle = bench.client();
    idle.send(GET);
    assert_eq!(idle.response().status(), 200);
    let mut slow = bench.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    // Half a request does not count as begun, but is given its time.
    assert!(eventually(|| bench.accepted() == 1 && bench.flows() == 2));
    let running = bench.take_running();
    let drain = running.drain().clone();
    let stopping = std::thread::spawn(move || running.stop());
    assert!(eventually(|| !drain.is_serving()));
    assert_eq!(
        idle.rest(),
        (Vec::new(), End::Closed),
        "an idle connection ends"
    );
    tell.send(()).unwrap();
    let response = slow.response();
    assert_eq!((response.status(), response.text()), (200, "ok"));
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert_eq!(slow.rest(), (Vec::new(), End::Closed));
    stopping.join().unwrap().unwrap();
    assert!(std::net::TcpStream::connect(bench.address()).is_err());
    drop((idle, slow));
    assert_eq!(bench.stopped().len(), 2);
}

/// What is read along with a head depends on what the last body was like; what arrives does not.
#[test]
fn bodies_and_heads_of_all_sizes_follow_each_other() {
    let bench = Bench::new(Origin::echo);
    let mut client = bench.client();
    let sizes = [0, 1, 3_000, 5_000, 20_000, 70_000, 1_000_000];
    // Each kind after each other kind.
    let pairs = sizes.iter().flat_map(|&a| sizes.map(|b| [a, b]));
    for (at, size) in pairs.flatten().enumerate() {
        let body: String = ('a'..='z').cycle().skip(at).take(size).collect();
        let long = "x".repeat([0, 6_000][at % 2]);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\nContent-Length: {size}\r\n\r\n{body}"
        ));
        let response = client.response();
        assert!(has(&response, &format!("X-Long: {long}")), "{at}: {size}");
        assert!(echoed(&response).1 == body, "{at}: {size}");
    }
    assert_eq!(bench.accepted(), 1);
    drop(client);
    bench.finish_with_pool();
}
