//! A client's HTTP/1 connection: requests one after another, each answered before the next is read (RFC 9112 section 9).

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use oxy_core::buffer::Buffer;
use oxy_core::clock::Alarm;
use oxy_core::{Drain, Error, ErrorKind, Link, Result, Side, StreamIo};

use super::incoming::{Home, Incoming, Rest, Slot, Source, room_for_head};
use super::index::{Framing, RequestIndex};
use super::parse::{self, MethodKind, Parse};
use super::pump::Pump;
use crate::body::Body;
use crate::date;
use crate::linger::{linger, part};
use crate::message::{Head, Req, Res};
use crate::options::HttpOptions;
use crate::outgoing::Outgoing;
use crate::reply::{self, Exchange, Opening};
use crate::scratch::{Out, Spared};
use crate::semantics::{self, ResponseHead, ResponseHop};

/// How much of a request's body that nobody wants is read so that the connection can go on: as much as costs less than a
/// new connection would.
const DISCARDED: u64 = 256 * 1024;

/// How long an idle connection is kept when the process drains: a client that was just about to send a request sends it
/// within that time, and is answered instead of reset.
const PARTING: Duration = Duration::from_secs(1);

/// How the preface of HTTP/2 begins (RFC 9113 section 3.4), which has the form of a request so that servers which know
/// HTTP/1 only refuse it.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What a client's connection and its exchange share.
pub(crate) struct Conn {
    pub(crate) link: Arc<Link>,
    pub(crate) alarm: Alarm,
    pub(crate) options: Arc<HttpOptions>,
    drain: Drain,
    slot: Arc<Slot>,
    /// Whether the connection may live after the response that was sent last.
    persists: AtomicBool,
}

/// Reads requests.
pub(crate) struct Server {
    conn: Arc<Conn>,
    /// What has been read of the next head, or beyond the last message.
    ahead: Option<Buffer>,
    /// How much of it has been looked at for a line's end.
    scanned: usize,
    /// Whether a body has to come home before the next head can be read.
    away: bool,
    stray: Option<Box<Source>>,
    discarded: u64,
    /// Whether no request has come yet.
    first: bool,
    /// Whether the last request had a body that went by `splice(2)`.
    spliced: bool,
    /// Whether the connection ends as soon as it has been idle for a moment.
    leaving: bool,
    /// Whether the client has said that nothing more comes from it.
    ended: bool,
}

/// What a connection has next.
pub(crate) enum Next {
    Exchange(Exchange),
    /// The client is done, or gone.
    End,
    /// The client speaks HTTP/2, without asking; what it said is what has been read ahead.
    Preface,
    /// What came is no request. The error's status is to be said, and the connection closed.
    Bad(Error),
}

impl Server {
    pub(crate) fn new(stream: StreamIo, options: Arc<HttpOptions>, drain: Drain) -> Self {
        let (link, prefix) = stream.into_parts();
        let conn = Arc::new(Conn {
            link,
            alarm: Alarm::new(),
            options,
            drain,
            slot: Arc::default(),
            persists: AtomicBool::new(true),
        });
        conn.alarm.set(conn.options.timeouts.idle);
        let ahead = (!prefix.is_empty()).then(|| {
            let mut buffer = Buffer::new();
            buffer.put(&prefix);
            buffer
        });
        Self {
            conn,
            ahead,
            scanned: 0,
            away: false,
            stray: None,
            discarded: 0,
            first: true,
            spliced: false,
            leaving: false,
            ended: false,
        }
    }

