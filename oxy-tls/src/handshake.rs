//! Driving a handshake, and saying why it failed.

use std::future::poll_fn;
use std::io;

use oxy_core::{Error, ErrorKind, Side};

use crate::io::{Shaken, TlsIo};
use crate::stats::Outcome;

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            source: None,
        }
    }

    pub(crate) fn tls(error: rustls::Error) -> Self {
        Self {
            outcome: Outcome::of(&error),
            source: Some(Box::new(error)),
        }
    }

    pub(crate) fn io(error: io::Error) -> Self {
        Self {
            outcome: Outcome::Left,
            source: Some(Box::new(error)),
        }
    }

    /// The error of the workspace, where `side` is the peer's.
    pub(crate) fn into_error(self, side: Side) -> Error {
        let kind = match self.outcome {
            Outcome::Left => ErrorKind::Closed,
            Outcome::Timeout => ErrorKind::Timeout,
            Outcome::Overloaded => ErrorKind::Overloaded,
            _ => ErrorKind::Tls,
        };
        let error = Error::new(kind, side).context(self.outcome.text());
        match self.source {
            Some(source) => error.because(source),
            None => error,
        }
    }
}

/// Drives `io`'s handshake until there is something to be read: its end, or early data.
pub(crate) async fn shake(io: &mut TlsIo) -> Result<Shaken, Failure> {
    match poll_fn(|cx| io.poll_handshake(cx)).await {
        Ok(shaken) => Ok(shaken),
        Err(error) => Err(match io.tls_error() {
            Some(error) => Failure::tls(error.clone()),
            None => Failure::io(error),
        }),
    }
}
