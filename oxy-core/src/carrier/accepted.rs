//! Sockets that have just been accepted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;

use crate::sys::LateSocket;

/// A socket that the event loop learns of when it has to be waited for. One that is done with by then, as its request came
/// along with it and its response fit into the kernel's buffer, costs no registration, no event and no removal.
pub(crate) struct Accepted {
    socket: LateSocket,
    /// Whether a call had to wait while the event loop could not say for how long: to read, and to write.
    empty: AtomicBool,
    full: AtomicBool,
}

impl Accepted {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: LateSocket::new(socket),
            empty: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    /// Whether the event loop tells what becomes of it.
    pub(crate) fn is_registered(&self) -> bool {
        self.socket.registered().is_some()
    }

    /// Ready at once as long as no call had to wait.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_registered() && !self.empty.load(Relaxed) {
            return Poll::Ready(Ok(()));
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
        let waits = if interest.is_writable() {
            &self.full
        } else {
            &self.empty
        };
        if waits.load(Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let done = call();
        if matches!(&done, Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
            waits.store(true, Relaxed);
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
        assert!(!here.is_registered());
        poll_fn(|cx| here.poll_read_ready(cx)).await.unwrap();
        assert!(here.is_registered());
        assert_eq!(read(&here).unwrap(), 6);
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
