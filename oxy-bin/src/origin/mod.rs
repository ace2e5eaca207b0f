//! The small origin that oxy brings along, for a tour without a server of one's own.

mod filler;

use std::fmt::Write;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use oxy_core::{Error, ErrorKind, Proxy, Result, Running, Server, Target};
use oxy_http::{At, Body, Http, HttpHooks, HttpProxy, Req, Route, respond};

use filler::Filler;

/// The most bytes that `/bytes/N` gives: enough to measure any link with, too little to run for a day.
const BYTES_MAX: u64 = 10 << 30;

/// The longest that `/delay/MS` waits: as long as the proxy in front of it waits for a response at most.
const DELAY_MAX: u64 = 60_000;

const WELCOME: &str = "\
This is oxy's built-in origin; a reverse proxy stands in front of it.

  /echo        what you send: the body, or else the request's head
  /bytes/N     N bytes, at most 10 GiB
  /delay/MS    an answer after MS milliseconds, at most 60000
  /status/N    an answer with status N, 200 to 599

Settings of your own: oxy run -c oxy.yaml; see oxy config reference.
";

/// Starts the origin on a port of its own, on loopback.
pub(crate) fn start() -> Result<(Running, Target)> {
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let running = Server::new()
        .workers(1)
        .with(
            Proxy::new(())
                .name("builtin")
                .listen(listen)
                .http(Http::new(Origin)),
        )
        .start()?;
    let address = running.addresses().into_iter().next();
    match address.and_then(|(_, address)| address.socket_addr()) {
        Some(address) => Ok((running, address.into())),
        None => {
            Err(Error::local(ErrorKind::Internal).context("the built-in origin has no address"))
        }
    }
}

struct Origin;

impl HttpHooks for Origin {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        let path = req.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (first, rest) = (parts.next().unwrap_or_default(), parts.next());
        let number = rest.map(str::parse::<u64>);
        let response = match (first, number) {
            ("echo", None) => echo(req),
            _ if !matches!(*req.method(), Method::GET | Method::HEAD) => {
                plain(StatusCode::METHOD_NOT_ALLOWED)
            }
            ("", None) => text(WELCOME.into()),
            ("bytes", Some(Ok(count @ ..=BYTES_MAX))) => bytes(Body::wrap(Filler(count))),
            ("delay", Some(Ok(millis @ ..=DELAY_MAX))) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                text(format!("{millis} ms later\n"))
            }
            ("status", Some(Ok(code @ 200..=599))) => status(code),
            ("bytes" | "delay" | "status", Some(_)) => plain(StatusCode::BAD_REQUEST),
            _ => plain(StatusCode::NOT_FOUND),
        };
        Ok(response.into())
    }
}

fn echo(req: &mut Req) -> Response<Body> {
    let body = req.body_only();
    if !body.is_done() {
        let mut response = bytes(body.take());
        if let Some(kind) = req.headers().get(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        return response;
    }
    let mut head = format!("{} {} {:?}\n", req.method(), req.uri(), req.version());
    for (name, value) in req.headers() {
        // Writing to memory does not fail.
        let _ = writeln!(head, "{name}: {}", value.as_bytes().escape_ascii());
    }
    text(head)
}

fn status(code: u64) -> Response<Body> {
    let code = u16::try_from(code).ok();
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    let code = code.unwrap_or(StatusCode::BAD_REQUEST);
    if matches!(code, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = code;
        return response;
    }
    plain(code)
}

fn plain(status: StatusCode) -> Response<Body> {
    respond::plain(status)
}

fn bytes(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
