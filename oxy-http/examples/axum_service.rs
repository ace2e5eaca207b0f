//! A proxy with pages of its own: an axum router answers what is below `/internal/`, an origin everything else.
//! `curl -d hello http://127.0.0.1:8000/internal/shout` is answered here, `curl http://127.0.0.1:8000/` by the origin on
//! port 9000.
use axum::Router;
use axum::routing::{get, post};
use oxy_core::Result;
use oxy_http::tower::Answer;
use oxy_http::{At, Http, HttpHooks, Req, Route};

pub(crate) struct Internal(pub(crate) Answer<Router>);

impl HttpHooks for Internal {
    type Cx = ();

    async fn on_request(&self, at: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        if req.uri().path().starts_with("/internal/") {
            return self.0.answer(at.info, req).await;
        }
        Ok(Route::Table)
    }
}

pub(crate) fn app() -> Router {
    Router::new()
        .route("/internal/health", get(async || "well\n"))
        .route("/internal/shout", post(shout))
}

async fn shout(body: String) -> String {
    body.to_uppercase()
}

fn main() -> Result<()> {
    let http = Http::new(Internal(Answer(app()))).to("127.0.0.1:9000");
    http.run("127.0.0.1:8000")
}
