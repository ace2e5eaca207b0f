//! The read half of a connection while it carries a body.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use oxy_core::buffer::{self, Buffer};
use oxy_core::{Error, ErrorKind, Link, Result, Side};

use super::chunked::{Decoder, Trailers};
use super::index::Framing;
use crate::body::cut_short;
use crate::limits::ChunkLimits;
use crate::pool::Lease;
use crate::waits;

/// What is left to read of a body, and where from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) link: Arc<Link>,
    /// Bytes that were read along with what came before.
    pub(crate) ahead: Option<Buffer>,
    pub(crate) rest: Rest,
    /// Whether the body went by `splice(2)`.
    pub(crate) spliced: bool,
}

/// How much is read of what comes next where the last body went by `splice(2)`, as its like may follow: the head, and
/// little of the body, which would have to be copied.
const BEFORE_BULK: usize = 2 * 1024;

impl Source {
    pub(crate) fn new(link: Arc<Link>, rest: Rest) -> Self {
        Self {
            link,
            ahead: None,
            rest,
            spliced: false,
        }
    }
}

/// The part of `spare` that the first bytes of a head are read into.
pub(crate) fn room_for_head(spare: &mut [u8], spliced: bool) -> &mut [u8] {
    let most = if spliced { BEFORE_BULK } else { spare.len() };
    let room = most.min(spare.len());
    &mut spare[..room]
}

#[derive(Debug)]
pub(crate) enum Rest {
    Done,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl From<Framing> for Rest {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Decoder::new()),
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

/// Where the connection goes once the body has been read or dropped.
#[derive(Debug)]
pub(crate) enum Home {
    /// To the client's connection, which waits for it.
    Client(Arc<Slot>),
    /// To the pool, if it is clean.
    Upstream(Lease),
    /// Nowhere: an origin was asked once, and the connection is closed.
    Nowhere,
}

/// Where a client's connection finds its read half again, and how much has been read of the body meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    returned: Mutex<Returned>,
    received: AtomicU64,
    /// Whether the response has begun to go out: 100 (Continue) would come too late.
    begun: AtomicBool,
}

#[derive(Debug, Default)]
struct Returned {
    source: Option<Box<Source>>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Returned> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, source: Source) {
        let mut returned = self.lock();
        returned.source = Some(Box::new(source));
        if let Some(waker) = returned.waker.take() {
            waker.wake();
        }
    }

    /// Bytes of payload that have been read since [`Slot::reset`].
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.received.store(0, Relaxed);
        self.begun.store(false, Relaxed);
    }

    /// The response goes out from here on.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Relaxed);
    }

    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Box<Source>> {
        let mut returned = self.lock();
        if let Some(source) = returned.source.take() {
            Poll::Ready(source)
        } else {
            returned.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }
}

/// A body that is read from an HTTP/1 connection (RFC 9112 section 6).
pub(crate) struct Incoming {
    source: Option<Source>,
    home: Option<Home>,
    side: Side,
    limits: ChunkLimits,
    /// Bytes of payload that may still come; a body that has more is an error.
    allowance: u64,
    trailers: Option<Box<Trailers>>,
    /// Whether the last read has brought much, so that more of it is coming.
    much: bool,
    /// How much of the 100 (Continue) has to be written before the client sends anything; none where it does not wait.
    expecting: Option<u8>,
}

