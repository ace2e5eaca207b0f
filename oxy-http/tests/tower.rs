//! Services answer requests, over HTTP/1.1 and HTTP/2.
#![cfg(feature = "tower")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};

use axum::body::Body as AxumBody;
use axum::extract::{Extension, Path, Request};
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::Full;
use oxy_core::{ErrorKind, FlowInfo, Result, Side};
use oxy_http::tower::Answer;
use oxy_http::{At, HttpHooks, Req, Route};
use support::{Bench, End, Origin};
use tower_service::Service;

fn app() -> Router {
    Router::new()
        .route(
            "/hello/{name}",
            get(async |Path(name): Path<String>| format!("hello, {name}")),
        )
        .route("/peer", get(peer))
        .route("/echo", post(async |req: Request| req.into_body()))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/ignored", post(async || StatusCode::ACCEPTED))
}

async fn peer(Extension(info): Extension<Arc<FlowInfo>>) -> String {
    info.peer.unwrap().ip().to_string()
}

#[test]
fn a_router_answers_over_http1() {
    let bench = Bench::alone().hooks(Answer(app()));
    let mut client = bench.client();
    for (request, status, body) in [
        (
            "GET /hello/you HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
            "hello, you",
        ),
        ("GET /peer HTTP/1.1\r\nHost: a\r\n\r\n", 200, "127.0.0.1"),
        ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, ""),
        ("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", 405, ""),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nagain",
            200,
            "again",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naga\r\n2\r\nin\r\n0\r\n\r\n",
            200,
            "again",
        ),
        (
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nagain",
            200,
            "5",
        ),
        (
            "POST /ignored HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nagain",
            202,
            "",
        ),
    ] {
        client.send(request);
        let response = client.response();
        assert_eq!(
            (response.status(), response.text()),
            (status, body),
            "{request}"
        );
    }
    // RFC 9110 section 9.3.2: HEAD is GET without the body, also where the router made one.
    client.send("HEAD /hello/you HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert_eq!(head.field("content-length").as_deref(), Some("10"));
    client.send("GET /hello/you HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "hello, you");
    drop(client);
    let finished = bench.finish();
    assert_eq!(finished[4].received, 5);
    assert!(finished.iter().all(|it| it.error.is_none()), "{finished:?}");
}

/// What comes in goes out before more comes in.
#[test]
fn bodies_are_streamed_both_ways() {
    let bench = Bench::alone().hooks(Answer(app()));
    let mut client = bench.client();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for turn in 0..3 {
        client.send(format!("1\r\n{turn}\r\n"));
        if turn == 0 {
            assert_eq!(client.head().unwrap().status(), 200);
        }
        assert_eq!(client.read(6), format!("1\r\n{turn}\r\n").into_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read(5), b"0\r\n\r\n");
    // Who waits to be told to go on is told before the answer's head, or not at all.
    for (path, interim, answer) in [("length", true, "5"), ("ignored", false, "")] {
        client.send(format!(
            "POST /{path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        ));
        if interim {
            assert_eq!(client.raw_head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
            client.send("again");
        }
        assert_eq!(client.response().text(), answer);
    }
    drop(client);
    bench.finish();
}

/// A body that says something before it reads another one.
struct Hasty(bool, AxumBody);

impl http_body::Body for Hasty {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if std::mem::replace(&mut self.0, true) {
            return Pin::new(&mut self.1).poll_frame(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"wait")))))
    }
}

/// RFC 9110 section 10.1.1: who waits to be told to go on is told before the answer begins, or not at all.
#[test]
fn an_interim_response_never_comes_after_the_final_one() {
    let hasty = async |req: Request| AxumBody::new(Hasty(false, req.into_body()));
    let app = app().route("/hasty", post(hasty));
    let bench = Bench::alone().hooks(Answer(app));
    let fields = "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut client = bench.client();
    client.send(format!("POST /echo {fields}"));
    assert_eq!(client.raw_head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("again");
    assert_eq!(client.response().text(), "again");
    client.send(format!("POST /hasty {fields}"));
    assert_eq!(client.head().unwrap().status(), 200);
    assert_eq!(client.read(9), b"4\r\nwait\r\n");
    client.send("again");
    assert_eq!(client.read(15), b"5\r\nagain\r\n0\r\n\r\n");
    drop(client);
    bench.finish();
}

#[test]
fn a_router_answers_over_http2() {
    let bench = Bench::alone().hooks(Answer(app()));
    let address = bench.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let ask = async |method: &str, path: &str, body: &'static [&'static str]| {
            let request = http::Request::builder()
                .method(method)
                .uri(format!("http://a{path}"))
                .body(())
                .unwrap();
            let mut send = send.clone().ready().await.unwrap();
            let (response, mut upload) = send.send_request(request, body.is_empty()).unwrap();
            let mut read = Vec::new();
            let mut response = Some(response);
            let mut answer: Option<h2::RecvStream> = None;
            let mut status = StatusCode::OK;
            for (turn, piece) in body.iter().enumerate() {
                let last = turn + 1 == body.len();
                upload
                    .send_data(Bytes::from_static(piece.as_bytes()), last)
                    .unwrap();
                if path == "/echo" {
                    if let Some(response) = response.take() {
                        answer = Some(response.await.unwrap().into_body());
                    }
                    // It comes back before more is sent.
                    let data = answer.as_mut().unwrap().data().await.unwrap().unwrap();
                    assert_eq!(data, piece.as_bytes());
                    read.extend_from_slice(&data);
                }
            }
            if let Some(response) = response.take() {
                let response = response.await.unwrap();
                status = response.status();
                answer = Some(response.into_body());
            }
            while let Some(data) = answer.as_mut().unwrap().data().await {
                read.extend_from_slice(&data.unwrap());
            }
            (status.as_u16(), String::from_utf8(read).unwrap())
        };
        assert_eq!(
            ask("GET", "/hello/you", &[]).await,
            (200, "hello, you".into())
        );
        assert_eq!(ask("GET", "/nothing", &[]).await, (404, String::new()));
        assert_eq!(
            ask("POST", "/echo", &["a", "ga", "in"]).await,
            (200, "again".into())
        );
        assert_eq!(
            ask("POST", "/length", &["aga", "in"]).await,
            (200, "5".into())
        );
        drop(send);
        connection.await.unwrap().unwrap();
    });
    drop(runtime);
    bench.finish();
}

