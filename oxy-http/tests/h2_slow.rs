//! Clients of HTTP/2 that take their time: each step has an end, and what they can make the proxy hold has a bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::time::{Duration, Instant};

use oxy_core::{ErrorKind, Side};
use oxy_http::HttpOptions;
use support::h2::{
    CONTINUATION, DATA, END_HEADERS, GOAWAY, H2, Outcome, PREFACE, RST_STREAM, code, fields, frame,
    get, headers, post, request, settings, window_update,
};
use support::{Bench, End, Origin, Peer};

/// The time-out under test: two ticks of the proxy's clock and more.
const SHORT: Duration = Duration::from_millis(500);

/// How much later than a time-out its effect may be seen, on a machine that has other things to do.
const LATE: Duration = Duration::from_secs(8);

fn large(options: impl FnOnce(&mut HttpOptions)) -> Bench {
    let response = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"[..],
        &vec![b'x'; 4_000_000][..],
    ]
    .concat();
    Bench::before(|| {
        Origin::each(
            move |peer| {
                while peer.request().is_ok() && peer.try_send(&response).is_ok() {}
            },
        )
    })
    .options(options)
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Sends `bytes` one by one, as slowly as a time-out of this socket's reads is long, until the connection ends; tells
/// how long that took.
fn drip(client: &mut H2, bytes: &[u8]) -> (Duration, Vec<u8>, End) {
    let socket = client.peer.socket().clone();
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let start = Instant::now();
    let mut come = Vec::new();
    for byte in bytes {
        if client.peer.try_send([*byte]).is_err() {
            break;
        }
        let (news, end) = client.peer.rest();
        come.extend(news);
        if end != End::Open {
            return (start.elapsed(), come, end);
        }
        assert!(start.elapsed() < SHORT + LATE, "still there");
    }
    panic!("still there after {:?}", start.elapsed());
}

#[test]
fn a_preface_has_to_come_in_time() {
    let bench = Bench::alone().options(|options| options.timeouts.head = SHORT);
    let mut client = H2::new(Peer::connect(bench.address()));
    // Enough of it that it is known for HTTP/2.
    client.send(&PREFACE[..18]);
    let start = Instant::now();
    client.send(&PREFACE[18..20]);
    assert_eq!(client.peer.end(), End::Closed);
    assert!((SHORT..SHORT + LATE).contains(&start.elapsed()));
    drop(client);
    bench.finish();
}

/// Slowloris: whatever the frames are that a header section comes in, and however many exchanges there are besides.
#[test]
fn a_header_section_has_to_come_in_time() {
    let bench = Bench::before(|| Origin::once(|mut peer| assert_ne!(peer.end(), End::Open)))
        .options(|options| options.timeouts.head = SHORT);
    let filler = fields(&[("x", "y".repeat(4000))]);
    let one = [&frame(1, 1, 1, "")[..], &frame(CONTINUATION, 0, 1, &filler)].concat();
    let whole = headers(1, END_HEADERS, &request("GET", &[("x", &"y".repeat(4000))]));
    let many: Vec<u8> = (0..3)
        .flat_map(|_| frame(CONTINUATION, 0, 1, &filler[..]))
        .collect();
    let begun = [headers(1, 0, &request("GET", &[])), many].concat();
    for (before, bytes) in [
        (Vec::new(), whole),
        (Vec::new(), one),
        (Vec::new(), begun.clone()),
        // A request that is not answered does not make a difference.
        (get(1), {
            let mut other = headers(3, 0, &request("GET", &[]));
            other.extend(frame(CONTINUATION, 0, 3, &filler[..]));
            other
        }),
    ] {
        let mut client = H2::connect(bench.address());
        client.send(before);
        let (took, come, end) = drip(&mut client, &bytes);
        assert!(took >= SHORT, "{took:?}");
        assert_eq!(end, End::Closed);
        let goaway = frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 11]);
        let has = come
            .windows(17)
            .any(|part| part[3] == GOAWAY && part[13..] == goaway[13..]);
        assert!(has, "{come:?}");
    }
    bench.finish_with_pool();
}