    pub(crate) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// The next request. Cancel safe. Nothing is held while the connection is idle.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.away && !ready!(self.poll_reclaim(cx)) {
            return Poll::Ready(Next::End);
        }
        loop {
            if let Some(buffer) = self.ahead.take_if(|buffer| buffer.len() > self.scanned) {
                let news = &buffer.filled()[self.scanned..];
                let first = self.scanned == 0;
                // The parser starts over each time: only a line's end, or a full buffer, is news to it.
                let worth = first
                    || memchr::memchr(b'\n', news).is_some()
                    || buffer.len() >= self.conn.options.head.max_target;
                self.scanned = buffer.len();
                if worth && self.first && buffer.filled().starts_with(PREFACE_LINE) {
                    self.ahead = Some(buffer);
                    return Poll::Ready(Next::Preface);
                }
                if worth {
                    let mut index = Spared::<Box<RequestIndex>>::take();
                    match parse::request(buffer.filled(), &self.conn.options.head, &mut index) {
                        Ok(Parse::Complete) => return Poll::Ready(self.exchange(buffer, index)),
                        Ok(Parse::Partial) => {}
                        Err(reject) => return Poll::Ready(Next::Bad(reject.down())),
                    }
                }
                if first {
                    self.conn.alarm.set(self.conn.options.timeouts.head);
                }
                self.ahead = Some(buffer);
            }
            match ready!(self.poll_more(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Next::End),
                Err(error) => return Poll::Ready(Next::Bad(error)),
            }
        }
    }

    /// Reads more of a head; false at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let idle = self.ahead.is_none();
        let n = match &mut self.ahead {
            None => self.poll_first(cx),
            Some(buffer) => {
                buffer.reserve(1);
                let read = self.conn.link.poll_read(cx, buffer.spare());
                if let Poll::Ready(Ok(n)) = read {
                    buffer.advance(n);
                }
                read
            }
        };
        match n {
            Poll::Ready(Ok(0)) if idle => {
                self.ended = true;
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Err(
                Error::down(ErrorKind::Closed).context("a head was cut short")
            )),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(true)),
            Poll::Ready(Err(_)) => Poll::Ready(Ok(false)),
            Poll::Pending => {
                if idle && !self.leaving && !self.conn.drain.is_serving() {
                    // A request may be on its way right now: it is answered, and told to be the last.
                    self.leaving = true;
                    self.conn
                        .alarm
                        .set(PARTING.min(self.conn.options.timeouts.idle));
                }
                ready!(self.conn.alarm.poll_expired(cx));
                if idle {
                    return Poll::Ready(Ok(false));
                }
                Poll::Ready(Err(
                    Error::down(ErrorKind::Timeout).context("waiting for a head")
                ))
            }
        }
    }

    /// Reads the first bytes of a head, taking a buffer only when there are any.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let link = &self.conn.link;
        // A connection that has just been accepted counts as readable: its first bytes are often there.
        ready!(link.poll_readable(cx))?;
        let mut buffer = Buffer::new();
        let room = room_for_head(buffer.spare(), self.spliced);
        let n = ready!(link.poll_read(cx, room))?;
        buffer.advance(n);
        self.scanned = 0;
        self.ahead = Some(buffer).filter(|_| n > 0);
        Poll::Ready(Ok(n))
    }

    fn exchange(&mut self, mut buffer: Buffer, index: Spared<Box<RequestIndex>>) -> Next {
        self.scanned = 0;
        self.first = false;
        let conn = &self.conn;
        let head = buffer.filled();
        let reply = Reply {
            conn: conn.clone(),
            minor: index.minor,
            method: MethodKind::of(index.method.of(head)),
            keep_alive: index.keep_alive && conn.drain.is_serving(),
            answered: false,
        };
        conn.persists.store(false, Relaxed);
        conn.slot.reset();
        let body = if index.framing.is_empty() {
            if buffer.len() > index.head_len {
                let mut ahead = Buffer::new();
                ahead.put(&buffer.filled()[index.head_len..]);
                self.ahead = Some(ahead);
                buffer.truncate(index.head_len);
            }
            self.spliced = false;
            Body::empty()
        } else {
            let length = match index.framing {
                Framing::Length(length) => length,
                _ => 0,
            };
            let max = conn.options.body.max_request;
            if max > 0 && length > max {
                let error = Error::down(ErrorKind::BodyTooLarge);
                return Next::Bad(error.context("a body over the limit"));
            }
            self.away = true;
            let source = Source::new(conn.link.clone(), Rest::from(index.framing));
            let expecting =
                index.expect_continue && index.minor > 0 && buffer.len() == index.head_len;
            let incoming = Incoming::new(
                source,
                Home::Client(conn.slot.clone()),
                conn.options.chunk.clone(),
            );
            Body::incoming(incoming.at_most(max).expecting(expecting))
        };
        conn.alarm.clear();
        Next::Exchange(Exchange {
            req: Req::raw(buffer, index, body),
            reply: reply::Reply::Http1(reply),
        })
    }

    /// What has been read beyond the last request.
    pub(crate) fn take_ahead(&mut self) -> Option<Buffer> {
        self.ahead.take()
    }

    /// Whether the connection can simply be closed: nothing is on its way that would turn the close into a reset.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.away && self.ahead.is_none() && (self.ended || self.conn.link.is_read_out())
    }

    /// The response has been sent: whether the connection goes on.
    pub(crate) fn settle(&mut self) -> bool {
        self.conn.alarm.set(self.conn.options.timeouts.idle);
        self.conn.persists.load(Relaxed)
    }

    /// Waits for the read half, and throws away what is left of a body that nobody wanted. False if that is too much.
    fn poll_reclaim(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.stray.is_none() {
            self.stray = Some(ready!(self.conn.slot.poll_take(cx)));
            self.discarded = 0;
            self.conn.alarm.set(self.conn.options.timeouts.linger);
        }
        loop {
            let Some(source) = &mut self.stray else {
                return Poll::Ready(false);
            };
            if matches!(source.rest, Rest::Done) {
                self.ahead = source.ahead.take();
                self.spliced = source.spliced;
                self.scanned = 0;
                self.stray = None;
                self.away = false;
                self.conn.alarm.set(self.conn.options.timeouts.idle);
                return Poll::Ready(true);
            }
            if matches!(source.rest, Rest::Length(left) if left > DISCARDED) {
                return Poll::Ready(false);
            }
            // Read it as a body would, and forget it.
            let rest = std::mem::replace(&mut source.rest, Rest::Done);
            let stray = Source {
                link: source.link.clone(),
                ahead: source.ahead.take(),
                rest,
                spliced: source.spliced,
            };
            let home = Home::Client(self.conn.slot.clone());
            let mut incoming = Incoming::new(stray, home, self.conn.options.chunk.clone());
            let step = incoming.poll_data(cx);
            drop(incoming);
            match self.conn.slot.poll_take(cx) {
                Poll::Ready(source) => self.stray = Some(source),
                Poll::Pending => return Poll::Ready(false),
            }
            match step {
                Poll::Ready(Ok(Some(piece))) => {
                    self.discarded += piece.len() as u64;
                    if self.discarded > DISCARDED {
                        return Poll::Ready(false);
                    }
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => {
                    ready!(self.conn.alarm.poll_expired(cx));
                    return Poll::Ready(false);
                }
            }
        }
    }
}

