//! TLS in a whole proxy: lifted by default, looked at first, passed on, refused; with HTTP inside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/sni_callback.rs"]
mod sni_callback;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use oxy_core::sniff::Sniffed;
use oxy_core::{
    Ended, Error, ErrorKind, Flow, FlowHooks, FlowInfo, Layer, Proxy, Result, Running, Side,
    Summary, Verdict,
};
use oxy_http::{Http, HttpProxy};
use oxy_tls::{Outcome, ProxyTls, TlsServer};
use support::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server that says what it hears.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = socket.read(&mut buffer) {
                    socket.write_all(&buffer[..n]).unwrap();
                }
            });
        }
    });
    address
}

/// A server that answers each request with the same.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut got = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = socket.read(&mut buffer) {
                    got.extend_from_slice(&buffer[..n]);
                    if got.ends_with(b"\r\n\r\n") {
                        got.clear();
                        socket
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                            .unwrap();
                    }
                }
            });
        }
    });
    address
}

type Ends = mpsc::Receiver<(Layer, Ended, Option<String>)>;

/// Decides by the name in the `ClientHello`, and keeps books.
struct Books(
    Mutex<mpsc::Sender<(Layer, Ended, Option<String>)>>,
    SocketAddr,
);

impl FlowHooks for Books {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), flow: &mut Flow) -> Result<Verdict> {
        if flow.info.layer == Layer::Tls {
            assert_eq!(flow.info.tls().unwrap().version, 0x0304);
            assert!(flow.info.client_hello().unwrap().ja4().starts_with("t13"));
            return Ok(Verdict::Continue);
        }
        if let Sniffed::Tls(hello) = flow.sniff(Duration::from_secs(5)).await? {
            return Ok(match hello.server_name.as_deref() {
                Some("pass.test") => Verdict::Route(self.1.into()),
                Some("refuse.test") => Verdict::Refuse(Error::down(ErrorKind::Denied)),
                Some("lift.test") => Verdict::Decapsulate(Layer::Tls),
                _ => Verdict::Continue,
            });
        }
        Ok(Verdict::Continue)
    }

    fn on_close(&self, (): &(), summary: &Summary) {
        let name = summary
            .info
            .tls()
            .and_then(|tls| tls.server_name.as_deref());
        let _ =
            self.0
                .lock()
                .unwrap()
                .send((summary.info.layer, summary.ended, name.map(Into::into)));
    }
}

fn books(pass: SocketAddr) -> (Books, Ends) {
    let (sender, ends) = mpsc::channel();
    (Books(Mutex::new(sender), pass), ends)
}

fn next(ends: &Ends) -> (Layer, Ended, Option<String>) {
    ends.recv_timeout(Duration::from_secs(5)).unwrap()
}

fn address(running: &Running) -> SocketAddr {
    running.addresses()[0].1.socket_addr().unwrap()
}

fn world() -> World {
    World::with(
        |options, _, _| options.certificates[0].names = vec!["localhost".into()],
        |options, _, _| options.insecure_skip_verify = true,
    )
}

async fn connect(world: &World, to: SocketAddr, host: &str) -> Result<oxy_core::StreamIo> {
    let socket = TcpStream::connect(to).await.unwrap();
    let host = host.parse().unwrap();
    Ok(world.client.connect(socket.into(), &host).await?.0)
}

async fn ping(stream: &mut oxy_core::StreamIo) {
    let mut got = [0; 4];
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
}

#[tokio::test]
async fn a_stream_is_lifted_and_its_plaintext_relayed() {
    let world = world();
    let (hooks, ends) = books(echo());
    let running = Proxy::new(hooks)
        .listen("127.0.0.1:0")
        .tls(world.server.clone())
        .to(echo())
        .workers(1)
        .start()
        .unwrap();
    for host in ["localhost", "lift.test"] {
        let mut stream = connect(&world, address(&running), host).await.unwrap();
        ping(&mut stream).await;
        let flows = running.workers()[0].flows();
        let layers: Vec<_> = flows.iter().map(|flow| flow.layer).collect();
        assert_eq!(layers, [Layer::Tcp, Layer::Tls]);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        // The child closes first, and the parent ends as it did.
        assert_eq!(next(&ends), (Layer::Tls, Ended::Done, Some(host.into())));
        assert_eq!(next(&ends), (Layer::Tcp, Ended::Done, None));
    }
    let error = connect(&world, address(&running), "refuse.test")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let denied = Ended::Failed(ErrorKind::Denied, Side::Down);
    assert_eq!(next(&ends), (Layer::Tcp, denied, None));
    // A handshake that fails is the stream's end; there is no child.
    let mut socket = TcpStream::connect(address(&running)).await.unwrap();
    socket.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), 21, "an alert");
    let failed = Ended::Failed(ErrorKind::Tls, Side::Down);
    assert_eq!(next(&ends), (Layer::Tcp, failed, None));
    assert!(ends.try_recv().is_err());
}

#[tokio::test]
async fn a_stream_can_be_passed_on_as_it_came() {
    let (inner, outer) = (world(), world());
    let behind = Proxy::new(())
        .listen("127.0.0.1:0")
        .tls(inner.server.clone())
        .to(echo())
        .workers(1)
        .start()
        .unwrap();
    let (hooks, ends) = books(address(&behind));
    let running = Proxy::new(hooks)
        .listen("127.0.0.1:0")
        .tls(outer.server.clone())
        .to(echo())
        .workers(1)
        .start()
        .unwrap();
    let mut stream = connect(&outer, address(&running), "pass.test")
        .await
        .unwrap();
    ping(&mut stream).await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(next(&ends), (Layer::Tcp, Ended::Done, None));
    assert_eq!(outer.server.stats().count(Outcome::Full), 0);
    assert_eq!(inner.server.stats().count(Outcome::Full), 1);
}

#[tokio::test]
async fn http_is_served_inside_tls_and_kept_alive() {
    let world = world();
    let (hooks, ends) = books(echo());
    let running = Proxy::new(hooks)
        .listen("127.0.0.1:0")
        .tls(world.server.clone())
        .http(Http::new(()).to(origin()))
        .workers(1)
        .start()
        .unwrap();
    let mut stream = connect(&world, address(&running), "localhost")
        .await
        .unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"hello") {
            let mut buffer = [0; 1000];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "{:?}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..n]);
        }
        assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "an orderly end");
    assert_eq!(
        next(&ends),
        (Layer::Tls, Ended::Done, Some("localhost".into()))
    );
    assert_eq!(next(&ends), (Layer::Tcp, Ended::Done, None));
}

#[tokio::test]
async fn the_example_chooses_by_name() {
    let world = world();
    let mint = oxy_tls::Mint::new().unwrap();
    let tls = TlsServer::with_resolver(oxy_tls::ServerOptions::default(), move |hello| {
        sni_callback::choose(&mint, hello)
    })
    .unwrap();
    let running = Proxy::new(())
        .listen("127.0.0.1:0")
        .tls(tls)
        .to(echo())
        .workers(1)
        .start()
        .unwrap();
    let mut stream = connect(&world, address(&running), "a.example.com")
        .await
        .unwrap();
    ping(&mut stream).await;
    let error = connect(&world, address(&running), "example.org")
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("UnrecognisedName"),
        "{error:?}"
    );
}
