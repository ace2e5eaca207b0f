//! The PROXY protocol in and out of proxies that run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use oxy_core::offramp::{AnyOfframp, DialOptions, Dialer, Direct, EgressPolicy, Offramp};
use oxy_core::onramp::{ListenAddr, StreamBind, StreamOptions};
use oxy_core::resolve::{ResolveOptions, Resolver};
use oxy_core::{
    Carrier, Drain, Ended, ErrorKind, Flow, FlowHooks, FlowInfo, Layer, Origin, Proxy, Result,
    Running, Side, StreamIo, Summary, Target, Verdict, Worker,
};
use oxy_tunnel::proxy_protocol::{
    Addresses, Header, HeaderError, Parsed, Passed, ProxyProtocolBind, ProxyProtocolOptions,
    SendProxyProtocol, SendProxyProtocolOptions, Version, kind, parse,
};

const PATIENCE: Duration = Duration::from_secs(10);

type Seen = (Option<SocketAddr>, Option<SocketAddr>, Option<Passed>);

/// Tells who came and who has gone.
struct Watch {
    seen: mpsc::Sender<Seen>,
    ends: mpsc::Sender<Ended>,
}

impl FlowHooks for Watch {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), flow: &mut Flow) -> Result<Verdict> {
        let passed = flow.info.extensions().get::<Passed>();
        let passed = passed.map(|passed| (*passed).clone());
        let _ = self.seen.send((flow.info.peer, flow.info.local, passed));
        Ok(Verdict::Continue)
    }

    fn on_close(&self, (): &(), s: &Summary) {
        let _ = self.ends.send(s.ended);
    }
}

fn watch() -> (Watch, mpsc::Receiver<Seen>, mpsc::Receiver<Ended>) {
    let ((seen, saw), (ends, ended)) = (mpsc::channel(), mpsc::channel());
    (Watch { seen, ends }, saw, ended)
}

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut from = socket.try_clone().unwrap();
                let _ = std::io::copy(&mut from, &mut socket);
                let _ = socket.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn listener(at: &str) -> ProxyProtocolBind<StreamBind> {
    let at: ListenAddr = at.parse().unwrap();
    let inner = StreamBind::new(at, StreamOptions::default());
    ProxyProtocolBind::new(inner, ProxyProtocolOptions::default())
}

fn address(running: &Running) -> SocketAddr {
    running.addresses()[0].1.socket_addr().unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn talk(socket: &mut TcpStream) {
    socket.write_all(b"ping").unwrap();
    let mut got = [0; 4];
    socket.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ping");
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn open_flows(running: &Running) -> usize {
    running.workers().iter().map(Worker::open_flows).sum()
}

fn direct() -> Result<AnyOfframp> {
    let resolver = Resolver::new(ResolveOptions::default())?;
    let dialer = Dialer::new(resolver, EgressPolicy::open(), DialOptions::default());
    Ok(AnyOfframp::new(Direct::new(dialer)))
}

fn sending(options: &SendProxyProtocolOptions) -> Result<SendProxyProtocol> {
    SendProxyProtocol::new(direct()?, options.clone())
}

fn options(change: impl FnOnce(&mut SendProxyProtocolOptions)) -> SendProxyProtocolOptions {
    let mut options = SendProxyProtocolOptions::default();
    change(&mut options);
    options
}

#[test]
fn a_client_is_known_behind_a_chain_of_proxies() {
    for (version, checksum) in [
        (Version::V1, false),
        (Version::V2, false),
        (Version::V2, true),
    ] {
        let (hooks, saw, ended) = watch();
        let inner = Proxy::new(hooks)
            .listen_on(listener("127.0.0.1:0"))
            .to(echo())
            .workers(2)
            .start()
            .unwrap();
        let options = options(|o| {
            o.version = version;
            o.checksum = checksum;
            o.unique_id = version == Version::V2;
        });
        let outer = Proxy::new(())
            .listen("127.0.0.1:0")
            .offramp(move |_| Ok(AnyOfframp::new(sending(&options)?)))
            .to(address(&inner))
            .workers(1)
            .start()
            .unwrap();
        let mut client = connect(address(&outer));
        let me = client.local_addr().unwrap();
        talk(&mut client);
        let (peer, local, passed) = saw.recv_timeout(PATIENCE).unwrap();
        assert_eq!((peer, local), (Some(me), Some(address(&outer))));
        let Passed { by, header } = passed.unwrap();
        assert_eq!(by.unwrap().ip(), me.ip());
        assert_ne!(by, Some(me));
        assert_eq!((header.version, header.checksum), (version, checksum));
        let id = header.tlvs.get(kind::UNIQUE_ID);
        assert_eq!(id.is_some(), version == Version::V2);
        drop(client);
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), Ended::Done);
        outer.stop().unwrap();
        inner.stop().unwrap();
    }
}

