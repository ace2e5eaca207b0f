//! Writing a message to an HTTP/1 connection: the head, and the body as it comes, re-framed (RFC 9112 sections 6 and 7).

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use oxy_core::relay::splice::can_splice;
use oxy_core::relay::{RelayOptions, Transfer};
use oxy_core::{Error, ErrorKind, Link, Result, Side};

use super::incoming::Slot;
use super::index::Framing;
use super::write;
use crate::attended::gone;
use crate::body::{Body, Piece, Step, TrailerFields, cut_short};
use crate::outgoing::Outgoing;
use crate::pace::Pace;
use crate::scratch::Out;
use crate::semantics::{write_trailer_map, write_trailers};

/// Payload up to this many bytes is copied behind its head, to leave in one plain send; more goes by reference.
const COPIED: usize = 4 * 1024;

/// From how many bytes on a body goes by `splice(2)`: below it two more system calls cost more than copying.
const BULK: u64 = 24 * 1024;

/// A message on its way out.
pub(crate) struct Pump {
    link: Arc<Link>,
    body: Body,
    framing: Framing,
    /// Payload bytes that the head has promised and that have not been staged.
    left: u64,
    /// What is staged: `out`, then `piece`, then `tail`, of which `done` bytes have been written.
    out: Out,
    piece: Option<Piece>,
    tail: Cow<'static, [u8]>,
    done: usize,
    ended: bool,
    /// Whether the body waits to be let go; the head does not.
    held: bool,
    /// To whom this is written, for blame.
    to: Side,
    waits_for: Side,
    payload: u64,
    /// The rest of the body on its way from socket to socket, unseen.
    transfer: Option<Box<Transfer>>,
    low_water: bool,
    pace: Pace,
    /// Whom to tell that the message has begun, until that is done.
    begins: Option<Arc<Slot>>,
}

