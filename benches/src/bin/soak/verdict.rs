//! The table, and what in it must not be.

use crate::rest::Rest;
use crate::tally::Tally;

/// How much more memory than before the load may stay.
const MEMORY_LEAST: u64 = 8 << 20;

/// The same, as a share of what there was.
const MEMORY_PERCENT: u64 = 20;

/// Descriptors that may stay besides those to the origin: each of two workers keeps up to 16 empty pipes, of two each.
const FILES: u64 = 64;

/// How much memory may stay.
pub(crate) fn memory_limit(before: Rest) -> u64 {
    before.rss + MEMORY_LEAST.max(before.rss * MEMORY_PERCENT / 100)
}

/// What the whole run came to.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) tally: &'a Tally,
    pub(crate) wanted: u64,
    pub(crate) most_open: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) peak_rss: u64,
    pub(crate) before: Rest,
    pub(crate) after: Rest,
}

impl Outcome<'_> {
    pub(crate) fn print(&self) {
        let (tally, before, after) = (self.tally, self.before, self.after);
        let rows = [
            ("seconds", format!("{:.1}", self.seconds)),
            ("proxy's cpu seconds", format!("{:.1}", self.cpu)),
            ("most connections open", self.most_open.to_string()),
            ("connections", tally.connections.now().to_string()),
            ("requests", tally.requests.now().to_string()),
            ("answered right", tally.right.now().to_string()),
            ("bytes compared", mib(tally.bytes.now())),
            ("resets by the origin", tally.resets.now().to_string()),
            (
                "... of idle connections",
                tally.idle_resets.now().to_string(),
            ),
            ("502 and 504", tally.gateway.now().to_string()),
            ("cut", tally.cut.now().to_string()),
            ("given up by clients", tally.given_up.now().to_string()),
            (
                "without a reset to explain it",
                tally.unexplained.now().to_string(),
            ),
            ("wrong", tally.wrong.now().to_string()),
            ("hung", tally.hung.now().to_string()),
            ("flows left", after.flows.to_string()),
            ("descriptors before", before.files.to_string()),
            ("descriptors after", after.files.to_string()),
            ("memory before", mib(before.rss)),
            ("memory at its peak", mib(self.peak_rss)),
            ("memory after", mib(after.rss)),
        ];
        for (name, value) in rows {
            println!("{name:30} {value:>14}");
        }
    }

    /// All that is not as it has to be.
    pub(crate) fn violations(&self) -> Vec<String> {
        let (tally, before, after) = (self.tally, self.before, self.after);
        let mut found = tally.said();
        let mut must = |holds: bool, what: String| {
            if !holds {
                found.push(what);
            }
        };
        must(
            tally.wrong.now() == 0,
            format!("{} were wrong", tally.wrong.now()),
        );
        must(
            tally.hung.now() == 0,
            format!("{} had no end", tally.hung.now()),
        );
        must(tally.right.now() > 0, "nothing was answered".into());
        // A request can meet a pooled connection that is just being reset: not its own doing, but the origin's.
        let (doubts, allowed) = (tally.unexplained.now(), tally.idle_resets.now());
        must(
            doubts <= allowed,
            format!(
                "{doubts} failures, and {allowed} idle connections that were reset, to explain them; among them: {}",
                tally.doubts().join("; ")
            ),
        );
        must(
            self.most_open >= self.wanted * 9 / 10,
            format!("only {} connections were open at a time", self.most_open),
        );
        must(
            before.flows == 0 && after.flows == 0,
            format!("{} flows are left", after.flows),
        );
        must(
            after.files <= before.files + FILES,
            format!("{} descriptors are left", after.files),
        );
        let limit = memory_limit(before);
        must(
            after.rss <= limit,
            format!(
                "memory is {} where {} are allowed",
                mib(after.rss),
                mib(limit)
            ),
        );
        found
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
