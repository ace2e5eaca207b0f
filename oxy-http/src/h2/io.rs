//! What lies between a connection's stream and the `h2` crate: the guard, a look at who waits for whom, and what is about to
//! be written.
//!
//! The crate writes once per DATA frame. What all the exchanges of a connection say in one turn of the event loop goes out
//! in one write instead: it is staged, and whoever polls the crate's connection calls [`Watch::poll_flush`] after it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::h2::Reason;
use bytes::Bytes;
use oxy_core::buffer::{self, Buffer};
use oxy_core::{Link, StreamIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::GOAWAY;
use super::guard::{Guard, Verdict};

/// How many parts are written at once: the crate has a frame's head, its payload, and seldom a third.
const PARTS: usize = 7;

/// A stream as the `h2` crate reads and writes it.
pub(crate) struct Io {
    prefix: Bytes,
    watch: Arc<Watch>,
}

/// What is known of a connection besides its frames.
#[derive(Debug)]
pub(crate) struct Watch {
    link: Arc<Link>,
    guard: Mutex<Guard>,
    /// What goes out at the end of the turn.
    staged: Mutex<Buffer>,
    /// Whether the last write found no room: the peer does not read.
    stalled: AtomicBool,
    /// Whether a byte has come since this was asked last.
    stirred: AtomicBool,
}

impl Io {
    pub(crate) fn new(stream: StreamIo, guard: Guard) -> (Self, Arc<Watch>) {
        let (link, prefix) = stream.into_parts();
        let watch = Arc::new(Watch {
            link,
            guard: Mutex::new(guard),
            staged: Mutex::new(Buffer::vacant()),
            stalled: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
        });
        let io = Self {
            prefix,
            watch: watch.clone(),
        };
        (io, watch)
    }
}

impl Watch {
    /// The connection itself.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> MutexGuard<'_, Buffer> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is staged: to be called whenever the crate's connection has nothing left to do but wait. Cancel safe.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut staged = self.staged();
        while !staged.is_empty() {
            let done = self.link.poll_write(cx, staged.filled());
            let n = ready!(self.noticed(done))?;
            staged.consume(n);
        }
        // Nothing is held while waiting.
        *staged = Buffer::vacant();
        self.link.poll_flush(cx)
    }

    /// Stages `parts`, or writes them behind what is staged if that has no room for all of them.
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut staged = self.staged();
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let taken = if staged.len() + length > buffer::SIZE {
            ready!(self.poll_write_behind(cx, &mut staged, parts))?
        } else {
            if staged.is_empty() {
                *staged = Buffer::new();
            }
            for part in parts {
                staged.put(part);
            }
            length
        };
        drop(staged);
        self.took(parts, taken);
        Poll::Ready(Ok(taken))
    }

    /// Writes what is staged and some of `parts` behind it, and tells how much of those.
    fn poll_write_behind(
        &self,
        cx: &mut Context<'_>,
        staged: &mut Buffer,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut all = [IoSlice::new(&[]); PARTS + 1];
            all[0] = IoSlice::new(staged.filled());
            let mut count = 1;
            for (slot, part) in all[1..].iter_mut().zip(parts) {
                *slot = IoSlice::new(part);
                count += 1;
            }
            let done = self.link.poll_write_vectored(cx, &all[..count]);
            let n = ready!(self.noticed(done))?;
            let own = n.min(staged.len());
            staged.consume(own);
            if n > own {
                return Poll::Ready(Ok(n - own));
            }
        }
    }

    /// Notes whether a write has found room; one that takes nothing is an error.
    fn noticed(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if self.stalled.load(Relaxed) != done.is_pending() {
            self.stalled.store(done.is_pending(), Relaxed);
        }
        match ready!(done)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => Poll::Ready(Ok(n)),
        }
    }

    /// The first `n` bytes of `parts` are on their way.
    fn took(&self, parts: &[IoSlice<'_>], mut n: usize) {
        let mut guard = self.guard();
        for part in parts {
            let own = n.min(part.len());
            guard.sent(&part[..own], Instant::now);
            n -= own;
        }
    }

    /// What the peer is to be let go for, if it is.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.guard().verdict()
    }

    /// Which header section of the connection is being read, if one is: it has begun and not ended.
    pub(crate) fn section(&self) -> Option<u32> {
        self.guard().section()
    }

    /// A GOAWAY frame (RFC 9113 section 6.8) to end a connection with on which the peer opens no streams; nothing where a
    /// frame has been handed over in part. It goes out behind what is staged.
    pub(crate) fn last_word(&self, reason: Reason) -> Vec<u8> {
        if !self.guard().is_between_frames() {
            return Vec::new();
        }
        let mut word = vec![0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        word.extend(u32::from(reason).to_be_bytes());
        word
    }

    /// Whether something waits to be written that the peer does not read.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// Whether a byte has come since this was asked last.
    pub(crate) fn has_stirred(&self) -> bool {
        self.stirred.swap(false, Relaxed)
    }

    /// These bytes have come; those that may be passed on are.
    fn came(&self, news: &[u8], out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if news.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.stirred.store(true, Relaxed);
        let n = self.guard().look(news, Instant::now);
        out.put_slice(&news[..n]);
        // No byte at all would be the end of the stream.
        if n == 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.verdict().is_some() {
            // Nothing that follows matters, and who reads is told so by the watch.
            return Poll::Pending;
        }
        if this.prefix.is_empty() {
            ready!(this.watch.link.poll_readable(cx))?;
            // What `out` has is not initialised; making it so costs more than copying the little that usually comes.
            let mut buffer = Buffer::new();
            let room = out.remaining().min(buffer.spare().len());
            let n = ready!(this.watch.link.poll_read(cx, &mut buffer.spare()[..room]))?;
            buffer.advance(n);
            this.watch.came(buffer.filled(), out)
        } else {
            let n = this.prefix.len().min(out.remaining());
            this.watch.came(&this.prefix.split_to(n), out)
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing, as the crate asks for it after each frame: see [`Watch::poll_flush`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.watch.poll_flush(cx))?;
        self.watch.link.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use oxy_core::ByteIo;

    use super::*;
    use crate::options::HttpOptions;

    /// Takes `room` bytes, and notes each write.
    #[derive(Clone, Default)]
    struct Narrow(Arc<Mutex<Taken>>);

    #[derive(Default)]
    struct Taken {
        room: usize,
        writes: Vec<Vec<u8>>,
        waker: Option<Waker>,
    }

    impl Narrow {
        fn taken(&self) -> MutexGuard<'_, Taken> {
            self.0.lock().unwrap()
        }

        fn widen(&self, room: usize) {
            let mut taken = self.taken();
            taken.room += room;
            taken.waker.take().unwrap().wake();
        }

        fn bytes(&self) -> Vec<u8> {
            self.taken().writes.concat()
        }
    }

    impl ByteIo for Narrow {}

    impl AsyncRead for Narrow {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut taken = self.taken();
            let whole = parts.iter().flat_map(|part| part.iter().copied());
            let write: Vec<u8> = whole.take(taken.room).collect();
            if write.is_empty() {
                taken.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let n = write.len();
            taken.room -= n;
            taken.writes.push(write);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn io(room: usize) -> (Narrow, Io, Arc<Watch>) {
        let narrow = Narrow::default();
        narrow.taken().room = room;
        let guard = Guard::of_client(&HttpOptions::default(), Instant::now());
        let (io, watch) = Io::new(StreamIo::new(narrow.clone()), guard);
        (narrow, io, watch)
    }

    /// A frame of no known type, which the guard has nothing to say of.
    fn frame(payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], 0xbe, 0, 0, 0, 0, 0];
        frame.extend((0..payload).map(|at| at as u8));
        frame
    }

    async fn write(io: &mut Io, bytes: &[u8]) -> usize {
        let (head, payload) = bytes.split_at(bytes.len().min(9));
        let parts = [IoSlice::new(head), IoSlice::new(payload)];
        poll_fn(|cx| Pin::new(&mut *io).poll_write_vectored(cx, &parts))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_said_in_one_turn_is_written_at_once() {
        let (narrow, mut io, watch) = io(usize::MAX);
        let frame = frame(1024);
        for _ in 0..10 {
            assert_eq!(write(&mut io, &frame).await, frame.len());
            poll_fn(|cx| Pin::new(&mut io).poll_flush(cx))
                .await
                .unwrap();
        }
        assert!(narrow.taken().writes.is_empty());
        poll_fn(|cx| watch.poll_flush(cx)).await.unwrap();
        assert_eq!(narrow.taken().writes, [frame.repeat(10)]);
        poll_fn(|cx| watch.poll_flush(cx)).await.unwrap();
        assert_eq!(narrow.taken().writes.len(), 1, "once");
    }

    #[tokio::test]
    async fn what_has_no_room_goes_out_behind_what_is_staged() {
        let (narrow, mut io, watch) = io(usize::MAX);
        let (small, large) = (frame(100), frame(buffer::SIZE));
        write(&mut io, &small).await;
        assert_eq!(write(&mut io, &large).await, large.len());
        assert_eq!(narrow.taken().writes, [[&small[..], &large].concat()]);
        assert!(!watch.is_stalled());
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_stops_what_is_written() {
        for room in [0, 1, 50, 109, 110, 5000] {
            let (narrow, mut io, watch) = io(room);
            let (small, large) = (frame(100), frame(buffer::SIZE));
            write(&mut io, &small).await;
            // As the crate does, until there is no room.
            let mut taken = 0;
            let mut turn = poll_fn(|cx| {
                while taken < large.len() {
                    let parts = [IoSlice::new(&large[taken..])];
                    match Pin::new(&mut io).poll_write_vectored(cx, &parts) {
                        Poll::Ready(n) => taken += n.unwrap(),
                        Poll::Pending => return Poll::Ready(()),
                    }
                }
                watch.poll_flush(cx).map(|_| ())
            });
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut turn).poll(&mut cx);
            assert_eq!(narrow.bytes().len(), room, "{room}");
            assert!(watch.is_stalled(), "{room}");
            narrow.widen(usize::MAX / 2);
            while taken < large.len() {
                taken += write(&mut io, &large[taken..]).await;
            }
            poll_fn(|cx| watch.poll_flush(cx)).await.unwrap();
            assert!(!watch.is_stalled(), "{room}");
            assert!(narrow.bytes() == [&small[..], &large].concat(), "{room}");
        }
    }

    #[tokio::test]
    async fn the_end_comes_behind_what_is_staged() {
        let (narrow, mut io, _) = io(usize::MAX);
        write(&mut io, &frame(1)).await;
        poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx))
            .await
            .unwrap();
        assert_eq!(narrow.bytes(), frame(1));
    }
}
