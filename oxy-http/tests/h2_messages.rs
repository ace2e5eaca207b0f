//! What a request of HTTP/2 may not be like (RFC 9113 section 8, RFC 8441), and what its client is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, HEADERS, Outcome, PADDED, WHOLE, code, fields,
    frame, get, headers, post, request,
};
use support::offence::{Offence, Want, judge};
use support::{Bench, Origin};

use Want::{Goaway, Reset, Status};

const MALFORMED: Want = Reset(code::PROTOCOL);

fn proxy() -> Bench {
    Bench::new(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
}

fn data(flags: u8, text: &str) -> Vec<u8> {
    frame(DATA, flags, 1, text)
}

/// A whole request without a body, of these fields and no others.
fn of(list: &[(&str, &str)]) -> Vec<u8> {
    headers(1, WHOLE, list)
}

/// A GET with one more field.
fn with(name: &str, value: &str) -> Vec<u8> {
    of(&request("GET", &[(name, value)]))
}

/// A GET one of whose pseudo-fields is another.
fn but(name: &str, value: &str) -> Vec<u8> {
    let mut list = request("GET", &[]);
    for field in &mut list {
        if field.0 == name {
            field.1 = value;
        }
    }
    of(&list)
}

/// A GET without one of its pseudo-fields.
fn without(name: &str) -> Vec<u8> {
    let mut list = request("GET", &[]);
    list.retain(|field| field.0 != name);
    of(&list)
}

/// Sections 8.1 and 8.1.1.
#[test]
fn messages_are_whole() {
    let ended = |text| data(END_STREAM, text);
    let trailers = |flags, list: &[(&str, &str)]| headers(1, flags, list);
    let length = |length| post(1, &[("content-length", length)]);
    #[rustfmt::skip]
    let offences = [
        Offence::new("a body", [post(1, &[]), data(0, "a"), ended("b")].concat(), Status(200)),
        Offence::new("trailers", [post(1, &[]), data(0, "a"), trailers(WHOLE, &[("x", "y")])].concat(), Status(200)),
        Offence::new("trailers without a body", [post(1, &[]), trailers(WHOLE, &[("x", "y")])].concat(), Status(200)),
        Offence::new("trailers in two frames", [post(1, &[]), trailers(END_STREAM, &[("x", "y")]), frame(CONTINUATION, END_HEADERS, 1, fields(&[("z", "y")]))].concat(), Status(200)),
        Offence::new("trailers that do not end", [post(1, &[]), trailers(END_HEADERS, &[("x", "y")])].concat(), MALFORMED),
        Offence::new("trailers that do not end, after data", [post(1, &[]), data(0, "a"), trailers(END_HEADERS, &[("x", "y")])].concat(), MALFORMED),
        Offence::new("trailers with a pseudo-field", [post(1, &[]), data(0, "a"), trailers(WHOLE, &[(":method", "GET")])].concat(), Goaway(code::PROTOCOL)),
        Offence::new("trailers with an indexed pseudo-field", [post(1, &[]), data(0, "a"), frame(HEADERS, WHOLE, 1, [0x82])].concat(), Goaway(code::PROTOCOL)),
        Offence::new("trailers with a field in upper case", [post(1, &[]), data(0, "a"), trailers(WHOLE, &[("X", "y")])].concat(), Goaway(code::PROTOCOL)),
        Offence::new("trailers with a field of the connection", [post(1, &[]), data(0, "a"), trailers(WHOLE, &[("connection", "close")])].concat(), MALFORMED),
        Offence::new("DATA after trailers", [post(1, &[]), trailers(WHOLE, &[("x", "y")]), data(0, "x")].concat(), Goaway(code::STREAM_CLOSED)),
        // 8.1.1
        Offence::new("a length that is kept", [length("2"), data(0, "a"), data(0, ""), ended("b")].concat(), Status(200)),
        Offence::new("a length that is kept, with padding", [length("2"), frame(DATA, PADDED | END_STREAM, 1, "\x03ab\0\0\0")].concat(), Status(200)),
        Offence::new("a length that is kept, with trailers", [length("2"), data(0, "ab"), trailers(WHOLE, &[("x", "y")])].concat(), Status(200)),
        Offence::new("a length of nothing", of(&request("POST", &[("content-length", "0")])), Status(200)),
        Offence::new("a length without a body", of(&request("POST", &[("content-length", "1")])), MALFORMED),
        Offence::new("a body that is too short", [length("2"), ended("a")].concat(), MALFORMED),
        Offence::new("a body that is too short, in two frames", [length("3"), data(0, "a"), ended("b")].concat(), MALFORMED),
        Offence::new("a body that is too short, with trailers", [length("3"), data(0, "a"), trailers(WHOLE, &[("x", "y")])].concat(), MALFORMED),
        Offence::new("a body that is too long", [length("1"), ended("ab")].concat(), MALFORMED),
        Offence::new("a body that is too long, in two frames", [length("1"), data(0, "a"), ended("b")].concat(), MALFORMED),
        Offence::new("a body where there is none", [length("0"), ended("a")].concat(), MALFORMED),
        Offence::new("a length that is none", [length("a"), ended("a")].concat(), MALFORMED),
        Offence::new("a length that is negative", [length("-1"), ended("a")].concat(), MALFORMED),
        Offence::new("a length with a sign", [length("+1"), ended("a")].concat(), MALFORMED),
        Offence::new("a length that is empty", [length(""), ended("a")].concat(), MALFORMED),
        Offence::new("a list of lengths", [length("1, 1"), ended("a")].concat(), MALFORMED),
        Offence::new("a length beyond all numbers", [length("18446744073709551616"), ended("a")].concat(), MALFORMED),
        Offence::new("two lengths", [post(1, &[("content-length", "1"), ("content-length", "2")]), ended("a")].concat(), MALFORMED),
    ];
    let bench = proxy();
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// Sections 8.2, 8.2.1 and 8.2.2. Names and values that are none are not told from blocks that cannot be decompressed by
/// the `h2` crate, and end the connection, as they may.
#[test]
fn fields_are_well_formed() {
    #[rustfmt::skip]
    let offences = [
        Offence::new("an upper-case name", with("X-Test", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a name with a blank", with("x test", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a name with a colon", with("x:test", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a name with a control character", with("x\x01", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a name with an end of line", with("x\r\ny", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a name with DEL", with("x\x7f", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a name beyond ASCII", with("x\u{e9}", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("an empty name", with("", "ok"), Goaway(code::PROTOCOL)),
        Offence::new("a value with CR", with("x", "a\rb"), Goaway(code::PROTOCOL)),
        Offence::new("a value with LF", with("x", "a\nb"), Goaway(code::PROTOCOL)),
        Offence::new("a value with NUL", with("x", "a\0b"), Goaway(code::PROTOCOL)),
        Offence::new("a value with a blank before it", with("x", " a"), MALFORMED),
        Offence::new("a value with a tab before it", with("x", "\ta"), MALFORMED),
        Offence::new("a value with a blank after it", with("x", "a "), MALFORMED),
        Offence::new("a value with a tab after it", with("x", "a\t"), MALFORMED),
        Offence::new("a value of a blank", with("x", " "), MALFORMED),
        Offence::new("an empty value", with("x", ""), Status(200)),
        Offence::new("a value with blanks within", with("x", "a \tb"), Status(200)),
        Offence::new("a value beyond ASCII", with("x", "\u{e9}"), Status(200)),
        // 8.2.2
        Offence::new("Connection", with("connection", "keep-alive"), MALFORMED),
        Offence::new("Keep-Alive", with("keep-alive", "timeout=5"), MALFORMED),
        Offence::new("Proxy-Connection", with("proxy-connection", "keep-alive"), MALFORMED),
        Offence::new("Transfer-Encoding", with("transfer-encoding", "chunked"), MALFORMED),
        Offence::new("Upgrade", with("upgrade", "websocket"), MALFORMED),
        Offence::new("TE", with("te", "trailers"), Status(200)),
        Offence::new("TE of more", with("te", "trailers, deflate"), MALFORMED),
        Offence::new("TE of something else", with("te", "gzip"), MALFORMED),
        Offence::new("a field of the connection in the second frame", [headers(1, END_STREAM, &request("GET", &[])), frame(CONTINUATION, END_HEADERS, 1, fields(&[("connection", "close")]))].concat(), MALFORMED),
        // 8.2.3
        Offence::new("crumbs", of(&request("GET", &[("cookie", "a=1"), ("cookie", "b=2")])), Status(200)),
    ];
    let bench = proxy();
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// Sections 8.3 and 8.3.1.
#[test]
fn pseudo_fields_are_right() {
    let get = |more| request("GET", more);
    let reordered = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        ("x", "y"),
        (":path", "/"),
    ];
    #[rustfmt::skip]
    let offences = [
        Offence::new("an unknown pseudo-field", of(&get(&[(":test", "ok")])), Goaway(code::PROTOCOL)),
        Offence::new("a nameless pseudo-field", of(&get(&[(":", "ok")])), Goaway(code::PROTOCOL)),
        Offence::new("a response's pseudo-field", of(&get(&[(":status", "200")])), MALFORMED),
        Offence::new("a pseudo-field after a field", of(&reordered), MALFORMED),
        Offence::new("a pseudo-field in the second frame", [headers(1, END_STREAM, &get(&[("x", "y")])[..3]), frame(CONTINUATION, END_HEADERS, 1, fields(&[(":path", "/")]))].concat(), Status(200)),
        Offence::new("a pseudo-field after a field in the second frame", [headers(1, END_STREAM, &[(":method", "GET"), ("x", "y")]), frame(CONTINUATION, END_HEADERS, 1, fields(&[(":path", "/")]))].concat(), MALFORMED),
        Offence::new("no method", without(":method"), MALFORMED),
        Offence::new("no scheme", without(":scheme"), MALFORMED),
        Offence::new("no path", without(":path"), MALFORMED),
        Offence::new("no authority", without(":authority"), MALFORMED),
        Offence::new("Host for an authority", of(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a")]), Status(200)),
        Offence::new("nothing", frame(HEADERS, WHOLE, 1, ""), MALFORMED),
        Offence::new("fields alone", of(&[("x", "y")]), MALFORMED),
        Offence::new("two methods", of(&get(&[(":method", "GET")])), MALFORMED),
        Offence::new("two schemes", of(&get(&[(":scheme", "http")])), MALFORMED),
        Offence::new("two paths", of(&get(&[(":path", "/")])), MALFORMED),
        Offence::new("two authorities", of(&get(&[(":authority", "a")])), MALFORMED),
        Offence::new("an empty path", but(":path", ""), MALFORMED),
        Offence::new("a path without its slash", but(":path", "a"), MALFORMED),
        Offence::new("a path with a blank", but(":path", "/a b"), MALFORMED),
        Offence::new("a path with a control character", but(":path", "/a\x01"), MALFORMED),
        Offence::new("a whole URI for a path", but(":path", "http://a/"), MALFORMED),
        Offence::new("an asterisk for another method", but(":path", "*"), MALFORMED),
        Offence::new("an asterisk", of(&[(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")]), Status(200)),
        Offence::new("an empty method", but(":method", ""), Goaway(code::PROTOCOL)),
        Offence::new("a method with a blank", but(":method", "GET /"), Goaway(code::PROTOCOL)),
        Offence::new("an empty scheme", but(":scheme", ""), MALFORMED),
        Offence::new("a scheme that is none", but(":scheme", "ht tp"), MALFORMED),
        Offence::new("an empty authority", but(":authority", ""), MALFORMED),
        Offence::new("an authority with userinfo", but(":authority", "u@a"), MALFORMED),
        Offence::new("an authority with a path", but(":authority", "a/b"), MALFORMED),
        Offence::new("an authority with a blank", but(":authority", "a b"), MALFORMED),
        Offence::new("an authority with a port that is none", but(":authority", "a:x"), MALFORMED),
        Offence::new("an authority that is not Host", of(&get(&[("host", "b")])), MALFORMED),
        Offence::new("an authority that is Host", of(&get(&[("host", "a")])), Status(200)),
        Offence::new("two Hosts", of(&get(&[("host", "a"), ("host", "a")])), MALFORMED),
    ];
    let bench = proxy();
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// Section 8.5 and RFC 8441 section 4.
#[test]
fn tunnels_are_asked_for_as_they_should() {
    let connect = |more: &[(&str, &str)]| {
        let list = [&[(":method", "CONNECT")], more].concat();
        headers(1, END_HEADERS, &list)
    };
    let extended = |more: &[(&str, &str)]| {
        let list = [&[(":protocol", "websocket")], more].concat();
        connect(&list)
    };
    let whole = [(":scheme", "http"), (":path", "/"), (":authority", "a")];
    #[rustfmt::skip]
    let offences = [
        Offence::new("CONNECT with a scheme", connect(&[(":authority", "a:1"), (":scheme", "http")]), MALFORMED),
        Offence::new("CONNECT with a path", connect(&[(":authority", "a:1"), (":path", "/")]), MALFORMED),
        Offence::new("CONNECT without an authority", connect(&[]), MALFORMED),
        Offence::new("CONNECT without a port", connect(&[(":authority", "a")]), MALFORMED),
        Offence::new("CONNECT without a host", connect(&[(":authority", ":1")]), MALFORMED),
        Offence::new("extended CONNECT without a scheme", extended(&whole[1..]), MALFORMED),
        Offence::new("extended CONNECT without a path", extended(&[whole[0], whole[2]]), MALFORMED),
        Offence::new("extended CONNECT without an authority", extended(&whole[..2]), MALFORMED),
        Offence::new("a protocol that is none", connect(&[&[(":protocol", "web socket")], &whole[..]].concat()), MALFORMED),
        Offence::new("an empty protocol", connect(&[&[(":protocol", "")], &whole[..]].concat()), MALFORMED),
        Offence::new("two protocols", extended(&[&[(":protocol", "websocket")], &whole[..]].concat()), MALFORMED),
        Offence::new("a protocol without CONNECT", of(&request("GET", &[(":protocol", "websocket")])), MALFORMED),
    ];
    let bench = proxy();
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// What is malformed does not reach the origin, even if it is noticed late.
#[test]
fn nothing_malformed_reaches_an_origin() {
    let bench = proxy();
    let mut client = H2::connect(bench.address());
    for (n, bad) in [("connection", "x"), ("te", "x"), ("x", " x")]
        .iter()
        .enumerate()
    {
        let stream = 2 * n as u32 + 1;
        client.send(headers(stream, WHOLE, &request("GET", &[*bad])));
        assert_eq!(client.outcome(stream), Outcome::Reset(code::PROTOCOL));
    }
    assert_eq!(bench.accepted(), 0);
    assert_eq!(bench.seen(), 0);
    assert_eq!(client.ask(101), 200);
    drop(client);
    bench.finish_with_pool();
}

/// Responses without a body keep what their length says (RFC 9110 section 8.6), which is no lie.
#[test]
fn responses_without_a_body_may_have_a_length() {
    for (method, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        let bench = Bench::new(|| Origin::answering(response));
        let mut client = H2::connect(bench.address());
        client.send(headers(1, WHOLE, &request(method, &[])));
        let status = response[9..12].parse().unwrap();
        assert_eq!(client.outcome(1), Outcome::Response(status, Vec::new()));
        client.send(get(3));
        drop(client);
        bench.finish_with_pool();
    }
}
