//! A client's HTTP/2 connection: requests as they come, any number of them at a time (RFC 9113 section 5).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::h2::server::{Connection, Handshake, SendResponse};
use ::h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode, header};
use oxy_core::clock::Alarm;
use oxy_core::{Drain, Error, ErrorKind, Link, Side, StreamIo};

use super::fault::{fault, judged};
use super::guard::{self, Flood, Guard, Verdict};
use super::io::{Io, Watch};
use super::reply::Reply;
use super::request;
use crate::body::Piece;
use crate::options::HttpOptions;
use crate::reply::{self, Exchange};

/// How long a connection that says goodbye is kept for the client to say that it has understood: what it sent before it
/// did is answered.
const PARTING: Duration = Duration::from_secs(1);

/// Streams that were reset and whose last frames are still taken without complaint: as many as may be open.
const RECENTLY_RESET: usize = 128;

/// What a client's stream and its exchange share.
pub(crate) struct Stream {
    pub(crate) alarm: Alarm,
    shared: Arc<Shared>,
    /// Until the final response is on its way.
    respond: Mutex<Option<SendResponse<Piece>>>,
    received: AtomicU64,
}

/// What all exchanges of a connection share.
struct Shared {
    options: Arc<HttpOptions>,
    drain: Drain,
    watch: Arc<Watch>,
}

/// Reads requests.
pub(crate) struct Server {
    state: State,
    shared: Arc<Shared>,
    link: Arc<Link>,
    alarm: Alarm,
    waits: Waits,
    leaving: bool,
    /// Whether a header section has taken too long.
    late: bool,
}

enum State {
    Greeting(Box<Handshake<Io, Piece>>),
    Open(Box<Connection<Io, Piece>>),
}

/// What the connection's alarm is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// The preface and the settings.
    Greeting,
    /// Nothing: there are exchanges, and they have alarms of their own.
    Busy,
    /// The next request.
    Idle,
    /// That the client reads what was written.
    Stalled,
    /// The rest of this header section.
    Section(u32),
    /// That the client agrees to part.
    Parting,
    /// That what was said last goes out.
    Closing,
}

/// What a connection has next.
pub(crate) enum Next {
    Exchange(Exchange),
    /// The client is done, or gone.
    End,
    /// The client has broken the rules, and has been told so.
    Bad(Error),
}

impl Server {
    pub(crate) fn new(stream: StreamIo, options: Arc<HttpOptions>, drain: Drain) -> Self {
        let http2 = &options.http2;
        let (io, watch) = Io::new(stream, Guard::of_client(&options, Instant::now()));
        let link = watch.link().clone();
        let state = State::Greeting(Box::new(
            ::h2::server::Builder::new()
                .initial_window_size(http2.stream_window)
                .initial_connection_window_size(http2.connection_window)
                .max_concurrent_streams(http2.max_streams)
                .max_send_buffer_size(http2.send_buffer)
                .max_header_list_size(u32::try_from(options.head.max_head).unwrap_or(u32::MAX))
                .max_concurrent_reset_streams(RECENTLY_RESET)
                // Streams that are opened for nothing are the guard's to count, which knows of time; the crate's own
                // limits are on how many there may ever be, or at one time, and an honest client can meet those.
                .max_local_error_reset_streams(None)
                .max_pending_accept_reset_streams(guard::resets(http2.max_streams) as usize)
                .enable_connect_protocol()
                .handshake(io),
        ));
        let alarm = Alarm::new();
        alarm.set(options.timeouts.head);
        let shared = Arc::new(Shared {
            options,
            drain,
            watch,
        });
        Self {
            state,
            shared,
            link,
            alarm,
            waits: Waits::Greeting,
            leaving: false,
            late: false,
        }
    }

    /// The next request, while `busy` says whether there are exchanges under way. It is this that reads and writes for all
    /// of them. Cancel safe.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<Next> {
        let watch = self.shared.watch.clone();
        let unwritten = |e| Next::Bad(Error::io(Side::Down, e).context("an HTTP/2 connection"));
        loop {
            match &mut self.state {
                State::Greeting(handshake) => match std::pin::Pin::new(handshake.as_mut()).poll(cx)
                {
                    Poll::Ready(Ok(connection)) => {
                        self.state = State::Open(Box::new(connection));
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(ended(e, &watch)),
                    Poll::Pending => {
                        if let Poll::Ready(Err(e)) = watch.poll_flush(cx) {
                            return Poll::Ready(unwritten(e));
                        }
                        ready!(self.alarm.poll_expired(cx));
                        let error = Error::down(ErrorKind::Timeout);
                        return Poll::Ready(Next::Bad(error.context("an HTTP/2 preface")));
                    }
                },
                State::Open(connection) => {
                    if !self.leaving && !self.shared.drain.is_serving() {
                        self.leaving = true;
                        connection.graceful_shutdown();
                    }
                    match connection.poll_accept(cx) {
                        Poll::Ready(Some(Ok((request, respond)))) => {
                            if let Some(exchange) = exchange(&self.shared, request, respond) {
                                return Poll::Ready(Next::Exchange(exchange));
                            }
                        }
                        Poll::Ready(Some(Err(e))) => {
                            return Poll::Ready(ended(e, &watch));
                        }
                        Poll::Ready(None) => return Poll::Ready(self.end()),
                        Poll::Pending => {
                            if let Poll::Ready(Err(e)) = watch.poll_flush(cx) {
                                return Poll::Ready(unwritten(e));
                            }
                            match self.poll_waits(cx, busy) {
                                Poll::Ready(Some(next)) => return Poll::Ready(next),
                                Poll::Ready(None) => {}
                                Poll::Pending => return Poll::Pending,
                            }
                        }
                    }
                }
            }
        }
    }

