//! Floods: who floods is told to calm down and let go, and nobody else notices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use oxy_core::Proxy;
use oxy_http::{Flood, Http, HttpProxy};
use support::eventually;
use support::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, GOAWAY, H2, HEADERS, Outcome, PADDED, PING, PRIORITY,
    PRIORITY_UPDATE, WHOLE, code, fields, frame, headers, integer, post, request, reset, settings,
    window_update,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How much longer half, and all but two, of somebody else's requests may take under a flood. A worker that let itself be
/// kept busy would not answer for as long as the flood lasts; what is left is that test, origin and flood share two cores
/// with others, and that a hundred requests may be under way before one of them.
const LATER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// By how much this process, which is the flood and the origin too, may grow under any flood: a connection's windows and a
/// header section are 1.1 MiB.
const GROWTH: usize = 24 << 20;

/// How many requests somebody else makes meanwhile.
const HONEST: u32 = 200;

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// An origin on one thread, because one per connection would be what a flood brings down. It answers, but for what asks
/// for "/hang".
fn origin() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answers(socket));
            }
        });
    });
    told.recv().unwrap()
}

async fn answers(mut socket: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    // A request of these tests comes at once, and what follows of its body is of no interest.
    while let Ok(n) = socket.read(&mut buffer).await
        && n > 0
    {
        let request = &buffer[..n];
        if request.windows(5).any(|part| part == b"/hang") {
            drop(buffer);
            // Until the other end is closed, without reading.
            let _ = socket.ready(tokio::io::Interest::PRIORITY).await;
            return;
        }
        let head = [&b"GET /"[..], b"POST /"];
        if head.iter().any(|head| request.starts_with(head)) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if socket.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

fn hang<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut list = request(method, more);
    list[3].1 = "/hang";
    list
}

/// One honest client's requests, and how long half of them took, and all but two.
fn honest(address: SocketAddr) -> [Duration; 2] {
    let mut client = H2::connect(address);
    let mut took: Vec<_> = (0..HONEST)
        .map(|n| {
            let start = Instant::now();
            assert_eq!(client.ask(2 * n + 1), 200);
            start.elapsed()
        })
        .collect();
    took.sort();
    [took[took.len() / 2], took[took.len() - 3]]
}

/// What a flood sends: first, and then over and over, told how often it has.
struct Attack {
    name: &'static str,
    /// What it may be taken for.
    floods: Vec<Flood>,
    first: Vec<u8>,
    more: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
}

impl Attack {
    fn new(
        name: &'static str,
        flood: Flood,
        first: Vec<u8>,
        more: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let more = Box::new(more);
        Self {
            name,
            floods: vec![flood],
            first,
            more,
        }
    }

    /// It may be taken for this too.
    fn or(mut self, flood: Flood) -> Self {
        self.floods.push(flood);
        self
    }

    /// Floods one connection until it is let go.
    fn once(&self, address: SocketAddr) -> Outcome {
        let mut client = H2::connect(address);
        client.send(&self.first);
        for n in 0.. {
            // Fails once the connection is gone, of which more is heard below.
            let _ = client.peer.try_send((self.more)(n));
            while client.peer.has_news() {
                if let Some(outcome) = client.last_word() {
                    return outcome;
                }
            }
        }
        unreachable!();
    }
}

fn attacks() -> Vec<Attack> {
    let times = |n: usize, frame: Vec<u8>| move |_: u32| frame.repeat(n);
    let hanging = || headers(1, END_HEADERS, &hang("POST", &[]));
    let update = frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1");
    let bomb = {
        let value = "b".repeat(4000);
        let mut entry = vec![0x40, 1, b'b'];
        entry.extend(integer(0, 7, value.len()));
        entry.extend(value.as_bytes());
        [fields(&request("GET", &[])), entry].concat()
    };
    let (bombs, small) = (bomb.clone(), [&bomb[..], &[0xbe; 20]].concat());
    vec![
        Attack::new(
            "pings",
            Flood::Ping,
            Vec::new(),
            times(50, frame(PING, 0, 0, [0; 8])),
        ),
        Attack::new(
            "pongs",
            Flood::Ping,
            Vec::new(),
            times(50, frame(PING, ACK, 0, [0; 8])),
        ),
        Attack::new("settings", Flood::Settings, Vec::new(), |n| {
            settings(&[(4, n)])
        }),
        Attack::new(
            "windows",
            Flood::Window,
            hanging(),
            times(50, window_update(1, 1)),
        ),
        Attack::new(
            "priorities",
            Flood::Priority,
            Vec::new(),
            times(50, frame(PRIORITY, 0, 3, [0; 5])),
        ),
        Attack::new(
            "updates of priorities",
            Flood::Priority,
            Vec::new(),
            times(50, update),
        ),
        Attack::new(
            "unknown frames",
            Flood::Unknown,
            Vec::new(),
            times(50, frame(0xbe, 0, 0, [0; 64])),
        ),
        Attack::new(
            "goodbyes",
            Flood::Goaway,
            hanging(),
            times(1, frame(GOAWAY, 0, 0, [0; 8])),
        ),
        Attack::new(
            "empty data",
            Flood::Empty,
            hanging(),
            times(5, frame(DATA, 0, 1, "")),
        ),
        Attack::new(
            "padding",
            Flood::Empty,
            hanging(),
            times(5, frame(DATA, PADDED, 1, [3, 0, 0, 0])),
        ),
        Attack::new(
            "continuations",
            Flood::Continuation,
            headers(1, 0, &request("GET", &[])),
            times(1, frame(CONTINUATION, 0, 1, fields(&[("x", "y")]))),
        ),
        Attack::new(
            "empty continuations",
            Flood::Continuation,
            headers(1, 0, &[]),
            times(1, frame(CONTINUATION, 0, 1, "")),
        ),
        Attack::new("resets", Flood::Reset, Vec::new(), |n| {
            let stream = 2 * n + 1;
            [
                headers(stream, WHOLE, &hang("GET", &[])),
                reset(stream, code::CANCEL),
            ]
            .concat()
        }),
        Attack::new("resets of uploads", Flood::Reset, Vec::new(), |n| {
            let stream = 2 * n + 1;
            [
                post(stream, &[]),
                frame(DATA, 0, stream, [0; 64]),
                reset(stream, code::CANCEL),
            ]
            .concat()
        }),
        Attack::new("malformed requests", Flood::Provoked, Vec::new(), |n| {
            headers(2 * n + 1, WHOLE, &request("GET", &[("connection", "x")]))
        }),
        Attack::new(
            "requests without an authority",
            Flood::Provoked,
            Vec::new(),
            |n| headers(2 * n + 1, WHOLE, &request("GET", &[])[..2]),
        ),
        Attack::new(
            "lengths that are not kept",
            Flood::Provoked,
            Vec::new(),
            |n| {
                let stream = 2 * n + 1;
                [
                    post(stream, &[("content-length", "1")]),
                    frame(DATA, 0, stream, "ab"),
                ]
                .concat()
            },
        ),
        Attack::new("windows that burst", Flood::Provoked, Vec::new(), |n| {
            let stream = 2 * n + 1;
            [
                headers(stream, END_HEADERS, &hang("POST", &[])),
                window_update(stream, (1 << 31) - 1),
            ]
            .concat()
        })
        // They come faster than what is said to them goes out.
        .or(Flood::Window),
        Attack::new(
            "more streams than allowed",
            Flood::Provoked,
            Vec::new(),
            |n| headers(2 * n + 1, END_HEADERS, &hang("POST", &[])),
        ),
        // A section of 40 MB in a frame of 14 KB, and sections of 80 KB in frames of 4 KB.
        Attack::new("a bomb", Flood::Other, Vec::new(), move |n| {
            frame(
                HEADERS,
                WHOLE,
                2 * n + 1,
                [&bombs[..], &[0xbe; 10_000]].concat(),
            )
        }),
        Attack::new("bombs", Flood::Provoked, Vec::new(), move |n| {
            frame(HEADERS, WHOLE, 2 * n + 1, &small)
        }),
        // Nobody reads what comes on the stream.
        Attack::new(
            "small data",
            Flood::Other,
            hanging(),
            times(50, frame(DATA, 0, 1, "x")),
        ),
    ]
}

#[test]
fn floods_are_let_go_and_nobody_else_notices() {
    let to = origin();
    // Without the books of the other tests, which grow by each request.
    let proxy = Proxy::new(()).listen("127.0.0.1:0").workers(1);
    let running = proxy.http(Http::new(()).to(to)).start().unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    let before = honest(address);
    let start = resident();
    let mut wrong = Vec::new();
    for attack in attacks() {
        let counted = Flood::ALL.map(Flood::count);
        let began = Instant::now();
        let stop = AtomicBool::new(false);
        let (later, outcomes) = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let mut outcomes = Vec::new();
                while !stop.load(SeqCst) || outcomes.is_empty() {
                    outcomes.push(attack.once(address));
                }
                outcomes
            });
            let later = honest(address);
            stop.store(true, SeqCst);
            (later, flooding.join().unwrap())
        });
        let name = attack.name;
        if let Some(other) = outcomes.iter().find(|o| **o != Outcome::Goaway(code::CALM)) {
            wrong.push(format!("{name}: {other:?}"));
        }
        // The last word goes out before it is counted.
        let noted = || Flood::ALL.map(Flood::count);
        let total = || noted().iter().sum::<u64>() - counted.iter().sum::<u64>();
        if !eventually(|| total() == outcomes.len() as u64) {
            wrong.push(format!("{name}: {} counted of {}", total(), outcomes.len()));
        }
        for (n, flood) in Flood::ALL.into_iter().enumerate() {
            if noted()[n] > counted[n] && !attack.floods.contains(&flood) {
                wrong.push(format!("{name}: {flood}"));
            }
        }
        if (0..2).any(|n| later[n] > before[n] + LATER[n]) {
            wrong.push(format!("{name}: {later:?} after {before:?}"));
        }
        let growth = resident().saturating_sub(start);
        if growth > GROWTH {
            wrong.push(format!("{name}: grown by {growth}"));
        }
        eprintln!(
            "{name}: {} rounds in {:?}, {later:?} after {before:?}, {growth} grown",
            outcomes.len(),
            began.elapsed()
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    running.stop().unwrap();
}
