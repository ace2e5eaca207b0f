//! Conversations of HTTP/2 with wrong bytes in them: whatever they come to mean, the connection ends in good order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use support::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, PADDED, PING, PREFACE, PRIORITY,
    PRIORITY_UPDATE, SETTINGS, code, fields, frame, get, headers, post, request, reset, settings,
    window_update,
};
use support::{Bench, End, Origin, Peer, eventually};

/// One of each.
fn conversation() -> Vec<u8> {
    [
        PREFACE.to_vec(),
        settings(&[(1, 0), (3, 100), (4, 1 << 20)]),
        frame(SETTINGS, ACK, 0, ""),
        window_update(0, 1 << 20),
        get(1),
        post(3, &[("content-length", "4")]),
        frame(DATA, 0, 3, "ab"),
        frame(PING, 0, 0, "12345678"),
        frame(DATA, PADDED | END_STREAM, 3, "\x02cd\0\0"),
        frame(PRIORITY, 0, 5, [0, 0, 0, 0, 15]),
        headers(5, END_STREAM, &request("GET", &[("x", "y")])),
        frame(CONTINUATION, END_HEADERS, 5, fields(&[("cookie", "a=b")])),
        post(7, &[]),
        frame(PRIORITY_UPDATE, 0, 0, "\0\0\0\x07u=1"),
        window_update(7, 100),
        reset(7, code::CANCEL),
        post(9, &[]),
        headers(9, END_STREAM | END_HEADERS, &[("x", "y")]),
    ]
    .concat()
}

#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

#[test]
fn whatever_comes_ends_in_good_order() {
    let bench = Bench::new(|| Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let config = Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let changes = (vec(change(), 0..6), 1_usize..200);
    TestRunner::new(config)
        .run(&changes, |(changes, cut)| {
            let mut bytes = conversation();
            for change in changes {
                // The preface stays: without it, this is HTTP/1.1.
                let at =
                    |index: Index, end: usize| PREFACE.len() + index.index(end - PREFACE.len());
                match change {
                    Change::Set(index, byte) => {
                        let at = at(index, bytes.len());
                        bytes[at] = byte;
                    }
                    Change::Insert(index, byte) => bytes.insert(at(index, bytes.len()), byte),
                    Change::Remove(index) => drop(bytes.remove(at(index, bytes.len()))),
                    Change::Cut(index) => bytes.truncate(at(index, bytes.len()) + 1),
                }
                if bytes.len() <= PREFACE.len() + 1 {
                    break;
                }
            }
            let mut client = Peer::connect(bench.address());
            for part in bytes.chunks(cut) {
                if client.try_send(part).is_err() {
                    break;
                }
            }
            // Fails where the connection has been reset.
            let _ = client.socket().shutdown(std::net::Shutdown::Write);
            prop_assert_ne!(client.end(), End::Open);
            drop(client);
            prop_assert!(eventually(|| bench.flows() == 0));
            Ok(())
        })
        .unwrap();
    let mut client = H2::connect(bench.address());
    assert_eq!(client.ask(1), 200);
    drop(client);
    bench.finish_with_pool();
}