    /// What there is to wait for besides frames, and what follows if it takes too long.
    fn poll_waits(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<Option<Next>> {
        let State::Open(connection) = &mut self.state else {
            return Poll::Pending;
        };
        let timeouts = &self.shared.options.timeouts;
        if let Some(verdict) = self.shared.watch.verdict()
            && self.waits != Waits::Closing
        {
            connection.abrupt_shutdown(verdict.reason());
            self.waits = Waits::Closing;
            self.alarm.set(timeouts.linger);
            return Poll::Ready(None);
        }
        let waits = match (self.waits, self.shared.watch.section()) {
            (Waits::Closing, _) => Waits::Closing,
            _ if self.shared.watch.is_stalled() => Waits::Stalled,
            (_, Some(section)) => Waits::Section(section),
            _ if busy => Waits::Busy,
            _ if self.leaving => Waits::Parting,
            _ => Waits::Idle,
        };
        // Whatever comes shows that the client is there.
        let stirred = self.shared.watch.has_stirred() && waits == Waits::Idle;
        if self.waits != waits || stirred {
            self.waits = waits;
            match waits {
                Waits::Stalled => self.alarm.set(timeouts.body),
                Waits::Section(_) => self.alarm.set(timeouts.head),
                Waits::Idle => self.alarm.set(timeouts.idle),
                Waits::Parting => self.alarm.set(PARTING.min(timeouts.idle)),
                Waits::Busy | Waits::Greeting | Waits::Closing => {}
            }
        }
        if waits == Waits::Busy {
            // Not for the time, but so that a drain wakes us.
            self.alarm.clear();
        }
        ready!(self.alarm.poll_expired(cx));
        match waits {
            Waits::Idle => {
                self.leaving = true;
                connection.graceful_shutdown();
                Poll::Ready(None)
            }
            Waits::Parting => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                self.waits = Waits::Closing;
                self.alarm.set(timeouts.linger);
                Poll::Ready(None)
            }
            Waits::Closing => Poll::Ready(Some(self.end())),
            Waits::Section(_) => {
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                self.late = true;
                self.waits = Waits::Closing;
                self.alarm.set(timeouts.linger);
                Poll::Ready(None)
            }
            Waits::Stalled | Waits::Busy | Waits::Greeting => {
                let error = Error::down(ErrorKind::Timeout).context("the client does not read");
                Poll::Ready(Some(Next::Bad(error)))
            }
        }
    }

    fn end(&self) -> Next {
        match self.shared.watch.verdict() {
            Some(verdict) => Next::Bad(judged(verdict, Side::Down)),
            None if self.late => {
                let error = Error::down(ErrorKind::Timeout);
                Next::Bad(error.context("an HTTP/2 header section"))
            }
            None => Next::End,
        }
    }

    /// What has to be kept to close the connection in good order.
    pub(crate) fn into_parts(self) -> (Arc<Link>, Alarm, Arc<HttpOptions>) {
        (self.link, self.alarm, self.shared.options.clone())
    }
}

fn ended(error: ::h2::Error, watch: &Watch) -> Next {
    if let Some(verdict) = watch.verdict() {
        return Next::Bad(judged(verdict, Side::Down));
    }
    if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && error.is_library() {
        return Next::Bad(judged(Verdict::Flood(Flood::Other), Side::Down));
    }
    if error.is_remote() && error.reason() == Some(Reason::NO_ERROR) {
        return Next::End;
    }
    Next::Bad(fault(error, Side::Down))
}

/// Makes an exchange of a request, unless it is one that is answered right here.
fn exchange(
    shared: &Arc<Shared>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Piece>,
) -> Option<Exchange> {
    let (mut parts, recv) = request.into_parts();
    if let Err(error) = request::check(&mut parts, &shared.options) {
        tracing::debug!("{error:?}");
        refuse(&mut respond, &error);
        return None;
    }
    let is_head = parts.method == Method::HEAD;
    let stream = Arc::new(Stream {
        alarm: Alarm::new(),
        shared: shared.clone(),
        respond: Mutex::new(Some(respond)),
        received: AtomicU64::new(0),
    });
    let (req, recv) = request::exchanged(parts, recv, &stream);
    let reply = Reply::new(stream, is_head, recv);
    Some(Exchange {
        req,
        reply: reply::Reply::Http2(reply),
    })
}

/// A request that is malformed is a stream error (RFC 9113 section 8.1.1); one that is too much to take is told so.
fn refuse(respond: &mut SendResponse<Piece>, error: &Error) {
    if error.kind() == ErrorKind::Malformed {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = Response::new(());
    *response.status_mut() = status;
    let none = header::HeaderValue::from_static("0");
    response.headers_mut().insert(header::CONTENT_LENGTH, none);
    // Fails only if the stream is gone.
    let _ = respond.send_response(response, true);
}

impl Stream {
    pub(crate) fn options(&self) -> &Arc<HttpOptions> {
        &self.shared.options
    }

    /// Bytes of the request's body that have come in.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// `n` bytes of payload have come.
    pub(crate) fn count(&self, n: u64) {
        self.received.fetch_add(n, Relaxed);
    }

    pub(crate) fn respond(&self) -> MutexGuard<'_, Option<SendResponse<Piece>>> {
        self.respond.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once the client has reset the stream, or is gone; pending for good once the response is on its way, which
    /// notices by itself.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.respond() {
            Some(respond) => respond.poll_reset(cx).map(|_| ()),
            None => Poll::Pending,
        }
    }

    /// Tells a client that waits for it to go on (RFC 9110 section 10.1.1).
    pub(crate) fn go_on(&self) {
        if let Some(respond) = &mut *self.respond() {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            // Fails only if the stream is gone.
            let _ = respond.send_informational(response);
        }
    }
}
