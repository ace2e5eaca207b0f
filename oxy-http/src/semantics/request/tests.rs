use super::*;
use crate::h1::parse::{self, Parse};
use crate::limits::HeadLimits;
use crate::semantics::MapSink;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn plain() -> ForwardPolicy {
    ForwardPolicy {
        via: None,
        x_forwarded: Forwarding::Remove,
        ..ForwardPolicy::default()
    }
}

fn index(input: &str) -> RequestIndex {
    let mut index = RequestIndex::default();
    assert_eq!(
        parse::request(input.as_bytes(), &HeadLimits::default(), &mut index),
        Ok(Parse::Complete),
        "{input:?}"
    );
    index
}

fn forward_with(input: &str, hop: &RequestHop<'_>, policy: &ForwardPolicy) -> (Outcome, String) {
    let index = index(input);
    let head = RequestHead::indexed(&index, input.as_bytes());
    let mut out = Vec::new();
    let outcome = forward_request(&head, hop, policy, &mut out);
    // What is sent on means what was received.
    if outcome == Outcome::Forward {
        let text = String::from_utf8(out.clone()).unwrap();
        assert_eq!(self::index(&text).framing, index.framing);
    }
    // The same through a header map.
    let parts = index
        .parts(&bytes::Bytes::copy_from_slice(input.as_bytes()))
        .unwrap();
    let request = http::Request::from_parts(parts, ());
    let typed = RequestHead::of_request(&request, index.framing);
    let mut other = Vec::new();
    assert_eq!(forward_request(&typed, hop, policy, &mut other), outcome);
    let sorted = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines: Vec<_> = text
            .split("\r\n")
            .map(|line| match line.split_once(':') {
                Some((name, value)) if !line.contains(" HTTP/1.1") => {
                    format!("{}: {}", name.to_lowercase(), value.trim())
                }
                _ => line.to_owned(),
            })
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&other), sorted(&out));
    (outcome, String::from_utf8(out).unwrap())
}

fn forward(input: &str) -> String {
    forward_with(input, &RequestHop::default(), &plain()).1
}

#[test]
fn a_plain_request_passes_untouched() {
    assert_eq!(
        forward("GET /a%2e%2e/?b HTTP/1.1\r\nX-A:  1\r\nhost: a:1\r\nx-a: 2\r\n\r\n"),
        "GET /a%2e%2e/?b HTTP/1.1\r\nHost: a:1\r\nX-A:  1\r\nx-a: 2\r\n\r\n"
    );
}

#[test]
fn hop_by_hop_fields_go() {
    assert_eq!(
        forward(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-A, keep-alive, Upgrade, HTTP2-Settings, Host\r\nx-a: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nProxy-Authorization: x\r\nTrailer: b\r\n\
             X-B: 2\r\n\r\n"
        ),
        "GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\n\r\n"
    );
}

#[test]
fn framing_is_written_once() {
    assert_eq!(
        forward(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\ncontent-LENGTH: 007\r\n\r\n"
        ),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n"
    );
    assert_eq!(
        forward(
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\nTrailer: b\r\nTE: trailers;q=1, trailers\r\n\r\n"
        ),
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: b\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    );
    assert_eq!(
        forward("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"),
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    );
    assert_eq!(
        forward("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn http_10_has_neither_expectations_nor_trailers() {
    assert_eq!(
        forward(
            "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nTE: trailers\r\nContent-Length: 5\r\n\r\n"
        ),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    );
}

#[test]
fn targets() {
    let line = |input: &str, hop: &RequestHop<'_>| {
        let (_, out) = forward_with(input, hop, &plain());
        out.split("\r\n").take(2).collect::<Vec<_>>().join("|")
    };
    let origin = RequestHop {
        upstream: b"up",
        ..RequestHop::default()
    };
    let absolute = "HTTP/1.1\r\nHost: other\r\n\r\n";
    assert_eq!(
        line(&format!("GET http://a {absolute}"), &origin),
        "GET / HTTP/1.1|Host: a"
    );
    assert_eq!(
        line(&format!("GET http://a?b {absolute}"), &origin),
        "GET /?b HTTP/1.1|Host: a"
    );
    assert_eq!(
        line(&format!("GET http://a:1/b {absolute}"), &origin),
        "GET /b HTTP/1.1|Host: a:1"
    );
    assert_eq!(
        line(&format!("OPTIONS * {absolute}"), &origin),
        "OPTIONS * HTTP/1.1|Host: other"
    );
    assert_eq!(
        line("GET / HTTP/1.0\r\n\r\n", &origin),
        "GET / HTTP/1.1|Host: up"
    );
    assert_eq!(
        line("GET / HTTP/1.1\r\nHost:\r\n\r\n", &origin),
        "GET / HTTP/1.1|Host: "
    );
    let proxy = RequestHop {
        to_proxy: true,
        ..origin
    };
    assert_eq!(
        line(&format!("GET /b {absolute}"), &proxy),
        "GET http://other/b HTTP/1.1|Host: other"
    );
    assert_eq!(
        line(&format!("OPTIONS * {absolute}"), &proxy),
        "OPTIONS http://other HTTP/1.1|Host: other"
    );
    assert_eq!(
        line(&format!("CONNECT a:1 {absolute}"), &proxy),
        "CONNECT a:1 HTTP/1.1|Host: a:1"
    );
    let own = ForwardPolicy {
        preserve_host: false,
        ..plain()
    };
    let (_, out) = forward_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &origin, &own);
    assert_eq!(out, "GET / HTTP/1.1\r\nHost: up\r\n\r\n");
}

