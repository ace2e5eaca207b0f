//! A body that is written to an HTTP/2 stream.

use std::fmt;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, SendStream};
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use oxy_core::{Error, ErrorKind, Result, Side};

use super::fault::{fault, reason};
use crate::attended::gone;
use crate::body::{Body, Piece, Step, TrailerFields};
use crate::outgoing::Outgoing;
use crate::pace::Pace;
use crate::semantics::{may_be_trailer, trailer_map};

/// Payload up to this many bytes is copied, so that a stream that waits for its window does not hold a whole buffer for
/// a little of it.
const COPIED: usize = 4 * 1024;

/// How much of a request's body is kept until the origin answers, because an origin that takes no more requests on a
/// connection (RFC 9113 section 6.8) may have been sent one that it will not look at: most bodies that are no files.
const KEPT: usize = 16 * 1024;

/// The payload and trailers of a message on their way out, as fast as the peer's windows let them (RFC 9113 section 5.2).
pub(crate) struct Sender {
    stream: SendStream<Piece>,
    body: Body,
    /// What waits for the window.
    piece: Option<Piece>,
    /// Payload bytes that the head has promised and that have not been staged.
    left: Option<u64>,
    /// Whether nothing follows `piece`.
    ended: bool,
    /// Whether all has been handed over.
    done: bool,
    held: bool,
    /// To whom this is written, for blame.
    to: Side,
    waits_for: Side,
    payload: u64,
    pace: Pace,
    /// What has been staged, as long as it may have to be sent again.
    kept: Option<Kept>,
}

/// The start of a body: one piece, which is all there is of most, and the others.
#[derive(Default)]
struct Kept {
    first: Bytes,
    more: BytesMut,
}

impl Sender {
    /// Writes `body` behind a head that has promised `length` bytes of it, if it did.
    pub(crate) fn new(
        stream: SendStream<Piece>,
        to: Side,
        body: Body,
        length: Option<u64>,
    ) -> Self {
        Self {
            stream,
            body,
            piece: None,
            left: length,
            ended: false,
            done: false,
            held: false,
            to,
            waits_for: to,
            payload: 0,
            pace: Pace::default(),
            kept: (to == Side::Up).then(Kept::default),
        }
    }

    fn other_side(&self) -> Side {
        match self.to {
            Side::Up => Side::Down,
            _ => Side::Up,
        }
    }

