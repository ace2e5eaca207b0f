//! The transport-agnostic core of Oxy.
pub mod error;
pub mod offramp;
pub mod resolve;
pub mod target;
pub use error::{Error, ErrorKind, Result, Retry, Side};
pub use target::{Host, HostName, Target};
