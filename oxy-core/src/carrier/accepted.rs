//! Sockets that have just been accepted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::task::yield_now;

use crate::sys::LateSocket;

/// A socket that the event loop learns of when it has to be waited for. One that is done with by then, as its request came
/// along with it and its response fit into the kernel's buffer, costs no registration, no event and no removal.
///
/// A client that wants one response closes as soon as it has that, while the loop deals with others. So what is empty is looked at
/// once more after one turn of the loop, before the loop learns of it.
pub(crate) struct Accepted {
    socket: LateSocket,
    /// How reading stands as long as the event loop cannot say: one of the constants below.
    reading: AtomicU8,
    /// Whether a write had to wait while the event loop could not say for how long.
    full: AtomicBool,
}

/// There may be something to read.
const FRESH: u8 = 0;
/// All that there was has been read.
const EMPTY: u8 = 1;
/// A turn of the event loop has passed since, or is about to: there may be something.
const TURNED: u8 = 2;
/// All has been read once more: from here on it has to be waited for.
const WAITING: u8 = 3;

impl Accepted {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: LateSocket::new(socket),
            reading: AtomicU8::new(FRESH),
            full: AtomicBool::new(false),
        }
    }

    /// Whether the event loop tells what becomes of it.
    pub(crate) fn is_registered(&self) -> bool {
        self.socket.registered().is_some()
    }

    /// Ready at once as long as no call had to wait.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_registered() {
            match self.reading.load(Relaxed) {
                FRESH | TURNED => return Poll::Ready(Ok(())),
                // Polled once, it wakes the task after the loop has looked at its other sockets.
                EMPTY if pin!(yield_now()).poll(cx).is_pending() => {
                    self.reading.store(TURNED, Relaxed);
                    return Poll::Pending;
                }
                _ => {}
            }
        }
        let ready = ready!(self.socket.register()?.poll_read_ready(cx));
        Poll::Ready(ready.map(drop))
    }

    /// Ready at once as long as no call had to wait.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_registered() && !self.full.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let ready = ready!(self.socket.register()?.poll_write_ready(cx));
        Poll::Ready(ready.map(drop))
    }

    /// Runs `call` unless it would have to wait.
    pub(crate) fn try_io<T>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(registered) = self.socket.registered() {
            return registered.try_io(interest, |_| call());
        }
        let writes = interest.is_writable();
        let reading = self.reading.load(Relaxed);
        let waits = if writes {
            self.full.load(Relaxed)
        } else {
            matches!(reading, EMPTY | WAITING)
        };
        if waits {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let done = call();
        if matches!(&done, Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
            if writes {
                self.full.store(true, Relaxed);
            } else {
                self.reading.store(reading + 1, Relaxed);
            }
        }
        done
    }
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (Accepted, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = listener.accept().unwrap().0;
        here.set_nonblocking(true).unwrap();
        (Accepted::new(here.into()), there)
    }

    fn read(socket: &Accepted) -> io::Result<usize> {
        socket.try_io(Interest::READABLE, || {
            Ok(rustix::io::read(socket, &mut [0; 64][..])?)
        })
    }

    fn write(socket: &Accepted) -> io::Result<usize> {
        socket.try_io(Interest::WRITABLE, || {
            Ok(rustix::io::write(socket, &[7; 8192])?)
        })
    }

    fn waits<T: std::fmt::Debug>(done: io::Result<T>) -> bool {
        matches!(done, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn the_event_loop_learns_of_it_once_it_waits() {
        let (here, mut there) = pair();
        there.write_all(b"first").unwrap();
        poll_fn(|cx| here.poll_read_ready(cx)).await.unwrap();
        poll_fn(|cx| here.poll_write_ready(cx)).await.unwrap();
        assert_eq!(read(&here).unwrap(), 5);
        assert!(waits(read(&here)));
        // Without asking again.
        there.write_all(b"second").unwrap();
        assert!(waits(read(&here)));
        poll_fn(|cx| here.poll_read_ready(cx)).await.unwrap();
        assert!(!here.is_registered(), "a turn was enough");
        assert_eq!(read(&here).unwrap(), 6);
        assert!(waits(read(&here)));
        there.write_all(b"third").unwrap();
        assert!(waits(read(&here)));
        assert!(!here.is_registered());
        poll_fn(|cx| here.poll_read_ready(cx)).await.unwrap();
        assert!(here.is_registered());
        assert_eq!(read(&here).unwrap(), 5);
    }

    #[tokio::test]
    async fn a_client_that_is_slow_is_waited_for_after_a_turn() {
        let (here, mut there) = pair();
        assert!(waits(read(&here)));
        let mut polls = 0;
        let ready = poll_fn(|cx| {
            polls += 1;
            match here.poll_read_ready(cx) {
                // As a reader does that finds nothing.
                Poll::Ready(Ok(())) if !here.is_registered() => {
                    assert!(waits(read(&here)));
                    let again = here.poll_read_ready(cx);
                    assert!(again.is_pending() && here.is_registered());
                    there.write_all(b"late").unwrap();
                    again
                }
                ready => ready,
            }
        });
        ready.await.unwrap();
        assert_eq!((polls, read(&here).unwrap()), (3, 4));
    }

    #[tokio::test]
    async fn what_is_full_waits_until_it_is_read() {
        let (here, mut there) = pair();
        let mut sent = 0;
        while let Ok(n) = write(&here) {
            sent += n;
        }
        assert!(!here.is_registered() && waits(write(&here)));
        let reads = std::thread::spawn(move || {
            there.read_exact(&mut vec![0; sent]).unwrap();
            there
        });
        poll_fn(|cx| here.poll_write_ready(cx)).await.unwrap();
        assert!(here.is_registered() && write(&here).is_ok());
        drop(reads.join().unwrap());
    }
}
