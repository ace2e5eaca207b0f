//! One HTTP/2 connection and the streams that are open on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::ClientConfig;
use socket2::Socket;

use super::block;
use super::frame::{self, Frame};
use crate::load::wire::{Broken, Buffers, Wire};
use crate::poller::Ready;
use oxy_benches::pattern;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a stream may bring unasked: more than any answer here has.
const STREAM_WINDOW: u32 = 1 << 20;

/// What a connection may bring unasked, about what browsers allow. It is topped up
/// when half is used, which for answers of 1 KiB is every 8,000.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What a connection's window is before anybody changes it.
const DEFAULT_WINDOW: u32 = 65_535;

/// What one lane asks for again and again.
#[derive(Debug)]
pub(super) struct Request {
    block: Vec<u8>,
    expected: &'static [u8],
}

impl Request {
    /// The request of `slot`; nothing if `size` is beyond the pattern.
    pub(super) fn new(size: usize, slot: usize, host: &str, tls: bool) -> Option<Self> {
        let shift = pattern::shift(slot);
        Some(Self {
            block: block::request(&format!("/b/{size}/{shift}"), host, tls),
            expected: pattern::body(size, shift)?,
        })
    }
}

/// One stream after the other.
#[derive(Debug)]
struct Lane {
    request: Request,
    /// The open stream.
    stream: u32,
    started: Instant,
    /// Body bytes seen, once the head is here.
    body_at: Option<usize>,
    right: bool,
}

/// An answer that is whole, or never will be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// How long it took, unless the stream was reset.
    pub(super) latency: Option<Duration>,
    /// Status, length and content are as expected.
    pub(super) right: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    lanes: Vec<Lane>,
    next_stream: u32,
    /// Frames to send, and how many bytes of them are gone.
    out: Vec<u8>,
    sent: usize,
    /// The start of a frame that has not arrived whole.
    partial: Vec<u8>,
    /// The lane whose header block has not ended.
    in_block: Option<usize>,
    /// Bytes of bodies since the window was topped up.
    consumed: u32,
}

impl Connection {
    /// Begins to connect as the load's connection `number`, with a stream for each of `requests`.
    pub(super) fn open(
        number: u64,
        target: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        requests: Vec<Request>,
    ) -> io::Result<Self> {
        let wire = Wire::connect(number, target, tls)?;
        let mut out = PREFACE.to_vec();
        let mut settings = Vec::new();
        settings.extend(frame::INITIAL_WINDOW_SIZE.to_be_bytes());
        settings.extend(STREAM_WINDOW.to_be_bytes());
        frame::put(&mut out, frame::SETTINGS, 0, 0, &settings);
        let more = (CONNECTION_WINDOW - DEFAULT_WINDOW).to_be_bytes();
        frame::put(&mut out, frame::WINDOW_UPDATE, 0, 0, &more);
        let mut connection = Self {
            wire,
            lanes: Vec::new(),
            next_stream: 1,
            out,
            sent: 0,
            partial: Vec::new(),
            in_block: None,
            consumed: 0,
        };
        for request in requests {
            connection.lanes.push(Lane {
                request,
                stream: 0,
                started: Instant::now(),
                body_at: None,
                right: true,
            });
            connection.start(connection.lanes.len() - 1);
        }
        Ok(connection)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.wire.socket
    }

    /// What the lanes ask for, for a connection that takes this one's place.
    pub(super) fn into_requests(self) -> Vec<Request> {
        self.lanes.into_iter().map(|lane| lane.request).collect()
    }

    /// Goes on after an event; what ends is added to `done`, and its lane has its next stream.
    pub(super) fn advance(
        &mut self,
        ready: Ready,
        buffers: &mut Buffers,
        done: &mut Vec<Done>,
    ) -> Result<(), Broken> {
        // Taken out, because whoever hands bytes over has the wire.
        let mut arrived = std::mem::take(&mut self.partial);
        self.wire.receive(ready, buffers, &mut |bytes| {
            arrived.extend_from_slice(bytes);
        })?;
        let mut rest = &arrived[..];
        while let Some((frame, after)) = Frame::split(rest).map_err(|_| Broken)? {
            self.take(&frame, done)?;
            rest = after;
        }
        let left = rest.len();
        arrived.drain(..arrived.len() - left);
        self.partial = arrived;
        if self.wire.protocol().is_some_and(|agreed| agreed != b"h2") {
            return Err(Broken);
        }
        self.flush(buffers)
    }