impl Pump {
    /// Writes `head` and then `body` as `framing` says, which is what the head promises.
    pub(crate) fn new(link: Arc<Link>, to: Side, head: Out, body: Body, framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            _ => 0,
        };
        Self {
            link,
            body,
            framing,
            left,
            out: head,
            piece: None,
            tail: Cow::Borrowed(b""),
            done: 0,
            ended: framing.is_empty(),
            held: false,
            to,
            waits_for: to,
            payload: 0,
            transfer: None,
            low_water: false,
            pace: Pace::default(),
            begins: None,
        }
    }

    /// Tells `slot` before the first byte is written.
    pub(crate) fn telling(mut self, slot: Arc<Slot>) -> Self {
        self.begins = Some(slot);
        self
    }

    /// Lets bulk raise its socket's low-water mark ([`RelayOptions::low_water`]).
    pub(crate) fn low_water(mut self, on: bool) -> Self {
        self.low_water = on;
        self
    }

    /// Whether only the end of the connection tells the reader that the body is over.
    pub(crate) fn is_delimited_by_close(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    /// Whether the rest of the body goes from socket to socket without being looked at.
    fn begins_bulk(&mut self) -> bool {
        if self.ended || self.held || self.piece.is_some() || !self.tail.is_empty() {
            return false;
        }
        let Some((from, left)) = self.body.as_incoming().and_then(|incoming| incoming.bulk())
        else {
            return false;
        };
        let fits = match (self.framing, left) {
            (Framing::Length(_), Some(left)) => left == self.left && left > BULK,
            (Framing::UntilClose, None) => true,
            _ => false,
        };
        if !fits || !can_splice(from, &self.link) {
            return false;
        }
        let mut options = RelayOptions::default();
        options.low_water = self.low_water;
        let transfer = Transfer::new(from.clone(), self.link.clone(), left, &options);
        self.transfer = Some(Box::new(transfer));
        true
    }

    fn poll_bulk(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.waits_for = self.to;
        ready!(self.poll_flush(cx)).map_err(|e| Error::io(self.to, e).context("writing"))?;
        let from = self.other_side();
        let Some(transfer) = &mut self.transfer else {
            return Poll::Ready(Ok(()));
        };
        let Some(incoming) = self.body.as_incoming() else {
            return Poll::Ready(Ok(()));
        };
        incoming.begin_bulk();
        let before = transfer.moved();
        let moved = transfer.poll(cx);
        incoming.count(transfer.moved() - before);
        if let Some(left) = transfer.left() {
            incoming.bulk_left(left);
        }
        let Poll::Ready(moved) = moved else {
            if transfer.held() == 0 {
                self.waits_for = from;
                ready!(self.poll_reader_gone(cx))?;
            }
            return Poll::Pending;
        };
        let moved = moved.map_err(|fault| fault.into_error(from, self.to))?;
        self.transfer = None;
        self.payload += moved;
        if matches!(self.framing, Framing::Length(_)) && moved < self.left {
            return Poll::Ready(Err(cut_short(from)));
        }
        self.left = 0;
        self.ended = true;
        incoming.moved();
        Poll::Ready(Ok(()))
    }

    /// Ready, with an error, once a client that waits for more has gone.
    fn poll_reader_gone(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.to != Side::Down {
            return Poll::Pending;
        }
        ready!(self.link.poll_reset(cx));
        Poll::Ready(Err(gone()))
    }

    fn other_side(&self) -> Side {
        match self.to {
            Side::Up => Side::Down,
            _ => Side::Up,
        }
    }

    /// Stages what the body has next, and the end with it if it is known.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match ready!(self.body.poll_step(cx))? {
            Step::Data(piece) => {
                self.stage(piece)?;
                // Whatever can be told of the end now saves a write of its own.
                if self.body.is_done() {
                    self.end(None)?;
                }
            }
            Step::Trailers(trailers) => self.end(Some(&trailers))?,
            Step::End => self.end(None)?,
        }
        Poll::Ready(Ok(()))
    }

    fn stage(&mut self, piece: Piece) -> Result<()> {
        let length = piece.bytes().len();
        self.payload += length as u64;
        match self.framing {
            Framing::Chunked => {
                write::chunk_head(length as u64, &mut self.out);
                self.tail = Cow::Borrowed(write::CRLF);
            }
            Framing::Length(_) => {
                self.left = self
                    .left
                    .checked_sub(length as u64)
                    .ok_or_else(wrong_length)?;
            }
            Framing::UntilClose | Framing::None => {}
        }
        if self.done == 0 && length <= COPIED {
            self.out.extend_from_slice(piece.bytes());
            self.out.extend_from_slice(&self.tail);
            self.tail = Cow::Borrowed(b"");
        } else {
            self.piece = Some(piece);
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&TrailerFields>) -> Result<()> {
        self.ended = true;
        if self.left > 0 {
            return Err(wrong_length());
        }
        if matches!(self.framing, Framing::Chunked) {
            let mut tail = self.tail.to_vec();
            match trailers {
                Some(TrailerFields::Raw(raw)) => write_trailers(raw, &mut tail),
                Some(TrailerFields::Map(map)) => write_trailer_map(map, &mut tail),
                None => tail.extend_from_slice(write::LAST_CHUNK),
            }
            if self.piece.is_none() && self.done == 0 {
                self.out.extend_from_slice(&tail);
                self.tail = Cow::Borrowed(b"");
            } else {
                self.tail = Cow::Owned(tail);
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let total =
            self.out.len() + self.piece.as_ref().map_or(0, |p| p.bytes().len()) + self.tail.len();
        if let Some(slot) = self.begins.take() {
            slot.begin();
        }
        while self.done < total {
            let piece = self.piece.as_ref().map_or(&b""[..], Piece::bytes);
            let n = if piece.is_empty() && self.tail.is_empty() {
                ready!(self.link.poll_write(cx, &self.out[self.done..]))?
            } else {
                let mut skip = self.done;
                let parts = [&self.out[..], piece, &self.tail].map(|part| {
                    let n = skip.min(part.len());
                    skip -= n;
                    IoSlice::new(&part[n..])
                });
                ready!(self.link.poll_write_vectored(cx, &parts))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.done += n;
        }
        if total > 0 {
            self.out.clear();
            self.piece = None;
            self.tail = Cow::Borrowed(b"");
            self.done = 0;
            ready!(self.link.poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Outgoing for Pump {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if let Poll::Ready(Err(error)) = self.body.poll_background(cx) {
                return Poll::Ready(Err(error));
            }
            let mut starved = false;
            if self.transfer.is_some() || self.begins_bulk() {
                ready!(self.poll_bulk(cx))?;
                continue;
            }
            if !self.ended && self.piece.is_none() && self.tail.is_empty() {
                let staged = if self.held {
                    Poll::Pending
                } else {
                    self.poll_stage(cx)
                };
                match staged {
                    Poll::Ready(staged) => staged?,
                    Poll::Pending => starved = true,
                }
            }
            if self
                .poll_flush(cx)
                .map_err(|e| Error::io(self.to, e).context("writing"))?
                .is_pending()
            {
                self.waits_for = self.to;
                return Poll::Pending;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if starved {
                if let Poll::Ready(gone) = self.poll_reader_gone(cx) {
                    return Poll::Ready(gone);
                }
                // What is held back waits for the one it goes to, who has not asked for it yet.
                self.waits_for = if self.held {
                    self.to
                } else {
                    self.other_side()
                };
                return Poll::Pending;
            }
        }
    }

    fn payload(&self) -> u64 {
        self.payload
            + self
                .transfer
                .as_ref()
                .map_or(0, |transfer| transfer.moved())
    }

    fn waits_for(&self) -> Side {
        self.waits_for
    }

    fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    fn hold(&mut self, held: bool) {
        self.held = held;
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }
}

fn wrong_length() -> Error {
    Error::local(ErrorKind::Internal).context("a body is not as long as its head says")
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pump({:?}, {} staged)", self.framing, self.payload)
    }
}
