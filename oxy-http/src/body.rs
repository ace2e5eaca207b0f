//! Message bodies: streamed, bounded, and whole only where somebody asks for that.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use oxy_core::buffer::Buffer;
use oxy_core::{Error, ErrorKind, Result, Side};

use crate::h1::chunked::Trailers;
use crate::h1::incoming::Incoming;
use crate::h2;
use crate::rewritten::Rewritten;
use crate::semantics::trailer_map;

/// A message's body.
///
/// It owns its end of the connection that it is read from, so that it may outlive the exchange and move between tasks.
/// Dropping it early is fine: what is left is thrown away or the connection is closed.
pub struct Body {
    kind: Kind,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    // Boxed, as bodies are handed on a dozen times on their way.
    Incoming(Box<Incoming>),
    Stream(Box<h2::incoming::Incoming>),
    // The lock is never taken: it makes what is inside shareable without asking it of users.
    Wrapped(Mutex<Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send>>>),
    /// A part that was read to look at, and what follows it.
    Rejoined(Bytes, Box<Body>),
}

/// A run of payload on its way out.
#[derive(Debug)]
pub(crate) enum Piece {
    Buffer(Buffer),
    Bytes(Bytes),
}

impl Piece {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer.filled(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes().len()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes()
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Buffer(buffer) => buffer.consume(n),
            Self::Bytes(bytes) => bytes.advance(n),
        }
    }
}

/// What came after a body.
#[derive(Debug)]
pub(crate) enum TrailerFields {
    Raw(Box<Trailers>),
    Map(HeaderMap),
}

/// What a body has to give.
#[derive(Debug)]
pub(crate) enum Step {
    Data(Piece),
    Trailers(TrailerFields),
    End,
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    /// Anything that gives bytes, for example a body that changes another one as it passes.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = Error> + Send + 'static,
    {
        Self {
            kind: Kind::Wrapped(Mutex::new(Box::pin(body))),
        }
    }

    /// Has `change` change the body while it passes. It is given each run of bytes, and none when there are no more, for
    /// what it has kept back; it gives what goes on in their place. Trailers pass. How long the result is nobody knows
    /// beforehand: what a head says about that has to go.
    pub fn rewrite(&mut self, change: impl FnMut(Option<Bytes>) -> Bytes + Send + 'static) {
        let body = self.take();
        *self = Self::wrap(Rewritten::new(body, change));
    }

    pub(crate) fn incoming(incoming: Incoming) -> Self {
        Self {
            kind: Kind::Incoming(Box::new(incoming)),
        }
    }

    pub(crate) fn stream(incoming: h2::incoming::Incoming) -> Self {
        Self {
            kind: Kind::Stream(Box::new(incoming)),
        }
    }

    /// `start`, and then `rest`.
    pub(crate) fn rejoined(start: Bytes, rest: Self) -> Self {
        if rest.is_done() {
            return start.into();
        }
        Self {
            kind: Kind::Rejoined(start, Box::new(rest)),
        }
    }

    /// At most `max` bytes from here on; 0 is no bound. An error if it is known to have more.
    pub(crate) fn limit(&mut self, max: u64) -> Result<()> {
        if max > 0 && self.length().is_some_and(|length| length > max) {
            return Err(Error::down(ErrorKind::BodyTooLarge).context("a body over the limit"));
        }
        match &mut self.kind {
            Kind::Incoming(incoming) => incoming.allow(max),
            Kind::Stream(incoming) => incoming.allow(max),
            _ => {}
        }
        Ok(())
    }

