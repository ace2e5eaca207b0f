//! What an application can do with requests and responses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use oxy_core::{Error, ErrorKind, Result, Side, Target};
use oxy_http::{At, Body, HttpHooks, Req, Res, Route};
use support::{Bench, End, Origin, eventually};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers, refuses or fails, as the path says.
struct Doorman;

impl HttpHooks for Doorman {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        Ok(match req.uri().path() {
            "/answer" => {
                let mut response = Response::new(Body::from("made here"));
                *response.status_mut() = StatusCode::IM_A_TEAPOT;
                response.into()
            }
            "/interim" => Route::status(100),
            "/nonsense" => Route::status(99),
            "/refuse" => Route::Refuse(Error::down(ErrorKind::Denied)),
            "/fail" => return Err(Error::app("something of the application's")),
            _ => Route::Table,
        })
    }
}

#[test]
fn an_application_answers_and_refuses() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.hooks(Doorman);
    let mut client = bench.client();
    for (path, status, body) in [
        ("/answer", 418, "made here"),
        ("/refuse", 403, "403 Forbidden\n"),
        ("/fail", 500, "500 Internal Server Error\n"),
        ("/interim", 500, "100 Continue\n"),
        ("/nonsense", 500, "500 Internal Server Error\n"),
        ("/", 200, "ok"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.text()), (status, body));
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        ));
        assert_eq!(client.response().status(), status, "{path}");
        if path != "/" {
            // RFC 9110 section 9.3.2: whoever answers it.
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = client.head().unwrap();
            assert_eq!(head.status(), status);
            let length = body.len().to_string();
            assert_eq!(head.field("content-length"), Some(length));
        }
    }
    assert_eq!(bench.accepted(), 1);
    drop(client);
    let finished = bench.finish_with_pool();
    assert!(finished[0].error.is_none() && finished[0].upstream.is_none());
    assert_eq!(finished[3].error, Some((ErrorKind::Denied, Side::Down)));
    assert_eq!(finished[6].error, Some((ErrorKind::Internal, Side::Local)));
}

/// A body that nobody reads does not pile up, and does not turn into the next request.
#[test]
fn an_answer_to_a_body_that_nobody_reads() {
    let setup = Bench::before(|| Origin::answering(OK));
    let bench = setup.hooks(Doorman);
    let mut client = bench.client();
    client.send("POST /answer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.response().status(), 418);
    client.send(format!("{:x}\r\n{GET}\r\n0\r\n\r\n", GET.len()));
    client.send("GET /answer HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status(), 418);
    client.send("POST /answer HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(client.response().status(), 418);
    assert_ne!(client.end(), End::Open, "no use in reading all of that");
    assert_eq!(bench.accepted(), 0);
    drop(client);
    bench.finish();
}

/// Changes heads at every step.
struct Rewrite;

impl HttpHooks for Rewrite {
    type Cx = Option<String>;

    async fn on_request(&self, _: At<'_>, cx: &mut Self::Cx, req: &mut Req) -> Result<Route> {
        *cx = Some(req.uri().path().to_owned());
        req.headers_mut().remove("x-secret");
        req.headers_mut()
            .insert("x-added", HeaderValue::from_static("1"));
        *req.uri_mut() = "/rewritten?q".parse().unwrap();
        Ok(Route::Table)
    }

    async fn on_upstream(
        &self,
        _: At<'_>,
        _: &mut Self::Cx,
        target: &Target,
        req: &mut Req,
    ) -> Result<()> {
        let target = target.to_string().parse().unwrap();
        req.headers_mut().insert("x-target", target);
        Ok(())
    }

    async fn on_response(&self, _: At<'_>, cx: &mut Self::Cx, res: &mut Res) -> Result<()> {
        let path = cx.as_deref().unwrap_or_default().parse().unwrap();
        res.headers_mut().insert("x-path", path);
        res.headers_mut().remove("server");
        if res.status() == 200 {
            *res.status_mut() = StatusCode::ACCEPTED;
        }
        Ok(())
    }
}

#[test]
fn heads_are_rewritten() {
    let setup = Bench::before(Origin::echo);
    let origin = setup.origin();
    let bench = setup.hooks(Rewrite);
    let mut client = bench.client();
    for (body, framing) in [
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 5"),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked",
        ),
    ] {
        client.send(format!(
            "POST /old HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\n{body}"
        ));
        let response = client.response();
        assert_eq!(response.status(), 202);
        assert_eq!(response.field("x-path").as_deref(), Some("/old"));
        let text = response.text();
        assert!(text.starts_with("POST /rewritten?q HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("x-added: 1\r\n"), "{text}");
        assert!(text.contains(&format!("x-target: {origin}\r\n")), "{text}");
        assert!(!text.contains("ecret"), "{text}");
        assert!(text.contains(framing), "{text}");
        assert!(text.ends_with("\r\n\r\nhello"), "{text}");
    }
    drop(client);
    bench.finish_with_pool();
}

/// An upgrade survives an application that looks at the head and changes it.
#[test]
fn a_rewritten_upgrade() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            let request = peer.request().unwrap();
            assert_eq!(request.field("upgrade").as_deref(), Some("chat"));
            assert!(request.start.starts_with("GET /rewritten"));
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n",
            );
            let got = peer.read(5);
            peer.send(got);
        })
    });
    let bench = setup.hooks(Rewrite);
    let mut client = bench.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhello");
    assert_eq!(client.head().unwrap().status(), 101);
    assert_eq!(client.rest_text(), ("hello".into(), End::Closed));
    drop(client);
    bench.finish();
}

