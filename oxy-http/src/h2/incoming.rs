//! A body that is read from an HTTP/2 stream.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::RecvStream;
use oxy_core::{Error, ErrorKind, Result, Side};

use super::fault::fault;
use super::server::Stream;
use super::session::Ticket;
use crate::body::{Piece, Step, TrailerFields, cut_short};
use crate::outgoing::Outgoing;
use crate::waits;

/// A body on its way in. The peer may send more only once what came has been passed on (RFC 9113 section 5.2): a slow
/// reader on the far side stops it.
pub(crate) struct Incoming {
    recv: RecvStream,
    side: Side,
    /// Bytes that have been handed out and not yet been asked for anew.
    unreleased: usize,
    /// What Content-Length says is still to come.
    left: Option<u64>,
    /// Bytes of payload that may still come; a body that has more is an error.
    allowance: u64,
    /// Whether the data is over; trailers may follow.
    drained: bool,
    done: bool,
    home: Home,
}

/// What is kept until the body is over.
pub(crate) enum Home {
    /// The client's stream, and whether the client waits for 100 (Continue) before it sends anything.
    Client(Arc<Stream>, bool),
    /// A place on a connection to an origin, and the rest of the request, still on its way up.
    Upstream {
        _ticket: Ticket,
        upload: Option<Box<dyn Outgoing>>,
    },
}

impl Incoming {
    /// The body of a message whose head says that it has `length` bytes.
    pub(crate) fn new(recv: RecvStream, length: Option<u64>, home: Home) -> Self {
        let side = match &home {
            Home::Client(..) => Side::Down,
            Home::Upstream { .. } => Side::Up,
        };
        Self {
            recv,
            side,
            unreleased: 0,
            left: length,
            allowance: u64::MAX,
            drained: false,
            done: false,
            home,
        }
    }

    /// At most `max` bytes of payload; 0 is no bound.
    pub(crate) fn at_most(mut self, max: u64) -> Self {
        self.allow(max);
        self
    }

    /// At most `max` more bytes of payload; 0 is no bound.
    pub(crate) fn allow(&mut self, max: u64) {
        self.allowance = if max > 0 { max } else { u64::MAX };
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done || self.recv.is_end_stream()
    }

    pub(crate) fn length(&self) -> Option<u64> {
        if self.is_done() { Some(0) } else { self.left }
    }

    pub(crate) fn is_expecting(&self) -> bool {
        matches!(self.home, Home::Client(_, true))
    }

    pub(crate) fn informed(&mut self) {
        if let Home::Client(_, expecting) = &mut self.home {
            *expecting = false;
        }
    }

    /// What comes next. Cancel safe.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step>> {
        if let Home::Client(stream, expecting) = &mut self.home
            && std::mem::take(expecting)
        {
            stream.go_on();
        }
        let step = self.poll_frame(cx);
        if step.is_pending() {
            waits::waiting(self.side);
        }
        step
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step>> {
        if self.unreleased > 0 {
            // Fails only for a stream that is over.
            let _ = self.recv.flow_control().release_capacity(self.unreleased);
            self.unreleased = 0;
        }
        while !self.drained {
            let Some(data) = ready!(self.recv.poll_data(cx)) else {
                self.drained = true;
                break;
            };
            let data = data.map_err(|e| fault(e, self.side))?;
            if data.is_empty() {
                continue;
            }
            let n = data.len() as u64;
            self.unreleased = data.len();
            self.left = self.left.map(|left| left.saturating_sub(n));
            waits::came(n);
            if let Home::Client(stream, _) = &self.home {
                stream.count(n);
            }
            if self.allowance != u64::MAX {
                self.allowance = self.allowance.checked_sub(n).ok_or_else(|| {
                    Error::new(ErrorKind::BodyTooLarge, self.side).context("a body over the limit")
                })?;
            }
            return Poll::Ready(Ok(Step::Data(Piece::Bytes(data))));
        }
        if self.done {
            return Poll::Ready(Ok(Step::End));
        }
        let trailers = ready!(self.recv.poll_trailers(cx)).map_err(|e| fault(e, self.side))?;
        self.done = true;
        if self.left.is_some_and(|left| left > 0) {
            return Poll::Ready(Err(cut_short(self.side)));
        }
        Poll::Ready(Ok(match trailers {
            Some(map) => Step::Trailers(TrailerFields::Map(map)),
            None => Step::End,
        }))
    }

    /// Goes on with the upload of the request whose response this is.
    pub(crate) fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Home::Upstream { upload, .. } = &mut self.home else {
            return Poll::Ready(Ok(()));
        };
        let Some(sender) = upload else {
            return Poll::Ready(Ok(()));
        };
        let done = ready!(sender.poll(cx));
        *upload = None;
        match done {
            // The response may still be good.
            Err(error) if error.side() == Side::Up => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}
