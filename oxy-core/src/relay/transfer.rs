//! Moving bytes one way, with backpressure.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::RelayOptions;
use super::low_water::LowWater;
use super::splice::{Pipe, can_splice};
use crate::buffer::{self, Buffer};
use crate::carrier::Link;
use crate::{Error, Side};

/// From how many bytes on a transfer of known length is spliced: below it two more system calls cost more than copying.
const SPLICE_FROM: u64 = 24 * 1024;

/// How often a transfer fills and drains before it lets others have their turn: up to 8 MiB.
const ROUNDS: usize = 8;

/// Moves bytes from one link to another: by `splice(2)` where both are plain sockets and there is enough to move, and
/// otherwise through a pooled buffer. It holds nothing while it waits but bytes that the other side has not taken yet: at
/// most a pipe's or a buffer's fill.
#[derive(Debug)]
pub struct Transfer {
    from: Arc<Link>,
    to: Arc<Link>,
    moved: u64,
    left: Option<u64>,
    ended: bool,
    /// Much is coming: worth a pipe, or a large buffer.
    bulk: bool,
    splices: bool,
    held: Held,
    /// An error of `from` that waits until what came before it has been passed on.
    fault: Option<io::Error>,
    low_water: LowWater,
}

#[derive(Debug)]
enum Held {
    Nothing,
    Pipe(Pipe),
    /// A buffer, and how much of it has been written.
    Buffer(Buffer, usize),
}

/// What ended a [`Transfer`] early.
#[derive(Debug)]
pub enum Fault {
    /// Reading failed.
    From(io::Error),
    /// Writing failed.
    To(io::Error),
}

impl Fault {
    /// The error of the workspace, where `from` is the side that is read and `to` the one that is written.
    pub fn into_error(self, from: Side, to: Side) -> Error {
        match self {
            Self::From(e) => Error::io(from, e).context("reading"),
            Self::To(e) => Error::io(to, e).context("writing"),
        }
    }
}

impl Transfer {
    /// Is to move `left` bytes, or all until the stream ends where that is none.
    pub fn new(from: Arc<Link>, to: Arc<Link>, left: Option<u64>, options: &RelayOptions) -> Self {
        Self {
            splices: can_splice(&from, &to),
            low_water: LowWater::new(from.clone(), options.low_water && left != Some(0)),
            bulk: left.is_some_and(|left| left > SPLICE_FROM),
            from,
            to,
            moved: 0,
            left,
            ended: false,
            held: Held::Nothing,
            fault: None,
        }
    }

    /// Bytes that have reached the other side so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes that are still to be read; none where only the stream's end tells.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// Bytes that have been read and not been written yet.
    pub fn held(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Pipe(pipe) => pipe.len(),
            Held::Buffer(buffer, done) => buffer.len() - done,
        }
    }

    /// Ready once all has been moved, with the number of bytes: fewer than were asked for if the stream ended early. The
    /// other side is not shut down. Cancel safe. Errors are final.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, Fault>> {
        for _ in 0..ROUNDS {
            ready!(self.poll_flush(cx)).map_err(Fault::To)?;
            if let Some(fault) = self.fault.take() {
                return Poll::Ready(Err(Fault::From(fault)));
            }
            if self.ended || self.left == Some(0) {
                self.low_water.off();
                return Poll::Ready(Ok(self.moved));
            }
            let Poll::Ready(filled) = self.poll_fill(cx) else {
                self.low_water.waiting(cx);
                return Poll::Pending;
            };
            let n = filled.map_err(Fault::From)?;
            self.ended |= n == 0;
            self.left = self.left.map(|left| left.saturating_sub(n as u64));
            let come = self.moved + n as u64;
            self.low_water.moved(come, self.left.unwrap_or(u64::MAX));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.held {
            Held::Nothing => return Poll::Ready(Ok(())),
            Held::Pipe(pipe) => {
                while !pipe.is_empty() {
                    self.moved += ready!(pipe.poll_drain(cx, &self.to))? as u64;
                }
            }
            Held::Buffer(buffer, done) => {
                let before = *done;
                let written = self.to.poll_write_all(cx, buffer.filled(), done);
                self.moved += (*done - before) as u64;
                ready!(written)?;
            }
        }
        self.held = Held::Nothing;
        Poll::Ready(Ok(()))
    }

    /// Reads into a pipe or buffer that is held only if something came; 0 is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bulk && self.splices {
            // No descriptors or no quota: copying still works.
            if let Ok(mut pipe) = Pipe::take() {
                let max = self.left.unwrap_or(u64::MAX);
                let n = ready!(pipe.poll_fill(cx, &self.from, max))?;
                // A peer that has turned to small messages is served by copying, from the next one on.
                self.bulk = n >= buffer::SIZE || self.left.is_some_and(|left| left > SPLICE_FROM);
                self.held = Held::Pipe(pipe);
                return Poll::Ready(Ok(n));
            }
        }
        self.poll_copy(cx)
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Where splicing would do and has failed, the process is short of something: no large buffers then.
        let mut buffer = if self.bulk && !self.splices {
            Buffer::bulk()
        } else {
            Buffer::new()
        };
        let is_socket = self.from.socket().is_some();
        loop {
            let left = self.left.map_or(usize::MAX, |left| {
                usize::try_from(left).unwrap_or(usize::MAX) - buffer.len()
            });
            let spare = buffer.spare();
            let room = spare.len().min(left);
            if room == 0 {
                break;
            }
            match self.from.poll_read(cx, &mut spare[..room]) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    break;
                }
                Poll::Ready(Ok(n)) => {
                    buffer.advance(n);
                    // One read empties a socket; what lies above one (TLS) gives a record at a time.
                    if is_socket {
                        break;
                    }
                }
                Poll::Ready(Err(e)) if buffer.is_empty() => return Poll::Ready(Err(e)),
                Poll::Ready(Err(e)) => {
                    self.fault = Some(e);
                    break;
                }
                Poll::Pending if buffer.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let n = buffer.len();
        self.bulk = n >= buffer::SIZE || self.left.is_some_and(|left| left > SPLICE_FROM);
        if n > 0 {
            self.held = Held::Buffer(buffer, 0);
        }
        Poll::Ready(Ok(n))
    }
}
