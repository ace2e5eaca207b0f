//! HTTP/2 (RFC 9113): the frames are the `h2` crate's, the exchanges ours.
//!
//! A connection is one task; each of its streams is another, which drives the exchange and its upstream. What a peer may
//! do to the connection itself, rather than to an exchange, is watched by [`guard`].

pub(crate) mod client;
pub(crate) mod dialled;
pub(crate) mod exchanges;
pub(crate) mod fault;
mod frame;
pub(crate) mod guard;
mod hpack;
pub(crate) mod incoming;
pub(crate) mod io;
pub(crate) mod reply;
pub(crate) mod request;
mod rules;
pub(crate) mod sender;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod tunnel;

/// What every client of HTTP/2 says first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
