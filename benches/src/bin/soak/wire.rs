//! HTTP/1.1 messages as both ends read and write them here.

use std::io;

use oxy_benches::head::Head;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::plan::{Content, Framing};

/// How much is read at a time.
const READ: usize = 16 << 10;

/// Chunks are of this size at most, so that bodies have several.
const CHUNK: usize = 10_000;

/// Why a message was not read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended, or broke, before the message had.
    Cut,
    /// A byte, or the framing, is not what it has to be.
    Wrong(String),
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Cut
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    io: R,
    buffer: Vec<u8>,
    at: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            buffer: Vec::new(),
            at: 0,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Reads more; an orderly end is `false`.
    async fn more(&mut self) -> io::Result<bool> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
        self.buffer.reserve(READ);
        Ok(self.io.read_buf(&mut self.buffer).await? > 0)
    }

    async fn need(&mut self) -> Result<(), Fault> {
        if self.more().await? {
            Ok(())
        } else {
            Err(Fault::Cut)
        }
    }

    /// Waits for the first byte of a message; an orderly end is `false`.
    pub(crate) async fn begun(&mut self) -> io::Result<bool> {
        if self.rest().is_empty() {
            // A connection between two messages holds no memory.
            self.buffer = Vec::new();
            self.at = 0;
            return self.more().await;
        }
        Ok(true)
    }

    /// Reads a head and tells `what` is in it.
    pub(crate) async fn head<T>(&mut self, what: impl Fn(Head<'_>) -> T) -> Result<T, Fault> {
        loop {
            if let Some(head) = Head::find(self.rest()) {
                let told = what(head);
                self.at += head.end();
                return Ok(told);
            }
            self.need().await?;
        }
    }

    /// Reads a body and compares it with what it has to be.
    pub(crate) async fn body(&mut self, framing: Framing, expected: &[u8]) -> Result<(), Fault> {
        self.part(framing, expected, usize::MAX).await
    }

    /// Reads no more than about `limit` bytes of a body.
    pub(crate) async fn part(
        &mut self,
        framing: Framing,
        expected: &[u8],
        limit: usize,
    ) -> Result<(), Fault> {
        let mut body = Comparison { expected, at: 0 };
        match framing {
            Framing::Length => {
                let mut left = expected.len();
                while left > 0 && body.at < limit {
                    left -= self.compare(left, &mut body).await?;
                }
            }
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let mut left = usize::from_str_radix(size, 16)
                    .map_err(|_| Fault::Wrong(format!("chunk line {line:?}")))?;
                if left == 0 {
                    while !self.line().await?.is_empty() {}
                    return body.ends();
                }
                while left > 0 {
                    left -= self.compare(left, &mut body).await?;
                    if body.at >= limit {
                        return Ok(());
                    }
                }
                if !self.line().await?.is_empty() {
                    return Err(Fault::Wrong("a chunk is longer than it says".into()));
                }
            },
            Framing::Close => loop {
                let got = self.rest().len();
                if got > 0 {
                    self.compare(got, &mut body).await?;
                } else if !self.more().await? {
                    return body.ends();
                }
            },
        }
        if body.at < limit { body.ends() } else { Ok(()) }
    }

    /// Reads `count` bytes that nobody looks at.
    pub(crate) async fn skip(&mut self, mut count: usize) -> Result<(), Fault> {
        while count > 0 {
            if self.rest().is_empty() {
                self.need().await?;
            }
            let part = count.min(self.rest().len());
            self.at += part;
            count -= part;
        }
        Ok(())
    }

    /// Compares what has arrived, at most `left` bytes and at least one.
    async fn compare(&mut self, left: usize, body: &mut Comparison<'_>) -> Result<usize, Fault> {
        if self.rest().is_empty() {
            self.need().await?;
        }
        let part = &self.rest()[..left.min(self.rest().len())];
        body.arrived(part)?;
        let count = part.len();
        self.at += count;
        Ok(count)
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = memchr::memmem::find(self.rest(), b"\r\n") {
                let line = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
                self.at += end + 2;
                return Ok(line);
            }
            self.need().await?;
        }
    }
}

/// A body next to what it has to be.
struct Comparison<'a> {
    expected: &'a [u8],
    at: usize,
}

impl Comparison<'_> {
    fn arrived(&mut self, part: &[u8]) -> Result<(), Fault> {
        if !self.expected[self.at..].starts_with(part) {
            return Err(Fault::Wrong(format!(
                "within bytes {} to {} of a body of {}",
                self.at,
                self.at + part.len(),
                self.expected.len()
            )));
        }
        self.at += part.len();
        Ok(())
    }

    fn ends(&self) -> Result<(), Fault> {
        if self.at == self.expected.len() {
            return Ok(());
        }
        Err(Fault::Wrong(format!(
            "a clean end after {} bytes of {}",
            self.at,
            self.expected.len()
        )))
    }
}

/// Writes `head`, completed by how the body is framed, and the first `count` bytes of the body; the body's end if that
/// is all of it.
pub(crate) async fn write(
    io: &mut (impl AsyncWrite + Unpin),
    head: &str,
    content: Content,
    count: usize,
) -> io::Result<()> {
    let Content { framing, bytes } = content;
    let field = match framing {
        Framing::Length => format!("Content-Length: {}\r\n", bytes.len()),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".into(),
        Framing::Close => "Connection: close\r\n".into(),
    };
    io.write_all(format!("{head}{field}\r\n").as_bytes())
        .await?;
    let part = &bytes[..count.min(bytes.len())];
    if framing != Framing::Chunked {
        return io.write_all(part).await;
    }
    for chunk in part.chunks(CHUNK) {
        let line = format!("{:x}\r\n", chunk.len());
        io.write_all(&[line.as_bytes(), chunk, b"\r\n"].concat())
            .await?;
    }
    if count >= bytes.len() {
        io.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}
