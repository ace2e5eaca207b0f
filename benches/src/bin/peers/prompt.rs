//! Programs that run as soon as they have something to do.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `chrt` of util-linux, and what it is told: the lowest of the priorities that time slices do not apply to.
const PREFIX: [&str; 3] = ["chrt", "--fifo", "1"];

/// The words in front of a command that make it run as soon as it has something to do; none where that is not allowed, as it
/// is to root.
///
/// With time slices somebody waits for somebody else's to end, 3 ms on many systems, about as often as the 99th of a hundred
/// requests comes: load and origin for each other, as they share a core, and proxies for whatever else there is on theirs. That
/// would be the latency of them all.
pub(crate) fn prefix() -> &'static [&'static str] {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| {
        let mut tried = Command::new(PREFIX[0]);
        tried.args(&PREFIX[1..]).arg("true").stderr(Stdio::null());
        tried.status().is_ok_and(|status| status.success())
    });
    if *allowed { &PREFIX } else { &[] }
}
