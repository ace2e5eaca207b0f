//! What an origin of HTTP/2 may not do (RFC 9113, RFC 7541, RFC 9218), what it is told, and what its client gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::sync::mpsc;

use oxy_http::Flood;
use support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, H2, HEADERS, PADDED, PING,
    PRIORITY, PRIORITY_UPDATE, PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, code,
    fields, frame, headers, reset, settings, window_update,
};
use support::{Bench, End, Origin, PATIENCE, Peer};

/// What an origin is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// GOAWAY with this code, and the end of the connection.
    Goaway(u32),
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// Nothing.
    Nothing,
}

use Told::{Goaway, Nothing, Reset};

/// What a client gets: a status, and whether the response is whole.
type Got = (u16, bool);

const BAD: Got = (502, true);
const CUT: Got = (200, false);
const GOOD: Got = (200, true);

struct Offence {
    name: &'static str,
    /// What comes instead of settings, if it does.
    first: Option<Vec<u8>>,
    /// What comes once there is a request, on stream 1.
    bytes: Vec<u8>,
    told: Told,
    got: Got,
}

impl Offence {
    fn new(name: &'static str, bytes: impl Into<Vec<u8>>, told: Told, got: Got) -> Self {
        Self {
            name,
            first: None,
            bytes: bytes.into(),
            told,
            got,
        }
    }

    fn first(name: &'static str, first: Vec<u8>, told: Told) -> Self {
        let mut offence = Self::new(name, Vec::new(), told, BAD);
        offence.first = Some(first);
        offence
    }

    /// Commits it, and tells what the origin was told and what its client got.
    fn commit(&self) -> (Option<Told>, Got) {
        let setup = Bench::alone();
        let (tell, told) = mpsc::channel();
        let (first, bytes) = (self.first.clone(), self.bytes.clone());
        let origin = Origin::once(move |peer| {
            let mut peer = greeted(peer, first.as_deref());
            loop {
                match peer.next() {
                    Ok(frame) if frame.kind == HEADERS => break,
                    Ok(frame) if frame.kind != GOAWAY => {}
                    Ok(frame) => {
                        let _ = tell.send(last(&mut peer, &frame));
                        return;
                    }
                    Err(_) => return,
                }
            }
            let _ = peer.peer.try_send(&bytes);
            loop {
                let told = match peer.next() {
                    Ok(frame) if frame.kind == RST_STREAM && frame.stream == 1 => {
                        Reset(frame.code())
                    }
                    Ok(frame) if frame.kind == GOAWAY => last(&mut peer, &frame),
                    Ok(_) => continue,
                    Err(_) => Nothing,
                };
                let _ = tell.send(told);
                return;
            }
        });
        let to = format!("h2c://{}", origin.address());
        let bench = setup.proxy((), |proxy| proxy, |http| http.to(to.as_str()));
        let mut client = bench.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        // Where nothing of a response has gone out yet, the connection's end is all there is.
        let mut got = CUT;
        while let Ok(mut message) = client.head() {
            if message.status() >= 200 {
                let whole = client.body(&mut message, true).is_ok();
                got = (message.status(), whole);
                break;
            }
        }
        drop(client);
        // Where nothing is said, the connection is left alone until the proxy stops.
        let told = match self.told {
            Nothing => told.try_recv().ok().or(Some(Nothing)),
            _ => told.recv_timeout(PATIENCE).ok(),
        };
        origin.finish();
        bench.finish_with_pool();
        (told, got)
    }
}

fn last(peer: &mut H2, goaway: &Frame) -> Told {
    assert_eq!(peer.peer.end(), End::Closed);
    Goaway(goaway.code())
}

fn greeted(peer: Peer, first: Option<&[u8]>) -> H2 {
    let Some(first) = first else {
        return H2::accepted(peer);
    };
    let mut peer = H2::new(peer);
    let _ = peer.peer.try_read(support::h2::PREFACE.len());
    let _ = peer.peer.try_send(first);
    peer
}

fn response(flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    headers(1, flags, &[&[(":status", "200")], more].concat())
}

fn data(flags: u8, text: &str) -> Vec<u8> {
    frame(DATA, flags, 1, text)
}

