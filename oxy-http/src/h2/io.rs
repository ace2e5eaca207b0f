//! What lies between a connection's stream and the `h2` crate: the guard, and a look at who waits for whom.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::h2::Reason;
use bytes::Bytes;
use oxy_core::buffer::Buffer;
use oxy_core::{Link, StreamIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::GOAWAY;
use super::guard::{Guard, Verdict};

/// A stream as the `h2` crate reads and writes it.
pub(crate) struct Io {
    link: Arc<Link>,
    prefix: Bytes,
    watch: Arc<Watch>,
}

/// What is known of a connection besides its frames.
#[derive(Debug)]
pub(crate) struct Watch {
    guard: Mutex<Guard>,
    /// Whether the last write found no room: the peer does not read.
    stalled: AtomicBool,
    /// Whether a byte has come since this was asked last.
    stirred: AtomicBool,
}

impl Io {
    pub(crate) fn new(stream: StreamIo, guard: Guard) -> (Self, Arc<Watch>) {
        let (link, prefix) = stream.into_parts();
        let watch = Arc::new(Watch {
            guard: Mutex::new(guard),
            stalled: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
        });
        let io = Self {
            link,
            prefix,
            watch: watch.clone(),
        };
        (io, watch)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Watch {
    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// frame has gone out in part.
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

    /// So many of these bytes have been written.
    fn wrote<'a>(&self, done: &Poll<io::Result<usize>>, parts: impl IntoIterator<Item = &'a [u8]>) {
        if self.stalled.load(Relaxed) != done.is_pending() {
            self.stalled.store(done.is_pending(), Relaxed);
        }
        if let Poll::Ready(Ok(mut left)) = *done {
            let mut guard = self.guard();
            for part in parts {
                let n = left.min(part.len());
                guard.sent(&part[..n], Instant::now);
                left -= n;
            }
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
            ready!(this.link.poll_readable(cx))?;
            // What `out` has is not initialised; making it so costs more than copying the little that usually comes.
            let mut buffer = Buffer::new();
            let room = out.remaining().min(buffer.spare().len());
            let n = ready!(this.link.poll_read(cx, &mut buffer.spare()[..room]))?;
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
        let done = self.link.poll_write(cx, bytes);
        self.watch.wrote(&done, [bytes]);
        done
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = self.link.poll_write_vectored(cx, parts);
        self.watch.wrote(&done, parts.iter().map(|part| &**part));
        done
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_shutdown(cx)
    }
}