/// How much is read at a time of a body that comes fast, in bytes: four of the largest TLS records, and no part of a fifth.
const WIDE: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Incoming {
    pub(crate) fn new(source: Source, home: Home, limits: ChunkLimits) -> Self {
        let side = match &home {
            Home::Client(_) => Side::Down,
            Home::Upstream(_) | Home::Nowhere => Side::Up,
        };
        Self {
            source: Some(source),
            home: Some(home),
            side,
            limits,
            allowance: u64::MAX,
            trailers: None,
            much: false,
            expecting: None,
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

    /// The client waits for 100 (Continue) (RFC 9110 section 10.1.1).
    pub(crate) fn expecting(mut self, expecting: bool) -> Self {
        self.expecting = expecting.then_some(0);
        self
    }

    /// Whether the client waits to be told to go on.
    pub(crate) fn is_expecting(&self) -> bool {
        self.expecting.is_some()
    }

    /// The client has been told to go on, or has gone on by itself.
    pub(crate) fn informed(&mut self) {
        self.expecting = None;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.source.is_none() && self.trailers.is_none()
    }

    pub(crate) fn length(&self) -> Option<u64> {
        match &self.source {
            None => Some(0),
            Some(Source {
                rest: Rest::Length(left),
                ..
            }) => Some(*left),
            Some(_) => None,
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        self.trailers.take()
    }

    /// Gives the body the bytes that were read along with its head.
    pub(crate) fn give(&mut self, mut ahead: Buffer) {
        if !ahead.is_empty() {
            self.expecting = None;
        }
        self.much = ahead.spare().is_empty();
        if let Some(source) = &mut self.source {
            if !ahead.is_empty() {
                source.ahead = Some(ahead);
            }
            if matches!(source.rest, Rest::Done) {
                self.go_home();
            }
        }
    }

    /// Whether it is a client's, and not an origin's.
    pub(crate) fn is_clients(&self) -> bool {
        self.side == Side::Down
    }

    /// What may be moved without looking at it: the link, and how many bytes are left.
    pub(crate) fn bulk(&self) -> Option<(&Arc<Link>, Option<u64>)> {
        let source = self.source.as_ref()?;
        if source.ahead.is_some() || self.expecting.is_some() {
            return None;
        }
        match source.rest {
            Rest::Length(left) if left <= self.allowance => Some((&source.link, Some(left))),
            Rest::UntilClose if self.allowance == u64::MAX => Some((&source.link, None)),
            _ => None,
        }
    }

    /// `n` bytes of payload have been read.
    pub(crate) fn count(&self, n: u64) {
        waits::came(n);
        if let Some(Home::Client(slot)) = &self.home {
            slot.received.fetch_add(n, Relaxed);
        }
    }

    /// Somebody else reads from now on. Until [`Incoming::bulk_left`] says how much is left, nobody can tell where the body
    /// ends: if it is dropped, what follows is never taken for another message.
    pub(crate) fn begin_bulk(&mut self) {
        if let Some(source) = &mut self.source {
            source.rest = Rest::UntilClose;
            source.spliced = true;
        }
    }

    /// Somebody else has read all but `left` bytes, for now: a body that is dropped here leaves a connection that can go on
    /// behind it.
    pub(crate) fn bulk_left(&mut self, left: u64) {
        if let Some(source) = &mut self.source {
            source.rest = Framing::Length(left).into();
        }
    }

    /// All of it has been read by somebody else.
    pub(crate) fn moved(&mut self) {
        if let Some(source) = &mut self.source {
            source.rest = Rest::Done;
            self.go_home();
        }
    }

    /// The next run of payload; none at the end. Cancel safe.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Buffer>>> {
        let data = self.poll_run(cx);
        if data.is_pending() {
            waits::waiting(self.side);
        }
        data
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Buffer>>> {
        loop {
            let side = self.side;
            let Some(source) = &mut self.source else {
                return Poll::Ready(Ok(None));
            };
            if matches!(source.rest, Rest::Done) {
                self.go_home();
                return Poll::Ready(Ok(None));
            }
            if self.expecting == Some(0)
                && let Some(Home::Client(slot)) = &self.home
                && slot.begun.load(Relaxed)
            {
                self.expecting = None;
            }
            if let Some(told) = &mut self.expecting {
                while usize::from(*told) < CONTINUE.len() {
                    let rest = &CONTINUE[usize::from(*told)..];
                    let n =
                        ready!(source.link.poll_write(cx, rest)).map_err(|e| Error::io(side, e))?;
                    *told += n as u8;
                }
                self.expecting = None;
            }
            let mut buffer = if let Some(ahead) = source.ahead.take() {
                ahead
            } else {
                ready!(source.link.poll_readable(cx)).map_err(|e| Error::io(side, e))?;
                let (mut buffer, room) = if self.much {
                    (Buffer::wide(), WIDE)
                } else {
                    (Buffer::new(), buffer::SIZE)
                };
                let n = ready!(source.link.poll_read(cx, &mut buffer.spare()[..room]))
                    .map_err(|e| Error::io(side, e).context("reading a body"))?;
                self.much = n >= buffer::SIZE;
                if n == 0 {
                    if matches!(source.rest, Rest::UntilClose) {
                        source.rest = Rest::Done;
                        continue;
                    }
                    return Poll::Ready(Err(cut_short(side)));
                }
                buffer.advance(n);
                buffer
            };
            self.decode(&mut buffer)?;
            if !buffer.is_empty() {
                return Poll::Ready(Ok(Some(buffer)));
            }
        }
    }

    /// Leaves the payload in `buffer`; what lies behind the body's end becomes what is read ahead.
    fn decode(&mut self, buffer: &mut Buffer) -> Result<()> {
        let Some(source) = &mut self.source else {
            return Ok(());
        };
        let (payload, consumed) = match &mut source.rest {
            Rest::Done => (0, 0),
            Rest::UntilClose => (buffer.len(), buffer.len()),
            Rest::Length(left) => {
                let n = buffer
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    source.rest = Rest::Done;
                }
                (n, n)
            }
            Rest::Chunked(decoder) => {
                let compacted =
                    decoder
                        .compact(buffer.filled_mut(), &self.limits)
                        .map_err(|reject| {
                            if self.side == Side::Up {
                                reject.up()
                            } else {
                                reject.down()
                            }
                        })?;
                self.trailers = compacted.trailers;
                if compacted.done {
                    source.rest = Rest::Done;
                }
                (compacted.payload, compacted.consumed)
            }
        };
        let done = matches!(source.rest, Rest::Done);
        if done && consumed < buffer.len() {
            let mut ahead = Buffer::new();
            ahead.put(&buffer.filled()[consumed..]);
            source.ahead = Some(ahead);
        }
        buffer.truncate(payload);
        self.count(payload as u64);
        if self.allowance != u64::MAX {
            self.allowance = self.allowance.checked_sub(payload as u64).ok_or_else(|| {
                Error::new(ErrorKind::BodyTooLarge, self.side).context("a body over the limit")
            })?;
        }
        if done {
            self.go_home();
        }
        Ok(())
    }

    pub(crate) fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.home {
            Some(Home::Upstream(lease)) => lease.poll_upload(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn go_home(&mut self) {
        let Some(source) = self.source.take() else {
            return;
        };
        match self.home.take() {
            Some(Home::Client(slot)) => slot.put(source),
            Some(Home::Upstream(lease)) => lease.come_home(source),
            Some(Home::Nowhere) | None => {}
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.go_home();
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Incoming({:?})",
            self.source.as_ref().map(|source| &source.rest)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use oxy_core::StreamIo;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_comes_fast_is_read_in_large_pieces() {
        let pieces = [buffer::SIZE, WIDE, 100];
        let body: Vec<u8> = (0..pieces.iter().sum::<usize>()).map(|n| n as u8).collect();
        let (near, mut far) = UnixStream::pair().unwrap();
        // All of it is there before any of it is read.
        far.write_all(&body).await.unwrap();
        let link = StreamIo::from(near).link().clone();
        let source = Source::new(link, Rest::Length(body.len() as u64));
        let mut incoming = Incoming::new(source, Home::Nowhere, ChunkLimits::default());
        let (mut read, mut sizes) = (Vec::new(), Vec::new());
        while let Some(piece) = poll_fn(|cx| incoming.poll_data(cx)).await.unwrap() {
            read.extend_from_slice(piece.filled());
            sizes.push(piece.len());
        }
        assert_eq!(sizes, pieces);
        assert!(read == body && incoming.is_done());
    }
}