fn judge(offences: &[Offence]) {
    let wrong: Vec<_> = offences
        .iter()
        .filter_map(|offence| {
            let came = offence.commit();
            let expected = (Some(offence.told), offence.got);
            (came != expected).then(|| format!("{}: {came:?}, not {expected:?}", offence.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_origins_frames_are_well_formed() {
    let block = fields(&[(":status", "200")]);
    #[rustfmt::skip]
    let offences = [
        // 3.4
        Offence::first("no settings first", frame(PING, 0, 0, [0; 8]), Goaway(code::PROTOCOL)),
        Offence::first("settings with a push", settings(&[(2, 1)]), Goaway(code::PROTOCOL)),
        Offence::first("settings with a window too large", settings(&[(4, 1 << 31)]), Goaway(code::FLOW_CONTROL)),
        Offence::first("settings with frames too small", settings(&[(5, 1)]), Goaway(code::PROTOCOL)),
        Offence::first("settings of a wrong size", frame(SETTINGS, 0, 0, [0; 5]), Goaway(code::FRAME_SIZE)),
        Offence::first("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Goaway(code::FRAME_SIZE)),
        // 4
        Offence::new("an unknown frame", [frame(0xfe, 0, 0, ""), response(WHOLE, &[])].concat(), Nothing, GOOD),
        Offence::new("a frame too large", frame(DATA, 0, 1, vec![0; 16_385]), Goaway(code::FRAME_SIZE), BAD),
        Offence::new("PING in a block", [response(END_STREAM, &[]), frame(PING, 0, 0, [0; 8])].concat(), Goaway(code::PROTOCOL), BAD),
        Offence::new("an index beyond the tables", frame(HEADERS, WHOLE, 1, [0x88, 0xbe]), Goaway(code::COMPRESSION), BAD),
        Offence::new("a table above the limit", frame(HEADERS, WHOLE, 1, [0x3f, 0xe2, 0x1f, 0x88]), Goaway(code::COMPRESSION), BAD),
        Offence::new("a string that is cut short", frame(HEADERS, WHOLE, 1, [0x88, 0x00, 0x05, b'x']), Goaway(code::COMPRESSION), BAD),
        // 5.1
        Offence::new("HEADERS on an idle stream", headers(3, WHOLE, &[(":status", "200")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("HEADERS on a stream of its own", headers(2, WHOLE, &[(":status", "200")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("DATA on an idle stream", frame(DATA, 0, 3, "x"), Goaway(code::PROTOCOL), BAD),
        Offence::new("DATA before HEADERS", data(0, "x"), Goaway(code::PROTOCOL), BAD),
        Offence::new("WINDOW_UPDATE on an idle stream", window_update(3, 1), Goaway(code::PROTOCOL), BAD),
        Offence::new("RST_STREAM on an idle stream", reset(3, code::CANCEL), Goaway(code::PROTOCOL), BAD),
        // 6
        Offence::new("DATA on the connection", frame(DATA, 0, 0, "x"), Goaway(code::PROTOCOL), BAD),
        Offence::new("DATA with too much padding", [response(END_HEADERS, &[]), frame(DATA, PADDED, 1, [3, 0, 0])].concat(), Goaway(code::PROTOCOL), CUT),
        Offence::new("DATA with padding", [response(END_HEADERS, &[("content-length", "1")]), frame(DATA, PADDED | END_STREAM, 1, [2, b'x', 0, 0])].concat(), Nothing, GOOD),
        Offence::new("HEADERS on the connection", headers(0, WHOLE, &[(":status", "200")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("PRIORITY too short", frame(PRIORITY, 0, 1, [0; 4]), Goaway(code::FRAME_SIZE), BAD),
        Offence::new("RST_STREAM on the connection", reset(0, code::CANCEL), Goaway(code::PROTOCOL), BAD),
        Offence::new("RST_STREAM too short", frame(RST_STREAM, 0, 1, [0; 3]), Goaway(code::FRAME_SIZE), BAD),
        Offence::new("an acknowledgement of nothing", [frame(SETTINGS, 1, 0, ""), frame(SETTINGS, 1, 0, "")].concat(), Goaway(code::PROTOCOL), BAD),
        Offence::new("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &block].concat()), Goaway(code::PROTOCOL), BAD),
        Offence::new("PING too long", frame(PING, 0, 0, [0; 9]), Goaway(code::FRAME_SIZE), BAD),
        Offence::new("PING on a stream", frame(PING, 0, 1, [0; 8]), Goaway(code::PROTOCOL), BAD),
        Offence::new("GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), Goaway(code::PROTOCOL), BAD),
        Offence::new("WINDOW_UPDATE of nothing", frame(WINDOW_UPDATE, 0, 0, [0; 4]), Goaway(code::PROTOCOL), BAD),
        Offence::new("WINDOW_UPDATE too large", window_update(0, (1 << 31) - 1), Goaway(code::FLOW_CONTROL), BAD),
        Offence::new("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, ""), Goaway(code::PROTOCOL), BAD),
        Offence::new("CONTINUATION on another stream", [response(END_STREAM, &[]), frame(CONTINUATION, END_HEADERS, 3, "")].concat(), Goaway(code::PROTOCOL), BAD),
        // RFC 9218 section 7.1: it is the client's to send.
        Offence::new("PRIORITY_UPDATE", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"), Goaway(code::PROTOCOL), BAD),
    ];
    judge(&offences);
}

#[test]
fn an_origins_messages_are_well_formed() {
    let interim = |flags| headers(1, flags, &[(":status", "103")]);
    let whole = [response(END_HEADERS, &[]), data(END_STREAM, "ok")].concat();
    let length = |length| response(END_HEADERS, &[("content-length", length)]);
    #[rustfmt::skip]
    let offences = [
        // Where both ends are done with a stream, there is none to be reset.
        Offence::new("a response", whole.clone(), Nothing, GOOD),
        Offence::new("an interim response first", [interim(END_HEADERS), interim(END_HEADERS), whole.clone()].concat(), Nothing, GOOD),
        Offence::new("trailers", [response(END_HEADERS, &[]), data(0, "ok"), headers(1, WHOLE, &[("x", "y")])].concat(), Nothing, GOOD),
        Offence::new("trailers that do not end", [response(END_HEADERS, &[]), data(0, "ok"), headers(1, END_HEADERS, &[("x", "y")])].concat(), Reset(code::PROTOCOL), CUT),
        Offence::new("101", headers(1, END_HEADERS, &[(":status", "101")]), Reset(code::CANCEL), BAD),
        Offence::new("no status", headers(1, WHOLE, &[("x", "y")]), Nothing, BAD),
        Offence::new("two statuses", response(WHOLE, &[(":status", "200")]), Reset(code::PROTOCOL), BAD),
        Offence::new("a status that is none", headers(1, WHOLE, &[(":status", "2x0")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("a status that is too short", headers(1, WHOLE, &[(":status", "20")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("a status after a field", headers(1, WHOLE, &[("x", "y"), (":status", "200")]), Reset(code::PROTOCOL), BAD),
        Offence::new("an unknown pseudo-field", response(WHOLE, &[(":x", "y")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("an upper-case name", response(WHOLE, &[("X", "y")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("a value with an end of line", response(WHOLE, &[("x", "a\r\nb: c")]), Goaway(code::PROTOCOL), BAD),
        Offence::new("Connection", response(WHOLE, &[("connection", "close")]), Reset(code::PROTOCOL), BAD),
        Offence::new("Transfer-Encoding", response(WHOLE, &[("transfer-encoding", "chunked")]), Reset(code::PROTOCOL), BAD),
        Offence::new("Upgrade", response(WHOLE, &[("upgrade", "x")]), Reset(code::PROTOCOL), BAD),
        Offence::new("a length that is kept", [length("2"), data(END_STREAM, "ok")].concat(), Nothing, GOOD),
        Offence::new("a length without a body", response(WHOLE, &[("content-length", "2")]), Nothing, BAD),
        Offence::new("a length that is none", [length("x"), data(END_STREAM, "ok")].concat(), Reset(code::PROTOCOL), BAD),
        Offence::new("two lengths", response(END_HEADERS, &[("content-length", "1"), ("content-length", "2")]), Reset(code::PROTOCOL), BAD),
        Offence::new("a body that is too short", [length("3"), data(END_STREAM, "ok")].concat(), Reset(code::PROTOCOL), CUT),
        Offence::new("a body that is too long", [length("1"), data(END_STREAM, "ok")].concat(), Reset(code::PROTOCOL), CUT),
        Offence::new("a body that is too short, with trailers", [length("3"), data(0, "ok"), headers(1, WHOLE, &[("x", "y")])].concat(), Nothing, CUT),
        Offence::new("a stream that is reset", reset(1, code::INTERNAL), Nothing, BAD),
        Offence::new("a stream that is reset midway", [response(END_HEADERS, &[]), data(0, "ok"), reset(1, code::INTERNAL)].concat(), Nothing, CUT),
        Offence::new("DATA after the end", [whole.clone(), data(0, "x")].concat(), Reset(code::STREAM_CLOSED), GOOD),
    ];
    judge(&offences);
}

/// An origin that floods is let go like anybody else.
#[test]
fn an_origin_that_floods_is_let_go() {
    let before = Flood::Ping.count();
    Offence::new(
        "pings",
        frame(PING, 0, 0, [0; 8]).repeat(2000),
        Goaway(code::CALM),
        BAD,
    )
    .commit();
    assert_eq!(Flood::Ping.count() - before, 1);
}
