//! The admin listener: `/metrics`, `/healthz`, `/flows`, `/clusters`, and POST `/reload`.
//!
//! It is a server of its own, on a thread of its own: it still answers while the others drain, and when they are busy.

mod clusters;
mod flows;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, Response, StatusCode};
use oxy_core::onramp::ListenAddr;
use oxy_core::{Drain, Proxy, Result, Running, Server, Worker};
use oxy_http::{At, Body, Http, HttpHooks, HttpProxy, Req, Route, respond};

use crate::metrics::{Metrics, open_flows};
use crate::settings::ADMIN;

/// How long its clients may take once all else has ended: what it says fits in a few packets.
const FAREWELL: Duration = Duration::from_secs(1);

const INDEX: &str = "\
/metrics   counters, for Prometheus
/healthz   200 while serving, 503 while draining
/flows     open flows
/clusters  endpoints and how they fare; ?text for people
/reload    POST has the settings read again
";

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
        let is_text = req.uri().query() == Some("text");
        Ok(match (req.uri().path(), req.method()) {
            // Pages in a browser could ask for it, too: they say where they come from.
            ("/reload", &Method::POST) if !req.headers().contains_key(ORIGIN) => {
                self.reload().await
            }
            ("/reload", &Method::POST) => respond::plain(StatusCode::FORBIDDEN),
            ("/reload", _) => not_allowed("POST"),
            (_, &Method::GET | &Method::HEAD) => self.answer(req.uri().path(), is_text),
            _ => not_allowed("GET, HEAD"),
        }
        .into())
    }
}

impl Admin {
    fn answer(&self, path: &str, is_text: bool) -> Response<Body> {
        match path {
            "/" => page(TEXT, INDEX.into()),
            "/metrics" => {
                let open = open_flows(&self.workers);
                let text = self.metrics.page(&open, !self.drain.is_serving());
                page("text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/healthz" if self.drain.is_serving() => page(TEXT, "ok\n".into()),
            "/healthz" => {
                let mut response = page(TEXT, "draining\n".into());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
            "/flows" => page(JSON, flows::list(&open_flows(&self.workers))),
            "/clusters" => {
                let clusters = self.metrics.observed().clusters();
                let reports: Vec<_> = clusters.iter().map(|it| it.report()).collect();
                if is_text {
                    page(TEXT, clusters::text(&reports))
                } else {
                    page(JSON, clusters::json(&reports))
                }
            }
            _ => respond::plain(StatusCode::NOT_FOUND),
        }
    }

    async fn reload(&self) -> Response<Body> {
        match self.metrics.reloads().ask().await {
            Some(Ok(summary)) => page(TEXT, format!("{summary}\n")),
            Some(Err(error)) => {
                let mut response = page(TEXT, format!("{error}\n"));
                *response.status_mut() = StatusCode::CONFLICT;
                response
            }
            None => respond::plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = respond::plain(StatusCode::METHOD_NOT_ALLOWED);
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

fn page(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
