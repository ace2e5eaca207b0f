//! HTTP for the Oxy proxy framework.

mod asked;
mod attended;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub mod body;
mod books;
mod date;
mod driver;
mod forward;
pub mod h1;
pub mod hooks;
pub mod limits;
pub mod message;
pub mod options;
mod pool;
pub mod proxy;
pub mod respond;
mod rewritten;
mod scratch;
pub mod semantics;
mod table;

pub use body::Body;
pub use hooks::{At, ExchangeSummary, HttpHooks, Route};
pub use message::{Lazy, Req, Res};
pub use options::HttpOptions;
pub use proxy::{Http, HttpProxy, IntoUpstream};
