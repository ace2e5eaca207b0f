//! The origin: deterministic bodies on `GET /b/LEN/SHIFT`, and a sink for `POST`.
//!
//! `POST /p/SHIFT` only counts the body; `POST /c/SHIFT` compares it with the pattern.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv};
use socket2::{Domain, Socket, Type};

use crate::poller::{Poller, Ready};
use crate::routes;
use oxy_benches::head::Head;
use oxy_benches::pattern;

/// The listener's key; connections count from 0.
const LISTENER: usize = usize::MAX;

/// Read size: a whole receive queue, as far as loopback fills one.
const SCRATCH: usize = 512 << 10;

/// Serves until it is killed.
pub(crate) fn run(listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    listener.set_reuse_address(true)?;
    listener.set_tcp_nodelay(true)?; // inherited by what it accepts
    listener.bind(&listen.into())?;
    listener.listen(4096)?;
    let mut poller = Poller::new()?;
    poller.add_listener(&listener, LISTENER)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut scratch = vec![0; SCRATCH];
    loop {
        for index in 0..poller.wait(Duration::from_secs(1))? {
            let ready = poller.event(index);
            if ready.key == LISTENER {
                accept(&listener, &poller, &mut connections, &mut free)?;
            } else if let Some(slot) = connections.get_mut(ready.key)
                && let Some(connection) = slot
                && connection.advance(ready, &mut scratch).is_err()
            {
                *slot = None;
                free.push(ready.key);
            }
        }
    }
}

/// Takes every connection that waits.
fn accept(
    listener: &Socket,
    poller: &Poller,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        // One call, where socket2's `accept` needs a second for non-blocking mode.
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => Socket::from(socket),
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        let key = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        poller.add(&socket, key)?;
        connections[key] = Some(Connection::new(socket));
    }
}

/// The connection is over.
struct Over;

impl From<Errno> for Over {
    fn from(_: Errno) -> Self {
        Self
    }
}

/// One connection from a proxy.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// The start of a head that has not arrived whole.
    partial: Vec<u8>,
    upload: Option<Upload>,
    answer: Option<Answer>,
    close_after: bool,
}

/// A request body on its way in.
#[derive(Debug)]
struct Upload {
    expected: &'static [u8],
    at: usize,
    compare: bool,
    equal: bool,
}

/// An answer on its way out.
#[derive(Debug)]
struct Answer {
    head: Vec<u8>,
    body: &'static [u8],
    sent: usize,
}

impl Answer {
    fn new(status: &str, body: &'static [u8]) -> Self {
        // Fields such as a real server sends; the date is constant because nobody reads it.
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self {
            head: head.into_bytes(),
            body,
            sent: 0,
        }
    }
}

impl Connection {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            partial: Vec::new(),
            upload: None,
            answer: None,
            close_after: false,
        }
    }

    /// Goes on as far as the sockets allow.
    fn advance(&mut self, ready: Ready, scratch: &mut [u8]) -> Result<(), Over> {
        if ready.writable && self.answer.is_some() {
            self.send()?;
        }
        if !ready.readable {
            return Ok(());
        }
        loop {
            let discard = self.upload.as_ref().is_some_and(|upload| !upload.compare);
            let want = match &self.upload {
                Some(upload) => scratch.len().min(upload.expected.len() - upload.at),
                None => scratch.len(),
            };
            let flags = if discard {
                RecvFlags::TRUNC
            } else {
                RecvFlags::empty()
            };
            let got = match recv(&self.socket, &mut scratch[..want], flags) {
                Ok((_, 0)) => return Err(Over),
                Ok((_, got)) => got,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if discard {
                self.upload_arrived(got, None)?;
            } else {
                self.arrived(&scratch[..got])?;
            }
            // After a short read the next arrival is a new edge.
            if got < want && !ready.closing {
                return Ok(());
            }
        }
    }

    /// Takes bytes that hold heads and bodies in any mixture.
    fn arrived(&mut self, mut bytes: &[u8]) -> Result<(), Over> {
        while !bytes.is_empty() {
            if let Some(upload) = &self.upload {
                let part = bytes.len().min(upload.expected.len() - upload.at);
                self.upload_arrived(part, Some(&bytes[..part]))?;
                bytes = &bytes[part..];
            } else if self.partial.is_empty() {
                let Some(head) = Head::find(bytes) else {
                    self.partial.extend_from_slice(bytes);
                    return Ok(());
                };
                bytes = &bytes[head.end()..];
                self.request(head)?;
            } else {
                // Rare: a head in pieces. Join them and start over.
                let mut joined = std::mem::take(&mut self.partial);
                joined.extend_from_slice(bytes);
                if Head::find(&joined).is_none() {
                    self.partial = joined;
                    return Ok(());
                }
                return self.arrived(&joined);
            }
        }
        Ok(())
    }

    fn request(&mut self, head: Head<'_>) -> Result<(), Over> {
        self.close_after = head.closes();
        let mut words = head.first_line().split(' ');
        let (method, path) = (
            words.next().unwrap_or_default(),
            routes::beyond_prefix(words.next().unwrap_or_default()),
        );
        let mut parts = path.split('/').skip(1);
        let (kind, numbers) = (parts.next().unwrap_or_default(), parts);
        let mut numbers = numbers.map(|text| text.parse::<usize>().unwrap_or(usize::MAX));
        let mut number = || numbers.next().unwrap_or(0);
        match (method, kind) {
            ("GET", "b") => {
                let (len, shift) = (number(), number());
                match pattern::body(len, shift) {
                    Some(body) => self.answer("200 OK", body),
                    None => self.answer("404 Not Found", b""),
                }
            }
            ("POST", "p" | "c") => {
                let Some(expected) = head
                    .content_length()
                    .and_then(|len| pattern::body(len, number()))
                else {
                    self.close_after = true;
                    return self.answer("411 Length Required", b"");
                };
                self.upload = Some(Upload {
                    expected,
                    at: 0,
                    compare: kind == "c",
                    equal: true,
                });
                self.upload_arrived(0, None)
            }
            _ => self.answer("404 Not Found", b""),
        }
    }

    /// Accounts for `count` bytes of the body; `bytes` are they, if they were kept.
    fn upload_arrived(&mut self, count: usize, bytes: Option<&[u8]>) -> Result<(), Over> {
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        if upload.compare
            && let Some(bytes) = bytes
        {
            upload.equal &= upload.expected[upload.at..].starts_with(bytes);
        }
        upload.at += count;
        if upload.at < upload.expected.len() {
            return Ok(());
        }
        let equal = upload.equal;
        self.upload = None;
        self.answer("200 OK", if equal { b"ok" } else { b"bad" })
    }

    fn answer(&mut self, status: &str, body: &'static [u8]) -> Result<(), Over> {
        if self.answer.is_some() {
            return Err(Over); // pipelining while an answer is stuck: nobody does that here
        }
        self.answer = Some(Answer::new(status, body));
        self.send()
    }

    fn send(&mut self) -> Result<(), Over> {
        while let Some(answer) = &mut self.answer {
            let head = answer.head.get(answer.sent..).unwrap_or_default();
            let body = &answer.body[answer.sent.saturating_sub(answer.head.len())..];
            if head.is_empty() && body.is_empty() {
                self.answer = None;
                return if self.close_after { Err(Over) } else { Ok(()) };
            }
            match rustix::io::writev(&self.socket, &[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(sent) => answer.sent += sent,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
