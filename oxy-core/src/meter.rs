//! Bytes are counted once, where they cross a carrier.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that a carrier has received from, and sent to, its peer.
///
/// One task drives a carrier at a time, so that counting is a load and a store rather than a locked add; any thread may
/// read.
#[derive(Debug, Default)]
pub struct Meter {
    received: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Meter {
    /// Counts `n` bytes that came from the peer.
    pub fn add_received(&self, n: usize) {
        bump(&self.received, n);
    }

    /// Counts `n` bytes that went to the peer.
    pub fn add_sent(&self, n: usize) {
        bump(&self.sent, n);
    }

    /// Counts `n` datagrams that came and could not be kept or passed on.
    pub fn add_dropped(&self, n: usize) {
        bump(&self.dropped, n);
    }

    /// Datagrams that came and could not be kept or passed on.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Bytes that came from the peer.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes that went to the peer.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

fn bump(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Relaxed).wrapping_add(n as u64), Relaxed);
}
