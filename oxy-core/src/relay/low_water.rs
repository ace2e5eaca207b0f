//! Waking up once for much instead of often for little: `SO_RCVLOWAT`.
//!
//! A fast sender's bytes come in segments, and each would wake the receiver up. With a low-water mark the kernel says
//! "readable" only once as many bytes are there. That must never hold back bytes that come slowly: the mark is set only
//! for a transfer that has shown to be fast, a coarse alarm takes it away when it has not been reached, and from then on
//! the transfer does without.

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::carrier::Link;
use crate::clock::{Alarm, TICK};
use crate::sys;

/// The highest mark in bytes: half of what a pipe holds, so that what comes while we are being woken fits, too.
const HIGHEST: u32 = 512 * 1024;

/// With less than this left, in bytes, a mark saves too few wake-ups to be worth its system calls.
const WORTH: u64 = 256 * 1024;

/// How many bytes must have been moved before the rate says anything: more than a sender's initial window (RFC 6928), which
/// comes at once even over a slow path.
const SAMPLE: u64 = 48 * 1024;

/// The rate, in bytes a second, at which a transfer is fast: the highest mark is then reached in 10 ms, a tenth of the
/// alarm's tick.
const FAST: u64 = 50 * 1024 * 1024;

/// The low-water mark of one transfer, taken back when it is dropped.
#[derive(Debug)]
pub(super) struct LowWater {
    link: Arc<Link>,
    /// What the socket's mark is.
    mark: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Until the first bytes have come.
    Unused,
    /// It is not known yet whether the transfer is fast.
    Since(Instant),
    Fast(Alarm),
    /// It was slow once, or the socket cannot do it.
    Off,
}

impl LowWater {
    /// A mark for `link`, not set yet; never to be set unless `enabled`.
    pub(super) fn new(link: Arc<Link>, enabled: bool) -> Self {
        let state = if enabled && link.is_tcp() {
            State::Unused
        } else {
            State::Off
        };
        Self {
            link,
            mark: 1,
            state,
        }
    }

    /// Bytes have been moved: `moved` since the transfer began, with `left` to come.
    pub(super) fn moved(&mut self, moved: u64, left: u64) {
        match &self.state {
            State::Off => return,
            State::Unused => {
                self.state = if left > WORTH {
                    State::Since(Instant::now())
                } else {
                    State::Off
                };
                return;
            }
            State::Since(_) if moved < SAMPLE => return,
            State::Since(start) => {
                let rate = moved as f64 / start.elapsed().as_secs_f64().max(1e-9);
                if rate < FAST as f64 {
                    // Look again when as much has come: the start may have been slow.
                    if moved > 64 * SAMPLE {
                        self.state = State::Off;
                    }
                    return;
                }
                if left <= WORTH {
                    self.state = State::Off;
                    return;
                }
                self.state = State::Fast(Alarm::new());
            }
            State::Fast(_) => {}
        }
        let mark = u32::try_from(left).unwrap_or(HIGHEST).min(HIGHEST);
        // The last part is waited for as a whole; a mark above what is left would never be reached.
        self.set(mark.max(1));
        if let State::Fast(alarm) = &self.state {
            alarm.set(PATIENCE);
        }
    }

    /// To be called while the transfer waits for bytes. Takes the mark away when it has not been reached in time; the
    /// kernel then says "readable" at once if anything is there.
    pub(super) fn waiting(&mut self, cx: &mut Context<'_>) {
        if self.mark > 1
            && let State::Fast(alarm) = &self.state
            && alarm.poll_expired(cx).is_ready()
        {
            self.off();
        }
    }

    /// Takes the mark away for good.
    pub(super) fn off(&mut self) {
        self.set(1);
        self.state = State::Off;
    }

    fn set(&mut self, mark: u32) {
        if mark == self.mark {
            return;
        }
        let Some(socket) = self.link.socket() else {
            return;
        };
        match sys::set_low_water(socket, mark) {
            Ok(()) => self.mark = mark,
            // It cannot be set, and so is not set.
            Err(_) => self.state = State::Off,
        }
    }
}

/// How long bytes may be held back by a mark that is not reached; the alarm adds up to one tick.
const PATIENCE: Duration = TICK;

impl Drop for LowWater {
    fn drop(&mut self) {
        self.set(1);
    }
}