impl Conn {
    /// Bytes of the current request's body that have come in.
    pub(crate) fn received(&self) -> u64 {
        self.slot.received()
    }

    /// Ends the connection so that the client can read what was said last.
    pub(crate) async fn linger(&self) {
        linger(&self.link, &self.alarm, self.options.timeouts.linger).await;
    }

    /// Ends a connection on which nothing is on its way.
    pub(crate) async fn part(&self) {
        part(&self.link, &self.alarm, self.options.timeouts.linger).await;
    }

    /// Says what was wrong with bytes that were no request, and ends the connection.
    pub(crate) async fn goodbye(&self, error: &Error) {
        let mut head = Out::take();
        let body = crate::respond::write_error(error, &mut head);
        let mut pump = Pump::new(
            self.link.clone(),
            Side::Down,
            head,
            Body::from(body),
            Framing::UntilClose,
        );
        self.alarm.set(self.options.timeouts.linger);
        let written = poll_fn(|cx| match pump.poll(cx) {
            Poll::Ready(written) => Poll::Ready(written.is_ok()),
            Poll::Pending => self.alarm.poll_expired(cx).map(|()| false),
        })
        .await;
        if written {
            self.linger().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.conn.alarm.clear();
    }
}

/// The means to answer one request.
pub(crate) struct Reply {
    conn: Arc<Conn>,
    minor: u8,
    method: MethodKind,
    keep_alive: bool,
    answered: bool,
}

impl Reply {
    pub(crate) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Passes an interim response on (RFC 9110 section 15.2), unless the client would not understand it.
    pub(crate) async fn inform(&mut self, res: Res) -> Result<()> {
        if self.minor == 0 {
            return Ok(());
        }
        let out = self.head(res, &self.hop(false, None));
        let mut done = 0;
        let conn = &self.conn;
        conn.alarm.set(conn.options.timeouts.body);
        poll_fn(|cx| match conn.link.poll_write_all(cx, &out, &mut done) {
            Poll::Pending => conn
                .alarm
                .poll_expired(cx)
                .map(|()| Err(Error::down(ErrorKind::Timeout))),
            Poll::Ready(done) => Poll::Ready(done.map_err(|e| Error::io(Side::Down, e))),
        })
        .await
        .map_err(|e| e.context("writing an interim response"))
    }

