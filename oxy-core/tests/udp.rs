//! UDP sessions through a proxy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use oxy_core::onramp::UdpOptions;
use oxy_core::relay::RelayOptions;
use oxy_core::{
    Ended, ErrorKind, FlowHooks, FlowInfo, Layer, Proxy, Running, Side, Summary, Target,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

struct Ends(mpsc::Sender<(Ended, u64, u64, Option<Target>)>);

impl FlowHooks for Ends {
    type Conn = ();

    fn conn(&self, info: &FlowInfo, _: Option<&()>) {
        assert_eq!(info.layer, Layer::Udp);
        assert!(info.peer.is_some() && info.local.is_some());
    }

    fn on_close(&self, (): &(), s: &Summary) {
        let target = s.info.target().cloned();
        let _ = self.0.send((s.ended, s.received, s.sent, target));
    }
}

type Closes = mpsc::Receiver<(Ended, u64, u64, Option<Target>)>;

fn start(
    listen: &str,
    to: SocketAddr,
    idle: u64,
    change: impl FnOnce(&mut UdpOptions),
) -> (Running, SocketAddr, Closes) {
    let (sender, closes) = mpsc::channel();
    let mut relay = RelayOptions::default();
    relay.datagram_idle = Duration::from_millis(idle);
    let mut udp = UdpOptions::default();
    change(&mut udp);
    let running = Proxy::new(Ends(sender))
        .udp_options(udp)
        .listen(listen)
        .to(to.to_string().as_str())
        .relay(relay)
        .workers(2)
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    (running, address, closes)
}

async fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn recv(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buf = vec![0; 70_000];
    let (n, peer) = timeout(Duration::from_secs(2), socket.recv_from(&mut buf))
        .await
        .ok()?
        .unwrap();
    buf.truncate(n);
    Some((buf, peer))
}

#[tokio::test]
async fn each_client_has_a_session_and_idleness_is_its_end() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (running, address, closes) =
        start("udp:127.0.0.1:0", server.local_addr().unwrap(), 300, |_| {});
    let clients = [client(address).await, client(address).await];
    for (i, client) in clients.iter().enumerate() {
        for len in [0, 1, 1200, 9000, 60_000] {
            let sent = vec![i as u8; len];
            client.send(&sent).await.unwrap();
            let (got, peer) = recv(&server).await.unwrap();
            assert!(got == sent, "{len}");
            server.send_to(&got, peer).await.unwrap();
            assert!(recv(client).await.unwrap().0 == sent, "{len}");
        }
    }
    for _ in &clients {
        let (ended, received, sent, target) = closes.recv_timeout(Duration::from_secs(3)).unwrap();
        assert_eq!((ended, received, sent), (Ended::Done, 70_201, 70_201));
        assert!(matches!(target, Some(Target::Udp { .. })));
    }
    // The same client comes back: a new session.
    clients[0].send(b"again").await.unwrap();
    assert_eq!(recv(&server).await.unwrap().0, b"again");
    drop(running);
    let cut = Ended::Failed(ErrorKind::Draining, Side::Local);
    assert_eq!(closes.recv().unwrap().0, cut);
}

#[tokio::test]
async fn answers_come_from_the_address_that_was_asked() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for listen in ["udp:0.0.0.0:0", "udp::0"] {
        let (_running, address, _closes) =
            start(listen, server.local_addr().unwrap(), 5000, |_| {});
        let other = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), address.port()));
        // Connected, it hears that address only.
        let client = client(other).await;
        client.send(b"ping").await.unwrap();
        let (_, peer) = recv(&server).await.expect(listen);
        server.send_to(b"pong", peer).await.unwrap();
        assert_eq!(recv(&client).await.expect(listen).0, b"pong");
    }
}

#[tokio::test]
async fn bursts_arrive_in_order_and_unchanged() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (_running, address, _closes) =
        start("udp:127.0.0.1:0", server.local_addr().unwrap(), 5000, |o| {
            o.queue = 1 << 20;
        });
    let client = client(address).await;
    for len in [10usize, 1200] {
        // Fifty fit into the kernel's default buffer whoever is slow; more might be lost, which is no fault.
        for i in 0..50u8 {
            client.send(&vec![i; len]).await.unwrap();
        }
        let mut peer = None;
        for i in 0..50u8 {
            let (got, from) = recv(&server).await.unwrap();
            assert!(got == vec![i; len], "{i}");
            peer = Some(from);
        }
        for i in 0..50u8 {
            server
                .send_to(&vec![i; len + 1], peer.unwrap())
                .await
                .unwrap();
        }
        for i in 0..50u8 {
            assert!(recv(&client).await.unwrap().0 == vec![i; len + 1], "{i}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_does_not_end_the_session() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = server.local_addr().unwrap();
    let (_running, address, closes) = start("udp:127.0.0.1:0", to, 5000, |_| {});
    let client = client(address).await;
    drop(server);
    for _ in 0..5 {
        client.send(b"lost").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = UdpSocket::bind(to).await.unwrap();
    // One send may be answered by the error of an earlier one.
    client.send(b"one").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.send(b"two").await.unwrap();
    assert!(recv(&server).await.is_some());
    assert!(closes.try_recv().is_err());
}

#[tokio::test]
async fn sessions_beyond_the_limit_wait_until_one_ends() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (_running, address, _closes) =
        start("udp:127.0.0.1:0", server.local_addr().unwrap(), 300, |o| {
            o.max_sessions = 1;
        });
    let (first, second) = (client(address).await, client(address).await);
    first.send(b"first").await.unwrap();
    assert_eq!(recv(&server).await.unwrap().0, b"first");
    second.send(b"second").await.unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    second.send(b"third").await.unwrap();
    assert_eq!(recv(&server).await.unwrap().0, b"third");
}

#[tokio::test]
async fn a_drain_lets_sessions_go_on() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (running, address, closes) =
        start("udp:127.0.0.1:0", server.local_addr().unwrap(), 500, |_| {});
    let client = client(address).await;
    client.send(b"one").await.unwrap();
    recv(&server).await.unwrap();
    let stopped = tokio::task::spawn_blocking(move || running.stop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.send(b"two").await.unwrap();
    assert_eq!(recv(&server).await.unwrap().0, b"two");
    stopped.await.unwrap().unwrap();
    assert_eq!(closes.recv().unwrap().0, Ended::Done);
}
