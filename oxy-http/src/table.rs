//! Where requests go that no hook routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use oxy_core::{Error, ErrorKind, Result};

use crate::asked::Asked;
use crate::forward::Forwarder;
use crate::h1::index::TargetForm;
use crate::pool::Endpoint;

/// The upstreams of one worker, or the open world.
pub(crate) struct Table {
    upstreams: Vec<Arc<Endpoint>>,
    /// Whether requests may say themselves where they go.
    forward: bool,
    turn: AtomicUsize,
}

impl Table {
    /// `turn` is where the round begins, so that workers do not all begin with the same target.
    pub(crate) fn new(upstreams: Vec<Arc<Endpoint>>, forward: bool, turn: usize) -> Self {
        Self {
            upstreams,
            forward,
            turn: AtomicUsize::new(turn),
        }
    }

    /// Where a request goes.
    pub(crate) fn endpoint(&self, asked: &Asked, forwarder: &Forwarder) -> Result<Arc<Endpoint>> {
        if !self.upstreams.is_empty() && !asked.is_connect() {
            let turn = self.turn.load(Relaxed);
            self.turn.store(turn.wrapping_add(1), Relaxed);
            if let Some(endpoint) = self.upstreams.get(turn % self.upstreams.len()) {
                return Ok(endpoint.clone());
            }
        }
        if asked.is_connect() && !self.forward {
            return Err(Error::down(ErrorKind::Denied).context("CONNECT is not served here"));
        }
        if !self.forward {
            return Err(Error::local(ErrorKind::NoRoute).context("no upstream is configured"));
        }
        // RFC 9112 section 3.2.2: what is meant for a proxy has the absolute form.
        match asked.form() {
            TargetForm::Absolute if asked.https() => {
                Err(Error::down(ErrorKind::Unsupported).context("https needs CONNECT"))
            }
            TargetForm::Absolute | TargetForm::Authority => {
                Ok(forwarder.endpoint(&asked.authority()?))
            }
            _ => Err(Error::down(ErrorKind::Malformed)
                .context("a forward proxy needs an absolute target")),
        }
    }
}