    fn take(&mut self, frame: &Frame<'_>, done: &mut Vec<Done>) -> Result<(), Broken> {
        let lane = self
            .lanes
            .iter()
            .position(|lane| lane.stream == frame.stream);
        match (frame.kind, lane) {
            (frame::HEADERS, Some(lane)) => self.head(lane, frame),
            (frame::DATA, Some(lane)) => self.body(lane, frame),
            (frame::CONTINUATION, _) if self.in_block.is_some() => {
                if frame.has(frame::END_HEADERS) {
                    self.in_block = None;
                }
                return Ok(());
            }
            (frame::RST_STREAM, Some(lane)) => {
                done.push(Done {
                    latency: None,
                    right: true,
                });
                self.start(lane);
                return Ok(());
            }
            (frame::SETTINGS, None) if !frame.has(frame::ACK) => {
                self.settle(frame.payload)?;
                frame::put(&mut self.out, frame::SETTINGS, frame::ACK, 0, b"");
                return Ok(());
            }
            (frame::PING, None) if !frame.has(frame::ACK) => {
                frame::put(&mut self.out, frame::PING, frame::ACK, 0, frame.payload);
                return Ok(());
            }
            // Requests have no bodies, so the windows for them do not matter.
            // A stream that has ended may be reset for good measure.
            (
                frame::SETTINGS
                | frame::PING
                | frame::WINDOW_UPDATE
                | frame::PRIORITY
                | frame::RST_STREAM,
                _,
            ) => return Ok(()),
            _ => return Err(Broken), // the peer goes away, or pushes
        }
        if frame.has(frame::END_STREAM)
            && let Some(lane) = lane
        {
            let Lane {
                request,
                started,
                body_at,
                right,
                ..
            } = &self.lanes[lane];
            done.push(Done {
                latency: Some(started.elapsed()),
                right: *right && *body_at == Some(request.expected.len()),
            });
            self.start(lane);
        }
        Ok(())
    }

    fn head(&mut self, lane: usize, frame: &Frame<'_>) {
        if !frame.has(frame::END_HEADERS) {
            self.in_block = Some(lane);
        }
        let lane = &mut self.lanes[lane];
        // Neither an interim answer nor trailers are expected.
        lane.right &= lane.body_at.is_none() && block::is_ok(frame.payload);
        lane.body_at = Some(0);
    }

    fn body(&mut self, lane: usize, frame: &Frame<'_>) {
        let lane = &mut self.lanes[lane];
        let at = lane.body_at.unwrap_or(usize::MAX);
        let expected = lane.request.expected.get(at..).unwrap_or_default();
        lane.right &= expected.starts_with(frame.payload);
        lane.body_at = Some(at.saturating_add(frame.payload.len()));
        self.consumed += frame.length as u32;
        if self.consumed > CONNECTION_WINDOW / 2 {
            let more = std::mem::take(&mut self.consumed).to_be_bytes();
            frame::put(&mut self.out, frame::WINDOW_UPDATE, 0, 0, &more);
        }
    }

    /// Takes the peer's settings: it has to allow as many streams as there are lanes.
    fn settle(&self, settings: &[u8]) -> Result<(), Broken> {
        let (settings, _) = settings.as_chunks::<6>();
        let streams = settings.iter().find_map(|&[a, b, value @ ..]| {
            (u16::from_be_bytes([a, b]) == frame::MAX_CONCURRENT_STREAMS)
                .then(|| u32::from_be_bytes(value))
        });
        match streams {
            Some(streams) if (streams as usize) < self.lanes.len() => Err(Broken),
            _ => Ok(()),
        }
    }

    /// Opens the lane's next stream.
    fn start(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        lane.stream = self.next_stream;
        lane.started = Instant::now();
        lane.body_at = None;
        lane.right = true;
        self.next_stream += 2;
        frame::put(
            &mut self.out,
            frame::HEADERS,
            frame::END_STREAM | frame::END_HEADERS,
            lane.stream,
            &lane.request.block,
        );
    }

