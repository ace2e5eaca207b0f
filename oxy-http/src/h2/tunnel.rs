//! A stream of HTTP/2 as a stream of bytes: what CONNECT and extended CONNECT open (RFC 9113 section 8.5, RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use oxy_core::ByteIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::Ticket;
use crate::body::Piece;

/// Bytes that are handed over at a time: what the peer's window takes is all that bounds them otherwise.
const MOST: usize = 64 * 1024;

/// One end of a tunnel. Dropped before both directions have ended, it makes the peer see an error.
pub(crate) struct Tunnel {
    send: SendStream<Piece>,
    recv: RecvStream,
    /// What has come and has not been read.
    ahead: Bytes,
    read_ended: bool,
    write_ended: bool,
    _ticket: Option<Ticket>,
}

impl Tunnel {
    /// The tunnel that a stream has become; `ticket` is its place on a connection to an origin.
    pub(crate) fn new(send: SendStream<Piece>, recv: RecvStream, ticket: Option<Ticket>) -> Self {
        Self {
            send,
            recv,
            ahead: Bytes::new(),
            read_ended: false,
            write_ended: false,
            _ticket: ticket,
        }
    }
}

fn failed(error: ::h2::Error) -> io::Error {
    match error.get_io() {
        Some(e) => io::Error::new(e.kind(), e.to_string()),
        // RFC 9113 section 8.5: a reset is to a stream what RST is to a TCP connection.
        None => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ahead.is_empty() && !this.read_ended {
            match ready!(this.recv.poll_data(cx)) {
                Some(data) => this.ahead = data.map_err(failed)?,
                None => this.read_ended = true,
            }
        }
        let n = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        if n > 0 {
            // Fails only for a stream that is over.
            let _ = this.recv.flow_control().release_capacity(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(bytes.len().min(MOST));
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(room) => room.map_err(failed)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let n = this.send.capacity().min(bytes.len()).min(MOST);
        let piece = Piece::Bytes(Bytes::copy_from_slice(&bytes[..n]));
        this.send.send_data(piece, false).map_err(failed)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.write_ended, true) {
            let end = Piece::Bytes(Bytes::new());
            this.send.send_data(end, true).map_err(failed)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl ByteIo for Tunnel {
    fn abort(&mut self, _: u64) {
        self.write_ended = true;
        self.send.send_reset(Reason::CONNECT_ERROR);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !self.write_ended {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
