//! Lets clients speak HTTP/2 in clear text (prior knowledge) to an origin that speaks HTTP/1.1, and bounds what one
//! connection may ask for at once. Clients that speak HTTP/1.1 are served at the same port.
//! `curl --http2-prior-knowledge http://127.0.0.1:8000/` with an origin on port 9000, for example
//! `python3 -m http.server 9000`.
use oxy_core::Result;
use oxy_http::{At, Http, HttpHooks, HttpOptions, Res};

pub(crate) struct Gateway;

impl HttpHooks for Gateway {
    type Cx = ();

    /// The same hook for every version.
    async fn on_response(&self, at: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
        let flow = at.info.id.to_string();
        let value = flow.try_into().map_err(oxy_core::Error::app)?;
        res.headers_mut().insert("x-connection", value);
        Ok(())
    }
}

pub(crate) fn options() -> HttpOptions {
    let mut options = HttpOptions::default();
    options.http2.max_streams = 32;
    options
}

fn main() -> Result<()> {
    let http = Http::new(Gateway).to("127.0.0.1:9000").options(options());
    http.run("127.0.0.1:8000")
}
