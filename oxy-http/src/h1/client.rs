//! The answer to one request on an HTTP/1 connection to an origin (RFC 9112 section 9).

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use oxy_core::buffer::Buffer;
use oxy_core::{Error, Link, Result, Side};

use super::incoming::room_for_head;
use super::index::ResponseIndex;
use super::parse::{self, MethodKind, Parse};
use crate::call::Answer;
use crate::limits::HeadLimits;
use crate::scratch::{Out, Spared};

/// A connection on which a response is awaited.
pub(crate) struct Wire {
    link: Arc<Link>,
    method: MethodKind,
    /// The request's head, kept for another try.
    head: Out,
    /// How much of it has been written, and whether it has gone; where a body follows, it goes with that.
    written: usize,
    sent: bool,
    /// Whether others have had their turn before it is written.
    yielded: bool,
    /// Whether a body is expected that goes by `splice(2)`.
    spliced: bool,
    /// Part of a head.
    partial: Option<Buffer>,
    /// Whether a byte has come back.
    touched: bool,
}

impl Wire {
    /// Writes `head`, and awaits the answer to it.
    pub(crate) fn new(link: Arc<Link>, method: MethodKind, head: Out) -> Self {
        Self {
            link,
            method,
            head,
            written: 0,
            sent: false,
            yielded: false,
            spliced: false,
            partial: None,
            touched: false,
        }
    }

    /// Leaves writing the head to `somebody_else`.
    pub(crate) fn sent_by(mut self, somebody_else: bool) -> Self {
        self.sent = somebody_else;
        self
    }

    /// Whether a body is expected that goes by `splice(2)`, so that little of it is read along with its head.
    pub(crate) fn before_bulk(mut self, spliced: bool) -> Self {
        self.spliced = spliced;
        self
    }

    /// Whether a byte of a response has come.
    pub(crate) fn touched(&self) -> bool {
        self.touched
    }

    /// The connection, and the request's head, to be sent again.
    pub(crate) fn into_parts(self) -> (Arc<Link>, Out) {
        (self.link, self.head)
    }

    /// Whether others are to have their turn now; the task is woken for its next one.
    ///
    /// What clients have sent is read first, all of it that there is. A busy worker then writes many requests in a row, and the
    /// origin, once awake, stays awake for them: waking it is a good part of what a write costs.
    pub(crate) fn makes_way(&mut self, cx: &Context<'_>) -> bool {
        let makes_way = !self.yielded && !self.sent;
        if makes_way {
            self.yielded = true;
            cx.waker().wake_by_ref();
        }
        makes_way
    }

    /// Writes the head on; the error if that fails, once.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        if self.sent {
            return None;
        }
        let head = self.link.poll_write_all(cx, &self.head, &mut self.written);
        self.sent = head.is_ready();
        match head {
            Poll::Ready(Err(e)) => Some(Error::io(Side::Up, e).context("writing")),
            _ => None,
        }
    }

    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &HeadLimits,
    ) -> Poll<Result<Answer>> {
        loop {
            // What followed an interim head is looked at before more is read.
            if let Some(buffer) = self.partial.take_if(|buffer| !buffer.is_empty()) {
                let mut index = Spared::<Box<ResponseIndex>>::take();
                match parse::response(buffer.filled(), limits, self.method, &mut index) {
                    Ok(Parse::Complete) => {
                        if (100..200).contains(&index.status) && index.status != 101 {
                            let mut rest = Buffer::new();
                            rest.put(&buffer.filled()[index.head_len..]);
                            self.partial = Some(rest);
                        }
                        return Poll::Ready(Ok(Answer::Http1 { buffer, index }));
                    }
                    Ok(Parse::Partial) => self.partial = Some(buffer),
                    Err(reject) => return Poll::Ready(Err(reject.up())),
                }
            }
            if self.partial.is_none() {
                ready!(self.link.poll_readable(cx)).map_err(failed)?;
            }
            let mut buffer = self.partial.take().unwrap_or_default();
            buffer.reserve(1);
            let room = room_for_head(buffer.spare(), self.spliced && !self.touched);
            let n = match self.link.poll_read(cx, room) {
                Poll::Ready(n) => n.map_err(failed)?,
                Poll::Pending => {
                    if !buffer.is_empty() {
                        self.partial = Some(buffer);
                    }
                    return Poll::Pending;
                }
            };
            if n == 0 {
                return Poll::Ready(Err(failed(std::io::ErrorKind::UnexpectedEof.into())));
            }
            self.touched = true;
            buffer.advance(n);
            self.partial = Some(buffer);
        }
    }
}

fn failed(e: std::io::Error) -> Error {
    Error::io(Side::Up, e).context("reading a response")
}