#[test]
fn who_is_slow_with_its_header_holds_up_nobody_and_survives_a_replacement() {
    let (hooks, saw, ended) = watch();
    let to = echo();
    let running = Proxy::new(hooks)
        .listen_on(listener("127.0.0.1:0"))
        .to(to)
        .workers(1)
        .start()
        .unwrap();
    let at = address(&running);
    let mut slow = connect(at);
    slow.write_all(b"PROXY TCP4 192.0.2.1 ").unwrap();
    eventually("it is in the books", || open_flows(&running) == 1);
    assert_eq!(
        running.workers()[0].flows()[0].peer,
        Some(slow.local_addr().unwrap())
    );

    let mut quick = connect(at);
    quick
        .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 7 8\r\n")
        .unwrap();
    talk(&mut quick);
    assert_eq!(
        saw.recv_timeout(PATIENCE).unwrap().0,
        Some("192.0.2.7:7".parse().unwrap())
    );

    let (hooks, saw_later, _) = watch();
    running
        .replace(
            Proxy::new(hooks)
                .listen_on(listener(&at.to_string()))
                .to(to),
        )
        .unwrap();
    slow.write_all(b"192.0.2.2 1 2\r\n").unwrap();
    talk(&mut slow);
    // It stays with the proxy that took it in.
    let (peer, local, _) = saw.recv_timeout(PATIENCE).unwrap();
    assert_eq!(peer, Some("192.0.2.1:1".parse().unwrap()));
    assert_eq!(local, Some("192.0.2.2:2".parse().unwrap()));
    assert_eq!(open_flows(&running), 2);
    let mut peers: Vec<_> = running.workers()[0]
        .flows()
        .iter()
        .map(|f| f.peer)
        .collect();
    peers.sort();
    assert_eq!(
        peers,
        ["192.0.2.1:1", "192.0.2.7:7"].map(|at| Some(at.parse().unwrap()))
    );
    drop((slow, quick));
    for _ in 0..2 {
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), Ended::Done);
    }
    let mut new = connect(at);
    new.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    talk(&mut new);
    assert_eq!(
        saw_later.recv_timeout(PATIENCE).unwrap().0,
        Some(new.local_addr().unwrap())
    );
    drop(new);
    running.stop().unwrap();
}

#[test]
fn without_a_header_a_connection_is_closed_and_the_application_does_not_learn_of_it() {
    let (hooks, saw, ended) = watch();
    let mut impatient = ProxyProtocolOptions::default();
    impatient.timeout = Duration::from_millis(300);
    let inner = StreamBind::new("127.0.0.1:0".parse().unwrap(), StreamOptions::default());
    let running = Proxy::new(hooks)
        .listen_on(ProxyProtocolBind::new(inner, impatient))
        .to(echo())
        .workers(1)
        .start()
        .unwrap();
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", b"PROXY TCP4 "] {
        let mut socket = connect(address(&running));
        socket.write_all(first).unwrap();
        assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)));
    }
    eventually("nothing is left", || open_flows(&running) == 0);
    assert!(saw.try_recv().is_err() && ended.try_recv().is_err());
    running.stop().unwrap();
}

#[test]
fn it_is_for_streams_only() {
    let udp = StreamBind::new("udp:127.0.0.1:0".parse().unwrap(), StreamOptions::default());
    let bind = ProxyProtocolBind::new(udp, ProxyProtocolOptions::default());
    assert!(Proxy::new(()).listen_on(bind).workers(1).start().is_err());

    let v1 = options(|o| {
        o.version = Version::V1;
        o.unique_id = true;
    });
    let error = sending(&v1).unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Malformed, Side::Local)
    );
}

fn info(peer: Option<&str>, local: Option<&str>) -> std::sync::Arc<FlowInfo> {
    let origin = Origin {
        listener: "test".into(),
        peer: peer.map(|at| at.parse().unwrap()),
        local: local.map(|at| at.parse().unwrap()),
    };
    let carrier = Carrier::Stream(StreamIo::pair(1).0);
    Flow::new(Layer::Tcp, carrier, origin).info
}

