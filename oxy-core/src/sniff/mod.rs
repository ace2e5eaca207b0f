//! Looking at what a flow carries without consuming it.
//!
//! [`sniff`] reads no more than it needs to tell the protocols apart, leaves all of it to be read again, and takes no
//! longer than it is told to: a client that says nothing is an outcome, as it is what SMTP's or SSH's clients do.

mod ja4;
pub mod tls;

use std::time::Duration;

pub use tls::ClientHello;

use crate::carrier::{Carrier, StreamIo};
use crate::flow::Flow;
use crate::{Error, ErrorKind, Result, Side};

/// How many bytes are looked at, at most: a `ClientHello` with post-quantum key shares takes 2 KiB, and what is larger than
/// this is somebody's attempt to make the proxy hold memory.
pub const MAX_LOOK: usize = 64 * 1024;

/// What an HTTP/2 client with prior knowledge says first (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is taken for one: that of `UPDATEREDIRECTREF`, the longest of IANA's registry, and some.
const MAX_METHOD: usize = 24;

/// What the first bytes of a stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sniffed {
    /// A TLS handshake.
    Tls(Box<ClientHello>),
    /// An HTTP/1 request.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    Http2,
    /// What a detector of the caller's own named.
    Other(&'static str),
    /// Nothing came within the time: it may be a protocol in which the server speaks first.
    Silent,
    /// Something else, or something that did not become clear within the time.
    Unknown,
    /// The stream ended before it was clear, or without a byte.
    Ended,
}

/// What a detector says of the first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It is this.
    Is(Sniffed),
    /// It is not what the detector knows, whatever comes.
    Not,
    /// More bytes are needed.
    More,
}

/// Tells a protocol by its first bytes.
///
/// It must be monotonic: what it says of some bytes other than [`Opinion::More`] it says of any that begin with them.
pub trait Sniff: Send + Sync {
    /// An opinion on `first`, which holds one byte at least.
    fn look(&self, first: &[u8]) -> Opinion;
}

impl<F: Fn(&[u8]) -> Opinion + Send + Sync> Sniff for F {
    fn look(&self, first: &[u8]) -> Opinion {
        self(first)
    }
}

/// Finds out what `stream` carries, TLS, HTTP/1 or HTTP/2, and takes `limit` for it at most. All bytes remain to be read.
///
/// Cancel safe: what has been read remains. Errors are those of the stream.
pub async fn sniff(stream: &mut StreamIo, limit: Duration) -> Result<Sniffed> {
    sniff_with(stream, limit, &[]).await
}

/// [`sniff`], with detectors of the caller's own asked first, in their order.
pub async fn sniff_with(
    stream: &mut StreamIo,
    limit: Duration,
    own: &[&dyn Sniff],
) -> Result<Sniffed> {
    let mut seen = 0;
    let looking = async {
        loop {
            let first = stream.peek(seen + 1).await?;
            if first.len() == seen {
                return Ok(Sniffed::Ended);
            }
            seen = first.len();
            if let Some(sniffed) = judge(first, own) {
                return Ok(sniffed);
            }
        }
    };
    match tokio::time::timeout(limit, looking).await {
        Ok(result) => result,
        // The buffer may hold bytes from before, or from a look that was cut short.
        Err(_) if seen == 0 => Ok(Sniffed::Silent),
        Err(_) => Ok(Sniffed::Unknown),
    }
}

impl Flow {
    /// [`sniff`] on the flow's stream; a `ClientHello` is kept in the flow's facts. Cancel safe.
    ///
    /// # Errors
    ///
    /// Those of the stream, and `Unsupported` for a flow that carries none.
    pub async fn sniff(&mut self, limit: Duration) -> Result<Sniffed> {
        let Carrier::Stream(stream) = &mut self.carrier else {
            return Err(Error::new(ErrorKind::Unsupported, Side::Local).context("no stream"));
        };
        let sniffed = sniff(stream, limit).await?;
        if let Sniffed::Tls(hello) = &sniffed {
            let _ = self.info.facts.client_hello.set(hello.clone());
        }
        Ok(sniffed)
    }
}

/// What a stream carries that begins with `first`; none where more bytes are needed to tell.
pub fn tell(first: &[u8]) -> Option<Sniffed> {
    judge(first, &[])
}

/// None where more bytes are needed.
fn judge(first: &[u8], own: &[&dyn Sniff]) -> Option<Sniffed> {
    let known: [&dyn Sniff; 3] = [&tls::detect, &http2, &http1];
    let mut open = false;
    for detector in own.iter().chain(&known) {
        match detector.look(first) {
            // One that was asked before may still come to claim it.
            Opinion::Is(sniffed) if !open => return Some(sniffed),
            Opinion::Is(_) | Opinion::More => open = true,
            Opinion::Not => {}
        }
    }
    (!open || first.len() >= MAX_LOOK).then_some(Sniffed::Unknown)
}

fn http2(first: &[u8]) -> Opinion {
    if first.starts_with(HTTP2_PREFACE) {
        Opinion::Is(Sniffed::Http2)
    } else if HTTP2_PREFACE.starts_with(first) {
        Opinion::More
    } else {
        Opinion::Not
    }
}

/// A method of upper-case letters and `-`, a space, and a target (RFC 9112 section 3). Methods may have other characters;
/// those in use do not, and few other protocols begin like this.
fn http1(first: &[u8]) -> Opinion {
    // RFC 9112 section 2.2: empty lines before a request are ignored.
    let start = first
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(first.len());
    if start > 2 {
        return Opinion::Not;
    }
    let line = &first[start..];
    let method = line
        .iter()
        .position(|byte| !byte.is_ascii_uppercase() && *byte != b'-');
    match method {
        None if line.len() > MAX_METHOD => Opinion::Not,
        None => Opinion::More,
        Some(0) => Opinion::Not,
        Some(end) if end > MAX_METHOD || line[end] != b' ' => Opinion::Not,
        // The preface of HTTP/2 has the form of a request, so that servers of HTTP/1 refuse it.
        Some(_) if line.starts_with(b"PRI ") => {
            if line.len() > 16 {
                Opinion::Not
            } else {
                Opinion::More
            }
        }
        Some(end) => match line.get(end + 1) {
            None => Opinion::More,
            Some(b'/' | b'*' | b'[') => Opinion::Is(Sniffed::Http1),
            Some(byte) if byte.is_ascii_alphanumeric() => Opinion::Is(Sniffed::Http1),
            Some(_) => Opinion::Not,
        },
    }
}

#[cfg(test)]
mod tests;