/// Sections that follow each other without a pause are each in time.
#[test]
fn many_header_sections_are_not_one_slow_one() {
    let bench = Bench::before(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        .options(|options| options.timeouts.head = SHORT);
    let mut client = H2::connect(bench.address());
    let start = Instant::now();
    let mut stream = 1;
    // Each is whole only once the next has begun.
    let mut cut = get(stream);
    let tail = cut.split_off(20);
    client.send(cut);
    let mut tail = tail;
    while start.elapsed() < 4 * SHORT {
        let mut next = get(stream + 2);
        let rest = next.split_off(20);
        client.send([tail, next].concat());
        assert_eq!(client.status(stream), 200);
        stream += 2;
        tail = rest;
    }
    client.send(tail);
    assert_eq!(client.status(stream), 200);
    drop(client);
    bench.finish_with_pool();
}

/// Streams that are opened and left alone.
#[test]
fn bodies_have_to_come_in_time() {
    let bench = Bench::before(|| Origin::each(|peer| drop(peer.request()))).options(|options| {
        options.timeouts.body = SHORT;
        options.timeouts.first_byte = SHORT;
    });
    let mut client = H2::connect(bench.address());
    let streams: Vec<u32> = (0..100).map(|n| 2 * n + 1).collect();
    for stream in &streams {
        client.send(post(*stream, &[]));
    }
    for stream in &streams {
        let outcome = client.outcome(*stream);
        assert!(
            matches!(outcome, Outcome::Response(408, _) | Outcome::Reset(_)),
            "{outcome:?}"
        );
    }
    drop(client);
    for finished in bench.finish_with_pool() {
        assert_eq!(finished.error, Some((ErrorKind::Timeout, Side::Down)));
    }
}

/// Responses for which there is no window, while the client otherwise is there.
#[test]
fn windows_have_to_open_in_time() {
    let bench = large(|options| options.timeouts.body = SHORT);
    let before = resident();
    let mut client = H2::with_settings(bench.address(), &[(4, 0)]);
    let streams: Vec<u32> = (0..100).map(|n| 2 * n + 1).collect();
    for stream in &streams {
        client.send(get(*stream));
    }
    let mut most = 0;
    for stream in &streams {
        let outcome = client.outcome(*stream);
        assert_eq!(outcome, Outcome::Reset(code::CANCEL));
        most = most.max(resident().saturating_sub(before));
    }
    // What is sent, a head's buffer and one more for each; the origin's threads are in this as well.
    assert!(most < 64 << 20, "{most}");
    // The connection is as good as new.
    client.send(window_update(0, 1 << 20));
    client.send(settings(&[(4, 1 << 20)]));
    client.send(get(2001));
    assert_eq!(client.next_of(DATA).unwrap().stream, 2001);
    drop(client);
    bench.finish_with_pool();
}

/// A client that has all windows open, and does not read.
#[test]
fn clients_have_to_read() {
    let bench = large(|options| options.timeouts.body = SHORT);
    let before = resident();
    let client = H2::with_settings(bench.address(), &[(4, (1 << 31) - 1)]);
    client.send(window_update(0, (1 << 31) - 65_536));
    for n in 0..100 {
        client.send(get(2 * n + 1));
    }
    let start = Instant::now();
    let mut most = 0;
    let gone = || bench.flows() == 0 && bench.seen() > 0;
    while !gone() {
        most = most.max(resident().saturating_sub(before));
        assert!(start.elapsed() < SHORT + LATE, "still there");
        std::thread::yield_now();
    }
    assert!(start.elapsed() >= SHORT);
    // 100 streams that each keep `send_buffer`, and what the sockets and the origin's threads have.
    assert!(most < 100 << 20, "{most}");
    drop(client);
    bench.finish_with_pool();
}

/// A client that opens its windows by a byte at a time is too slow.
#[test]
fn windows_have_to_open_fast_enough() {
    let bench = large(|options| {
        // More than bytes by themselves come to, however fast they go back and forth.
        options.body.min_rate = 10_000_000;
        options.body.grace = SHORT;
    });
    let mut client = H2::with_settings(bench.address(), &[(4, 1)]);
    client.send(get(1));
    let start = Instant::now();
    loop {
        let frame = client.next().unwrap();
        match frame.kind {
            DATA => client.send(window_update(1, 1)),
            RST_STREAM => break,
            GOAWAY => panic!("{frame:?}"),
            _ => {}
        }
        assert!(start.elapsed() < SHORT + LATE, "still there");
    }
    drop(client);
    bench.finish_with_pool();
}
