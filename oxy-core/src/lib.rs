//! The transport-agnostic core of Oxy.
pub mod error;
pub use error::{Error, ErrorKind, Result, Retry, Side};