    fn flush(&mut self, buffers: &mut Buffers) -> Result<(), Broken> {
        while self.sent < self.out.len() {
            match self.wire.send([&self.out[self.sent..], b""], buffers)? {
                0 => return Ok(()),
                sent => self.sent += sent,
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::super::frame::{self, Frame};
    use super::{Connection, Done, PREFACE, Request};
    use crate::load::wire::{Broken, Buffers};
    use crate::poller::Poller;
    use oxy_benches::pattern;

    const SIZE: usize = 100;

    /// A client of two lanes, and the server's end of its connection.
    fn pair() -> (Connection, TcpStream, Poller) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let requests = (0..2).map(|slot| Request::new(SIZE, slot, "host", false).unwrap());
        let connection = Connection::open(1, target, None, requests.collect()).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(connection.socket(), 0).unwrap();
        let (server, _) = listener.accept().unwrap();
        (connection, server, poller)
    }

    /// Lets the client go on until `count` streams are over.
    fn drive(
        (client, poller): (&mut Connection, &mut Poller),
        count: usize,
    ) -> Result<Vec<Done>, Broken> {
        let (mut buffers, mut done) = (Buffers::new(), Vec::new());
        loop {
            for index in 0..poller.wait(Duration::from_secs(5)).unwrap() {
                client.advance(poller.event(index), &mut buffers, &mut done)?;
            }
            if done.len() >= count {
                return Ok(done);
            }
        }
    }

    /// The frames that the client has sent, as kind and stream.
    fn received(server: &mut TcpStream, skip: usize, count: usize) -> Vec<(u8, u32)> {
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        let mut chunk = [0; 4096];
        while frames.len() < count {
            let got = server.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..got]);
            frames.clear();
            let mut rest = bytes.get(skip..).unwrap_or_default();
            while let Some((frame, after)) = Frame::split(rest).unwrap() {
                frames.push((frame.kind, frame.stream));
                rest = after;
            }
        }
        frames
    }

    /// A whole answer with the body of `slot`.
    fn answer(out: &mut Vec<u8>, stream: u32, status: u8, slot: usize) {
        frame::put(out, frame::HEADERS, frame::END_HEADERS, stream, &[status]);
        let body = pattern::body(SIZE, pattern::shift(slot)).unwrap();
        let (first, second) = body.split_at(SIZE / 3);
        frame::put(out, frame::DATA, 0, stream, first);
        frame::put(out, frame::DATA, frame::END_STREAM, stream, second);
    }

    #[test]
    fn answers_are_compared_and_followed_by_requests() {
        let (mut client, mut server, mut poller) = pair();
        drive((&mut client, &mut poller), 0).unwrap();
        assert_eq!(
            received(&mut server, PREFACE.len(), 4),
            [
                (frame::SETTINGS, 0),
                (frame::WINDOW_UPDATE, 0),
                (frame::HEADERS, 1),
                (frame::HEADERS, 3)
            ]
        );
        let mut out = Vec::new();
        frame::put(&mut out, frame::SETTINGS, 0, 0, b"");
        frame::put(&mut out, frame::PING, 0, 0, b"12345678");
        answer(&mut out, 3, 0x88, 1);
        answer(&mut out, 1, 0x88, 0);
        let (first, second) = out.split_at(out.len() - 20);
        server.write_all(first).unwrap();
        let done = drive((&mut client, &mut poller), 1).unwrap();
        assert!(done.iter().all(|done| done.right && done.latency.is_some()));
        server.write_all(second).unwrap();
        let done = drive((&mut client, &mut poller), 1).unwrap();
        assert!(done.iter().all(|done| done.right));
        assert_eq!(
            received(&mut server, 0, 4),
            [
                (frame::SETTINGS, 0),
                (frame::PING, 0),
                (frame::HEADERS, 5),
                (frame::HEADERS, 7)
            ]
        );

        // Another status, and the body of the other lane.
        let mut out = Vec::new();
        answer(&mut out, 5, 0x8d, 1);
        answer(&mut out, 7, 0x88, 1);
        server.write_all(&out).unwrap();
        let done = drive((&mut client, &mut poller), 2).unwrap();
        assert!(done.iter().all(|done| !done.right));

        // A reset stream has no latency.
        let mut out = Vec::new();
        frame::put(&mut out, frame::RST_STREAM, 0, 9, &[0, 0, 0, 8]);
        server.write_all(&out).unwrap();
        let done = drive((&mut client, &mut poller), 1).unwrap();
        assert!(done.iter().all(|done| done.latency.is_none()));
    }

    #[test]
    fn a_server_that_allows_too_few_streams_is_of_no_use() {
        let (mut client, mut server, mut poller) = pair();
        let mut out = Vec::new();
        frame::put(&mut out, frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]);
        server.write_all(&out).unwrap();
        assert_eq!(drive((&mut client, &mut poller), 1).unwrap_err(), Broken);
    }
}
