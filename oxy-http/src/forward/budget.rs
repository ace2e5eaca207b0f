//! How many retries there may be.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::options::HttpOptions;

/// Keeps retries a small share of requests. One worker's own: loads and stores suffice.
pub(crate) struct Budget {
    /// In hundredths of a retry.
    tokens: AtomicU64,
    earned: u64,
    per_second: u64,
    refilled: AtomicU64,
    start: Instant,
}

impl Budget {
    /// Ten seconds' worth may be saved up.
    const SECONDS: u64 = 10;

    pub(crate) fn new(options: &HttpOptions) -> Self {
        let per_second = u64::from(options.retry.budget_min) * 100;
        Self {
            tokens: AtomicU64::new(per_second * Self::SECONDS),
            earned: options.retry.budget_percent.into(),
            per_second,
            refilled: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    pub(super) fn earn(&self) {
        let cap = (self.per_second * Self::SECONDS).max(100_000);
        let tokens = self.tokens.load(Relaxed);
        if tokens < cap {
            self.tokens.store((tokens + self.earned).min(cap), Relaxed);
        }
    }

    pub(super) fn spend(&self) -> bool {
        let now = self.start.elapsed().as_secs();
        let since = now - self.refilled.swap(now, Relaxed).min(now);
        let floor = self.per_second * Self::SECONDS;
        let mut tokens = self.tokens.load(Relaxed);
        if tokens < floor {
            tokens = (tokens + since * self.per_second).min(floor);
        }
        let allowed = tokens >= 100;
        self.tokens
            .store(if allowed { tokens - 100 } else { tokens }, Relaxed);
        allowed
    }
}
