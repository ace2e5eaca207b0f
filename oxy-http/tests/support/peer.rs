//! One end of a connection that says exactly what it is told to, and sees exactly what comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use super::PATIENCE;

/// A client or an origin, without any idea of its own of what HTTP is like.
pub struct Peer {
    socket: Arc<TcpStream>,
    /// Bytes that were read beyond the last message.
    ahead: Vec<u8>,
}

/// How the other side stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
    /// It did not within [`PATIENCE`].
    Open,
}

/// A request or a response, taken apart.
#[derive(Debug, Default)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The values of a field, joined; none if it is not there.
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).unwrap_or_default();
        status
            .parse()
            .unwrap_or_else(|_| panic!("no status line: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Peer {
    pub fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket: Arc::new(socket),
            ahead: Vec::new(),
        }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        (&*self.socket).write_all(bytes.as_ref())
    }

    /// Says that nothing more will come.
    pub fn finish_sending(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO))
            .unwrap();
    }

    /// Whether something has come, or the end, that has not been read.
    pub fn has_news(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false).unwrap();
        !self.ahead.is_empty() || !matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Reads once; the end if there is nothing more.
    fn fill(&mut self) -> Result<(), End> {
        let mut buf = vec![0; 64 * 1024];
        match (&*self.socket).read(&mut buf) {
            Ok(0) => Err(End::Closed),
            Ok(n) => {
                self.ahead.extend_from_slice(&buf[..n]);
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(End::Open)
            }
            Err(_) => Err(End::Reset),
        }
    }

    /// Everything that comes until the connection ends.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.ahead), end);
            }
        }
    }

    /// [`Peer::rest`] as text.
    pub fn rest_text(&mut self) -> (String, End) {
        let (bytes, end) = self.rest();
        (String::from_utf8_lossy(&bytes).into_owned(), end)
    }

    /// Waits for the end, and tells how it came; what comes before it is thrown away.
    pub fn end(&mut self) -> End {
        self.rest().1
    }

    /// The next `n` bytes.
    pub fn read(&mut self, n: usize) -> Vec<u8> {
        self.try_read(n).unwrap()
    }

    pub fn try_read(&mut self, n: usize) -> Result<Vec<u8>, End> {
        while self.ahead.len() < n {
            self.fill()?;
        }
        Ok(self.ahead.drain(..n).collect())
    }

    /// Up to and with the next `mark`.
    fn read_until(&mut self, mark: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            let at = self.ahead.windows(mark.len()).position(|w| w == mark);
            if let Some(at) = at {
                return Ok(self.ahead.drain(..at + mark.len()).collect());
            }
            self.fill()?;
        }
    }

    /// A value may hold bytes that are no text (RFC 9110 section 5.5): they are replaced.
    fn text_until(&mut self, mark: &[u8]) -> Result<String, End> {
        Ok(String::from_utf8_lossy(&self.read_until(mark)?).into_owned())
    }

    /// The next head as it came, blank line included; see [`Peer::text_until`].
    pub fn raw_head(&mut self) -> Result<String, End> {
        self.text_until(b"\r\n\r\n")
    }

    /// The next head; its body, if any, is not read.
    pub fn head(&mut self) -> Result<Message, End> {
        let raw = self.raw_head()?;
        let mut lines = raw.trim_end().split("\r\n");
        Ok(Message {
            start: lines.next().unwrap_or_default().to_owned(),
            fields: lines.map(field).collect(),
            ..Message::default()
        })
    }

    /// A whole request.
    pub fn request(&mut self) -> Result<Message, End> {
        let mut message = self.head()?;
        self.body(&mut message, false)?;
        Ok(message)
    }

    /// A whole response, which is not one to HEAD.
    pub fn response(&mut self) -> Message {
        self.try_response().unwrap()
    }

    pub fn try_response(&mut self) -> Result<Message, End> {
        let mut message = self.head()?;
        if !matches!(message.status(), 100..=199 | 204 | 304) {
            self.body(&mut message, true)?;
        }
        Ok(message)
    }

    /// RFC 9112 section 6.3, for messages that are as they should be.
    pub fn body(&mut self, message: &mut Message, until_close: bool) -> Result<(), End> {
        if message.field("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let line = self.text_until(b"\r\n")?;
                let size = line.trim_end().split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).unwrap();
                if size == 0 {
                    break;
                }
                message.body.extend(self.try_read(size)?);
                assert_eq!(self.try_read(2)?, b"\r\n");
            }
            loop {
                let line = self.text_until(b"\r\n")?;
                if line == "\r\n" {
                    return Ok(());
                }
                message.trailers.push(field(line.trim_end()));
            }
        }
        if let Some(length) = message.field("content-length") {
            message.body = self.try_read(length.parse().unwrap())?;
        } else if until_close {
            let (body, end) = self.rest();
            message.body = body;
            if end != End::Closed {
                return Err(end);
            }
        }
        Ok(())
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line
        .split_once(':')
        .unwrap_or_else(|| panic!("no field line: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}
