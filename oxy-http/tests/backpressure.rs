//! What is on its way through the proxy is bounded, and waits for whoever is slow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use oxy_core::{Error, Result};
use oxy_http::{At, Body, HttpHooks, Req, Res, Route};
use support::{Bench, Origin, PATIENCE, Peer};

const TOTAL: usize = 64 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// More than the kernel keeps in the four buffers of two loopback connections (at most 6 MiB for reading, 4 MiB for
/// writing) and a pipe; much less than a proxy that keeps all would take.
const IN_FLIGHT: usize = 40 * 1024 * 1024;

/// Waits until `count` has not changed for a while, and gives it: its writer is stuck.
fn stuck(count: &AtomicUsize) -> usize {
    let start = Instant::now();
    let (mut last, mut since) = (usize::MAX, Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        let now = count.load(SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(start.elapsed() < PATIENCE, "it goes on and on");
        std::thread::sleep(Duration::from_millis(5));
    }
    last
}

fn read_all(peer: &mut Peer, mut left: usize) {
    while left > 0 {
        left -= peer.read(left.min(PIECE)).len();
    }
}

/// Passes a body on, piece by piece.
struct Passing(Body);

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

/// Looks at all bodies as they pass.
struct Through;

impl HttpHooks for Through {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        let body = req.body_mut().take();
        *req.body_mut() = Body::wrap(Passing(body));
        Ok(Route::Table)
    }

    async fn on_response(&self, _: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
        let body = res.body_mut().take();
        *res.body_mut() = Body::wrap(Passing(body));
        Ok(())
    }
}

/// Sends a body to a client that does not read for a while.
fn download<H: HttpHooks>(framing: &str, hooks: H) {
    let chunked = framing.starts_with("Transfer-Encoding");
    let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
    let sent = Arc::new(AtomicUsize::new(0));
    let setup = Bench::before({
        let sent = sent.clone();
        move || {
            Origin::each(move |peer| {
                peer.request().unwrap();
                peer.send(&head);
                let piece = vec![b'x'; PIECE];
                for _ in 0..TOTAL / PIECE {
                    if chunked {
                        peer.send(format!("{PIECE:x}\r\n"));
                    }
                    peer.send(&piece);
                    if chunked {
                        peer.send("\r\n");
                    }
                    sent.fetch_add(PIECE, SeqCst);
                }
                if chunked {
                    peer.send("0\r\n\r\n");
                }
            })
        }
    });
    let bench = setup.hooks(hooks);
    let mut client = bench.client();
    // For an HTTP/1.0 client the bytes are the body's own, whatever the framing was.
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.raw_head().unwrap();
    let in_flight = stuck(&sent);
    assert!(in_flight < IN_FLIGHT, "{framing}: {in_flight} bytes");
    read_all(&mut client, TOTAL);
    assert!(client.rest().0.is_empty(), "{framing}");
    drop(client);
    assert_eq!(bench.finish()[0].sent, TOTAL as u64);
}

#[test]
fn a_slow_client_slows_its_origin() {
    download(&format!("Content-Length: {TOTAL}"), ());
    download("X: until-close", ());
    download("Transfer-Encoding: chunked", ());
}

#[test]
fn a_slow_client_slows_an_application() {
    download(&format!("Content-Length: {TOTAL}"), Through);
    download("Transfer-Encoding: chunked", Through);
}

/// Sends a body to an origin that does not read for a while.
fn upload<H: HttpHooks>(hooks: H) {
    let (go, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let setup = Bench::before(|| {
        Origin::each(move |peer| {
            peer.head().unwrap();
            told.lock().unwrap().recv().unwrap();
            read_all(peer, TOTAL);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        })
    });
    let bench = setup.hooks(hooks);
    let mut client = bench.client();
    let sent = Arc::new(AtomicUsize::new(0));
    let writer = std::thread::spawn({
        let (sent, socket) = (sent.clone(), client.socket().clone());
        move || {
            use std::io::Write;
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n");
            (&*socket).write_all(head.as_bytes()).unwrap();
            let piece = vec![b'x'; PIECE];
            for _ in 0..TOTAL / PIECE {
                (&*socket).write_all(&piece).unwrap();
                sent.fetch_add(PIECE, SeqCst);
            }
        }
    });
    let in_flight = stuck(&sent);
    assert!(in_flight < IN_FLIGHT, "{in_flight} bytes");
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "ok");
    writer.join().unwrap();
    drop(client);
    bench.finish();
}

#[test]
fn a_slow_origin_slows_its_client() {
    upload(());
    upload(Through);
}

/// A response may begin before its request has ended; a client that first sends all and then reads all is well served.
#[test]
fn an_upload_goes_on_under_its_response() {
    const LENGTH: usize = 20 * 1024 * 1024;
    fn check<H: HttpHooks>(hooks: H) {
        let setup = Bench::before(|| {
            Origin::each(|peer| {
                while peer.head().is_ok() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nearly");
                    read_all(peer, LENGTH);
                    peer.send(" late");
                }
            })
        });
        let bench = setup.hooks(hooks);
        let mut client = bench.client();
        for _ in 0..2 {
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
            ));
            for _ in 0..LENGTH / PIECE {
                client.send(vec![b'x'; PIECE]);
            }
            assert_eq!(client.response().text(), "early late");
        }
        assert_eq!(bench.accepted(), 1);
        drop(client);
        bench.finish();
    }
    check(());
    check(Through);
}
