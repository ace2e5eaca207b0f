//! Replaces a word in HTML as it streams by, also where it comes in pieces; what it holds is less than the word.
//! `curl http://127.0.0.1:8000/` with an origin on port 9000, for example `python3 -m http.server 9000`.
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RANGE};
use oxy_core::Result;
use oxy_http::{At, Http, HttpHooks, Req, Res, Route};

pub(crate) struct Rewriter(pub(crate) &'static [u8], pub(crate) &'static [u8]);

impl HttpHooks for Rewriter {
    type Cx = ();

    async fn on_request(&self, _: At<'_>, (): &mut (), req: &mut Req) -> Result<Route> {
        // What is compressed, or a part of a whole, cannot be read.
        req.headers_mut().remove(ACCEPT_ENCODING);
        req.headers_mut().remove(RANGE);
        Ok(Route::Table)
    }

    async fn on_response(&self, _: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
        let is_html = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/html");
        if res.headers().get(CONTENT_TYPE).is_some_and(is_html) {
            res.headers_mut().remove(CONTENT_LENGTH);
            let (mut held, &Self(from, to)) = (Vec::new(), self);
            res.body_mut().rewrite(move |piece| {
                held.extend_from_slice(piece.as_deref().unwrap_or_default());
                let (mut out, mut done) = (Vec::new(), 0);
                for at in memchr::memmem::find_iter(&held, from) {
                    out.extend([&held[done..at], to].concat());
                    done = at + from.len();
                }
                // A word may have begun at the very end.
                let keep = piece.map_or(0, |_| from.len() - 1);
                let end = held.len().saturating_sub(keep).max(done);
                out.extend(held.drain(..end).skip(done));
                out.into()
            });
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let rewriter = Http::new(Rewriter(b"Directory", b"Folder")).to("127.0.0.1:9000");
    rewriter.run("127.0.0.1:8000")
}
