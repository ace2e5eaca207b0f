//! HTTP for the Oxy proxy framework: an HTTP/1.1 codec without I/O ([`h1`]), what a proxy changes in a message
//! ([`semantics`]), pools of connections to origins, and the one driver that takes each exchange from its request to its
//! response, with the application's say at each step ([`HttpHooks`]).
//!
//! ```no_run
//! use oxy_core::Result;
//! use oxy_http::{At, Http, HttpHooks, Res};
//!
//! /// Tells browsers not to guess types.
//! struct NoSniff;
//!
//! impl HttpHooks for NoSniff {
//!     type Cx = ();
//!
//!     async fn on_response(&self, _: At<'_>, (): &mut (), res: &mut Res) -> Result<()> {
//!         let nosniff = http::HeaderValue::from_static("nosniff");
//!         res.headers_mut().insert("x-content-type-options", nosniff);
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<()> {
//!     Http::new(NoSniff).to("127.0.0.1:9000").run("127.0.0.1:8000")
//! }
//! ```
//!
//! [`Http::run`] is the short form. [`HttpProxy::http`] puts HTTP on an [`oxy_core::Proxy`], whose hooks decide about the
//! connections and tunnels around it.
//!
//! # What to rely on
//!
//! * What is malformed or ambiguous is refused with its status (RFC 9110, RFC 9112), and nothing of it reaches an origin.
//!   What is forwarded is framed anew from what was parsed.
//! * [`HttpHooks::on_finish`] is called exactly once for each request that [`HttpHooks::on_request`] saw.
//! * A message is forwarded from its bytes unless a hook changes it; a body streams unless a hook reads it, and what is on
//!   its way is bounded.
//! * Limits and time-outs are set by default; [`HttpOptions`] says to what, and why.

mod asked;
mod attended;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub mod body;
mod books;
mod call;
mod client;
mod date;
mod dispatch;
mod driver;
mod errand;
mod forward;
pub mod grpc;
pub mod h1;
mod h2;
pub mod health;
mod hedge;
pub mod hooks;
pub mod limits;
mod linger;
pub mod message;
pub mod options;
mod outgoing;
mod pace;
mod plan;
mod pool;
pub mod proxy;
mod reply;
pub mod respond;
mod rewritten;
pub mod route;
mod scratch;
pub mod semantics;
mod sticky;
#[cfg(feature = "tower")]
pub mod tower;
mod until;
mod upstream;
mod waits;
mod websocket;

pub use body::Body;
pub use h2::guard::Flood;
pub use hooks::{At, ExchangeSummary, HttpHooks, Route};
pub use message::{Lazy, Req, Res};
pub use options::HttpOptions;
pub use plan::HttpPlan;
pub use pool::Protocol;
pub use proxy::{Http, HttpProxy, IntoUpstream};
pub use sticky::StickyCookie;
pub use upstream::Upstream;
