//! What has happened, counted by both ends.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Mistakes of a kind that are kept word for word.
const KEPT: usize = 20;

/// A count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn subtract_one(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    // What the clients saw.
    pub(crate) requests: Count,
    pub(crate) right: Count,
    pub(crate) bytes: Count,
    pub(crate) gateway: Count,
    pub(crate) cut: Count,
    pub(crate) given_up: Count,
    pub(crate) hung: Count,
    pub(crate) wrong: Count,
    pub(crate) connections: Count,
    pub(crate) open: Count,
    // What the origin did.
    pub(crate) resets: Count,
    pub(crate) idle_resets: Count,
    pub(crate) origin_open: Count,
    /// Failures that the origin did not cause by resetting that very request.
    pub(crate) unexplained: Count,
    /// The requests whose connection the origin has reset.
    reset: Mutex<HashSet<u64>>,
    said: Mutex<Vec<String>>,
    doubts: Mutex<Vec<String>>,
}

impl Tally {
    /// Notes that the origin resets `id`; `false` if it had done so before.
    pub(crate) fn resets(&self, id: u64) -> bool {
        let first = lock(&self.reset).insert(id);
        if first {
            self.resets.one();
        }
        first
    }

    pub(crate) fn was_reset(&self, id: u64) -> bool {
        lock(&self.reset).contains(&id)
    }

    /// Notes a violation.
    pub(crate) fn mistake(&self, kind: &Count, what: String) {
        kind.one();
        keep(&self.said, what);
    }

    /// Notes a failure that is a violation only if there are too many of its kind.
    pub(crate) fn doubt(&self, what: String) {
        self.unexplained.one();
        keep(&self.doubts, what);
    }

    /// The violations, as far as they were kept.
    pub(crate) fn said(&self) -> Vec<String> {
        lock(&self.said).clone()
    }

    /// The same of doubts.
    pub(crate) fn doubts(&self) -> Vec<String> {
        lock(&self.doubts).clone()
    }
}

fn keep(list: &Mutex<Vec<String>>, what: String) {
    let mut list = lock(list);
    if list.len() < KEPT {
        list.push(what);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
