//! One HTTP/1.1 connection and the exchange that it is in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::client::ClientConfig;
use socket2::Socket;

use super::request::Request;
use super::wire::{Broken, Buffers, Wire};
use crate::poller::Ready;
use oxy_benches::head::Head;

/// How far an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits for the socket.
    Pending,
    /// The whole answer is here.
    Done {
        /// Status, length and (where compared) content are as expected.
        right: bool,
        /// The proxy will close the connection.
        closes: bool,
    },
    /// The connection is gone.
    Broken,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
    pub(crate) started: Instant,
    exchange: Exchange,
}

impl Client {
    /// Begins to connect, as the load's connection `number`.
    pub(crate) fn connect(
        number: u64,
        target: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let started = Instant::now();
        let wire = Wire::connect(number, target, tls)?;
        Ok(Self {
            wire,
            started,
            exchange: Exchange::after(number),
        })
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.wire.socket
    }

    /// Whether an exchange is under way.
    pub(crate) fn busy(&self) -> bool {
        self.exchange.busy
    }

    /// Begins the next exchange on an open connection.
    pub(crate) fn start(&mut self, request: &Request, buffers: &mut Buffers) -> Progress {
        self.exchange.start(request);
        match self.exchange.send(&mut self.wire, request, buffers) {
            Ok(()) => Progress::Pending,
            Err(Broken) => Progress::Broken,
        }
    }

    /// Goes on after an event.
    pub(crate) fn advance(
        &mut self,
        ready: Ready,
        request: &Request,
        buffers: &mut Buffers,
    ) -> Progress {
        let Self { wire, exchange, .. } = self;
        if wire.is_tls() {
            return exchange.advance_sealed(wire, ready, request, buffers);
        }
        if ready.writable && exchange.send(wire, request, buffers).is_err() {
            return Progress::Broken;
        }
        if !ready.readable {
            return Progress::Pending;
        }
        exchange.receive(&wire.socket, ready, request, &mut buffers.read)
    }

    /// Closes the connection in order.
    pub(crate) fn close(mut self) {
        self.wire.farewell();
    }
}

/// A request on its way out and its answer on its way in.
#[derive(Debug)]
struct Exchange {
    serial: u64,
    /// Whether it is under way.
    busy: bool,
    compare: bool,
    sent: usize,
    /// The start of an answer's head that has not arrived whole.
    partial: Vec<u8>,
    /// Body bytes seen, once the head is here.
    body_at: Option<usize>,
    right: bool,
    closes: bool,
}

impl Exchange {
    /// None yet; the first will have the number after `serial`.
    fn after(serial: u64) -> Self {
        Self {
            serial,
            busy: false,
            compare: false,
            sent: 0,
            partial: Vec::new(),
            body_at: None,
            right: true,
            closes: false,
        }
    }

    fn start(&mut self, request: &Request) {
        self.serial += 1;
        self.compare = request.compares(self.serial);
        self.busy = true;
        self.sent = 0;
        self.body_at = None;
        self.right = true;
    }

    /// Sends as much of the request as there is room for.
    fn send(
        &mut self,
        wire: &mut Wire,
        request: &Request,
        buffers: &mut Buffers,
    ) -> Result<(), Broken> {
        let head = request.head(self.serial, self.compare);
        while self.busy && self.sent < head.len() + request.body.len() {
            let parts = [
                head.get(self.sent..).unwrap_or_default(),
                &request.body[self.sent.saturating_sub(head.len())..],
            ];
            match wire.send(parts, buffers)? {
                0 => break,
                sent => self.sent += sent,
            }
        }
        Ok(())
    }

    /// Takes what a socket without TLS has.
    fn receive(
        &mut self,
        socket: &Socket,
        ready: Ready,
        request: &Request,
        scratch: &mut [u8],
    ) -> Progress {
        loop {
            let (want, flags) = match self.body_at {
                Some(at) if !self.compare => {
                    // The kernel drops the bytes and counts them.
                    (
                        scratch.len().min(request.expected.len() - at),
                        RecvFlags::TRUNC,
                    )
                }
                _ => (scratch.len(), RecvFlags::empty()),
            };
            let got = match recv(socket, &mut scratch[..want], flags) {
                Ok((_, got)) if got > 0 && self.busy => got,
                Err(Errno::AGAIN) => return Progress::Pending,
                _ => return Progress::Broken,
            };
            let kept = flags.is_empty().then(|| &scratch[..got]);
            let progress = self.arrived(got, kept, request);
            // After a short read the next arrival is a new edge.
            if progress != Progress::Pending || (got < want && !ready.closing) {
                return progress;
            }
        }
    }

    /// Takes what TLS has, and sends when the handshake or the socket allows it.
    fn advance_sealed(
        &mut self,
        wire: &mut Wire,
        ready: Ready,
        request: &Request,
        buffers: &mut Buffers,
    ) -> Progress {
        let mut progress = Progress::Pending;
        let received = wire.receive(ready, buffers, &mut |bytes| {
            progress = match progress {
                Progress::Pending if self.busy => self.arrived(bytes.len(), Some(bytes), request),
                _ => Progress::Broken, // nobody has asked for it
            };
        });
        match (progress, received) {
            // The answer came whole before the end.
            (Progress::Done { right, .. }, Err(Broken)) => Progress::Done {
                right,
                closes: true,
            },
            (Progress::Pending, Err(Broken)) => Progress::Broken,
            (Progress::Pending, Ok(())) => match self.send(wire, request, buffers) {
                Ok(()) => Progress::Pending,
                Err(Broken) => Progress::Broken,
            },
            (progress, _) => progress,
        }
    }

    /// Takes `count` bytes; `kept` are they, unless the kernel dropped them.
    fn arrived(&mut self, count: usize, kept: Option<&[u8]>, request: &Request) -> Progress {
        let Some(mut at) = self.body_at else {
            let bytes = kept.unwrap_or_default();
            if self.partial.is_empty() && Head::find(bytes).is_some() {
                return self.answered(bytes, request);
            }
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            if Head::find(&joined).is_some() {
                return self.answered(&joined, request);
            }
            self.partial = joined;
            return Progress::Pending;
        };
        if self.compare
            && let Some(bytes) = kept
        {
            self.right &= request.expected[at..].starts_with(bytes);
        }
        at += count;
        self.body_at = Some(at);
        if at < request.expected.len() {
            return Progress::Pending;
        }
        self.busy = false;
        let right = self.right && at == request.expected.len();
        Progress::Done {
            right,
            closes: self.closes,
        }
    }

    /// Takes the head and what came with it.
    fn answered(&mut self, bytes: &[u8], request: &Request) -> Progress {
        let Some(head) = Head::find(bytes) else {
            return Progress::Pending;
        };
        if head.first_line().split(' ').nth(1) != Some("200")
            || head.content_length() != Some(request.expected.len())
        {
            // The framing is not what was agreed: nothing more to learn on this connection.
            return Progress::Done {
                right: false,
                closes: true,
            };
        }
        self.closes = head.closes();
        self.body_at = Some(0);
        let rest = &bytes[head.end()..];
        self.arrived(rest.len(), Some(rest), request)
    }
}
