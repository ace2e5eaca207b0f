//! How fast a client is, at least: a body that drips holds resources for as long as its sender likes.

use oxy_core::clock::TICK;
use oxy_core::{Error, ErrorKind, Result};

use crate::options::BodyLimits;

/// Holds a body against [`BodyLimits::min_rate`]. Only time that is spent waiting for the client counts: a server that
/// sends events once a minute is not slow, it has nothing to say.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Since when, in ticks, the client is waited for.
    since: Option<u64>,
    /// Ticks that were waited for the client in this window.
    waited: u64,
    /// Payload bytes that had passed when the window began.
    base: u64,
}

impl Pace {
    /// Nothing can be done at `now` ticks, with `payload` bytes passed, and `client` says whether it is the client that is
    /// waited for. An error of kind `Timeout` if it is too slow.
    pub(crate) fn pause(
        &mut self,
        now: u64,
        payload: u64,
        client: bool,
        limits: &BodyLimits,
    ) -> Result<()> {
        if let Some(since) = self.since.take() {
            self.waited += now - since;
            let grace = (limits.grace.as_millis() / TICK.as_millis()) as u64;
            if self.waited >= grace.max(1) {
                let second = (1000 / TICK.as_millis()) as u64;
                let moved = payload - self.base;
                if moved.saturating_mul(second) < limits.min_rate.saturating_mul(self.waited) {
                    return Err(Error::down(ErrorKind::Timeout).context("a body that drips"));
                }
                self.waited = 0;
                self.base = payload;
            }
        }
        self.since = client.then_some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether 60 s pass in which `bytes` come every `every` ticks, with the client to blame as `client` says.
    fn passes(bytes: u64, every: u64, client: bool) -> bool {
        let mut pace = Pace::default();
        (0..600 / every).all(|i| {
            pace.pause(i * every, i * bytes, client, &BodyLimits::default())
                .is_ok()
        })
    }

    #[test]
    fn dripping_is_told_from_pausing_and_from_waiting_for_others() {
        assert!(passes(11, 1, true), "110 bytes a second");
        assert!(!passes(9, 1, true), "90 bytes a second");
        assert!(passes(2000, 150, true), "2000 bytes each 15 seconds");
        assert!(!passes(1, 10, true));
        assert!(passes(1, 10, false), "the origin is slow");
    }
}
