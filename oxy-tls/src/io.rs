//! The plaintext of a TLS session as a stream.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use oxy_core::buffer::{self, Buffer};
use oxy_core::tls::EarlyData;
use oxy_core::{ByteIo, Link, Readiness, StreamIo};
use rustls::unbuffered::EncryptError;
use rustls::{CommonState, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::session::{Advance, Encrypt, MAX_PLAIN, Session, Sink, WriteError};

/// Plaintext that one write takes at most: four records, which fit into one wide buffer. More in one go saves system calls
/// that cost nothing next to the cipher, and holds more memory for a peer that does not read.
const MAX_WRITE: usize = 4 * MAX_PLAIN;

/// Room that four records need beyond their plaintext, and that an alert or a key update before them needs.
const OVERHEAD: usize = 512;

/// Input that makes no progress and is longer than this is an attack: a handshake message of the largest size that rustls
/// takes (64 KiB), in records of a sensible size.
const MAX_INPUT: usize = 128 * 1024;

/// Unsent bytes in front of which new plaintext is still taken, so that both go out in one: the last flight of a handshake
/// or a session ticket, and a first request or response.
const MAX_AHEAD: usize = 4 * 1024;

/// The plaintext of a TLS session over a [`StreamIo`].
///
/// Both ways are independent: reading goes on while a write waits, and the other way round. All operations are cancel safe.
/// An end of the stream without `close_notify` is an error (`UnexpectedEof`), as somebody may have cut it (RFC 8446 section
/// 6.1). Shutting down sends `close_notify`; dropping sends nothing. It holds buffers only while bytes are on their way.
pub struct TlsIo {
    wire: Wire,
    /// Plaintext that did not fit where it was asked for.
    spill: Buffer,
    /// We have said that we send no more.
    close_sent: bool,
}

/// A session, what lies beneath it, and the bytes between the two.
struct Wire {
    session: Session,
    link: Arc<Link>,
    /// Bytes from the peer that make no whole record yet, or that nobody has asked for.
    input: Buffer,
    /// Bytes for the peer that it has not taken yet.
    out: Buffer,
    /// How many of those may wait for company: the tickets at the end of a handshake, which the first answer takes along. A write
    /// of their own would wake the client for nothing that it waits for.
    patient: usize,
    early_data: Option<EarlyData>,
    /// The peer has said that it sends no more.
    closed: bool,
    /// The session has seen all of `input`, and can do nothing with it before more comes. It is not asked again: each time it
    /// would try to decrypt what may be early data that was refused, and it tries so often only.
    starved: bool,
    /// The last read brought a lot: more is coming.
    bulk: bool,
    /// What ended the session before its time.
    fault: Option<Box<Fault>>,
}

#[derive(Debug)]
enum Fault {
    Tls(rustls::Error),
    /// The stream ended without `close_notify`.
    Cut,
}

impl Fault {
    fn to_io(&self) -> io::Error {
        match self {
            Self::Tls(error) => io::Error::new(io::ErrorKind::InvalidData, error.clone()),
            Self::Cut => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the stream ended without close_notify",
            ),
        }
    }
}

/// How a handshake stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shaken {
    /// It is over.
    Done,
    /// It goes on, and early data can be read meanwhile.
    Early,
}

impl TlsIo {
    /// `session` over `stream`, whose bytes that were read ahead are part of it.
    pub(crate) fn new(session: Session, stream: StreamIo) -> Self {
        let (link, ahead) = stream.into_parts();
        let mut input = Buffer::vacant();
        if !ahead.is_empty() {
            input = Buffer::new();
            input.put(&ahead);
        }
        Self {
            wire: Wire {
                session,
                link,
                input,
                out: Buffer::vacant(),
                patient: 0,
                early_data: None,
                closed: false,
                starved: false,
                bulk: false,
                fault: None,
            },
            spill: Buffer::vacant(),
            close_sent: false,
        }
    }

    /// What the session has settled.
    pub(crate) fn common(&self) -> &CommonState {
        self.wire.session.common()
    }

    /// Notes that early data has been taken, until the handshake is over.
    pub(crate) fn set_early_data(&mut self, early: EarlyData) {
        self.wire.early_data = Some(early);
    }

    /// What lies beneath.
    pub fn link(&self) -> &Arc<Link> {
        &self.wire.link
    }