    /// Takes the body out and leaves none.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            kind: std::mem::take(&mut self.kind),
        }
    }

    /// How many bytes are to come, if that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.kind {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Incoming(incoming) => incoming.length(),
            Kind::Stream(incoming) => incoming.length(),
            Kind::Wrapped(body) => body
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .size_hint()
                .exact(),
            Kind::Rejoined(bytes, rest) => Some(bytes.len() as u64 + rest.length()?),
        }
    }

    /// Whether there is nothing more to come, as far as that is known.
    pub fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Incoming(incoming) => incoming.is_done(),
            Kind::Stream(incoming) => incoming.is_done(),
            Kind::Wrapped(body) => body
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_end_stream(),
            Kind::Rejoined(bytes, rest) => bytes.is_empty() && rest.is_done(),
        }
    }

    /// Whether it may be made of what a client sends: it is, or the application has made it.
    pub(crate) fn may_be_clients(&self) -> bool {
        match &self.kind {
            Kind::Empty | Kind::Full(_) | Kind::Stream(_) => false,
            Kind::Incoming(incoming) => incoming.is_clients(),
            Kind::Wrapped(_) => true,
            Kind::Rejoined(_, rest) => rest.may_be_clients(),
        }
    }

    /// A second body with the same bytes, if they are all at hand.
    pub(crate) fn replay(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(bytes.clone().into()),
            Kind::Rejoined(bytes, rest) if rest.is_done() => Some(bytes.clone().into()),
            _ => None,
        }
    }

    /// Reads the whole body, and keeps it: the body can then be read again, by the origin too. Look before you route.
    ///
    /// An error of kind `BodyTooLarge` says that it has more than `max` bytes; none is lost, and the body can still be
    /// passed on. Trailers are dropped.
    pub async fn buffer(&mut self, max: usize) -> Result<Bytes> {
        let mut all = BytesMut::new();
        loop {
            let step = std::future::poll_fn(|cx| {
                if let Poll::Ready(Err(error)) = self.poll_background(cx) {
                    return Poll::Ready(Err(error));
                }
                self.poll_step(cx)
            });
            match step.await? {
                Step::Data(piece) => all.extend_from_slice(piece.bytes()),
                Step::Trailers(_) => {}
                Step::End => break,
            }
            if all.len() > max {
                let rest = Box::new(self.take());
                self.kind = Kind::Rejoined(all.freeze(), rest);
                return Err(Error::down(ErrorKind::BodyTooLarge).context("buffering a body"));
            }
        }
        let all = all.freeze();
        self.kind = Kind::Full(all.clone());
        Ok(all)
    }

    /// What comes next. Cancel safe.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(Ok(Step::End)),
            Kind::Full(bytes) => Poll::Ready(Ok(if bytes.is_empty() {
                Step::End
            } else {
                Step::Data(Piece::Bytes(std::mem::take(bytes)))
            })),
            Kind::Incoming(incoming) => Poll::Ready(Ok(match ready!(incoming.poll_data(cx))? {
                Some(buffer) => Step::Data(Piece::Buffer(buffer)),
                None => match incoming.take_trailers() {
                    Some(trailers) => Step::Trailers(TrailerFields::Raw(trailers)),
                    None => Step::End,
                },
            })),
            Kind::Stream(incoming) => incoming.poll_step(cx),
            Kind::Wrapped(body) => {
                let body = body.get_mut().unwrap_or_else(PoisonError::into_inner);
                loop {
                    let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else {
                        return Poll::Ready(Ok(Step::End));
                    };
                    match frame?.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Poll::Ready(Ok(Step::Data(Piece::Bytes(data)))),
                        Err(frame) => {
                            if let Ok(trailers) = frame.into_trailers() {
                                let trailers = TrailerFields::Map(trailers);
                                return Poll::Ready(Ok(Step::Trailers(trailers)));
                            }
                        }
                    }
                }
            }
            Kind::Rejoined(bytes, rest) => {
                if bytes.is_empty() {
                    return rest.poll_step(cx);
                }
                Poll::Ready(Ok(Step::Data(Piece::Bytes(std::mem::take(bytes)))))
            }
        }
    }

    /// Goes on with what the body's connection has to do besides, such as the upload of the request whose response this
    /// is: whoever writes a response calls this while it waits. Done when `Ready`; an error ends the body too.
    pub(crate) fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.kind {
            Kind::Incoming(incoming) => incoming.poll_background(cx),
            Kind::Stream(incoming) => incoming.poll_background(cx),
            Kind::Rejoined(_, rest) => rest.poll_background(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Whether the client waits to be told to go on (RFC 9110 section 10.1.1).
    pub(crate) fn is_expecting(&self) -> bool {
        match &self.kind {
            Kind::Incoming(incoming) => incoming.is_expecting(),
            Kind::Stream(incoming) => incoming.is_expecting(),
            _ => false,
        }
    }

    /// The client has been told to go on.
    pub(crate) fn informed(&mut self) {
        match &mut self.kind {
            Kind::Incoming(incoming) => incoming.informed(),
            Kind::Stream(incoming) => incoming.informed(),
            _ => {}
        }
    }

    pub(crate) fn as_incoming(&mut self) -> Option<&mut Incoming> {
        match &mut self.kind {
            Kind::Incoming(incoming) => Some(incoming),
            _ => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Full(bytes),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(Err(error)) = this.poll_background(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(match ready!(this.poll_step(cx))? {
            Step::Data(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Step::Data(Piece::Buffer(buffer)) => {
                Some(Ok(Frame::data(Bytes::copy_from_slice(buffer.filled()))))
            }
            Step::Trailers(TrailerFields::Map(map)) => Some(Ok(Frame::trailers(map))),
            Step::Trailers(TrailerFields::Raw(raw)) => Some(Ok(Frame::trailers(trailer_map(&raw)))),
            Step::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.length()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Empty => f.write_str("Body(empty)"),
            Kind::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Incoming(_) | Kind::Stream(_) => f.write_str("Body(incoming)"),
            Kind::Wrapped(_) => f.write_str("Body(wrapped)"),
            Kind::Rejoined(..) => f.write_str("Body(rejoined)"),
        }
    }
}

/// An error of the side that `e` is not already blamed on; bodies fail on the side that they come from.
pub(crate) fn cut_short(side: Side) -> Error {
    Error::new(ErrorKind::Closed, side).context("the body ended early")
}
