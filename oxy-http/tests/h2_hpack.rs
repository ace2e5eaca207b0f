//! What a field block may not be like (RFC 7541), and what its client is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use support::h2::{
    CONTINUATION, END_HEADERS, END_STREAM, H2, HEADERS, WHOLE, code, fields, frame, get, headers,
    integer, request, settings,
};
use support::offence::{Offence, Want, judge};
use support::{Bench, Origin};

use Want::{Goaway, Status};

const BROKEN: Want = Goaway(code::COMPRESSION);

/// A GET whose block goes on with this.
fn and(more: impl AsRef<[u8]>) -> Vec<u8> {
    frame(
        HEADERS,
        WHOLE,
        1,
        [&fields(&request("GET", &[])), more.as_ref()].concat(),
    )
}

/// A GET whose block begins with this.
fn but_first(more: impl AsRef<[u8]>) -> Vec<u8> {
    frame(
        HEADERS,
        WHOLE,
        1,
        [more.as_ref(), &fields(&request("GET", &[]))].concat(),
    )
}

/// A GET whose block goes on with these two parts in frames of their own.
fn parts(first: impl AsRef<[u8]>, second: impl AsRef<[u8]>) -> Vec<u8> {
    let first = [&fields(&request("GET", &[])), first.as_ref()].concat();
    [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ]
    .concat()
}

#[test]
fn blocks_can_be_decompressed() {
    #[rustfmt::skip]
    let offences = [
        // 2.3.3
        Offence::new("index 0", and([0x80]), BROKEN),
        Offence::new("an index beyond the tables", and([0xbe]), BROKEN),
        Offence::new("an index far beyond the tables", and([0xff, 0xff, 0x7f]), BROKEN),
        Offence::new("a name beyond the tables", and([0x7e, 1, b'x']), BROKEN),
        Offence::new("a name far beyond the tables", and([0x0f, 0xff, 0x7f, 1, b'x']), BROKEN),
        Offence::new("the last of the static table", and([0x0f, 61 - 15, 1, b'x']), Status(200)),
        // 4.2, 6.3
        Offence::new("a smaller table", but_first([0x20]), Status(200)),
        Offence::new("a smaller table, and a larger one", but_first([0x20, 0x3f, 0xe1, 0x1f]), Status(200)),
        Offence::new("a table above the limit", but_first([0x3f, 0xe2, 0x1f]), BROKEN),
        Offence::new("a table far above the limit", but_first([0x3f, 0xff, 0xff, 0xff, 0x7f]), BROKEN),
        Offence::new("a table that is resized at the end", and([0x20]), BROKEN),
        Offence::new("a table that is resized between fields", and([0x20, 0x00, 1, b'x', 1, b'y']), BROKEN),
        Offence::new("a table that is resized in the second frame", parts([], [0x20]), BROKEN),
        // 5.1
        Offence::new("an integer that is padded", and([0x0f, 0xae, 0x80, 0x00, 1, b'x']), Status(200)),
        Offence::new("an integer without an end", and([0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), BROKEN),
        Offence::new("an integer beyond all numbers", and([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), BROKEN),
        // 5.2
        Offence::new("a code", and([0x00, 0x82, 0xf3, 0xe7, 1, b'y']), Status(200)),
        Offence::new("padding of more than seven bits", and([0x00, 0x83, 0xf3, 0xe7, 0xff, 1, b'y']), BROKEN),
        Offence::new("padding of zeros", and([0x00, 1, b'x', 0x81, 0x18]), BROKEN),
        Offence::new("EOS", and([0x00, 1, b'x', 0x85, 0xf3, 0xff, 0xff, 0xff, 0xff]), BROKEN),
        Offence::new("EOS alone", and([0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), BROKEN),
        Offence::new("a code that is cut short", and([0x00, 1, b'x', 0x81, 0xfe]), BROKEN),
        // blocks that end within a representation
        Offence::new("a name that is cut short", and([0x00, 5, b'x']), BROKEN),
        Offence::new("a value that is cut short", and([0x00, 1, b'x', 5, b'y']), BROKEN),
        Offence::new("a name without a value", and([0x00, 1, b'x']), BROKEN),
        Offence::new("nothing but a name's index", and([0x4f]), BROKEN),
        Offence::new("an integer that is cut short", and([0xff]), BROKEN),
        // cut by frames
        Offence::new("a name in two frames", parts([0x00, 2, b'x'], [b'x', 1, b'y']), Status(200)),
        Offence::new("a value in two frames", parts([0x00, 1, b'x', 2, b'y'], [b'y']), Status(200)),
        Offence::new("an integer in two frames", parts([0x0f], [0x2e, 1, b'y']), Status(200)),
        Offence::new("what is wrong in the second frame", parts([0x0f], [0xff, 0x7f, 1, b'y']), BROKEN),
    ];
    let bench = Bench::new(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// What is malformed, refused or reset goes through the decompressor all the same.
#[test]
fn the_table_is_kept_whatever_becomes_of_a_request() {
    let bench = Bench::new(Origin::echo);
    let mut client = H2::connect(bench.address());
    let kept = |name: &str, value: &str| {
        let mut field = vec![0x40];
        for text in [name, value] {
            field.extend(integer(0, 7, text.len()));
            field.extend(text.as_bytes());
        }
        field
    };
    let base = fields(&request("GET", &[]));
    // Malformed, for the field of the connection, after an entry has been made.
    let bad = [
        &base[..],
        &kept("x-first", "1"),
        &fields(&[("connection", "x")]),
    ]
    .concat();
    client.send(frame(HEADERS, WHOLE, 1, bad));
    client.outcome(1);
    // In two frames, the second of which has the entry.
    client.send(headers(3, END_STREAM, &request("GET", &[])));
    client.send(frame(CONTINUATION, END_HEADERS, 3, kept("x-second", "2")));
    assert_eq!(client.status(3), 200);
    client.send(frame(
        HEADERS,
        WHOLE,
        5,
        [&base[..], &[0xbe, 0xbf]].concat(),
    ));
    let support::h2::Outcome::Response(200, body) = client.outcome(5) else {
        panic!("no response");
    };
    let head = String::from_utf8(body).unwrap();
    assert!(
        head.contains("x-first: 1") && head.contains("x-second: 2"),
        "{head}"
    );
    // An index one beyond them.
    client.send(frame(HEADERS, WHOLE, 7, [&base[..], &[0xc0]].concat()));
    assert_eq!(
        client.outcome(7),
        support::h2::Outcome::Goaway(code::COMPRESSION)
    );
    drop(client);
    bench.finish_with_pool();
}

/// A client may change what its decoder takes at any time (RFC 9113 section 6.5.3, RFC 7541 section 4.2).
#[test]
fn a_clients_table_is_kept_to() {
    let bench =
        Bench::new(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok"));
    let mut client = H2::with_settings(bench.address(), &[(1, 4096)]);
    client.send(settings(&[(1, 0)]));
    client.send(get(1));
    let response = client.next_of(HEADERS).unwrap();
    // The table is made smaller first, and nothing is kept in it.
    let list = support::h2::decoded(&response.payload);
    assert_eq!(response.payload[0] & 0xe0, 0x20, "{:x?}", response.payload);
    assert!(
        list.iter().any(|(name, value)| name == "x" && value == "y"),
        "{list:?}"
    );
    drop(client);
    bench.finish_with_pool();
}