    /// Hands over as much of the piece as the windows take.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(piece) = &mut self.piece {
            let length = piece.remaining();
            if self.stream.capacity() < length {
                self.stream.reserve_capacity(length);
            }
            let room = self.stream.capacity();
            if room == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(fault(e, self.to))),
                    Poll::Ready(None) => {
                        let error = Error::new(ErrorKind::Closed, self.to);
                        return Poll::Ready(Err(error.context("the stream was closed")));
                    }
                    Poll::Pending => {
                        self.waits_for = self.to;
                        return Poll::Pending;
                    }
                }
            }
            let part = if room < length {
                Piece::Bytes(piece.copy_to_bytes(room))
            } else {
                match self.piece.take() {
                    Some(piece) => piece,
                    None => break,
                }
            };
            let last = self.ended && self.piece.is_none();
            self.send(part, last)?;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, part: Piece, last: bool) -> Result<()> {
        self.done |= last;
        self.stream
            .send_data(part, last)
            .map_err(|e| fault(e, self.to))
    }

    fn stage(&mut self, piece: Piece) -> Result<()> {
        let length = piece.remaining();
        self.payload += length as u64;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length as u64).ok_or_else(wrong_length)?;
        }
        let piece = match piece {
            Piece::Buffer(buffer) if length <= COPIED => {
                Piece::Bytes(Bytes::copy_from_slice(buffer.filled()))
            }
            piece => piece,
        };
        self.kept = self.kept.take().and_then(|kept| kept.with(&piece));
        self.piece = Some(piece);
        Ok(())
    }

    fn end(&mut self, trailers: Option<TrailerFields>) -> Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(wrong_length());
        }
        self.ended = true;
        if trailers.is_some() {
            // They would be missing.
            self.kept = None;
        }
        let map = match trailers {
            Some(TrailerFields::Raw(raw)) => trailer_map(&raw),
            Some(TrailerFields::Map(map)) => allowed(map),
            None => HeaderMap::new(),
        };
        if map.is_empty() {
            return self.send(Piece::Bytes(Bytes::new()), true);
        }
        self.done = true;
        self.stream
            .send_trailers(map)
            .map_err(|e| fault(e, self.to))
    }

    /// Ready once the peer has reset the stream: with an error, unless it only says that it needs no more (RFC 9113
    /// section 8.1).
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let enough = match ready!(self.stream.poll_reset(cx)) {
            Ok(reason) => reason == Reason::NO_ERROR,
            Err(_) => false,
        };
        self.done = true;
        Poll::Ready(match self.to {
            Side::Up if enough => Ok(()),
            Side::Down => Err(gone()),
            to => Err(Error::new(ErrorKind::Closed, to).context("the stream was reset")),
        })
    }

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if let Poll::Ready(Err(error)) = self.body.poll_background(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_flush(cx))?;
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if self.held {
                // What is held back waits for the one it goes to, who has not asked for it yet.
                self.waits_for = self.to;
                return Poll::Pending;
            }
            self.waits_for = self.other_side();
            match ready!(self.body.poll_step(cx))? {
                Step::Data(piece) => {
                    self.stage(piece)?;
                    // Whatever can be told of the end now saves a frame of its own.
                    if self.body.is_done() {
                        if self.left.is_some_and(|left| left > 0) {
                            return Poll::Ready(Err(wrong_length()));
                        }
                        self.ended = true;
                    }
                }
                Step::Trailers(trailers) => self.end(Some(trailers))?,
                Step::End => self.end(None)?,
            }
        }
    }
}

impl Outgoing for Sender {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.poll_on(cx) {
            Poll::Pending => self.poll_reset(cx),
            Poll::Ready(Err(error)) => {
                self.done = true;
                // A peer that has gone, or has been told off by the library, needs no reset of ours.
                if error.side() != self.to || error.kind() == ErrorKind::Timeout {
                    self.stream.send_reset(reason(&error));
                }
                Poll::Ready(Err(error))
            }
            done @ Poll::Ready(Ok(())) => done,
        }
    }

    fn payload(&self) -> u64 {
        self.payload
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

    fn take_back(&mut self) -> Option<Body> {
        let start = self.kept.take()?.whole();
        self.piece = None;
        Some(Body::rejoined(start, self.body.take()))
    }

    fn settle(&mut self) {
        self.kept = None;
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }
}

impl Kept {
    /// None if that is too much.
    fn with(mut self, piece: &Piece) -> Option<Self> {
        let bytes = piece.bytes();
        if self.first.len() + self.more.len() + bytes.len() > KEPT {
            return None;
        }
        if !self.first.is_empty() {
            self.more.extend_from_slice(bytes);
        } else if let Piece::Bytes(bytes) = piece {
            self.first = bytes.clone();
        } else {
            self.first = Bytes::copy_from_slice(bytes);
        }
        Some(self)
    }

    fn whole(self) -> Bytes {
        if self.more.is_empty() {
            self.first
        } else {
            [&self.first[..], &self.more[..]].concat().into()
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.done {
            // Cut short: what was sent must not look like a whole message.
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

fn allowed(mut map: HeaderMap) -> HeaderMap {
    if map
        .keys()
        .any(|name| !may_be_trailer(name.as_str().as_bytes()))
    {
        map = map
            .iter()
            .filter(|(name, _)| may_be_trailer(name.as_str().as_bytes()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
    }
    map
}

fn wrong_length() -> Error {
    Error::local(ErrorKind::Internal).context("a body is not as long as its head says")
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} staged)", self.payload)
    }
}
