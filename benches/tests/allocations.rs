//! What a worker allocates for one exchange once connections and pools are warm. The client and the origin have threads of
//! their own, which do not count.
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use allocation_counter::measure;
use oxy_benches::exchange::{self, Client, Version};
use oxy_core::offramp::{AnyOfframp, Offramp};
use oxy_core::{Carrier, Engine, Facts, Far, Flow, FlowInfo, Layer, Origin, Result, Target};
use oxy_http::Http;
use tokio::runtime::Runtime;

/// The exchange, what it takes to get to the origin and back, and the response's body: one box each.
#[test]
fn an_exchange_over_http1_allocates_little() {
    let count = per_exchange(Version::Http1);
    assert!(count <= 3, "{count}");
}

/// The same three, where the exchange is a task; the stream, the head and its share count, and the body as one piece of
/// its own. The `h2` crate adds two for the map of the request's fields, and one for each of their two values that are not
/// pseudo-fields'.
#[test]
fn an_exchange_over_http2_allocates_little() {
    let count = per_exchange(Version::Http2);
    assert!(count <= 11, "{count}");
}

/// Straight to the origin, without what a dialer does about names and policies.
struct Straight;

impl Offramp for Straight {
    async fn open(&self, target: &Target, _: &FlowInfo) -> Result<Far> {
        let address = target.socket_addr().unwrap();
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        Ok(Far {
            carrier: Carrier::Stream(socket.into()),
            target: target.clone(),
            peer: Some(address),
            facts: Facts::default(),
        })
    }
}

/// Allocations of this thread, which is the worker's, for each exchange of a connection that has many.
fn per_exchange(version: Version) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let origin = origin();
    let engine = runtime.block_on(async {
        let http = Http::new(()).to(origin);
        oxy_http::bench::engine(http, AnyOfframp::new(Straight)).unwrap()
    });
    let count =
        |exchanges| measure(|| connection(&runtime, &engine, version, exchanges)).count_total;
    // The first fills the pools, and what a connection costs by itself is in both of the others.
    count(100);
    let (few, many) = (count(100), count(1100));
    // Less than one in an exchange is what comes once a second or once a tick.
    (many - few) / 1000
}

fn connection(runtime: &Runtime, engine: &Engine<()>, version: Version, exchanges: u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || client(address, version, exchanges));
    let (near, peer) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    near.set_nodelay(true).unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::from_std(near).unwrap();
        let from = Origin {
            listener: "test".into(),
            peer: Some(peer),
            local: Some(address),
        };
        let flow = Flow::new(Layer::Tcp, Carrier::Stream(socket.into()), from);
        // Clients of HTTP/2 that leave without a word are an error.
        let _ = engine.enter(flow, None).await;
    });
    client.join().unwrap();
}

fn client(address: SocketAddr, version: Version, exchanges: u32) {
    let mut socket = TcpStream::connect(address).unwrap();
    let mut client = Client::new(version);
    let mut buffer = [0; 4096];
    for _ in 0..exchanges {
        socket.write_all(client.request()).unwrap();
        loop {
            let n = socket.read(&mut buffer).unwrap();
            assert!(n > 0, "the proxy has closed");
            if client.came(&buffer[..n]).unwrap() {
                break;
            }
        }
    }
}

/// An origin that answers until the test is over.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                let answer = exchange::answer();
                let (mut buffer, mut end) = ([0; 4096], 0);
                while let n @ 1.. = socket.read(&mut buffer[end..]).unwrap_or(0) {
                    end += n;
                    if exchange::is_asked(&buffer[..end]) {
                        socket.write_all(&answer).unwrap();
                        end = 0;
                    }
                }
            });
        }
    });
    address
}
