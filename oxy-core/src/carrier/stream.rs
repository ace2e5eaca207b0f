//! Ordered bytes both ways: a socket, or anything that reads and writes.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::accepted::Accepted;
use crate::buffer::Buffer;
use crate::meter::Meter;
use crate::{Error, Result, Side};

/// Anything that can be a stream: TLS plaintext, a tunnel inside HTTP, an in-memory pipe.
pub trait ByteIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Ends the stream so that the peer sees an error rather than an orderly end. `code` is the layer's own error code.
    fn abort(&mut self, code: u64) {
        let _ = code;
    }

    /// The stream as one that knows by itself whether it is readable. Without it a [`Link`] reads ahead in order to find out,
    /// and keeps what it has read.
    fn readiness(&mut self) -> Option<&mut dyn Readiness> {
        None
    }
}

/// What a [`ByteIo`] can say of itself without giving bytes away.
pub trait Readiness {
    /// See [`Link::poll_readable`]. No buffer is held, and nothing is allocated, while it is pending.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// See [`Link::poll_writable`].
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// See [`Link::poll_reset`].
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// See [`Link::is_quiet`]. What the stream's own protocol has to say in between (a TLS session ticket) breaks no silence.
    fn is_quiet(&mut self) -> bool;
}

impl ByteIo for tokio::io::DuplexStream {}

/// A stream that can be read and written through a shared reference, by one task at a time.
///
/// Reading, writing and watching for an early answer need no split and no lock where the stream is a socket.
pub struct Link {
    kind: Kind,
    meter: Arc<Meter>,
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
    AcceptedTcp(Accepted),
    AcceptedUnix(Accepted),
    Other(Mutex<Other>),
}

struct Other {
    io: Box<dyn ByteIo>,
    /// What a look for readability had to read, as only sockets can say that they are readable.
    ahead: Bytes,
    ended: bool,
}

/// Runs `$body` with `$socket` bound to the socket of any kind.
macro_rules! with_socket {
    ($kind:expr, $socket:ident => $body:expr, $other:ident => $else:expr) => {
        match $kind {
            Kind::Tcp($socket) => $body,
            Kind::Unix($socket) => $body,
            Kind::AcceptedTcp($socket) | Kind::AcceptedUnix($socket) => $body,
            Kind::Other($other) => $else,
        }
    };
}

