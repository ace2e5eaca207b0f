//! What lies between a connection's stream and the `h2` crate: the guard, and a look at who waits for whom.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use oxy_core::buffer::Buffer;
use oxy_core::{Link, StreamIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Flood, Guard};

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

    /// What the peer has overdone, if it has.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.guard().flood()
    }

    /// A request has been answered.
    pub(crate) fn answered(&self) {
        self.guard().answered();
    }

    /// Whether something waits to be written that the peer does not read.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// Whether a byte has come since this was asked last.
    pub(crate) fn has_stirred(&self) -> bool {
        self.stirred.swap(false, Relaxed)
    }

    fn wrote(&self, done: &Poll<io::Result<usize>>) {
        if self.stalled.load(Relaxed) != done.is_pending() {
            self.stalled.store(done.is_pending(), Relaxed);
        }
        if let Poll::Ready(Ok(n)) = done {
            self.guard().sent(*n);
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
        let before = out.filled().len();
        if this.prefix.is_empty() {
            ready!(this.link.poll_readable(cx))?;
            // What `out` has is not initialised; making it so costs more than copying the little that usually comes.
            let mut buffer = Buffer::new();
            let room = out.remaining().min(buffer.spare().len());
            let n = ready!(this.link.poll_read(cx, &mut buffer.spare()[..room]))?;
            buffer.advance(n);
            out.put_slice(buffer.filled());
        } else {
            let n = this.prefix.len().min(out.remaining());
            out.put_slice(&this.prefix.split_to(n));
        }
        let news = &out.filled()[before..];
        if !news.is_empty() {
            this.watch.stirred.store(true, Relaxed);
            this.watch.guard().look(news, Instant::now);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = self.link.poll_write(cx, bytes);
        self.watch.wrote(&done);
        done
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = self.link.poll_write_vectored(cx, parts);
        self.watch.wrote(&done);
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
