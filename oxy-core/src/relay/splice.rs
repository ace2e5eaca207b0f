//! Moving bytes between sockets without copying them: `splice(2)` through a pipe.
//!
//! A [`Pipe`] is to the kernel what a [`crate::buffer::Buffer`] is to us: it is taken once bytes are at hand, filled from
//! one socket, drained into the other, and goes back to a thread-local list before anything waits.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;

use crate::carrier::Link;

/// What a pipe holds, in bytes: the most that an unprivileged process may ask for (`fs.pipe-max-size`), and what brings
/// the system calls for 1 MiB down to a handful.
pub const SIZE: usize = 1024 * 1024;

/// What is asked for when the kernel does not give [`SIZE`]. Below the last one, copying is cheaper than splicing.
const LESSER_SIZES: [usize; 2] = [256 * 1024, 64 * 1024];

/// How many free pipes a thread keeps: transfers that are under way at the same time mostly have their pipe filled and
/// drained in one turn, so that few are out at once. An empty pipe holds no pages, but two descriptors.
const KEPT: usize = 16;

/// How many pipes a thread gives out at once: those that are out are stuck behind slow readers, and each may hold 1 MiB
/// of the kernel's memory. Whoever gets none copies, and then holds a small buffer.
const GIVEN_OUT: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static OUT: Cell<usize> = const { Cell::new(0) };
}

/// Whether bytes can go from `a` to `b`, and back, by [`Pipe`]: both are sockets with nothing in between.
pub fn can_splice(a: &Link, b: &Link) -> bool {
    a.socket().is_some() && b.socket().is_some()
}

/// A pipe that is filled from one socket and drained into another.
///
/// Dropped empty it goes back to the thread's list, and dropped with bytes in it it is closed, so that nobody's bytes
/// ever reach somebody else.
pub struct Pipe {
    ends: Option<Ends>,
    len: usize,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipe {
    /// An empty pipe from this thread's list, or a new one.
    ///
    /// # Errors
    ///
    /// That of `pipe2` (no descriptors left), and `WouldBlock` where too many are out on this thread, or the user's quota
    /// of pipe memory (`fs.pipe-user-pages-soft`) leaves only tiny ones: copying does better then.
    pub fn take() -> io::Result<Self> {
        // At thread exit the lists may be gone: a pipe is then made and closed.
        if OUT.try_with(Cell::get).is_ok_and(|out| out >= GIVEN_OUT) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let free = FREE.try_with(|free| free.borrow_mut().pop());
        let ends = match free.ok().flatten() {
            Some(ends) => ends,
            None => Ends::make()?,
        };
        let _ = OUT.try_with(|out| out.set(out.get() + 1));
        Ok(Self {
            ends: Some(ends),
            len: 0,
        })
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most bytes that it may hold. Small segments fill it sooner, as each takes a slot of a page's size.
    pub fn capacity(&self) -> usize {
        self.ends.as_ref().map_or(0, |ends| ends.size)
    }

    /// Moves up to `max` bytes from `from` into the pipe; `Ok(0)` is the end of the stream (or a `max` of 0). Cancel safe.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where the pipe is not empty and nothing could be moved: the kernel does not say whether the pipe is
    /// full or the socket empty. Drain it, and then ask again. All other errors are those of `from`.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &Link,
        max: u64,
    ) -> Poll<io::Result<usize>> {
        let (Some(ends), Some(socket)) = (&self.ends, from.socket()) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let max = usize::try_from(max).unwrap_or(SIZE).min(SIZE);
        let holds = self.len > 0;
        loop {
            let mut unclear = false;
            let moved = from.try_io(Interest::READABLE, || {
                match splice(socket, &ends.write, max) {
                    // An empty pipe has room: it is the socket that is empty, and its readiness that ends.
                    Err(Errno::AGAIN) if holds => {
                        unclear = true;
                        Ok(0)
                    }
                    // A short splice does not end it: it stops at urgent data and at a full pipe, too.
                    done => Ok(done?),
                }
            });
            match moved {
                Ok(_) if unclear => return Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
                Ok(n) => {
                    self.len += n;
                    from.meter().add_received(n);
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(from.poll_readable(cx))?,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Moves bytes from the pipe into `to`, as many as it takes; `Ok(0)` only where the pipe is empty. Cancel safe. Errors
    /// are those of `to`.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Link) -> Poll<io::Result<usize>> {
        if self.len == 0 {
            return Poll::Ready(Ok(0));
        }
        let (Some(ends), Some(socket)) = (&self.ends, to.socket()) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        loop {
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&ends.read, socket, self.len)?)
            });
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    self.len = self.len.saturating_sub(n);
                    to.meter().add_sent(n);
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(to.poll_writable(cx))?,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

/// Never with `MORE`: the kernel would hold back a last part-filled segment for up to 200 ms.
fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    max: usize,
) -> Result<usize, Errno> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    rustix::io::retry_on_intr(|| rustix::pipe::splice(&from, None, &to, None, max, flags))
}

impl Ends {
    fn make() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        for size in std::iter::once(SIZE).chain(LESSER_SIZES) {
            if let Ok(size) = rustix::pipe::fcntl_setpipe_size(&write, size) {
                return Ok(Self { read, write, size });
            }
        }
        // Nothing is gained with less: beyond the user's quota a new pipe has two pages.
        let size = rustix::pipe::fcntl_getpipe_size(&write)?;
        if size < LESSER_SIZES[1] {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Self { read, write, size })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = OUT.try_with(|out| out.set(out.get().saturating_sub(1)));
        let Some(ends) = self.ends.take() else { return };
        if self.len == 0 {
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < KEPT {
                    free.push(ends);
                }
            });
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipe({} of {})", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamIo;
    use std::future::poll_fn;
    use std::os::fd::AsRawFd;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn pair() -> (StreamIo, UnixStream) {
        let (left, right) = UnixStream::pair().unwrap();
        (left.into(), right)
    }

