//! One client connection and the exchange that it is in.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Instant;

use clap::ValueEnum;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};

use crate::poller::Ready;
use oxy_benches::head::Head;
use oxy_benches::pattern;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// A body comes back.
    Get,
    /// A body goes out.
    Post,
}

/// Above this length only a sample of the bodies is compared byte by byte: the
/// load generator must not be the bottleneck.
const COMPARE_ALL: usize = 16 << 10;

/// One in so many long bodies is compared.
const SAMPLE: u64 = 16;

/// What one slot sends, prepared once.
#[derive(Debug)]
pub(crate) struct Request {
    plain: Vec<u8>,
    /// The same, asking the origin to compare the body.
    compared: Vec<u8>,
    body: &'static [u8],
    expected: &'static [u8],
}

impl Request {
    /// The request of `slot`; nothing if `size` is beyond the pattern.
    pub(crate) fn new(
        method: Method,
        size: usize,
        slot: usize,
        target: SocketAddr,
    ) -> Option<Self> {
        let shift = pattern::shift(slot);
        let bytes = pattern::body(size, shift)?;
        let fields = format!("Host: {target}\r\nUser-Agent: peers/1\r\nAccept: */*\r\n");
        Some(match method {
            Method::Get => {
                let head = format!("GET /b/{size}/{shift} HTTP/1.1\r\n{fields}\r\n").into_bytes();
                Self {
                    plain: head.clone(),
                    compared: head,
                    body: b"",
                    expected: bytes,
                }
            }
            Method::Post => {
                let head = |kind| {
                    format!(
                        "POST /{kind}/{shift} HTTP/1.1\r\n{fields}Content-Length: {size}\r\n\r\n"
                    )
                    .into_bytes()
                };
                Self {
                    plain: head('p'),
                    compared: head('c'),
                    body: bytes,
                    expected: b"ok",
                }
            }
        })
    }

    /// Whether exchange number `serial` is one whose body is compared.
    fn compares(&self, serial: u64) -> bool {
        self.body.len().max(self.expected.len()) <= COMPARE_ALL || serial.is_multiple_of(SAMPLE)
    }
}

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
    pub(crate) socket: Socket,
    pub(crate) started: Instant,
    /// Whether an exchange is under way.
    pub(crate) busy: bool,
    serial: u64,
    compare: bool,
    sent: usize,
    /// The start of an answer's head that has not arrived whole.
    partial: Vec<u8>,
    /// Body bytes seen, once the head is here.
    body_at: Option<usize>,
    right: bool,
    closes: bool,
}

impl Client {
    /// Begins to connect from `source`.
    pub(crate) fn connect(source: SocketAddr, target: SocketAddr, serial: u64) -> io::Result<Self> {
        let started = Instant::now();
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&source.into())?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        Ok(Self {
            socket,
            started,
            busy: false,
            serial,
            compare: false,
            sent: 0,
            partial: Vec::new(),
            body_at: None,
            right: true,
            closes: false,
        })
    }

    /// Begins the next exchange on an open connection.
    pub(crate) fn start(&mut self, request: &Request) -> Progress {
        self.serial += 1;
        self.compare = request.compares(self.serial);
        self.busy = true;
        self.sent = 0;
        self.body_at = None;
        self.right = true;
        self.send(request)
    }

    /// Goes on after an event.
    pub(crate) fn advance(
        &mut self,
        ready: Ready,
        request: &Request,
        scratch: &mut [u8],
    ) -> Progress {
        if ready.writable && self.busy && self.send(request) == Progress::Broken {
            return Progress::Broken;
        }
        if !ready.readable {
            return Progress::Pending;
        }
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
            let got = match recv(&self.socket, &mut scratch[..want], flags) {
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

    fn send(&mut self, request: &Request) -> Progress {
        let head = if self.compare {
            &request.compared
        } else {
            &request.plain
        };
        while self.sent < head.len() + request.body.len() {
            let parts = [
                IoSlice::new(head.get(self.sent..).unwrap_or_default()),
                IoSlice::new(&request.body[self.sent.saturating_sub(head.len())..]),
            ];
            match rustix::io::writev(&self.socket, &parts) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => break,
                Err(_) => return Progress::Broken,
            }
        }
        Progress::Pending
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
