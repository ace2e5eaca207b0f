//! Streams, both ways in one task.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Fault, RelayOptions, Transfer};
use crate::carrier::{Link, StreamIo};
use crate::clock::Alarm;
use crate::{Error, ErrorKind, Result, Side};

/// Relays both ways until both sides have ended. The end of one side is passed on while the other goes on.
///
/// `near` is the side of whoever sent the flow ([`Side::Down`]), `far` that of its target ([`Side::Up`]). Whatever else
/// ends it, an error of reading, a time-out, or dropping the future, ends both sides by an abort ([`Link::abort`]), so that neither
/// takes a part for the whole. Where a side takes no more bytes, what it has still to say is passed on before the relay
/// ends with that error. Errors of kind `Timeout` have side `Local`.
pub async fn stream(near: StreamIo, far: StreamIo, options: &RelayOptions) -> Result<()> {
    let mut relay = Relay::new(near, far, options);
    poll_fn(|cx| relay.poll(cx)).await
}

/// How long a side that takes no more bytes may go on without saying anything. A socket that has failed says so at once;
/// this is for what lies above one and does not know.
const LAST_WORDS: Duration = Duration::from_secs(5);

struct Relay<'a> {
    up: Way,
    down: Way,
    alarm: Alarm,
    moved: Option<u64>,
    ends: Option<Instant>,
    options: &'a RelayOptions,
    /// Both sides have been told the end.
    done: bool,
}

/// One of the two directions.
struct Way {
    transfer: Transfer,
    from: Side,
    to: Side,
    link: Arc<Link>,
    stage: Stage,
    /// Why `to` takes no more.
    fault: Option<Error>,
}

enum Stage {
    /// What was read to look at it goes first.
    Prefix(Bytes, usize),
    Moving,
    Closing,
    Closed,
}

impl<'a> Relay<'a> {
    fn new(near: StreamIo, far: StreamIo, options: &'a RelayOptions) -> Self {
        let ((near, from_near), (far, from_far)) = (near.into_parts(), far.into_parts());
        let way =
            |(from, from_side): (&Arc<Link>, _), (to, to_side): (&Arc<Link>, _), prefix| Way {
                transfer: Transfer::new(from.clone(), to.clone(), None, options),
                from: from_side,
                to: to_side,
                link: to.clone(),
                stage: Stage::Prefix(prefix, 0),
                fault: None,
            };
        Self {
            up: way((&near, Side::Down), (&far, Side::Up), from_near),
            down: way((&far, Side::Up), (&near, Side::Down), from_far),
            alarm: Alarm::new(),
            moved: None,
            ends: options.total.map(|total| Instant::now() + total),
            options,
            done: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let up = self.up.poll(cx)?;
        let down = self.down.poll(cx)?;
        if up.is_ready() && down.is_ready() {
            self.done = true;
            let fault = self.up.fault.take().or(self.down.fault.take());
            return Poll::Ready(fault.map_or(Ok(()), Err));
        }
        let moved = self.up.progress() + self.down.progress();
        if self.moved != Some(moved) {
            self.moved = Some(moved);
            self.alarm.set(self.patience());
        }
        ready!(self.alarm.poll_expired(cx));
        let what = match self.ends {
            Some(ends) if ends <= Instant::now() => "the relay's total time",
            _ => "the relay's idle time",
        };
        Poll::Ready(Err(Error::local(ErrorKind::Timeout).context(what)))
    }

    /// How long nothing may happen from now on.
    fn patience(&self) -> Duration {
        let half =
            matches!(self.up.stage, Stage::Closed) != matches!(self.down.stage, Stage::Closed);
        let half = self.options.half_closed.filter(|_| half);
        let mut idle = half.unwrap_or(self.options.idle);
        if self.up.fault.is_some() || self.down.fault.is_some() {
            idle = idle.min(LAST_WORDS);
        }
        match self.ends {
            Some(ends) => idle.min(ends.saturating_duration_since(Instant::now())),
            None => idle,
        }
    }
}

impl Way {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            match &mut self.stage {
                Stage::Prefix(bytes, done) => {
                    let written = if bytes.is_empty() {
                        Ok(())
                    } else {
                        ready!(self.link.poll_write_all(cx, bytes, done))
                    };
                    self.stage = Stage::Moving;
                    if let Err(e) = written {
                        self.fail(Fault::To(e));
                    }
                }
                Stage::Moving => match ready!(self.transfer.poll(cx)) {
                    Ok(_) => self.stage = Stage::Closing,
                    Err(Fault::From(e)) => {
                        return Poll::Ready(Err(Fault::From(e).into_error(self.from, self.to)));
                    }
                    Err(fault) => self.fail(fault),
                },
                Stage::Closing => {
                    // Whoever has closed both ways already cannot be told any more, and need not be.
                    let _ = ready!(self.link.poll_shutdown(cx));
                    self.stage = Stage::Closed;
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Nothing goes this way any more.
    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault.into_error(self.from, self.to));
        self.stage = Stage::Closed;
    }

    /// A number that changes with every byte and every step.
    fn progress(&self) -> u64 {
        let stage = match &self.stage {
            Stage::Prefix(_, done) => *done as u64,
            Stage::Moving => 0,
            Stage::Closing => 1,
            Stage::Closed => 2,
        };
        2 * self.transfer.moved() + self.transfer.held() as u64 + stage
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.up.link.abort(0);
            self.down.link.abort(0);
        }
    }
}
