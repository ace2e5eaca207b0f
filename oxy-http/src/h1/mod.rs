//! HTTP/1.1 (RFC 9112): reading and writing messages, without any input or output of its own.

pub mod build;
pub mod chunked;
pub mod index;
pub mod known;
pub mod parse;
pub mod write;

pub(crate) mod client;
pub(crate) mod incoming;
pub(crate) mod pump;
pub(crate) mod server;

mod facts;
mod reject;
mod scan;
pub(crate) mod target;
pub(crate) mod token;

pub use reject::Reject;
