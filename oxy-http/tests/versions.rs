//! Every version of HTTP in front of every other: what goes in on one side comes out on the other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "origins and clients of the tests' own"
)]

mod support;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::ext::Protocol as Extended;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use oxy_core::{Proxy, Running, Target};
use oxy_http::{Http, HttpOptions, HttpProxy, Protocol};
use support::{Origin, PATIENCE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an HTTP/2 origin does with each request.
type Serve = Arc<dyn Fn(Request<RecvStream>, SendResponse<Bytes>) + Send + Sync>;

/// An origin that speaks HTTP/2 with prior knowledge.
struct Far {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Far {
    fn new(
        serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + Send + Sync + 'static,
    ) -> Self {
        Self::with(|_| {}, serve)
    }

    fn with(
        build: impl Fn(&mut h2::server::Builder) + Send + Sync + 'static,
        serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        let serve: Serve = Arc::new(serve);
        runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, SeqCst);
                let serve = serve.clone();
                let mut builder = h2::server::Builder::new();
                builder.enable_connect_protocol();
                build(&mut builder);
                tokio::spawn(async move {
                    let Ok(mut connection) = builder.handshake(socket).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        serve(request, respond);
                    }
                });
            }
        });
        Self {
            address,
            accepted,
            _runtime: runtime,
        }
    }

    /// Answers with what it was asked: method, path, fields, and then the body and trailers as they come.
    fn echo() -> Self {
        Self::new(|request, mut respond| {
            tokio::spawn(async move {
                let (parts, mut body) = request.into_parts();
                let mut response = Response::builder();
                for (name, value) in &parts.headers {
                    response = response.header(format!("got-{name}"), value);
                }
                let target = format!("{} {}", parts.method, parts.uri);
                let response = response.header("got", target).body(()).unwrap();
                let mut send = respond.send_response(response, false).unwrap();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    write(&mut send, data).await;
                }
                match body.trailers().await {
                    Ok(Some(trailers)) => send.send_trailers(trailers).unwrap(),
                    _ => send.send_data(Bytes::new(), true).unwrap(),
                }
            });
        })
    }
}

/// Sends all of `data` as the windows allow; false if the stream is gone.
async fn write(send: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else {
            return false;
        };
        let part = data.split_to(room.min(data.len()));
        if send.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}

async fn read(body: &mut RecvStream) -> (Bytes, Option<HeaderMap>) {
    let mut all = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all.freeze(), body.trailers().await.unwrap())
}