    /// Goes on with the handshake until it is over or early data has come. What may still have to be sent then goes out with
    /// the next read or write. Cancel safe.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Shaken>> {
        loop {
            let advance = self.wire.advance(Sink::Keep);
            if let Err(fault) = advance {
                // The alert says why; whether it arrives is not ours to wait for.
                let _ = self.wire.poll_send(cx);
                return Poll::Ready(Err(fault));
            }
            if !self.common().is_handshaking() {
                if !self.peer_waits() && self.wire.out.len() <= MAX_AHEAD {
                    self.wire.patient = self.wire.out.len();
                    self.wire.out.compact();
                }
                let _ = self.wire.poll_answer(cx);
                return Poll::Ready(Ok(Shaken::Done));
            }
            if matches!(advance, Ok(Advance::Plaintext)) {
                let _ = self.wire.poll_send(cx);
                return Poll::Ready(Ok(Shaken::Early));
            }
            ready!(self.wire.poll_unblock(cx))?;
        }
    }

    /// Whether the peer cannot go on before it has what is still to be sent at the end of a handshake. A server of TLS 1.3 has
    /// only tickets left, which go out with its first answer (RFC 8446 section 4.6.1: at any time after the handshake).
    fn peer_waits(&self) -> bool {
        let is_1_3 = self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3);
        !is_1_3 || matches!(self.wire.session, Session::Client(_))
    }

    /// Why the session failed, if TLS says so.
    pub(crate) fn tls_error(&self) -> Option<&rustls::Error> {
        match self.wire.fault.as_deref() {
            Some(Fault::Tls(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether plaintext, the end or an error is at hand.
    fn has_news(&mut self) -> bool {
        !self.spill.is_empty()
            || !matches!(self.wire.advance(Sink::Keep), Ok(Advance::Starved))
            || self.wire.closed
    }

    fn poll_read_plain(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !self.spill.is_empty() {
            let n = self.spill.len().min(buf.remaining());
            buf.put_slice(&self.spill.filled()[..n]);
            self.spill.consume(n);
            if !self.spill.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.spill = Buffer::vacant();
        }
        loop {
            let advance = self.wire.advance(Sink::Read(buf, &mut self.spill));
            let _ = self.wire.poll_answer(cx);
            // What came before an error is read before it.
            if buf.filled().len() > before || self.wire.closed {
                return Poll::Ready(Ok(()));
            }
            advance?;
            ready!(self.wire.poll_fill(cx, buf.remaining()))?;
        }
    }

    fn poll_write_plain(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.close_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        if self.wire.out.len() > MAX_AHEAD {
            ready!(self.wire.poll_send(cx))?;
        }
        let taken = loop {
            match self.wire.encrypt(bufs, &mut self.spill) {
                Ok(Some(taken)) => break taken,
                Ok(None) => ready!(self.wire.poll_unblock(cx))?,
                Err(e) => {
                    let _ = self.wire.poll_send(cx);
                    return Poll::Ready(Err(e));
                }
            }
        };
        // It has been taken: what cannot be sent now is sent before anything else.
        match self.wire.poll_send(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(taken)),
        }
    }
}

impl Wire {
    /// Uses up what has come.
    fn advance(&mut self, sink: Sink<'_, '_>) -> io::Result<Advance> {
        if let Some(fault) = &self.fault {
            return Err(fault.to_io());
        }
        if self.starved {
            return Ok(Advance::Starved);
        }
        let Self {
            session,
            input,
            out,
            closed,
            ..
        } = self;
        let advance = session.advance(input, out, closed, sink);
        self.starved = matches!(advance, Ok(Advance::Starved));
        if self.closed {
            // RFC 8446 section 6.1: what follows a close_notify is ignored.
            self.input.clear();
        }
        if self.input.is_empty() {
            self.input = Buffer::vacant();
        }
        self.settle();
        advance.map_err(|error| self.fail(Fault::Tls(error)))
    }

    /// Notes the end of a handshake that early data came before.
    fn settle(&self) {
        if let Some(early) = &self.early_data
            && !self.session.common().is_handshaking()
        {
            early.settle();
        }
    }

    /// Ends the session.
    fn fail(&mut self, fault: Fault) -> io::Error {
        self.fault.insert(Box::new(fault)).to_io()
    }

    /// Sends what the peer may be waiting for: whatever becomes of reading, a key update or a last flight must get there.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.patient > 0 && self.out.len() == self.patient {
            return Poll::Ready(Ok(()));
        }
        self.poll_send(cx)
    }

    /// Sends what is to be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send_by(cx, Link::poll_write)
    }

    /// The same by `write`.
    fn poll_send_by(
        &mut self,
        cx: &mut Context<'_>,
        write: fn(&Link, &mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        self.patient = 0;
        while !self.out.is_empty() {
            match write(&self.link, cx, self.out.filled()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.out.consume(n),
                Poll::Ready(Err(e)) => {
                    // Nobody takes it any more.
                    self.out = Buffer::vacant();
                    return Poll::Ready(Err(e));
                }
                Poll::Pending => {
                    shrink(&mut self.out);
                    return Poll::Pending;
                }
            }
        }
        self.out = Buffer::vacant();
        self.link.poll_flush(cx)
    }

    /// Reads more input, for a reader that asks for `want` bytes. An end that was not announced is an error.
    fn poll_fill(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<()>> {
        if self.input.len() >= MAX_INPUT {
            let error =
                rustls::Error::InvalidMessage(rustls::InvalidMessage::HandshakePayloadTooLarge);
            return Poll::Ready(Err(self.fail(Fault::Tls(error))));
        }
        let wide = self.bulk || want > MAX_PLAIN;
        if self.input.is_empty() {
            self.input = if wide { Buffer::wide() } else { Buffer::new() };
        } else {
            self.make_room();
        }
        let filled = self.link.poll_read(cx, self.input.spare());
        match filled {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(self.fail(Fault::Cut))),
            Poll::Ready(Ok(n)) => {
                self.bulk = n >= buffer::SIZE;
                self.starved = false;
                self.input.advance(n);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => {
                if self.input.is_empty() {
                    self.input = Buffer::vacant();
                } else {
                    shrink(&mut self.input);
                }
                Poll::Pending
            }
        }
    }

    /// Makes room for the rest of a record behind the part of it that is there.
    fn make_room(&mut self) {
        // A header and the largest ciphertext of TLS 1.2 (RFC 5246 section 6.2.3).
        const RECORD: usize = 5 + MAX_PLAIN + 2048;
        let rest = RECORD.saturating_sub(self.input.len()).max(1024);
        if self.input.spare().len() >= rest {
            return;
        }
        if self.input.len() + rest <= buffer::WIDE_SIZE {
            let mut wide = Buffer::wide();
            wide.put(self.input.filled());
            self.input = wide;
        } else {
            self.input.reserve(rest);
        }
    }

    /// Encrypts some of `bufs` into what is to be sent, and says how much; none where the handshake must go on first.
    fn encrypt(&mut self, bufs: &[IoSlice<'_>], spill: &mut Buffer) -> io::Result<Option<usize>> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        let len = len.min(MAX_WRITE - self.out.len().min(MAX_AHEAD));
        self.prepare_out(len + OVERHEAD);
        self.write(spill, |traffic, out| {
            let mut left = len;
            let mut gather = Buffer::vacant();
            for buf in bufs {
                let mut buf = &buf[..buf.len().min(left)];
                left -= buf.len();
                // What is whole records by itself need not be copied, nor need the last part.
                if gather.is_empty() && (left == 0 || buf.len() >= MAX_PLAIN) {
                    let whole = if left == 0 {
                        buf.len()
                    } else {
                        buf.len() - buf.len() % MAX_PLAIN
                    };
                    traffic.encrypt(&buf[..whole], out)?;
                    buf = &buf[whole..];
                }
                while !buf.is_empty() {
                    if gather.is_empty() {
                        gather = Buffer::new();
                    }
                    let (now, later) = buf.split_at(buf.len().min(MAX_PLAIN - gather.len()));
                    gather.put(now);
                    buf = later;
                    if gather.len() == MAX_PLAIN {
                        traffic.encrypt(gather.filled(), out)?;
                        gather.clear();
                    }
                }
                if left == 0 {
                    break;
                }
            }
            if !gather.is_empty() {
                traffic.encrypt(gather.filled(), out)?;
            }
            Ok(len)
        })
    }

    /// Makes room for `len` bytes to be sent.
    fn prepare_out(&mut self, len: usize) {
        let whole = self.out.len() + len;
        if self.out.spare().len() < len && whole <= buffer::WIDE_SIZE {
            let mut room = if whole <= buffer::SIZE {
                Buffer::new()
            } else {
                Buffer::wide()
            };
            room.put(self.out.filled());
            self.out = room;
        }
    }

    /// Lets `write` encrypt what it likes; none where the handshake must go on first. Plaintext that has come goes to `spill`.
    fn write<T>(
        &mut self,
        spill: &mut Buffer,
        write: impl FnOnce(&mut dyn Encrypt, &mut Buffer) -> Result<T, EncryptError>,
    ) -> io::Result<Option<T>> {
        if let Some(fault @ Fault::Tls(_)) = self.fault.as_deref() {
            return Err(fault.to_io());
        }
        let written = self.session.write(
            &mut self.input,
            &mut self.out,
            &mut self.closed,
            spill,
            write,
        );
        self.settle();
        if self.closed {
            self.input.clear();
        }
        if self.input.is_empty() {
            self.input = Buffer::vacant();
        }
        if self.out.is_empty() {
            self.out = Buffer::vacant();
        }
        written.map_err(|error| match error {
            WriteError::Session(error) => self.fail(Fault::Tls(error)),
            WriteError::Encrypt(error) => io::Error::other(error),
        })
    }

    /// Takes a handshake's next bytes. They are not kept waiting by those that are to be sent: if both sides did that, a
    /// narrow pipe between them would be the end.
    fn poll_unblock(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(e)) = self.poll_send(cx) {
            return Poll::Ready(Err(e));
        }
        self.poll_fill(cx, 0)
    }
}

/// Gives a wide block back that holds little for as long as the peer likes.
fn shrink(buffer: &mut Buffer) {
    if buffer.len() + buffer.spare().len() > buffer::SIZE && buffer.len() <= buffer::SIZE / 2 {
        let mut small = Buffer::new();
        small.put(buffer.filled());
        *buffer = small;
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_read_plain(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_plain(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_plain(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.close_sent {
            match this
                .wire
                .write(&mut this.spill, |traffic, out| traffic.close(out))
            {
                Ok(None) => ready!(this.wire.poll_unblock(cx))?,
                // A session that has failed has said so by its alert.
                Ok(Some(())) | Err(_) => this.close_sent = true,
            }
        }
        ready!(this.wire.poll_send_by(cx, Link::poll_write_last))?;
        this.wire.link.poll_shutdown(cx)
    }
}

impl Readiness for TlsIo {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let news = self.has_news();
            let _ = self.wire.poll_answer(cx);
            if news {
                return Poll::Ready(Ok(()));
            }
            // An error is given by the read that follows.
            if ready!(self.wire.poll_fill(cx, 0)).is_err() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_answer(cx))?;
        self.wire.link.poll_writable(cx)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let has_news = self.has_news();
            let _ = self.wire.poll_answer(cx);
            if self.wire.fault.is_some() {
                return Poll::Ready(());
            }
            if self.wire.closed {
                // It reads on, or it is gone: what lies beneath knows.
                return self.wire.link.poll_reset(cx);
            }
            if has_news {
                return Poll::Pending;
            }
            if ready!(self.wire.poll_fill(cx, 0)).is_err() {
                return Poll::Ready(());
            }
        }
    }

    fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if self.has_news() || self.wire.fault.is_some() {
                return false;
            }
            // The part of a record may become anything.
            if self.wire.link.is_quiet() {
                return self.wire.input.is_empty();
            }
            if !matches!(self.wire.poll_fill(&mut cx, 0), Poll::Ready(Ok(()))) {
                return false;
            }
        }
    }
}

impl ByteIo for TlsIo {
    fn abort(&mut self, code: u64) {
        self.wire.link.abort(code);
    }

    fn readiness(&mut self) -> Option<&mut dyn Readiness> {
        Some(self)
    }
}

impl fmt::Debug for TlsIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIo")
            .field("input", &self.wire.input.len())
            .field("out", &self.wire.out.len())
            .field("closed", &self.wire.closed)
            .field("fault", &self.wire.fault)
            .finish_non_exhaustive()
    }
}
