//! What a client's frames may not be like (RFC 9113 sections 3 to 6, RFC 9218), and what it is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use support::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, Outcome, PADDED, PING,
    PREFACE, PRIORITY, PRIORITY_UPDATE, PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE,
    WITH_PRIORITY, code, fields, frame, get, headers, post, request, reset, settings,
    window_update,
};
use support::offence::{Offence, Want, judge};
use support::{Bench, End, Origin, Peer};

use Want::{Fine, Goaway, Reset, Status};

fn proxy() -> Bench {
    Bench::new(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
}

/// Frames that are wrong whatever the state of the connection.
#[test]
fn frames_are_well_formed() {
    let long = vec![0; 16_385];
    let block = fields(&request("GET", &[]));
    let padded = |length: u8| [&[length][..], &block].concat();
    let depends = |on: u32| [&on.to_be_bytes()[..], &[15], &block].concat();
    #[rustfmt::skip]
    let offences = [
        // 4.1: unknown types and flags are ignored, and so is the reserved bit.
        Offence::new("an unknown type", frame(0x16, 0xff, 0, "what"), Fine),
        Offence::new("an unknown type on a stream", frame(0xfe, 0, 1, vec![0; 16_384]), Fine),
        Offence::new("unknown flags", frame(PING, 0x16, 0, [0; 8]), Fine),
        Offence::new("a reserved bit", frame(PING, 0, 1 << 31, [0; 8]), Fine),
        Offence::new("a reserved bit in an increment", frame(WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1]), Fine),
        // 4.2
        Offence::new("a large frame", [post(1, &[]), frame(DATA, END_STREAM, 1, &long[1..])].concat(), Status(200)),
        Offence::new("DATA too large", [post(1, &[]), frame(DATA, END_STREAM, 1, &long)].concat(), Goaway(code::FRAME_SIZE)),
        Offence::new("HEADERS too large", frame(HEADERS, WHOLE, 1, &long), Goaway(code::FRAME_SIZE)),
        Offence::new("an unknown frame too large", frame(0xfe, 0, 0, &long), Goaway(code::FRAME_SIZE)),
        Offence::new("the largest frame", frame(0xfe, 0, 0, vec![0; (1 << 24) - 1]), Goaway(code::FRAME_SIZE)),
        // 4.3
        Offence::new("PRIORITY in a block", [headers(1, END_STREAM, &request("GET", &[])), frame(PRIORITY, 0, 1, [0; 5])].concat(), Goaway(code::PROTOCOL)),
        Offence::new("an unknown frame in a block", [headers(1, END_STREAM, &request("GET", &[])), frame(0xfe, 0, 1, "")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("HEADERS in another's block", [headers(1, END_STREAM, &request("GET", &[])), get(3)].concat(), Goaway(code::PROTOCOL)),
        Offence::new("DATA in a block", [headers(1, 0, &request("POST", &[])), frame(DATA, END_STREAM, 1, "x")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("a block that cannot be decompressed", frame(HEADERS, WHOLE, 1, [0xff, 0xff, 0xff, 0xff, 0xff]), Goaway(code::COMPRESSION)),
        // 6.1
        Offence::new("DATA on the connection", frame(DATA, 0, 0, "x"), Goaway(code::PROTOCOL)),
        Offence::new("DATA with padding", [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, [2, b'x', 0, 0])].concat(), Status(200)),
        Offence::new("DATA of padding", [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, [2, 0, 0])].concat(), Status(200)),
        Offence::new("DATA with too much padding", [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, [3, 0, 0])].concat(), Goaway(code::PROTOCOL)),
        Offence::new("DATA without its padding's length", [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, "")].concat(), Goaway(code::FRAME_SIZE)),
        // 6.2
        Offence::new("HEADERS on the connection", frame(HEADERS, WHOLE, 0, &block), Goaway(code::PROTOCOL)),
        Offence::new("HEADERS with padding", frame(HEADERS, WHOLE | PADDED, 1, [padded(3), vec![0; 3]].concat()), Status(200)),
        Offence::new("HEADERS with too much padding", frame(HEADERS, WHOLE | PADDED, 1, [padded(255), vec![0; 3]].concat()), Goaway(code::PROTOCOL)),
        Offence::new("HEADERS without their padding's length", frame(HEADERS, WHOLE | PADDED, 1, ""), Goaway(code::FRAME_SIZE)),
        Offence::new("HEADERS with a priority", frame(HEADERS, WHOLE | WITH_PRIORITY, 1, depends(3)), Status(200)),
        Offence::new("HEADERS without their priority", frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [0; 4]), Goaway(code::FRAME_SIZE)),
        Offence::new("HEADERS that depend on themselves", frame(HEADERS, WHOLE | WITH_PRIORITY, 1, depends(1)), Goaway(code::PROTOCOL)),
        // 6.3
        Offence::new("PRIORITY on the connection", frame(PRIORITY, 0, 0, [0, 0, 0, 1, 0]), Goaway(code::PROTOCOL)),
        Offence::new("PRIORITY too short", frame(PRIORITY, 0, 1, [0; 4]), Goaway(code::FRAME_SIZE)),
        Offence::new("PRIORITY too long", frame(PRIORITY, 0, 1, [0; 6]), Goaway(code::FRAME_SIZE)),
        Offence::new("PRIORITY on an idle stream", frame(PRIORITY, 0, 1, [0; 5]), Fine),
        Offence::new("PRIORITY on a server's stream", frame(PRIORITY, 0, 2, [0; 5]), Fine),
        Offence::new("PRIORITY on itself", frame(PRIORITY, 0, 7, [0, 0, 0, 7, 0]), Goaway(code::PROTOCOL)),
        // 6.4
        Offence::new("RST_STREAM on the connection", reset(0, code::CANCEL), Goaway(code::PROTOCOL)),
        Offence::new("RST_STREAM on an idle stream", reset(1, code::CANCEL), Goaway(code::PROTOCOL)),
        Offence::new("RST_STREAM on a server's stream", reset(2, code::CANCEL), Goaway(code::PROTOCOL)),
        Offence::new("RST_STREAM too short", [post(1, &[]), frame(RST_STREAM, 0, 1, [0; 3])].concat(), Goaway(code::FRAME_SIZE)),
        Offence::new("RST_STREAM too long", [post(1, &[]), frame(RST_STREAM, 0, 1, [0; 5])].concat(), Goaway(code::FRAME_SIZE)),
        Offence::new("RST_STREAM with an unknown code", [post(1, &[]), reset(1, 0xffff)].concat(), Fine),
        // 6.5
        Offence::new("settings", settings(&[(1, 4096), (2, 1), (3, 10), (4, 65_535), (5, 16_384), (6, 1 << 20), (8, 0), (9, 1)]), Fine),
        Offence::new("settings that are not known", settings(&[(0, 1), (7, 1), (0xffff, 0xffff_ffff)]), Fine),
        Offence::new("no settings", settings(&[]), Fine),
        Offence::new("settings for a stream", frame(SETTINGS, 0, 1, ""), Goaway(code::PROTOCOL)),
        Offence::new("settings of a wrong size", frame(SETTINGS, 0, 0, [0; 3]), Goaway(code::FRAME_SIZE)),
        Offence::new("settings of a wrong size too", frame(SETTINGS, 0, 0, [0; 7]), Goaway(code::FRAME_SIZE)),
        Offence::new("an acknowledgement with settings", frame(SETTINGS, ACK, 0, [0, 3, 0, 0, 0, 1]), Goaway(code::FRAME_SIZE)),
        Offence::new("an acknowledgement of nothing", frame(SETTINGS, ACK, 0, ""), Goaway(code::PROTOCOL)),
        // 6.5.2
        Offence::new("ENABLE_PUSH of 2", settings(&[(2, 2)]), Goaway(code::PROTOCOL)),
        Offence::new("INITIAL_WINDOW_SIZE at its limit", settings(&[(4, (1 << 31) - 1)]), Fine),
        Offence::new("INITIAL_WINDOW_SIZE above it", settings(&[(4, 1 << 31)]), Goaway(code::FLOW_CONTROL)),
        Offence::new("MAX_FRAME_SIZE below its limit", settings(&[(5, 16_383)]), Goaway(code::PROTOCOL)),
        Offence::new("MAX_FRAME_SIZE at its limit", settings(&[(5, (1 << 24) - 1)]), Fine),
        Offence::new("MAX_FRAME_SIZE above it", settings(&[(5, 1 << 24)]), Goaway(code::PROTOCOL)),
        Offence::new("ENABLE_CONNECT_PROTOCOL of 2", settings(&[(8, 2)]), Goaway(code::PROTOCOL)),
        Offence::new("NO_RFC7540_PRIORITIES of 2", settings(&[(9, 2)]), Goaway(code::PROTOCOL)),
        Offence::new("a wrong setting after right ones", settings(&[(3, 1), (1, 0), (4, 1 << 31)]), Goaway(code::FLOW_CONTROL)),
        // 6.6
        Offence::new("PUSH_PROMISE", [post(1, &[]), frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &block].concat())].concat(), Goaway(code::PROTOCOL)),
        // 6.7
        Offence::new("PING on a stream", frame(PING, 0, 1, [0; 8]), Goaway(code::PROTOCOL)),
        Offence::new("PING too short", frame(PING, 0, 0, [0; 7]), Goaway(code::FRAME_SIZE)),
        Offence::new("PING too long", frame(PING, 0, 0, [0; 9]), Goaway(code::FRAME_SIZE)),
        Offence::new("an answer to no PING", frame(PING, ACK, 0, [7; 8]), Fine),
        // 6.8
        Offence::new("GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), Goaway(code::PROTOCOL)),
        Offence::new("GOAWAY too short", frame(GOAWAY, 0, 0, [0; 7]), Goaway(code::FRAME_SIZE)),
        // 6.9
        Offence::new("WINDOW_UPDATE of nothing", window_update(0, 0), Goaway(code::PROTOCOL)),
        Offence::new("WINDOW_UPDATE of nothing for a stream", [post(1, &[]), window_update(1, 0)].concat(), Goaway(code::PROTOCOL)),
        Offence::new("WINDOW_UPDATE too short", frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]), Goaway(code::FRAME_SIZE)),
        Offence::new("WINDOW_UPDATE too long", frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1, 0]), Goaway(code::FRAME_SIZE)),
        Offence::new("WINDOW_UPDATE too short for a stream", [post(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0, 0, 1])].concat(), Goaway(code::FRAME_SIZE)),
        // 6.9.1
        Offence::new("a connection's window too large", window_update(0, (1 << 31) - 1), Goaway(code::FLOW_CONTROL)),
        Offence::new("a connection's window too large in two steps", [window_update(0, 1 << 30), window_update(0, 1 << 30)].concat(), Goaway(code::FLOW_CONTROL)),
        Offence::new("a stream's window too large", [post(1, &[]), window_update(1, (1 << 31) - 1)].concat(), Reset(code::FLOW_CONTROL)),
        // 6.9.2
        Offence::new("a stream's window too large by settings", [post(1, &[]), window_update(1, 1 << 30), settings(&[(4, (1 << 31) - 1)])].concat(), Goaway(code::FLOW_CONTROL)),
        // 6.10
        Offence::new("CONTINUATION", [headers(1, END_STREAM, &request("GET", &[])), frame(CONTINUATION, 0, 1, ""), frame(CONTINUATION, END_HEADERS, 1, fields(&[("x", "y")]))].concat(), Status(200)),
        Offence::new("CONTINUATION on the connection", [headers(1, END_STREAM, &request("GET", &[])), frame(CONTINUATION, END_HEADERS, 0, "")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("CONTINUATION on another stream", [headers(1, END_STREAM, &request("GET", &[])), frame(CONTINUATION, END_HEADERS, 3, "")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, ""), Goaway(code::PROTOCOL)),
        Offence::new("CONTINUATION after the end", [get(1), frame(CONTINUATION, END_HEADERS, 1, "")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("CONTINUATION after a continued end", [headers(1, END_STREAM, &request("GET", &[])), frame(CONTINUATION, END_HEADERS, 1, ""), frame(CONTINUATION, END_HEADERS, 1, "")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("CONTINUATION after DATA", [post(1, &[]), frame(DATA, 0, 1, "x"), frame(CONTINUATION, END_HEADERS, 1, "")].concat(), Goaway(code::PROTOCOL)),
        // RFC 9218 section 7.1
        Offence::new("PRIORITY_UPDATE", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1, i"), Fine),
        Offence::new("PRIORITY_UPDATE of nonsense", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01\xff\xff"), Fine),
        Offence::new("PRIORITY_UPDATE on a stream", frame(PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01u=1"), Goaway(code::PROTOCOL)),
        Offence::new("PRIORITY_UPDATE of no stream", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\0u=1"), Goaway(code::PROTOCOL)),
        Offence::new("PRIORITY_UPDATE of a push", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x02u=1"), Goaway(code::PROTOCOL)),
        Offence::new("PRIORITY_UPDATE too short", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0"), Goaway(code::FRAME_SIZE)),
    ];
    let bench = proxy();
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// RFC 9113 sections 5.1 and 5.1.1.
#[test]
fn streams_live_as_they_should() {
    let trailers = |stream| headers(stream, WHOLE, &[("x", "y")]);
    #[rustfmt::skip]
    let offences = [
        // idle
        Offence::new("DATA on an idle stream", frame(DATA, END_STREAM, 1, "x"), Goaway(code::PROTOCOL)),
        Offence::new("WINDOW_UPDATE on an idle stream", window_update(1, 100), Goaway(code::PROTOCOL)),
        Offence::new("WINDOW_UPDATE on a server's stream", window_update(2, 100), Goaway(code::PROTOCOL)),
        Offence::new("CONTINUATION on an idle stream", frame(CONTINUATION, END_HEADERS, 1, ""), Goaway(code::PROTOCOL)),
        // half-closed (remote)
        Offence::new("DATA after the end", [get(1), frame(DATA, END_STREAM, 1, "x")].concat(), Goaway(code::STREAM_CLOSED)),
        Offence::new("HEADERS after the end", [get(1), trailers(1)].concat(), Goaway(code::STREAM_CLOSED)),
        Offence::new("DATA after trailers", [post(1, &[]), trailers(1), frame(DATA, END_STREAM, 1, "x")].concat(), Goaway(code::STREAM_CLOSED)),
        Offence::new("WINDOW_UPDATE after the end", [get(1), window_update(1, 100)].concat(), Status(200)),
        Offence::new("PRIORITY after the end", [get(1), frame(PRIORITY, 0, 1, [0; 5])].concat(), Status(200)),
        // closed, by a reset
        Offence::new("DATA after a reset", [post(1, &[]), reset(1, code::CANCEL), frame(DATA, END_STREAM, 1, "x")].concat(), Goaway(code::STREAM_CLOSED)),
        Offence::new("HEADERS after a reset", [post(1, &[]), reset(1, code::CANCEL), trailers(1)].concat(), Goaway(code::STREAM_CLOSED)),
        Offence::new("CONTINUATION after a reset", [post(1, &[]), reset(1, code::CANCEL), frame(CONTINUATION, END_HEADERS, 1, "")].concat(), Goaway(code::PROTOCOL)),
        Offence::new("a reset after a reset", [post(1, &[]), reset(1, code::CANCEL), reset(1, code::CANCEL)].concat(), Fine),
        Offence::new("WINDOW_UPDATE after a reset", [post(1, &[]), reset(1, code::CANCEL), window_update(1, 1)].concat(), Fine),
        // closed, by both ends
        Offence::new("DATA on a closed stream", frame(DATA, END_STREAM, 1, "x"), Goaway(code::STREAM_CLOSED)).after(get(1)),
        Offence::new("HEADERS on a closed stream", get(1), Goaway(code::STREAM_CLOSED)).after(get(1)),
        Offence::new("CONTINUATION on a closed stream", frame(CONTINUATION, END_HEADERS, 1, ""), Goaway(code::PROTOCOL)).after(get(1)),
        Offence::new("WINDOW_UPDATE on a closed stream", window_update(1, 1), Fine).after(get(1)),
        Offence::new("RST_STREAM on a closed stream", reset(1, code::CANCEL), Fine).after(get(1)),
        Offence::new("PRIORITY on a closed stream", frame(PRIORITY, 0, 1, [0; 5]), Fine).after(get(1)),
        // 5.1.1
        Offence::new("an even stream", get(2), Goaway(code::PROTOCOL)),
        Offence::new("a stream below the last one", [get(5), get(3)].concat(), Goaway(code::PROTOCOL)),
        Offence::new("DATA on a stream that was passed over", [get(5), frame(DATA, END_STREAM, 3, "x")].concat(), Goaway(code::STREAM_CLOSED)),
        Offence::new("streams that are passed over", [get(1), get(99)].concat(), Status(200)),
    ];
    let bench = proxy();
    judge(&bench, &offences);
    bench.finish_with_pool();
}

/// RFC 9113 section 5.1.2: what is refused has not been touched.
#[test]
fn streams_above_the_limit_are_refused() {
    let bench =
        Bench::before(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
            .options(|options| options.http2.max_streams = 3);
    let mut client = H2::connect(bench.address());
    for stream in [1, 3, 5] {
        client.send(post(stream, &[]));
    }
    client.send(get(7));
    assert_eq!(client.outcome(7), Outcome::Reset(code::REFUSED));
    for stream in [1, 3, 5] {
        client.send(frame(DATA, END_STREAM, stream, "x"));
        assert_eq!(client.status(stream), 200);
    }
    assert_eq!(client.ask(9), 200);
    drop(client);
    assert_eq!(bench.finish_with_pool().len(), 4);
}

/// RFC 9113 section 3.4.
#[test]
fn the_preface_is_followed_by_settings() {
    let bench = proxy();
    for first in [
        frame(PING, 0, 0, [0; 8]),
        frame(SETTINGS, ACK, 0, ""),
        frame(0xfe, 0, 0, ""),
        get(1),
    ] {
        let mut client = H2::new(Peer::connect(bench.address()));
        client.send([PREFACE, &first].concat());
        assert_eq!(client.outcome(1), Outcome::Goaway(code::PROTOCOL));
    }
    // What is not the preface to its end is let go, which needs no GOAWAY.
    for wrong in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut client = H2::new(Peer::connect(bench.address()));
        client.send(wrong.as_bytes());
        assert!(matches!(client.outcome(1), Outcome::End(End::Closed)));
    }
    let wrong = bench.ask("PRX * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(matches!(wrong.status(), 400 | 505), "{wrong:?}");
    bench.finish_with_pool();
}

/// Settings need not be acknowledged for the connection to work, and are acknowledged themselves.
#[test]
fn settings_are_acknowledged() {
    let bench = proxy();
    let mut client = H2::new(Peer::connect(bench.address()));
    client.send([PREFACE, &settings(&[(1, 0)]), &get(1)].concat());
    let first = client.next().unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    let ack = client.next_of(SETTINGS).unwrap();
    assert_eq!((ack.flags, ack.payload.len()), (ACK, 0));
    assert_eq!(client.status(1), 200);
    assert_eq!(client.ask(3), 200);
    // 6.7
    client.send(frame(PING, 0, 0, "12345678"));
    let pong = client.next_of(PING).unwrap();
    assert_eq!(
        (pong.flags, pong.payload.as_slice()),
        (ACK, &b"12345678"[..])
    );
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9113 section 6.9: what is sent stays within the windows, which may shrink below nothing.
#[test]
fn windows_are_kept_to() {
    let bench =
        Bench::new(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"));
    let mut client = H2::with_settings(bench.address(), &[(4, 3)]);
    client.send(get(1));
    assert_eq!(client.next_of(DATA).unwrap().payload, b"012");
    // Four less than nothing, then one more than that.
    client.send(settings(&[(4, 0)]));
    client.send(window_update(1, 3));
    client.send(frame(PING, 0, 0, [1; 8]));
    assert!(client.next_of(PING).unwrap().has(ACK));
    client.send(window_update(1, 1));
    assert_eq!(client.next_of(DATA).unwrap().payload, b"3");
    client.send(settings(&[(4, 100)]));
    let rest = client.next_of(DATA).unwrap();
    assert_eq!(rest.payload, b"456789");
    assert!(rest.has(END_STREAM));
    drop(client);
    bench.finish_with_pool();
}

/// RFC 9113 section 6.9.1: a client that does not keep to our windows.
#[test]
fn windows_are_to_be_kept_to() {
    let full = vec![0; 16_384];
    let bench = Bench::before(|| Origin::each(|peer| drop(peer.try_read(1)))).options(|options| {
        options.http2.stream_window = 65_535;
        options.http2.connection_window = 100_000;
    });
    // A stream's, while nothing is read of it.
    let mut client = H2::connect(bench.address());
    client.send(headers(
        1,
        END_HEADERS,
        &request("POST", &[("expect", "100-continue")]),
    ));
    for _ in 0..5 {
        client.send(frame(DATA, 0, 1, &full));
    }
    let outcome = client.outcome(1);
    assert!(
        matches!(
            outcome,
            Outcome::Reset(code::FLOW_CONTROL) | Outcome::Goaway(code::FLOW_CONTROL)
        ),
        "{outcome:?}"
    );
    drop(client);
    bench.finish_with_pool();
}

/// The last word reaches a client that goes on sending.
#[test]
fn goaway_reaches_a_client_that_sends_more() {
    let bench = proxy();
    let mut client = H2::connect(bench.address());
    client.send(frame(PING, 0, 0, [0; 7]));
    for _ in 0..200 {
        if client
            .peer
            .try_send(frame(0xfe, 0, 0, vec![0; 16_384]))
            .is_err()
        {
            break;
        }
    }
    assert_eq!(client.outcome(1), Outcome::Goaway(code::FRAME_SIZE));
    drop(client);
    bench.finish_with_pool();
}

/// What has been answered before a connection ends is named in its last word.
#[test]
fn goaway_names_the_last_stream() {
    let bench = proxy();
    let mut client = H2::connect(bench.address());
    assert_eq!(client.ask(1), 200);
    assert_eq!(client.ask(5), 200);
    client.send(frame(DATA, 0, 0, "x"));
    let goaway = client.next_of(GOAWAY).unwrap();
    assert_eq!(goaway.payload[..4], 5_u32.to_be_bytes());
    assert_eq!(goaway.stream, 0);
    assert_eq!(client.peer.end(), End::Closed);
    drop(client);
    bench.finish_with_pool();
}

/// A client's GOAWAY does not end what is under way (RFC 9113 section 6.8).
#[test]
fn a_client_that_says_goodbye_is_answered() {
    let bench = proxy();
    let mut client = H2::connect(bench.address());
    client.send([post(1, &[]), frame(GOAWAY, 0, 0, [0; 8])].concat());
    client.send(frame(DATA, END_STREAM, 1, "x"));
    assert_eq!(client.status(1), 200);
    assert_eq!(client.peer.end(), End::Closed);
    drop(client);
    bench.finish_with_pool();
}