#[test]
fn nor_does_it_over_http2() {
    let hasty = async |req: Request| AxumBody::new(Hasty(false, req.into_body()));
    let bench = Bench::alone().hooks(Answer(Router::new().route("/", post(hasty))));
    let address = bench.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::post("http://a/")
            .header("expect", "100-continue")
            .body(())
            .unwrap();
        let mut send = send.ready().await.unwrap();
        let (response, mut upload) = send.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "wait");
        upload.send_data("again".into(), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "again");
        // The end may come as a frame of its own.
        while let Some(data) = body.data().await {
            assert_eq!(data.unwrap(), "");
        }
        drop((send, body, upload));
        connection.await.unwrap().unwrap();
    });
    drop(runtime);
    bench.finish();
}

/// A service that is ready at the second time of asking, fails when it is told to, and must not be called before.
struct Fickle {
    asked: usize,
    calls: Arc<AtomicUsize>,
}

impl Clone for Fickle {
    fn clone(&self) -> Self {
        Self {
            asked: 0,
            calls: self.calls.clone(),
        }
    }
}

impl<B> Service<http::Request<B>> for Fickle {
    type Response = Response<Full<Bytes>>;
    type Error = String;
    type Future = Ready<Result<Self::Response, String>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.asked += 1;
        if self.asked == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.calls.load(SeqCst) == 2 {
            return Poll::Ready(Err("no longer".into()));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<B>) -> Self::Future {
        assert_eq!(self.asked, 2, "called before it was ready");
        ready(match self.calls.fetch_add(1, SeqCst) {
            0 => Ok(Response::new("well".into())),
            _ => Err("ill".into()),
        })
    }
}

#[test]
fn errors_are_answered_with_500() {
    let calls = Arc::new(AtomicUsize::new(0));
    let bench = Bench::alone().hooks(Answer(Fickle { asked: 0, calls }));
    let mut client = bench.client();
    for (status, body) in [
        (200, "well"),
        (500, "500 Internal Server Error\n"),
        (500, "500 Internal Server Error\n"),
    ] {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status(), response.text()), (status, body));
    }
    drop(client);
    let finished = bench.finish();
    let errors: Vec<_> = finished.iter().map(|it| it.error).collect();
    let own = Some((ErrorKind::Internal, Side::Local));
    assert_eq!(errors, [None, own, own]);
}

/// A body that fails half-way.
struct Broken(usize);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0 += 1;
        Poll::Ready(Some(match self.0 {
            1 => Ok(Frame::data(Bytes::from_static(b"half"))),
            _ => Err("broken"),
        }))
    }
}

#[test]
fn a_body_that_breaks_off_is_not_taken_for_whole() {
    let app = Router::new().route("/", get(async || AxumBody::new(Broken(0))));
    let bench = Bench::alone().hooks(Answer(app));
    let mut client = bench.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (text, end) = client.rest_text();
    assert!(!text.contains("0\r\n\r\n"), "{text}");
    assert_ne!(end, End::Open);
    drop(client);
    let error = bench.finish()[0].error;
    assert_eq!(error, Some((ErrorKind::Internal, Side::Local)));
}

/// A client that leaves has its request's future dropped.
#[test]
fn a_service_is_dropped_with_its_client() {
    struct Told(mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (send, told) = mpsc::channel();
    let entered = Arc::new(AtomicUsize::new(0));
    let inside = entered.clone();
    let app = Router::new().route(
        "/",
        get(async move || {
            let _told = Told(send);
            inside.fetch_add(1, SeqCst);
            std::future::pending::<()>().await;
        }),
    );
    let bench = Bench::alone().hooks(Answer(app));
    let client = bench.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(support::eventually(|| entered.load(SeqCst) == 1));
    client.reset();
    told.recv_timeout(support::PATIENCE).unwrap();
    bench.finish();
}

/// Hooks that leave only some requests to a service.
struct Hello(Answer<Router>);

impl HttpHooks for Hello {
    type Cx = ();

    async fn on_request(&self, at: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        if req.uri().path().starts_with("/hello/") {
            return self.0.answer(at.info, req).await;
        }
        Ok(Route::Table)
    }
}

#[test]
fn hooks_may_leave_some_requests_to_a_service() {
    let origin = || Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin");
    let bench = Bench::before(origin).hooks(Hello(Answer(app())));
    for (path, expected) in [("/hello/you", "hello, you"), ("/other", "origin")] {
        let response = bench.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.text(), expected);
    }
    bench.finish_with_pool();
}
