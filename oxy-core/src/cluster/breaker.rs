//! Limits on what is under way at once.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::spec::BreakerOptions;
use crate::error::{Error, ErrorKind, Result, Retry};

/// A count that all workers share, but only when there is a limit on it.
///
/// On a cache line of its own (two, as processors fetch pairs), so that counting disturbs nothing that is only read.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Gauge {
    limit: AtomicU32,
    used: AtomicU32,
}

/// No limit: nothing is counted.
const NONE: u32 = u32::MAX;

impl Gauge {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self {
            limit: AtomicU32::new(limit.unwrap_or(NONE)),
            used: AtomicU32::new(0),
        }
    }

    /// What is counted stays counted; what is under way uncounted stays so.
    pub(super) fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(NONE), Relaxed);
    }

    /// Takes a place. Says whether it was counted, and so must be given back; `None` when there is no place left.
    pub(super) fn take(&self) -> Option<bool> {
        let limit = self.limit.load(Relaxed);
        if limit == NONE {
            return Some(false);
        }
        if self.used.fetch_add(1, Relaxed) < limit {
            Some(true)
        } else {
            self.give_back();
            None
        }
    }

    pub(super) fn give_back(&self) {
        self.used.fetch_sub(1, Relaxed);
    }

    /// How many places are taken, and of how many; `None` without a limit.
    pub(super) fn usage(&self) -> Option<(u32, u32)> {
        let limit = self.limit.load(Relaxed);
        (limit != NONE).then(|| (self.used.load(Relaxed), limit))
    }
}

/// The limits of a cluster.
#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) connections: Gauge,
    pub(super) pending: Gauge,
    pub(super) requests: Gauge,
    pub(super) retries: Gauge,
}

impl Breaker {
    pub(super) fn new(options: &BreakerOptions) -> Self {
        Self {
            connections: Gauge::new(options.max_connections),
            pending: Gauge::new(options.max_pending),
            requests: Gauge::new(options.max_requests),
            retries: Gauge::new(options.max_retries),
        }
    }

    pub(super) fn update(&self, options: &BreakerOptions) {
        self.connections.set_limit(options.max_connections);
        self.pending.set_limit(options.max_pending);
        self.requests.set_limit(options.max_requests);
        self.retries.set_limit(options.max_retries);
    }
}

/// Nothing was sent, so it may be tried elsewhere; here it would only meet the same limit.
#[cold]
pub(super) fn full(what: &'static str) -> Error {
    Error::local(ErrorKind::Overloaded)
        .context(what)
        .retry(Retry::Safe)
}

impl Gauge {
    /// [`Gauge::take`], or an error that says `what` is exhausted.
    pub(super) fn enter(&self, what: &'static str) -> Result<bool> {
        self.take().ok_or_else(|| full(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_none_counts_nothing() {
        let gauge = Gauge::new(Some(2));
        assert_eq!([gauge.take(), gauge.take()], [Some(true); 2]);
        assert_eq!(gauge.take(), None);
        gauge.give_back();
        assert_eq!(gauge.take(), Some(true));
        assert_eq!(gauge.usage(), Some((2, 2)));
        let free = Gauge::new(None);
        assert_eq!(free.take(), Some(false));
        assert_eq!(free.usage(), None);
        free.set_limit(Some(0));
        assert_eq!(free.take(), None);
        assert_eq!(free.usage(), Some((0, 0)));
    }
}