/// Says what it pleases about framing, and changes what framing depends on.
struct Liar;

impl HttpHooks for Liar {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        if req.uri().path() == "/as-head" {
            *req.method_mut() = Method::HEAD;
        } else if req.uri().path() == "/as-get" {
            *req.method_mut() = Method::GET;
        } else {
            lie(req.headers_mut());
        }
        Ok(Route::Table)
    }

    async fn on_response(&self, _: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
        if res.headers().contains_key("x-lie") {
            lie(res.headers_mut());
        }
        if let Some(status) = res.headers().get("x-status") {
            let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
            *res.status_mut() = status;
        }
        Ok(())
    }
}

fn lie(headers: &mut HeaderMap) {
    headers.insert("content-length", HeaderValue::from_static("999"));
    headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
    headers.insert("connection", HeaderValue::from_static("close"));
}

/// RFC 9112 section 6: framing follows from the body, and is nobody's to get wrong.
#[test]
fn framing_is_not_the_applications() {
    const REQUEST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for (request, response, status, body) in [
        (REQUEST, OK, 200, "ok"),
        (
            REQUEST,
            "HTTP/1.1 200 OK\r\nX-Lie: 1\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            REQUEST,
            "HTTP/1.1 200 OK\r\nX-Lie: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        (
            REQUEST,
            "HTTP/1.1 200 OK\r\nX-Status: 204\r\nContent-Length: 2\r\n\r\nok",
            204,
            "",
        ),
        (
            REQUEST,
            "HTTP/1.1 304 Not Modified\r\nX-Status: 200\r\nContent-Length: 2\r\n\r\n",
            200,
            "",
        ),
        (
            REQUEST,
            "HTTP/1.1 204 No Content\r\nX-Status: 200\r\n\r\n",
            200,
            "",
        ),
        (
            "GET /as-head HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
            200,
            "",
        ),
        ("HEAD /as-get HTTP/1.1\r\nHost: a\r\n\r\n", OK, 200, ""),
    ] {
        let setup = Bench::before(|| {
            Origin::each(move |peer| {
                while let Ok(got) = peer.request() {
                    if !got.start.contains("/as-") {
                        assert_eq!(got.text(), "hello", "{got:?}");
                        assert_eq!(got.field("transfer-encoding"), None);
                    }
                    peer.send(response);
                }
            })
        });
        let bench = setup.hooks(Liar);
        let mut client = bench.client();
        for _ in 0..2 {
            client.send(request);
            let answer = if request.starts_with("HEAD") {
                client.head().unwrap()
            } else {
                client.response()
            };
            assert_eq!(
                (answer.status(), answer.text()),
                (status, body),
                "{request}{response}"
            );
        }
        drop(client);
        bench.finish_with_pool();
    }
}

/// Looks at bodies before it says where they go.
struct Inspector {
    other: Target,
}

impl HttpHooks for Inspector {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        let body = match req.body_mut().buffer(100).await {
            Ok(body) => body,
            // Too much to look at, and still all there.
            Err(error) if error.kind() == ErrorKind::BodyTooLarge => return Ok(Route::Table),
            Err(error) => return Err(error),
        };
        Ok(match &*body {
            b"other" => Route::To(self.other.clone()),
            b"replace" => {
                *req.body_mut() = Body::from("replaced by something longer");
                Route::Table
            }
            b"empty" => {
                *req.body_mut() = Body::empty();
                Route::Table
            }
            _ => Route::Table,
        })
    }
}

