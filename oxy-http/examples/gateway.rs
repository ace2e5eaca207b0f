//! An API gateway: a key in a header, and an upstream for each path.
//! `curl -H 'x-api-key: secret' http://127.0.0.1:8000/users/1` goes to port 8001, `/orders` to 8002.
use oxy_core::{Result, Target};
use oxy_http::{At, Http, HttpHooks, Req, Route};

pub(crate) struct Gateway(pub(crate) [Target; 2]);

impl HttpHooks for Gateway {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        let key = req.headers().get("x-api-key");
        Ok(match req.uri().path().split('/').nth(1) {
            _ if key.is_none_or(|key| key != "secret") => Route::status(401),
            Some("users") => self.0[0].clone().into(),
            Some("orders") => self.0[1].clone().into(),
            _ => Route::status(404),
        })
    }
}

fn main() -> Result<()> {
    let upstreams = [8001, 8002].map(|port| Target::tcp([127, 0, 0, 1], port));
    Http::new(Gateway(upstreams)).run("127.0.0.1:8000")
}