/// A client that speaks HTTP/2 with prior knowledge.
async fn near(proxy: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let mut builder = h2::client::Builder::new();
    // One stream that is not read must not take the window of all.
    builder.initial_connection_window_size(1 << 20);
    let (send, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    // What the server allows is known once it has answered something.
    let ask = Request::builder().method("OPTIONS").uri("http://a/settle");
    let (answer, _) = send.send_request(ask.body(()).unwrap(), true).unwrap();
    let _ = answer.await;
    send.ready().await.unwrap()
}

fn proxy(origin: SocketAddr, protocol: Protocol) -> (Running, SocketAddr) {
    proxy_with(origin, protocol, HttpOptions::default())
}

fn proxy_with(
    origin: SocketAddr,
    protocol: Protocol,
    options: HttpOptions,
) -> (Running, SocketAddr) {
    let origin = oxy_http::proxy::Origin {
        target: Target::from(origin),
        protocol,
    };
    let http = Http::new(()).to(origin).options(options);
    let running = Proxy::new(())
        .listen("127.0.0.1:0")
        .workers(1)
        .http(http)
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    (running, address)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
}

#[test]
fn requests_cross_every_pair_of_versions() {
    let h1 = Origin::echo();
    let far = Far::echo();
    for (origin, protocol) in [
        (h1.address(), Protocol::Http1),
        (far.address, Protocol::Http2),
    ] {
        let (running, address) = proxy(origin, protocol);
        run(async {
            let mut client = near(address).await;
            let request = Request::builder()
                .method("POST")
                .uri("http://example.com/a?b")
                .header("x-one", "1")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .header("te", "trailers")
                .body(())
                .unwrap();
            let (response, mut send) = client.send_request(request, false).unwrap();
            write(&mut send, Bytes::from(vec![b'x'; 300_000])).await;
            send.send_data(Bytes::new(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let (parts, mut body) = response.into_parts();
            let (all, _) = read(&mut body).await;
            if protocol == Protocol::Http2 {
                assert_eq!(parts.headers["got"], "POST http://example.com/a?b");
                assert_eq!(parts.headers["got-x-one"], "1");
                assert_eq!(parts.headers["got-cookie"], "a=1; b=2");
                assert_eq!(parts.headers["got-te"], "trailers");
                assert!(parts.headers.get("got-connection").is_none());
                assert!(
                    parts.headers["got-via"]
                        .to_str()
                        .unwrap()
                        .starts_with("2 oxy")
                );
                assert_eq!(all.len(), 300_000);
            } else {
                let text = String::from_utf8_lossy(&all[..all.len() - 300_000]);
                assert!(
                    text.starts_with("POST /a?b HTTP/1.1\r\nHost: example.com\r\n"),
                    "{text}"
                );
                assert!(text.contains("cookie: a=1; b=2\r\n"), "{text}");
                assert!(text.contains("Transfer-Encoding: chunked"), "{text}");
            }
        });
        // And by HTTP/1.1 on the same port.
        let mut client = support::Peer::connect(address);
        client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status(), 200);
        if protocol == Protocol::Http2 {
            assert_eq!(response.text(), "abc");
            assert_eq!(response.field("got").as_deref(), Some("POST http://a/c"));
            assert_eq!(response.trailers, [("x-sum".to_owned(), "6".to_owned())]);
        }
        running.stop().unwrap();
    }
    h1.finish();
}

#[test]
fn interim_responses_and_expectations_cross() {
    let far = Far::new(|request, mut respond| {
        tokio::spawn(async move {
            let mut early = Response::new(());
            *early.status_mut() = StatusCode::EARLY_HINTS;
            early.headers_mut().insert("link", "</a>".parse().unwrap());
            respond.send_informational(early).unwrap();
            if request.headers().contains_key("expect") {
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                respond.send_informational(go_on).unwrap();
            }
            let mut body = request.into_body();
            let (all, _) = read(&mut body).await;
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(all, true).unwrap();
        });
    });
    let (running, address) = proxy(far.address, Protocol::Http2);
    let mut client = support::Peer::connect(address);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let hints = client.response();
    assert_eq!(
        (hints.status(), hints.field("link").as_deref()),
        (103, Some("</a>"))
    );
    assert_eq!(client.response().status(), 100);
    client.send("hello");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (200, "hello"));
    run(async {
        let mut client = near(address).await;
        let request = Request::put("http://a/").header("expect", "100-continue");
        let (mut response, mut send) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let mut seen = Vec::new();
        while seen.last() != Some(&100) {
            let interim = poll_fn(|cx| response.poll_informational(cx)).await;
            seen.push(interim.unwrap().unwrap().status().as_u16());
        }
        assert_eq!(seen, [103, 100]);
        send.send_data("hello".into(), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(read(&mut body).await.0, "hello");
    });
    running.stop().unwrap();
}

/// Speaks for an origin after it has changed protocols: sends back what comes.
async fn echo_tunnel(mut recv: RecvStream, mut send: SendStream<Bytes>) {
    while let Some(Ok(data)) = recv.data().await {
        recv.flow_control().release_capacity(data.len()).unwrap();
        write(&mut send, data).await;
    }
    let _ = send.send_data(Bytes::new(), true);
}

fn websocket_far() -> Far {
    Far::new(|request, mut respond| {
        let protocol = request.extensions().get::<Extended>().cloned();
        tokio::spawn(async move {
            if request.uri().path() == "/settle" {
                respond.send_response(Response::new(()), true).unwrap();
                return;
            }
            assert_eq!(request.method(), Method::CONNECT);
            assert_eq!(protocol.unwrap().as_str(), "websocket");
            assert_eq!(request.uri(), "http://a/chat");
            assert_eq!(request.headers()["sec-websocket-version"], "13");
            assert!(!request.headers().contains_key("sec-websocket-key"));
            assert!(!request.headers().contains_key("upgrade"));
            let response = Response::builder()
                .header("sec-websocket-protocol", "chat")
                .body(())
                .unwrap();
            let send = respond.send_response(response, false).unwrap();
            echo_tunnel(request.into_body(), send).await;
        });
    })
}

fn websocket_origin() -> Origin {
    Origin::each(|peer| {
        while let Ok(request) = peer.request() {
            if request.start.starts_with("OPTIONS") {
                peer.send("HTTP/1.1 204 No Content\r\n\r\n");
                continue;
            }
            assert_eq!(request.start, "GET /chat HTTP/1.1");
            assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
            assert_eq!(
                request.field("sec-websocket-version").as_deref(),
                Some("13")
            );
            assert_eq!(request.field("sec-websocket-key").unwrap().len(), 24);
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
            );
            let hello = peer.read(5);
            peer.send(hello);
            peer.finish_sending();
            peer.end();
            return;
        }
    })
}

#[test]
fn websockets_cross_every_pair_of_versions() {
    let h1 = websocket_origin();
    let far = websocket_far();
    for (origin, protocol) in [
        (h1.address(), Protocol::Http1),
        (far.address, Protocol::Http2),
    ] {
        let (running, address) = proxy(origin, protocol);
        // RFC 6455 section 1.3.
        let mut client = support::Peer::connect(address);
        client.send(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.status(), 101, "{response:?}");
        let accept = response.field("sec-websocket-accept");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(response.field("upgrade").as_deref(), Some("websocket"));
        assert_eq!(
            response.field("sec-websocket-protocol").as_deref(),
            Some("chat")
        );
        client.send("hello");
        assert_eq!(client.read(5), b"hello");
        client.finish_sending();
        assert_eq!(client.end(), support::End::Closed);
        // RFC 8441 section 5.1.
        run(async {
            let mut client = near(address).await;
            assert!(client.is_extended_connect_protocol_enabled());
            let request = Request::builder()
                .method("CONNECT")
                .uri("http://a/chat")
                .extension(Extended::from_static("websocket"))
                .header("sec-websocket-version", "13")
                .body(())
                .unwrap();
            let (response, mut send) = client.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
            assert!(!response.headers().contains_key("sec-websocket-accept"));
            let mut body = response.into_body();
            send.send_data("hello".into(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), "hello");
            send.send_data(Bytes::new(), true).unwrap();
            assert_eq!(read(&mut body).await.0, "");
        });
        running.stop().unwrap();
    }
    h1.finish();
}

#[test]
fn connect_over_http2_is_a_tunnel() {
    let echo = Origin::once(|mut peer| {
        let hello = peer.read(5);
        peer.send(hello);
        peer.finish_sending();
        peer.end();
    });
    let running = Proxy::new(())
        .listen("127.0.0.1:0")
        .workers(1)
        .http(Http::new(()).forward())
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    run(async {
        let socket = TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let mut client = send.ready().await.unwrap();
        let request = Request::builder()
            .method("CONNECT")
            .uri(echo.address().to_string());
        let (response, mut send) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        send.send_data("hello".into(), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        body.flow_control().release_capacity(5).unwrap();
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(&mut body).await.0, "");
    });
    running.stop().unwrap();
    echo.finish();
}

#[test]
fn what_an_origin_refused_unread_is_sent_again() {
    let seen = AtomicUsize::new(0);
    let far = Far::new(move |request, mut respond| {
        // Even a POST: the origin says that it has done nothing (RFC 9113 section 8.7).
        if request.method() == Method::POST && seen.fetch_add(1, SeqCst) == 0 {
            respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    let (running, address) = proxy(far.address, Protocol::Http2);
    let mut client = support::Peer::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    running.stop().unwrap();
}

/// RFC 9113 section 6.8: an origin that takes no more requests on a connection ignores those that it has been sent.
#[test]
fn a_body_is_sent_again_where_the_origin_did_not_look_at_it() {
    for (size, wanted) in [(1, 200), (5000, 200), (16 * 1024, 200), (100_000, 502)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let far = Far::new(move |request, mut respond| {
            let turn = seen.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let (all, _) = read(&mut request.into_body()).await;
                if turn == 0 {
                    // Only now, when nothing of it is left at the proxy's side.
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    let mut send = respond.send_response(Response::new(()), false).unwrap();
                    write(&mut send, all).await;
                    send.send_data(Bytes::new(), true).unwrap();
                }
            });
        });
        let (running, address) = proxy(far.address, Protocol::Http2);
        let body: Vec<u8> = (0..=250).cycle().take(size).collect();
        let head = |framing: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        let mut client = support::Peer::connect(address);
        client.send(head(&format!("Content-Length: {size}")));
        // In pieces, of which each comes alone.
        for piece in body.chunks(4000) {
            client.send(piece);
        }
        let response = client.response();
        assert_eq!(response.status(), wanted, "{size}");
        if wanted == 200 {
            assert_eq!(response.body, body, "{size}");
        }
        running.stop().unwrap();
    }
}

#[test]
fn exchanges_share_connections_up_to_what_the_origin_takes() {
    let (most, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let watched = (most.clone(), open);
    let far = Far::with(
        |builder| {
            builder.max_concurrent_streams(5);
        },
        move |_, mut respond| {
            let (most, open) = watched.clone();
            most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                open.fetch_sub(1, SeqCst);
                respond.send_response(Response::new(()), true).unwrap();
            });
        },
    );
    let mut options = HttpOptions::default();
    options.http2.max_connections = 2;
    let (running, address) = proxy_with(far.address, Protocol::Http2, options);
    run(async {
        let client = near(address).await;
        let asking = (0..60).map(|n| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let request = Request::get(format!("http://a/{n}")).body(()).unwrap();
                let (response, _) = client.send_request(request, true).unwrap();
                response.await.unwrap().status()
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            assert_eq!(asked.await.unwrap(), 200);
        }
    });
    assert!(far.accepted.load(SeqCst) <= 2, "{:?}", far.accepted);
    assert!(most.load(SeqCst) <= 10, "{most:?}");
    running.stop().unwrap();
}

#[test]
fn a_drain_says_goodbye_and_answers_what_came_before() {
    let far = Far::new(|_, mut respond| {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            respond.send_response(Response::new(()), true).unwrap();
        });
    });
    let (running, address) = proxy(far.address, Protocol::Http2);
    run(async {
        let mut client = near(address).await;
        let request = || Request::get("http://a/").body(()).unwrap();
        let (answer, _) = client.send_request(request(), true).unwrap();
        // It is at the proxy once another one behind it has been answered.
        let stopping = std::thread::spawn(move || running.stop());
        assert_eq!(answer.await.unwrap().status(), 200);
        let refused = async {
            loop {
                client = client.ready().await?;
                client.send_request(request(), true)?.0.await?;
            }
        };
        let error: Result<(), h2::Error> = refused.await;
        assert!(error.unwrap_err().is_go_away());
        tokio::task::spawn_blocking(|| stopping.join().unwrap())
            .await
            .unwrap()
            .unwrap();
    });
}