#[test]
fn bodies_are_inspected_and_replaced() {
    let setup = Bench::before(Origin::echo);
    let other = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    let target = other.address().into();
    let bench = setup.hooks(Inspector { other: target });
    let mut client = bench.client();
    let big = "y".repeat(150_000);
    for chunked in [false, true] {
        for (body, expected) in [
            ("hello", "hello"),
            ("other", "other"),
            ("replace", "replaced by something longer"),
            ("empty", ""),
            ("", ""),
            (&big, &big),
        ] {
            client.send("POST / HTTP/1.1\r\nHost: a\r\n");
            match (chunked, body.len()) {
                (false, length) => client.send(format!("Content-Length: {length}\r\n\r\n{body}")),
                (true, 0) => client.send("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                (true, length) => client.send(format!(
                    "Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
                )),
            }
            let response = client.response();
            assert_eq!(response.status(), 200);
            assert!(
                response.text().ends_with(expected),
                "{body:.80}: {response:.200?}"
            );
            if expected.is_empty() {
                assert!(response.text().ends_with("\r\n\r\n"));
            }
        }
    }
    drop(client);
    // The second origin is not the bench's own.
    other.finish();
    bench.finish_with_pool();
}

/// RFC 9110 section 10.1.1: a proxy that reads the body itself says that it may come.
#[test]
fn an_inspector_tells_the_client_to_go_on() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            while let Ok(request) = peer.request() {
                assert_eq!(request.text(), "hello");
                peer.send(OK);
            }
        })
    });
    let other = Target::tcp([127, 0, 0, 1], 1);
    let bench = setup.hooks(Inspector { other });
    let mut client = bench.client();
    for _ in 0..2 {
        client.send(
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.response().status(), 100);
        client.send("hello");
        assert_eq!(client.response().status(), 200);
    }
    drop(client);
    bench.finish_with_pool();
}

/// What a client that leaves does to an application that waits for its body.
#[test]
fn an_inspector_is_let_go_with_its_client() {
    let setup = Bench::before(|| Origin::answering(OK));
    let other = Target::tcp([127, 0, 0, 1], 1);
    let bench = setup.hooks(Inspector { other });
    let client = bench.client();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    assert!(eventually(|| bench.seen() == 1));
    drop(client);
    assert_eq!(bench.accepted(), 0);
    let finished = bench.finish();
    assert_eq!(finished[0].error, Some((ErrorKind::Closed, Side::Down)));
}

/// Waits for what never comes, as the path says.
struct Dreamer;

impl HttpHooks for Dreamer {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        if req.uri().path() == "/request" {
            std::future::pending::<()>().await;
        }
        Ok(Route::Table)
    }

    async fn on_response(&self, _: At<'_>, (): &mut (), _: &mut Res) -> Result<()> {
        std::future::pending().await
    }
}

/// [`HttpHooks`]: "their futures are dropped when the client goes away".
#[test]
fn an_application_is_let_go_with_its_client() {
    for path in ["/request", "/response"] {
        let setup = Bench::before(|| Origin::answering(OK));
        let bench = setup.hooks(Dreamer);
        let client = bench.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(eventually(|| bench.seen() == 1));
        client.reset();
        let finished = bench.finish();
        assert_eq!(
            finished[0].error,
            Some((ErrorKind::Closed, Side::Down)),
            "{path}"
        );
    }
}

/// Gives pieces, and perhaps fails after them.
struct Pieces {
    left: usize,
    fails: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.left == 0 {
            let error = Error::app("a body's own");
            return Poll::Ready(self.fails.then_some(Err(error)));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece ")))))
    }
}

/// Answers with bodies of its own, and replaces the origin's.
struct Author;

impl HttpHooks for Author {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        let fails = match req.uri().path() {
            "/whole" => false,
            "/broken" => true,
            _ => return Ok(Route::Table),
        };
        Ok(Response::new(Body::wrap(Pieces { left: 3, fails })).into())
    }

    async fn on_response(&self, _: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
        if res.headers().contains_key("x-origin") {
            let whole = res.body_mut().buffer(1000).await?;
            *res.body_mut() = Body::from([&whole[..], b"!"].concat());
        }
        Ok(())
    }
}

#[test]
fn bodies_of_the_applications_own() {
    let setup = Bench::before(|| {
        Origin::answering("HTTP/1.1 200 OK\r\nX-Origin: 1\r\nContent-Length: 2\r\n\r\nok")
    });
    let bench = setup.hooks(Author);
    let mut client = bench.client();
    client.send("GET /whole HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "piece piece piece ");
    client.send(GET);
    assert_eq!(client.response().text(), "ok!");
    client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
    let (text, end) = client.rest_text();
    assert!(!text.ends_with("0\r\n\r\n"), "{text:?}");
    assert_ne!(end, End::Open);
    let mut old = bench.client();
    old.send("GET /broken HTTP/1.0\r\n\r\n");
    assert_eq!(old.end(), End::Reset, "RFC 9112 section 8");
    assert_eq!(bench.accepted(), 1);
    drop((client, old));
    bench.finish_with_pool();
}

/// Fails when it sees a response.
struct Sceptic;

impl HttpHooks for Sceptic {
    type Cx = ();

    async fn on_response(&self, _: At<'_>, (): &mut (), _: &mut Res) -> Result<()> {
        Err(Error::app("no"))
    }
}

#[test]
fn a_response_that_an_application_does_not_let_pass() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            while peer.request().is_ok() {
                peer.send(OK);
            }
        })
    });
    let bench = setup.hooks(Sceptic);
    let mut client = bench.client();
    for _ in 0..2 {
        client.send(GET);
        let response = client.response();
        assert_eq!(response.status(), 500);
        assert!(!response.text().contains("ok"));
    }
    drop(client);
    bench.finish();
}

