//! Giving back the memory that a burst of connections has left free.
//!
//! glibc gives memory back only from the end of each thread's heap, and there is always something small near the end: after
//! 8,000 connections 4 MiB were in use and 30 MiB resident, for good. `malloc_trim(3)` gives back the pages in between.
#![cfg_attr(
    target_env = "gnu",
    expect(
        unsafe_code,
        reason = "malloc_trim, which no safe wrapper offers; the only unsafe of this crate"
    )
)]

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::Builder;
use std::time::Duration;

use oxy_core::Worker;

/// How often is looked: soon enough for whoever watches the process, and a handful of loads.
const EVERY: Duration = Duration::from_secs(5);

/// Bursts that are smaller leave a megabyte or two, for which it is not worth stopping allocations for a millisecond.
const BURST: usize = 1000;

/// Trims after each burst on `workers`, on a thread of its own, until what this gives is dropped.
pub(super) fn trim_after_bursts(workers: Vec<Worker>) -> Sender<()> {
    let (until, dropped) = mpsc::channel();
    let watch = move || {
        let mut tide = Tide::default();
        while dropped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            if tide.has_ebbed(workers.iter().map(Worker::open_flows).sum()) {
                trim();
            }
        }
    };
    if let Err(e) = Builder::new().name("oxy-memory".into()).spawn(watch) {
        tracing::debug!("memory is not given back after bursts: {e}");
    }
    until
}

/// The most flows that were open at a time since the last ebb.
#[derive(Debug, Default)]
struct Tide {
    high: usize,
}

impl Tide {
    /// Whether most of what was open is gone.
    fn has_ebbed(&mut self, open: usize) -> bool {
        self.high = self.high.max(open);
        let ebbed = self.high >= BURST && open < self.high / 2;
        if ebbed {
            self.high = open;
        }
        ebbed
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it has no precondition, and locks whatever heap it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do it by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::{BURST, Tide};

    #[test]
    fn each_burst_ebbs_once() {
        let mut tide = Tide::default();
        for (open, ebbed) in [
            (BURST - 1, false),
            (0, false),
            (4 * BURST, false),
            (3 * BURST, false),
            (BURST, true),
            (0, true),
            (0, false),
            (2 * BURST, false),
            (10, true),
        ] {
            assert_eq!(tide.has_ebbed(open), ebbed, "{open}");
        }
    }
}