    fn hop<'a>(&self, keep_alive: bool, upgrade: Option<&'a [u8]>) -> ResponseHop<'a> {
        ResponseHop {
            minor: self.minor,
            head: self.method == MethodKind::Head,
            keep_alive,
            date: b"",
            upgrade,
        }
    }

    /// Answers. The body is written as it comes, and the request's goes on meanwhile.
    pub(crate) fn send(mut self, res: Res) -> Sending {
        self.answered = true;
        let keep_alive = self.keep_alive && self.conn.drain.is_serving();
        let (pump, persists) = self.stage(res, keep_alive);
        self.conn.alarm.set(self.conn.options.timeouts.body);
        Sending {
            reply: self,
            pump,
            persists,
            whole: false,
        }
    }

    fn stage(&self, res: Res, keep_alive: bool) -> (Pump, bool) {
        let policy = &self.conn.options.forward;
        let mut out = Out::take();
        let (head, mut body) = res.into_parts();
        let framed = date::with(|date| {
            let hop = ResponseHop {
                date,
                ..self.hop(keep_alive, None)
            };
            match head {
                Head::Raw(mut raw) => {
                    let head = ResponseHead::indexed(&raw.index, raw.buffer.filled());
                    let framed = semantics::forward_response(&head, &hop, policy, &mut out);
                    raw.buffer.consume(raw.index.head_len);
                    if let Some(incoming) = body.as_incoming()
                        && !raw.buffer.is_empty()
                    {
                        incoming.give(raw.buffer);
                    }
                    framed
                }
                Head::Built(response) => {
                    let head = ResponseHead::of_body(&response, &body);
                    semantics::forward_response(&head, &hop, policy, &mut out)
                }
            }
        });
        let may_be_clients = body.may_be_clients();
        let link = self.conn.link.clone();
        let pump = Pump::new(link, Side::Down, out, body, framed.framing)
            .low_water(self.conn.options.low_water);
        let pump = if may_be_clients {
            pump.telling(self.conn.slot.clone())
        } else {
            pump
        };
        (pump, framed.keep_alive)
    }

    /// Answers with a head after which the connection is a tunnel, and gives the tunnel's near end.
    pub(crate) async fn tunnel(mut self, opening: Opening) -> Result<StreamIo> {
        self.answered = true;
        let head = match opening {
            Opening::Connect => established(),
            Opening::Switched(res, protocol) => self.head(res, &self.hop(true, Some(&protocol))),
        };
        let mut done = 0;
        let conn = self.conn.clone();
        conn.alarm.set(conn.options.timeouts.body);
        poll_fn(|cx| match conn.link.poll_write_all(cx, &head, &mut done) {
            Poll::Pending => conn
                .alarm
                .poll_expired(cx)
                .map(|()| Err(Error::down(ErrorKind::Timeout).context("opening a tunnel"))),
            Poll::Ready(done) => {
                Poll::Ready(done.map_err(|e| Error::io(Side::Down, e).context("opening a tunnel")))
            }
        })
        .await?;
        conn.alarm.clear();
        Ok(StreamIo::from_link(conn.link.clone()))
    }

    /// The head of a response that has no body: an interim one, or one that opens a tunnel.
    fn head(&self, res: Res, hop: &ResponseHop<'_>) -> Out {
        let policy = &self.conn.options.forward;
        let mut out = Out::take();
        match res.into_parts().0 {
            Head::Raw(raw) => {
                let head = ResponseHead::indexed(&raw.index, raw.buffer.filled());
                semantics::forward_response(&head, hop, policy, &mut out);
            }
            Head::Built(response) => {
                let head = ResponseHead::of_body(&response, &Body::empty());
                semantics::forward_response(&head, hop, policy, &mut out);
            }
        }
        out
    }
}

fn established() -> Out {
    let mut head = Out::take();
    head.extend_from_slice(b"HTTP/1.1 200 Connection Established\r\n\r\n");
    head
}

/// A response on its way.
pub(crate) struct Sending {
    /// What it answers for, which has been answered.
    reply: Reply,
    pump: Pump,
    /// Whether the connection lives after it.
    persists: bool,
    /// Whether all of it has been written.
    whole: bool,
}

impl Sending {
    /// Bytes of payload that have gone out.
    pub(crate) fn payload(&self) -> u64 {
        self.pump.payload()
    }

    /// Writes on; ready at the end, whichever it is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let (conn, pump) = (&self.reply.conn, &mut self.pump);
        let result = ready!(pump.poll_response(cx, &conn.alarm, &conn.options));
        if result.is_ok() {
            conn.persists.store(self.persists, Relaxed);
            self.whole = true;
        }
        Poll::Ready(result)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // A response that is ended by the connection's end must not look as if it were whole, whatever cut it.
        if !self.whole && self.pump.is_delimited_by_close() {
            self.reply.conn.link.abort(0);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            // Nobody answered: the client must not take the silence for a response.
            self.conn.link.abort(0);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

#[cfg(test)]
mod tests;
