//! The transport-agnostic core of the Oxy proxy framework: flows of bytes and datagrams, where they come in, what an
//! application decides about them, and where they go out.
//!
//! A [`Proxy`] takes flows in by its listeners ([`onramp`]) and asks the application ([`FlowHooks`]) about each. The
//! [`Verdict`] is carried out by the [`Engine`]: the flow is relayed to a [`Target`] by an off-ramp ([`offramp`]), lifted to a
//! protocol that a [`Terminal`] serves, refused, or handed over. What comes out of a flow is a flow again.
//!
//! This crate knows no HTTP, TLS or QUIC: those are crates of their own, on top. An L4 proxy needs this one only:
//!
//! ```no_run
//! use oxy_core::{FlowHooks, FlowInfo, Proxy, Result, Summary};
//!
//! /// Logs each connection when it is over.
//! struct Log;
//!
//! impl FlowHooks for Log {
//!     type Conn = ();
//!
//!     fn conn(&self, _: &FlowInfo, _: Option<&()>) {}
//!
//!     fn on_close(&self, (): &(), summary: &Summary) {
//!         println!("{} {} bytes", summary.info.id, summary.received + summary.sent);
//!     }
//! }
//!
//! fn main() -> Result<()> {
//!     Proxy::new(Log).listen("127.0.0.1:8000").to("127.0.0.1:9000").run()
//! }
//! ```
//!
//! # What to rely on
//!
//! * [`FlowHooks::on_close`] is called exactly once for each flow, whatever ended it, and for a child before its parent.
//! * Memory per flow is bounded, and an idle flow holds no buffer.
//! * All futures are `Send` and, where it is not said otherwise, cancel safe. The crate runs on tokio; [`Server`] gives
//!   each worker thread a runtime of its own, but the parts work on any.
//! * There is one error type, [`Error`]: its kind, whose side it is on, and whether a retry is safe.

mod address;
pub mod buffer;
pub mod carrier;
pub mod clock;
pub mod cluster;
mod congestion;
pub mod drain;
pub mod engine;
pub mod error;
pub mod flow;
pub mod hooks;
pub mod lift;
pub mod live;
pub mod meter;
pub mod offramp;
pub mod onramp;
pub mod proxy;
pub mod relay;
pub mod resolve;
pub mod server;
#[cfg(feature = "settings")]
pub mod settings;
pub mod signals;
pub mod sniff;
pub mod summary;
mod sys;
pub mod target;
pub mod tls;
pub mod verdict;
pub mod worker;

pub use address::AddressText;
pub use carrier::{ByteIo, Carrier, DatagramIo, DatagramPort, Link, Readiness, StreamIo};
pub use drain::Drain;
pub use engine::{Engine, Means, Open, Terminal};
pub use error::{Error, ErrorKind, Result, Retry, Side};
pub use flow::{Facts, Far, Flow, FlowInfo, Layer, Origin};
pub use hooks::FlowHooks;
pub use lift::{AnyLift, Decapsulate};
pub use live::Live;
pub use proxy::Proxy;
pub use server::{Changes, Running, Server};
pub use signals::Signals;
pub use summary::{Ended, Summary};
pub use target::{Host, HostName, Target};
pub use tls::{PeerIdentity, TlsFacts};
pub use verdict::Verdict;
pub use worker::Worker;

/// A boxed future that any thread may drive.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `Box::pin(make())`, for futures on the hot path. `Box::pin` makes a future on the stack and copies all of its size, a
/// kilobyte say, of which hardly anything is initialised; here it is made where it lives.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it does nothing where it is not inlined"
)]
pub fn pinned<F: Future>(make: impl FnOnce() -> F) -> std::pin::Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}
