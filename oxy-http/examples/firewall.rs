//! A firewall that reads request bodies, and refuses those that it does not like.
//! `curl -d 'x=<script>' http://127.0.0.1:8000/` gets 403; the origin behind it is on port 9000.
use oxy_core::Result;
use oxy_http::{At, Http, HttpHooks, Req, Route};

pub(crate) struct Firewall(pub(crate) &'static [u8]);

impl HttpHooks for Firewall {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        // A body that is too long to be looked at is refused, with 413.
        let body = req.body_only().buffer(64 * 1024).await?;
        Ok(match memchr::memmem::find(&body, self.0) {
            Some(_) => Route::status(403),
            None => Route::Table,
        })
    }
}

fn main() -> Result<()> {
    let firewall = Http::new(Firewall(b"<script>")).to("127.0.0.1:9000");
    firewall.run("127.0.0.1:8000")
}