impl Link {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            meter: Arc::default(),
        })
    }

    /// The bytes that crossed so far.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The socket, where nothing lies between it and the bytes: what `splice(2)` needs.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        with_socket!(&self.kind, socket => Some(socket.as_fd()), _other => None)
    }

    /// Whether it is a TCP connection.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.kind, Kind::Tcp(_) | Kind::AcceptedTcp(_))
    }

    /// Ready once a read would return something: bytes, the end, or an error. No buffer is needed while it is pending.
    /// Cancel safe.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(&self.kind, socket => socket.poll_read_ready(cx), other => other_of(other).poll_readable(cx))
    }

    /// Ready once a write would take something. Cancel safe.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(&self.kind, socket => socket.poll_write_ready(cx), other => {
            match other_of(other).io.readiness() {
                Some(readiness) => readiness.poll_writable(cx),
                None => Poll::Ready(Ok(())),
            }
        })
    }

    /// Reads what is there; `Ok(0)` is the end of the stream (or an empty `buf`). Cancel safe.
    ///
    /// After a short read of a socket the next call waits without asking the kernel again: a short read has emptied it.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        with_socket!(&self.kind, _socket => loop {
            match self.try_read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(cx))?,
                done => return Poll::Ready(done),
            }
        }, other => {
            let n = ready!(other_of(other).poll_read(cx, buf))?;
            self.meter.add_received(n);
            Poll::Ready(Ok(n))
        })
    }

    /// Reads what is there without waiting. Sockets only; anything else says `WouldBlock` and wants [`Link::poll_read`].
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        with_socket!(&self.kind, socket => {
            let mut got = None;
            let outcome = socket.try_io(Interest::READABLE, || {
                let n = recv(socket, buf, RecvFlags::empty())?;
                got = Some(n);
                // The runtime takes WouldBlock to mean "wait for the next event": right after a short read, too.
                if n > 0 && n < buf.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match got {
                Some(n) => {
                    self.meter.add_received(n);
                    Ok(n)
                }
                None => outcome.map(|()| 0),
            }
        }, _other => Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Whether an idle stream has nothing to say, as it should: false once the peer has closed it, reset it, or sent
    /// something that nobody asked for. Costs a system call only if an event has come in, or none would.
    pub fn is_quiet(&self) -> bool {
        match &self.kind {
            Kind::Other(other) => other_of(other).is_quiet(),
            _ => matches!(self.peek(), Err(e) if e.kind() == io::ErrorKind::WouldBlock),
        }
    }

    /// Whether nothing lies unread, so that dropping the stream is no reset to a peer that has yet to read. Costs what
    /// [`Link::is_quiet`] costs.
    pub fn is_read_out(&self) -> bool {
        match &self.kind {
            Kind::Other(other) => other_of(other).is_quiet(),
            _ => !matches!(self.peek(), Ok(1..)),
        }
    }

    /// How much of a byte lies unread in a socket: none at its end.
    fn peek(&self) -> io::Result<usize> {
        if let Kind::AcceptedTcp(socket) | Kind::AcceptedUnix(socket) = &self.kind
            && !socket.is_registered()
        {
            return recv(socket, &mut [0], RecvFlags::PEEK);
        }
        with_socket!(&self.kind,
            socket => socket.try_io(Interest::READABLE, || recv(socket, &mut [0], RecvFlags::PEEK)),
            _other => Err(io::ErrorKind::Unsupported.into()))
    }

    /// Ready once the peer has reset the stream: for watching a client that waits. Nothing is consumed. A peer that has
    /// sent more, or has only ended its half, is not gone, and nothing more can be told of it here. Cancel safe.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Kind::Other(other) = &self.kind
            && let Some(readiness) = other_of(other).io.readiness()
        {
            return readiness.poll_reset(cx);
        }
        let peeked = with_socket!(&self.kind, socket => loop {
            if let Err(e) = ready!(socket.poll_read_ready(cx)) {
                break Err(e);
            }
            match socket.try_io(Interest::READABLE, || recv(socket, &mut [0], RecvFlags::PEEK)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => break done.map(|_| ()),
            }
        }, other => ready!(other_of(other).poll_readable(cx)));
        if peeked.is_err() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Writes some of `buf`. Cancel safe.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf, SendFlags::NOSIGNAL)
    }

    /// Writes some of `buf`, the last there is: [`Link::poll_shutdown`] has to follow. TCP then says both in one segment, which
    /// wakes the peer once. Cancel safe, but if nothing follows the bytes may stay for some 200 ms.
    pub fn poll_write_last(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        let n = with_socket!(&self.kind, socket => loop {
            match socket.try_io(Interest::WRITABLE, || Ok(rustix::net::send(socket, buf, flags)?)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
                done => break done,
            }
        }, other => ready!(other_of(other).poll_write(cx, buf)))?;
        self.meter.add_sent(n);
        Poll::Ready(Ok(n))
    }

    /// Writes some of `bufs`, taken as one run of bytes. Cancel safe.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = with_socket!(&self.kind, socket => loop {
            match socket.try_io(Interest::WRITABLE, || Ok(rustix::io::writev(socket, bufs)?)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
                done => break done,
            }
        }, other => {
            let mut other = other_of(other);
            ready!(Pin::new(&mut other.io).poll_write_vectored(cx, bufs))
        })?;
        self.meter.add_sent(n);
        Poll::Ready(Ok(n))
    }

    /// Writes all of `bytes`, forgetting in `done` how many have gone. Cancel safe: call again with the same `done`.
    pub fn poll_write_all(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        done: &mut usize,
    ) -> Poll<io::Result<()>> {
        while *done < bytes.len() {
            match ready!(self.poll_write(cx, &bytes[*done..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => *done += n,
            }
        }
        self.poll_flush(cx)
    }

    /// Passes on what a stream that is no socket may have kept back. Cancel safe.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(&self.kind, _socket => Poll::Ready(Ok(())), other => Pin::new(&mut other_of(other).io).poll_flush(cx))
    }

    /// Says that nothing more will be written; reading goes on. Cancel safe.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(&self.kind,
            socket => Poll::Ready(Ok(rustix::net::shutdown(socket, Shutdown::Write)?)),
            other => Pin::new(&mut other_of(other).io).poll_shutdown(cx))
    }

    /// Runs a system call on the socket under the runtime's readiness, and counts what it moves. `WouldBlock` from `call`
    /// clears the readiness of `interest`.
    pub fn try_io<T>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        with_socket!(&self.kind, socket => socket.try_io(interest, call), _other => Err(io::ErrorKind::Unsupported.into()))
    }

    /// Makes the peer see an error (a reset, on TCP) when the stream is dropped, or at once.
    pub fn abort(&self, code: u64) {
        match &self.kind {
            Kind::Tcp(_) | Kind::AcceptedTcp(_) => {
                if let Some(socket) = self.socket() {
                    let socket = socket2::SockRef::from(&socket);
                    let _ = socket.set_linger(Some(std::time::Duration::ZERO));
                }
            }
            Kind::Unix(_) | Kind::AcceptedUnix(_) => {}
            Kind::Other(other) => other_of(other).io.abort(code),
        }
    }
}

