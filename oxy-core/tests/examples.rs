//! The examples do what they say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/tcp_balancer.rs"]
mod tcp_balancer;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/udp_relay.rs"]
mod udp_relay;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use oxy_core::Proxy;

/// A server that says `name` to whoever connects, and then waits for them to close.
fn backend(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                socket.write_all(name.as_bytes()).unwrap();
                let _ = socket.read_to_end(&mut Vec::new());
            });
        }
    });
    address.to_string()
}

#[test]
fn the_balancer_fills_the_emptiest_backend() {
    let backends = [backend("a"), backend("b")];
    let targets = backends
        .iter()
        .map(|to| (to.parse().unwrap(), 0.into()))
        .collect();
    let running = Proxy::new(tcp_balancer::Balancer(targets))
        .listen("127.0.0.1:0")
        .workers(1)
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    let ask = || {
        let mut socket = TcpStream::connect(address).unwrap();
        let mut name = [0];
        socket.read_exact(&mut name).unwrap();
        (name[0], socket)
    };
    let mut open: Vec<_> = (0..10).map(|_| ask()).collect();
    assert_eq!(open.iter().filter(|(name, _)| *name == b'a').count(), 5);
    // Those of one backend leave: it gets all that come.
    open.retain(|(name, socket)| {
        if *name == b'a' {
            socket.shutdown(Shutdown::Both).unwrap();
        }
        *name == b'b'
    });
    let start = std::time::Instant::now();
    while running.workers()[0].open_flows() > 5 && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let more: Vec<_> = (0..5).map(|_| ask()).collect();
    assert!(more.iter().all(|(name, _)| *name == b'a'));
    drop((open, more));
    running.stop().unwrap();
}

#[test]
fn the_udp_relay_carries_datagrams_both_ways() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().to_string();
    let running = udp_relay::proxy("udp:127.0.0.1:0", &to)
        .workers(1)
        .start()
        .unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [&server, &client] {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
    }
    let address = running.addresses()[0].1.socket_addr().unwrap();
    client.connect(address).unwrap();
    client.send(b"ping").unwrap();
    let mut buf = [0; 16];
    let (n, peer) = server.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"ping");
    server.send_to(b"pong!", peer).unwrap();
    let n = client.recv(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"pong!");
    drop(running);
}
