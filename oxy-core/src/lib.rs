//! The transport-agnostic core of Oxy.
pub mod buffer;
pub mod carrier;
pub mod clock;
pub mod drain;
pub mod engine;
pub mod error;
pub mod flow;
pub mod hooks;
pub mod meter;
pub mod offramp;
pub mod onramp;
pub mod proxy;
pub mod relay;
pub mod resolve;
pub mod server;
#[cfg(feature = "settings")]
pub mod settings;
pub mod sniff;
pub mod summary;
mod sys;
pub mod target;
pub mod verdict;
pub mod worker;

pub use carrier::{ByteIo, Carrier, DatagramIo, DatagramPort, Link, StreamIo};
pub use drain::Drain;
pub use engine::{Engine, Means, Open, Terminal};
pub use error::{Error, ErrorKind, Result, Retry, Side};
pub use flow::{Far, Flow, FlowInfo, Layer, Origin};
pub use hooks::FlowHooks;
pub use proxy::Proxy;
pub use server::{Running, Server};
pub use summary::{Ended, Summary};
pub use target::{Host, HostName, Target};
pub use verdict::Verdict;
pub use worker::Worker;

/// A boxed future that any thread may drive.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