#[test]
fn a_slow_reader_stops_the_other_side_and_no_other_stream() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let far = Far::new(move |request, mut respond| {
        let sent = counted.clone();
        tokio::spawn(async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            if request.uri().path() != "/endless" {
                send.send_data("quick".into(), true).unwrap();
                return;
            }
            while write(&mut send, Bytes::from_static(&[0; 16 * 1024])).await {
                sent.fetch_add(16 * 1024, SeqCst);
            }
        });
    });
    let (running, address) = proxy(far.address, Protocol::Http2);
    run(async {
        let mut client = near(address).await;
        let request = |path: &str| Request::get(format!("http://a{path}")).body(()).unwrap();
        let (endless, _) = client.send_request(request("/endless"), true).unwrap();
        // Held, and not read.
        let endless = endless.await.unwrap();
        let mut last = usize::MAX;
        while sent.load(SeqCst) != last {
            last = sent.load(SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // The client's window, ours, what either end keeps on the way.
        assert!(last < 2 * 1024 * 1024, "{last}");
        for _ in 0..100 {
            client = client.ready().await.unwrap();
            let (quick, _) = client.send_request(request("/"), true).unwrap();
            let mut body = quick.await.unwrap().into_body();
            assert_eq!(read(&mut body).await.0, "quick");
        }
        drop(endless);
    });
    assert!(
        eventually(|| running.workers()[0].open_flows() == 0),
        "{:?}",
        running.workers()[0].flows()
    );
    running.stop().unwrap();
}

#[test]
fn a_client_that_gives_up_is_given_up_for() {
    let gone = Arc::new(AtomicUsize::new(0));
    let counted = gone.clone();
    let far = Far::new(move |request, mut respond| {
        let gone = counted.clone();
        tokio::spawn(async move {
            if request.uri().path() == "/settle" {
                respond.send_response(Response::new(()), true).unwrap();
                return;
            }
            let reset = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            assert_eq!(reset, Reason::CANCEL);
            gone.fetch_add(1, SeqCst);
        });
    });
    let (running, address) = proxy(far.address, Protocol::Http2);
    run(async {
        let mut client = near(address).await;
        let request = Request::post("http://a/").body(()).unwrap();
        let (answer, mut send) = client.send_request(request, false).unwrap();
        send.send_data("some".into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        send.send_reset(Reason::CANCEL);
        drop((answer, send));
        while gone.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    running.stop().unwrap();
}

#[test]
fn prior_knowledge_is_told_from_requests_at_every_split() {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let (running, address) = proxy(origin.address(), Protocol::Http1);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for cut in 1..preface.len() {
        run(async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            socket.write_all(&preface[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            socket.write_all(&preface[cut..]).await.unwrap();
            // Its settings come in a frame of type 4.
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            assert_eq!(head[3..5], [4, 0]);
        });
    }
    assert!(eventually(|| running.workers()[0].open_flows() == 0));
    running.stop().unwrap();
}