    #[tokio::test]
    async fn bytes_go_through_and_the_end_is_seen() {
        let ((from, mut source), (to, mut sink)) = (pair(), pair());
        source.write_all(b"hello").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert!(pipe.capacity() >= 64 * 1024);
        let fill = |pipe: &mut Pipe, cx: &mut Context<'_>| pipe.poll_fill(cx, from.link(), 1 << 40);
        assert_eq!(poll_fn(|cx| fill(&mut pipe, cx)).await.unwrap(), 5);
        let unclear = poll_fn(|cx| fill(&mut pipe, cx)).await.unwrap_err();
        assert_eq!(unclear.kind(), io::ErrorKind::WouldBlock);
        let drained = poll_fn(|cx| pipe.poll_drain(cx, to.link())).await.unwrap();
        assert_eq!((drained, pipe.len()), (5, 0));
        let mut got = [0; 5];
        sink.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        drop(source);
        assert_eq!(poll_fn(|cx| fill(&mut pipe, cx)).await.unwrap(), 0);
        assert_eq!(from.link().meter().received(), 5);
        assert_eq!(to.link().meter().sent(), 5);
    }

    #[tokio::test]
    async fn only_empty_pipes_are_used_again() {
        let (from, mut source) = pair();
        let first = Pipe::take().unwrap();
        let fd = first.ends.as_ref().unwrap().read.as_raw_fd();
        drop(first);
        let mut again = Pipe::take().unwrap();
        assert_eq!(again.ends.as_ref().unwrap().read.as_raw_fd(), fd);
        source.write_all(b"secret").await.unwrap();
        poll_fn(|cx| again.poll_fill(cx, from.link(), 9))
            .await
            .unwrap();
        drop(again);
        assert_eq!(FREE.with_borrow(Vec::len), 0);
    }

    #[tokio::test]
    async fn a_thread_gives_out_a_bounded_number() {
        let out: Vec<_> = (0..GIVEN_OUT).map(|_| Pipe::take().unwrap()).collect();
        assert!(Pipe::take().is_err());
        drop(out);
        assert_eq!(FREE.with_borrow(Vec::len), KEPT);
        Pipe::take().unwrap();
    }
}
