//! The admin listener: `/metrics`, `/healthz`, `/flows`.
//!
//! It is a server of its own, on a thread of its own: it still answers while the others drain, and when they are busy.

mod flows;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use oxy_core::onramp::ListenAddr;
use oxy_core::{Drain, Proxy, Result, Running, Server, Worker};
use oxy_http::{At, Body, Http, HttpHooks, HttpProxy, Req, Route, respond};

use crate::metrics::{Metrics, open_flows};
use crate::settings::ADMIN;

/// How long its clients may take once all else has ended: what it says fits in a few packets.
const FAREWELL: Duration = Duration::from_secs(1);

const INDEX: &str = "/metrics  counters, for Prometheus\n/healthz  200 while serving, 503 while draining\n/flows    open flows\n";

/// Serves what `observed` does on `listen`.
pub(crate) fn start(listen: ListenAddr, metrics: Metrics, observed: &Running) -> Result<Running> {
    let app = Admin {
        metrics: Arc::new(metrics),
        workers: observed.workers().into(),
        drain: observed.drain().clone(),
    };
    Server::new()
        .workers(1)
        .drain_timeout(FAREWELL)
        .with(
            Proxy::new(())
                .name(ADMIN)
                .listen(listen)
                .http(Http::new(app)),
        )
        .start()
}

struct Admin {
    metrics: Arc<Metrics>,
    workers: Arc<[Worker]>,
    drain: Drain,
}

impl HttpHooks for Admin {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        Ok(self.answer(req.method(), req.uri().path()).into())
    }
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = respond::plain(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match path {
            "/" => page("text/plain; charset=utf-8", INDEX.into()),
            "/metrics" => {
                let open = open_flows(&self.workers);
                let text = self.metrics.page(&open, !self.drain.is_serving());
                page("text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/healthz" if self.drain.is_serving() => {
                page("text/plain; charset=utf-8", "ok\n".into())
            }
            "/healthz" => {
                let mut response = page("text/plain; charset=utf-8", "draining\n".into());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
            "/flows" => page("application/json", flows::list(&open_flows(&self.workers))),
            _ => respond::plain(StatusCode::NOT_FOUND),
        }
    }
}

fn page(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