#[test]
fn options_without_a_path_is_about_the_server() {
    // A URI of the `http` crate cannot tell this from a path of `/`.
    let input = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
    let index = index(input);
    let mut out = Vec::new();
    let head = RequestHead::indexed(&index, input.as_bytes());
    assert_eq!(
        forward_request(&head, &RequestHop::default(), &plain(), &mut out),
        Outcome::Forward
    );
    assert!(out.starts_with(b"OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn what_the_proxy_adds() {
    let hop = RequestHop {
        client: Some(CLIENT),
        https: true,
        ..RequestHop::default()
    };
    let input = "GET / HTTP/1.0\r\nHost: a:1\r\nConnection: x-forwarded-for\r\nX-Forwarded-For: 1, 2\r\nX-Forwarded-For: 3\r\n\
                 X-Forwarded-Proto: ftp\r\nForwarded: for=x\r\nVia: 1.1 b\r\n\r\n";
    let add = |x_forwarded, forwarded| {
        let policy = ForwardPolicy {
            x_forwarded,
            forwarded,
            ..ForwardPolicy::default()
        };
        let (_, out) = forward_with(input, &hop, &policy);
        out.strip_prefix("GET / HTTP/1.1\r\nHost: a:1\r\n")
            .unwrap()
            .trim_end()
            .replace("\r\n", "|")
    };
    assert_eq!(
        add(Forwarding::Replace, Forwarding::Remove),
        "Via: 1.1 b|Via: 1.0 oxy|X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: https|X-Forwarded-Host: a:1"
    );
    assert_eq!(
        add(Forwarding::Append, Forwarding::Append),
        "X-Forwarded-Proto: ftp|Via: 1.1 b|Via: 1.0 oxy|X-Forwarded-For: 1, 2, 3, 192.0.2.1|X-Forwarded-Host: a:1|\
         Forwarded: for=x, for=192.0.2.1;host=\"a:1\";proto=https"
    );
    assert_eq!(
        add(Forwarding::Remove, Forwarding::Replace),
        "Via: 1.1 b|Via: 1.0 oxy|Forwarded: for=192.0.2.1;host=\"a:1\";proto=https"
    );
    assert_eq!(
        add(Forwarding::Keep, Forwarding::Keep),
        "X-Forwarded-For: 1, 2|X-Forwarded-For: 3|X-Forwarded-Proto: ftp|Forwarded: for=x|Via: 1.1 b|Via: 1.0 oxy"
    );
    let hop = RequestHop {
        client: "2001:db8::1".parse().ok(),
        ..RequestHop::default()
    };
    let policy = ForwardPolicy {
        forwarded: Forwarding::Replace,
        ..plain()
    };
    let (_, out) = forward_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &hop, &policy);
    assert!(out.contains("\r\nForwarded: for=\"[2001:db8::1]\";host=a;proto=http\r\n"));
}

#[test]
fn paths_are_normalised_only_if_asked_for() {
    let input = "GET /a/%2e%2E/%7eb/./c?d=/../ HTTP/1.1\r\nHost: a\r\n\r\n";
    let line = |policy: &ForwardPolicy| {
        let (_, out) = forward_with(input, &RequestHop::default(), policy);
        out.lines().next().unwrap().to_owned()
    };
    assert_eq!(line(&plain()), "GET /a/%2e%2E/%7eb/./c?d=/../ HTTP/1.1");
    let policy = ForwardPolicy {
        normalise_path: true,
        ..plain()
    };
    assert_eq!(line(&policy), "GET /~b/c?d=/../ HTTP/1.1");
}

#[test]
fn loops_and_spent_forwards_are_not_sent_on() {
    let policy = ForwardPolicy {
        instance: "x1".parse().ok(),
        ..ForwardPolicy::default()
    };
    let run = |lines: &str| {
        forward_with(
            &format!("TRACE / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
            &RequestHop::default(),
            &policy,
        )
    };
    assert_eq!(
        run("Via: 1.1 a, 2 oxy-x1 (c)\r\n"),
        (Outcome::Loop, String::new())
    );
    for other in [
        "1.1 oxy",
        "1.1 oxy-x2",
        "1.1 a-oxy-x1",
        "oxy-x1",
        "1.1 oxyx1",
    ] {
        assert_eq!(
            run(&format!("Via: {other}\r\n")).0,
            Outcome::Forward,
            "{other}"
        );
    }
    assert!(run("").1.contains("Via: 1.1 oxy-x1\r\n"));
    assert_eq!(run("Max-Forwards: 0\r\n"), (Outcome::Answer, String::new()));
    assert!(
        run("Connection: max-forwards\r\nMax-Forwards: 10\r\n")
            .1
            .contains("\r\nMax-Forwards: 9\r\n")
    );
    let (outcome, out) = forward_with(
        "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
        &RequestHop::default(),
        &policy,
    );
    assert!(outcome == Outcome::Forward && out.contains("Max-Forwards: 0\r\n"));
}

#[test]
fn upgrades() {
    let offer = |value: &str| {
        let input =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {value}\r\n\r\n");
        let index = index(&input);
        upgrade_offer(&Indexed::request(&index, input.as_bytes()))
            .map(|offer| String::from_utf8(offer.to_vec()).unwrap())
    };
    assert_eq!(offer("websocket, h2c").as_deref(), Some("websocket"));
    assert_eq!(offer("foo/2").as_deref(), Some("foo/2"));
    for none in ["h2c", "H2C, websocket", "HTTP/2.0", "", "a b"] {
        assert_eq!(offer(none), None, "{none}");
    }
    let hop = RequestHop {
        upgrade: Some(b"websocket"),
        close: true,
        ..RequestHop::default()
    };
    let (_, out) = forward_with(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        &hop,
        &plain(),
    );
    assert_eq!(
        out,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let hop = RequestHop {
        close: true,
        ..RequestHop::default()
    };
    assert!(
        forward_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &hop, &plain())
            .1
            .contains("\r\nConnection: close\r\n")
    );
}

#[test]
fn a_multiplexed_connection_gets_no_connection_fields() {
    let input = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-A: \r\nCookie: b\r\n\r\n";
    let index = index(input);
    let mut map = http::HeaderMap::new();
    let head = RequestHead::indexed(&index, input.as_bytes());
    let hop = RequestHop {
        close: true,
        ..RequestHop::default()
    };
    let outcome = request_fields(
        &head,
        &hop,
        &ForwardPolicy::default(),
        Wire::Multiplexed,
        &mut MapSink::new(&mut map),
    );
    assert_eq!(outcome, Outcome::Forward);
    let mut names: Vec<_> = map.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cookie",
            "te",
            "via",
            "x-a",
            "x-forwarded-host",
            "x-forwarded-proto"
        ]
    );
}

#[test]
fn a_client_is_told_by_the_address_that_it_has_itself() {
    for (client, x_forwarded_for, forwarded) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1", "\"[2001:db8::1]\""),
    ] {
        let hop = RequestHop {
            client: Some(client.parse().unwrap()),
            ..RequestHop::default()
        };
        let policy = ForwardPolicy {
            x_forwarded: Forwarding::Replace,
            forwarded: Forwarding::Replace,
            ..plain()
        };
        let sent = forward_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &hop, &policy).1;
        assert!(sent.contains(&format!("X-Forwarded-For: {x_forwarded_for}\r\n")));
        assert!(sent.contains(&format!("Forwarded: for={forwarded};host=a;proto=http\r\n")));
    }
}
