//! A proxy between a scripted origin and a raw client, all in this process, with books that have to balance at the end.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "every test binary has this module and uses its own part of it"
)]

mod bench;
mod books;
pub mod h2;
pub mod offence;
mod origin;
mod peer;

pub use bench::{Bench, Setup};
pub use books::Finished;
pub use origin::Origin;
pub use peer::{End, Message, Peer};

use std::time::{Duration, Instant};

/// How long anything may take before a test fails: much longer than it takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `done`, and tells whether it came to that.
pub fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