fn recv(socket: impl AsFd, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match rustix::net::recv(&socket, &mut *buf, flags) {
            Ok((_, n)) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn other_of(other: &Mutex<Other>) -> MutexGuard<'_, Other> {
    other.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Other {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(readiness) = self.io.readiness() {
            return readiness.poll_readable(cx);
        }
        if self.ahead.is_empty() && !self.ended {
            let mut buffer = Buffer::new();
            let n = ready!(self.poll_inner(cx, buffer.spare()))?;
            buffer.advance(n);
            self.ended = n == 0;
            self.ahead = Bytes::copy_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(()))
    }

    fn is_quiet(&mut self) -> bool {
        if let Some(readiness) = self.io.readiness() {
            return readiness.is_quiet();
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.poll_readable(&mut cx).is_pending()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() {
            return Poll::Ready((&mut self.ahead).reader().read(buf));
        }
        if self.ended || buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_inner(cx, buf)
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Tcp(_) | Kind::AcceptedTcp(_) => f.write_str("Link(tcp)"),
            Kind::Unix(_) | Kind::AcceptedUnix(_) => f.write_str("Link(unix)"),
            Kind::Other(_) => f.write_str("Link(other)"),
        }
    }
}

/// A stream as a flow carries it: a [`Link`], and bytes that were read from it to look at them first.
#[derive(Debug)]
pub struct StreamIo {
    link: Arc<Link>,
    prefix: BytesMut,
}

impl StreamIo {
    /// A stream over anything that reads and writes.
    pub fn new(io: impl ByteIo) -> Self {
        let other = Other {
            io: Box::new(io),
            ahead: Bytes::new(),
            ended: false,
        };
        Self::from_link(Link::new(Kind::Other(Mutex::new(other))))
    }

    /// Two ends of an in-memory stream, each holding at most `capacity` bytes for the other.
    pub fn pair(capacity: usize) -> (Self, Self) {
        let (left, right) = tokio::io::duplex(capacity);
        (Self::new(left), Self::new(right))
    }

    /// A stream over a TCP connection that has just been accepted, and does not block. The event loop learns of it once it
    /// has to be waited for.
    pub(crate) fn accepted_tcp(socket: OwnedFd) -> Self {
        Self::from_link(Link::new(Kind::AcceptedTcp(Accepted::new(socket))))
    }

    /// As [`StreamIo::accepted_tcp`], of a Unix socket.
    pub(crate) fn accepted_unix(socket: OwnedFd) -> Self {
        Self::from_link(Link::new(Kind::AcceptedUnix(Accepted::new(socket))))
    }

    /// A stream over `link`, with nothing read ahead.
    pub fn from_link(link: Arc<Link>) -> Self {
        Self {
            link,
            prefix: BytesMut::new(),
        }
    }

    /// What lies beneath.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Gives up the stream for what lies beneath it and what has been read ahead.
    pub fn into_parts(self) -> (Arc<Link>, Bytes) {
        (self.link, self.prefix.freeze())
    }

    /// Looks at the bytes to come without consuming them: at least `want` of them, fewer only if the stream ends before.
    /// Cancel safe: what has been read stays for the next look. The caller bounds time and `want`.
    pub async fn peek(&mut self, want: usize) -> Result<&[u8]> {
        while self.prefix.len() < want {
            let link = &self.link;
            std::future::poll_fn(|cx| link.poll_readable(cx))
                .await
                .map_err(|e| Error::io(Side::Down, e))?;
            let mut buffer = Buffer::new();
            let n = std::future::poll_fn(|cx| link.poll_read(cx, buffer.spare()))
                .await
                .map_err(|e| Error::io(Side::Down, e))?;
            if n == 0 {
                break;
            }
            buffer.advance(n);
            self.prefix.extend_from_slice(buffer.filled());
        }
        Ok(&self.prefix)
    }

    /// Takes what has been read ahead.
    pub fn take_prefix(&mut self) -> Bytes {
        self.prefix.split().freeze()
    }

    /// Puts `bytes` in front of what is to be read.
    pub fn unread(&mut self, bytes: &[u8]) {
        let mut prefix = BytesMut::with_capacity(bytes.len() + self.prefix.len());
        prefix.extend_from_slice(bytes);
        prefix.extend_from_slice(&self.prefix);
        self.prefix = prefix;
    }
}

impl From<TcpStream> for StreamIo {
    fn from(socket: TcpStream) -> Self {
        Self::from_link(Link::new(Kind::Tcp(socket)))
    }
}

impl From<UnixStream> for StreamIo {
    fn from(socket: UnixStream) -> Self {
        Self::from_link(Link::new(Kind::Unix(socket)))
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let n = ready!(this.link.poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.link.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_write_all(cx, &[], &mut 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn sockets() -> (StreamIo, StreamIo) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (listener.accept().await.unwrap().0.into(), client.into())
    }

    /// The first as a listener hands it out.
    async fn accepted() -> (StreamIo, StreamIo) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        (StreamIo::accepted_tcp(socket.into()), client.into())
    }

    async fn peeks_without_consuming(mut here: StreamIo, mut there: StreamIo) {
        there.write_all(b"hel").await.unwrap();
        assert_eq!(here.peek(2).await.unwrap(), b"hel");
        there.write_all(b"lo").await.unwrap();
        assert_eq!(here.peek(5).await.unwrap(), b"hello");
        here.unread(b"> ");
        there.shutdown().await.unwrap();
        assert_eq!(here.peek(100).await.unwrap(), b"> hello");
        let mut all = Vec::new();
        here.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"> hello");
        assert_eq!(here.link().meter().received(), 5);
        assert_eq!(there.link().meter().sent(), 5);
    }

    #[tokio::test]
    async fn a_socket_can_be_peeked() {
        let (here, there) = sockets().await;
        peeks_without_consuming(here, there).await;
    }

    #[tokio::test]
    async fn an_accepted_socket_can_be_peeked() {
        let (here, there) = accepted().await;
        peeks_without_consuming(here, there).await;
    }

    #[tokio::test]
    async fn memory_can_be_peeked() {
        let (here, there) = StreamIo::pair(64);
        peeks_without_consuming(here, there).await;
    }

    #[tokio::test]
    async fn a_quiet_stream_is_one_that_is_open_and_silent() {
        for (here, mut there) in [sockets().await, accepted().await, StreamIo::pair(64)] {
            assert!(here.link().is_quiet() && here.link().is_read_out());
            there.write_all(b"!").await.unwrap();
            std::future::poll_fn(|cx| here.link().poll_readable(cx))
                .await
                .unwrap();
            assert!(!here.link().is_quiet() && !here.link().is_read_out());
        }
        for (here, there) in [sockets().await, accepted().await, StreamIo::pair(64)] {
            drop(there);
            std::future::poll_fn(|cx| here.link().poll_readable(cx))
                .await
                .unwrap();
            assert!(!here.link().is_quiet());
        }
    }

    #[tokio::test]
    async fn only_a_reset_is_the_end_of_a_peer() {
        for (here, there) in [sockets().await, accepted().await] {
            let mut gone = std::pin::pin!(std::future::poll_fn(|cx| here.link().poll_reset(cx)));
            assert!(is_pending_still(&mut gone).await);
            there.link().abort(0);
            drop(there);
            gone.await;
        }
        for (here, mut there) in [sockets().await, accepted().await] {
            there.write_all(b"more").await.unwrap();
            there.shutdown().await.unwrap();
            std::future::poll_fn(|cx| here.link().poll_readable(cx))
                .await
                .unwrap();
            let mut gone = std::pin::pin!(std::future::poll_fn(|cx| here.link().poll_reset(cx)));
            assert!(is_pending_still(&mut gone).await);
        }
    }

    /// Whether `future` has still nothing to say.
    async fn is_pending_still(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn a_short_read_does_not_lose_what_comes_later() {
        for (here, mut there) in [sockets().await, accepted().await] {
            for round in 0..100u8 {
                there.write_all(&[round; 3]).await.unwrap();
                let mut buf = [0; 16];
                let n = std::future::poll_fn(|cx| here.link().poll_read(cx, &mut buf))
                    .await
                    .unwrap();
                assert_eq!(buf[..n], [round; 3]);
            }
            drop(there);
            assert_eq!(
                std::future::poll_fn(|cx| here.link().poll_read(cx, &mut [0; 4]))
                    .await
                    .unwrap(),
                0
            );
        }
    }

    #[tokio::test]
    async fn the_last_bytes_go_with_the_end() {
        for (here, mut there) in [sockets().await, accepted().await, StreamIo::pair(64)] {
            let wrote = std::future::poll_fn(|cx| here.link().poll_write_last(cx, b"bye")).await;
            assert_eq!(wrote.unwrap(), 3);
            std::future::poll_fn(|cx| here.link().poll_shutdown(cx))
                .await
                .unwrap();
            let mut all = Vec::new();
            there.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"bye");
            assert_eq!(here.link().meter().sent(), 3);
        }
    }
}