/// What the target hears of `of` when a connection is opened for it.
async fn heard(offramp: &SendProxyProtocol, of: &FlowInfo) -> Header {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Target = listener.local_addr().unwrap().into();
    let (far, near) = tokio::join!(Offramp::open(offramp, &target, of), listener.accept());
    drop(far.unwrap());
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut near.unwrap().0, &mut bytes)
        .await
        .unwrap();
    match parse(&bytes, 4096).unwrap() {
        Parsed::Header { header, len } if len == bytes.len() => header,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_header_says_what_is_known() {
    for version in [Version::V1, Version::V2] {
        let offramp = sending(&options(|o| o.version = version)).unwrap();
        assert!(AnyOfframp::new(sending(&options(|_| {})).unwrap()).is_per_client());
        let of = info(Some("[2001:db8::1]:1"), Some("192.0.2.1:2"));
        let header = heard(&offramp, &of).await;
        let expected = Addresses::stream(
            "[2001:db8::1]:1".parse().unwrap(),
            "[::ffff:192.0.2.1]:2".parse().unwrap(),
        );
        assert_eq!(header, Header::new(version, expected));
        for (peer, local) in [(None, None), (Some("192.0.2.1:2"), None)] {
            let header = heard(&offramp, &info(peer, local)).await;
            assert_eq!(header, Header::local(version));
        }
    }
    assert!(!direct().unwrap().is_per_client());

    let of = info(Some("192.0.2.1:1"), Some("192.0.2.2:2"));
    let mut before = Header::local(Version::V2);
    before.tlvs.push(kind::AUTHORITY, b"example.com").unwrap();
    of.extensions().insert(Passed {
        by: None,
        header: before,
    });
    let offramp = sending(&options(|o| {
        o.authority = true;
        o.unique_id = true;
        o.checksum = true;
    }))
    .unwrap()
    .tlvs(|_, tlvs| tlvs.push(kind::ALPN, b"h2"));
    let header = heard(&offramp, &of).await;
    assert_eq!(header.tlvs.authority(), Some("example.com"));
    assert_eq!(header.tlvs.get(kind::ALPN), Some(&b"h2"[..]));
    let id = of.id.to_string();
    assert_eq!(header.tlvs.get(kind::UNIQUE_ID), Some(id.as_bytes()));
    assert!(header.checksum);

    // Nobody in particular, but something is known of the connection.
    let header = heard(&offramp, &info(None, None)).await;
    assert_eq!(
        (header.local, &header.addresses),
        (false, &Addresses::Unknown)
    );
    assert_eq!(header.tlvs.get(kind::ALPN), Some(&b"h2"[..]));
}

#[tokio::test]
async fn what_cannot_be_said_is_an_error_before_anything_is_sent() {
    let of = info(Some("192.0.2.1:1"), Some("192.0.2.2:2"));
    let failing = sending(&options(|_| {}))
        .unwrap()
        .tlvs(|_, _| Err(HeaderError::Tlv));
    let nobody: Target = "127.0.0.1:1".parse().unwrap();
    let error = Offramp::open(&failing, &nobody, &of).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Malformed, Side::Local)
    );
    assert_eq!(error.retryable(), oxy_core::Retry::Safe);

    let datagrams: Target = "udp://127.0.0.1:9".parse().unwrap();
    let plain = sending(&options(|_| {})).unwrap();
    let error = Offramp::open(&plain, &datagrams, &of).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_drain_cuts_who_has_not_said_its_header() {
    let (hooks, saw, _) = watch();
    let running = oxy_core::Server::new()
        .workers(1)
        .drain_timeout(Duration::from_millis(200))
        .with(
            Proxy::new(hooks)
                .listen_on(listener("127.0.0.1:0"))
                .to(echo()),
        )
        .start()
        .unwrap();
    let mut silent = connect(address(&running));
    eventually("it is in the books", || open_flows(&running) == 1);
    let drain: Drain = running.drain().clone();
    running.remove("main").unwrap();
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
    eventually("it is out of the books", || open_flows(&running) == 0);
    assert!(drain.is_serving() && saw.try_recv().is_err());
    running.stop().unwrap();
}