/// Sends requests to the proxy itself.
struct Ouroboros(OnceLock<Target>);

impl HttpHooks for Ouroboros {
    type Cx = ();

    async fn on_request(&self, at: At<'_>, (): &mut (), _: &mut Req) -> Result<Route> {
        let own = self.0.get_or_init(|| at.info.local.unwrap().into());
        Ok(Route::To(own.clone()))
    }
}

/// RFC 9110 section 7.6.3: a proxy knows itself by its entry in Via.
#[test]
fn a_proxy_meets_itself_once() {
    let bench = Bench::alone().hooks(Ouroboros(OnceLock::new()));
    let mut client = bench.client();
    client.send(GET);
    assert_eq!(client.response().status(), 508);
    drop(client);
    assert_eq!(bench.finished(2).len(), 2);
    // The connection to itself is idle, and ends with it.
    assert_eq!(bench.stopped().len(), 2);
}

/// Reads bodies whole, whoever sends them, and waits for others now and then.
struct Reader;

impl HttpHooks for Reader {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        if req.uri().path() != "/echo" {
            req.body_only().buffer(1 << 20).await?;
        }
        if req.uri().path() == "/think" {
            // Longer than a body may be silent: an application's own waits are its own affair.
            tokio::time::sleep(std::time::Duration::from_millis(900)).await;
        }
        Ok(Route::Table)
    }

    async fn on_response(&self, _: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
        res.body_only().buffer(32 << 20).await.map(drop)
    }
}

fn impatient(setup: support::Setup) -> Bench {
    let mut options = oxy_http::HttpOptions::default();
    options.timeouts.body = std::time::Duration::from_millis(300);
    setup.proxy(Reader, |proxy| proxy, |http| http.options(options))
}

/// A body that stalls ends the exchange, also where it is an application that waits for it.
#[test]
fn a_body_that_an_application_reads_may_not_stall() {
    let bench = impatient(Bench::before(|| Origin::answering(OK)));
    for sent in ["", "hel"] {
        let mut client = bench.client();
        client.send(format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{sent}"
        ));
        assert_eq!(client.response().status(), 408);
    }
    assert_eq!(bench.accepted(), 0);
    let finished = bench.finish();
    assert_eq!(finished.len(), 2);
    for exchange in finished {
        assert_eq!(exchange.error, Some((ErrorKind::Timeout, Side::Down)));
    }

    let bench = impatient(Bench::before(|| {
        Origin::each(|peer| {
            peer.request().unwrap();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
            peer.end();
        })
    }));
    assert_eq!(bench.ask(GET).status(), 504);
    let finished = bench.finish();
    assert_eq!(finished[0].error, Some((ErrorKind::Timeout, Side::Up)));
}

#[test]
fn an_application_may_think_and_a_body_may_take_its_time() {
    let bench = impatient(Bench::before(|| Origin::answering(OK)));
    assert_eq!(
        bench.ask("GET /think HTTP/1.1\r\nHost: a\r\n\r\n").status(),
        200
    );
    let mut client = bench.client();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        // In all longer than it may be silent; the pace is what is tested.
        std::thread::sleep(std::time::Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.response().status(), 200);
    drop(client);
    bench.finish_with_pool();
}

/// The origin ends its response when it has the whole request: the upload goes on while an application reads the response.
#[test]
fn an_upload_goes_on_while_an_application_reads_the_response() {
    // More than the kernel takes while the response's head is on its way.
    const LENGTH: usize = 16 << 20;
    let bench = impatient(Bench::before(|| {
        Origin::each(|peer| {
            peer.head().unwrap();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
            ));
            let body = peer.read(LENGTH);
            peer.send(body);
            peer.end();
        })
    }));
    let mut client = bench.client();
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    client.send(vec![b'x'; LENGTH]);
    let response = client.response();
    assert_eq!((response.status(), response.text().len()), (200, LENGTH));
    drop(client);
    bench.finish_with_pool();
}
