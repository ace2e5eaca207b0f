//! The way of a request to an origin and of the response back: pools, retries, interim responses, upgrades.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ::h2::RecvStream;
use http::{Response, StatusCode, header};
use oxy_core::buffer::Buffer;
use oxy_core::offramp::AnyOfframp;
use oxy_core::{
    BoxFuture, Carrier, Error, ErrorKind, Far, FlowInfo, Link, Result, Retry, Side, StreamIo,
    Target, clock,
};

use crate::attended::Attended;
use crate::body::Body;
use crate::call::{Answer, Call, Wire};
use crate::client::Client;
use crate::errand::{Between, Errand};
use crate::h1;
use crate::h1::incoming::{Home, Incoming, Rest, Source};
use crate::h1::index::{Framing, ResponseIndex};
use crate::h1::pump::Pump;
use crate::h2;
use crate::h2::fault::fault;
use crate::h2::request::content_length;
use crate::h2::sender::Sender;
use crate::h2::session::{Place, Ticket};
use crate::h2::tunnel::Tunnel;
use crate::message::{Req, Res};
use crate::options::HttpOptions;
use crate::outgoing::Outgoing;
use crate::pool::{Endpoint, Lease, Pool, Protocol, Speaks, Way};
use crate::reply::Reply;
use crate::scratch::{Out, Spared};
use crate::websocket;

/// One worker's means to reach origins.
pub(crate) struct Forwarder {
    pub(crate) options: Arc<HttpOptions>,
    pool: Arc<Pool>,
    budget: Budget,
}

/// What became of a request.
pub(crate) enum Called {
    /// The origin has answered.
    Response(Res),
    /// The origin has changed to another protocol, and has given its end of the stream.
    Switched(Res, Vec<u8>, StreamIo),
}

/// How it went, for the books.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub(crate) reused: bool,
    pub(crate) retries: u32,
}

/// A connection that can take a request.
enum Connection {
    Http1(Arc<Link>, Lease),
    Http2(Ticket),
}

impl Connection {
    fn is_reused(&self) -> bool {
        match self {
            Self::Http1(_, lease) => lease.reused,
            Self::Http2(ticket) => ticket.reused,
        }
    }
}

impl Forwarder {
    pub(crate) fn new(options: Arc<HttpOptions>, offramp: AnyOfframp) -> Self {
        let way = Way {
            offramp,
            protocol: Protocol::Auto,
            secure: false,
        };
        let pool = Pool::new(options.pool.clone(), way);
        let budget = Budget::new(&options);
        Self {
            options,
            pool,
            budget,
        }
    }

    /// What is kept of connections to `target`.
    pub(crate) fn endpoint(&self, target: &Target) -> Arc<Endpoint> {
        self.pool.endpoint(target)
    }

    /// Sends `req` to `endpoint` and waits for the final response's head. Interim responses go out by `reply` meanwhile.
    ///
    /// Boxed, so that it is compiled here and not again for every application.
    pub(crate) fn call<'a>(
        &'a self,
        req: Req,
        endpoint: &'a Arc<Endpoint>,
        of: &'a FlowInfo,
        reply: &'a mut Reply,
        course: &'a mut Course,
    ) -> BoxFuture<'a, Result<Called>> {
        Box::pin(self.run(req, endpoint, of, reply, course))
    }

    async fn run(
        &self,
        req: Req,
        endpoint: &Arc<Endpoint>,
        of: &FlowInfo,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Called> {
        let mut errand = Errand::new(req);
        if let Some(response) = errand.goes_on(&self.options.forward)? {
            return Ok(Called::Response(Res::from(*response)));
        }
        self.budget.earn();
        let client = reply.client();
        let between = Between {
            client: of,
            endpoint,
            options: &self.options,
        };
        loop {
            let connect = self.connect(between, &errand, course);
            let connection = Attended::by(&client, connect).await?;
            course.reused = connection.is_reused();
            // What was sent on a connection that had been used before may have met its end; what was refused unread, on
            // any (RFC 9113 section 8.7).
            let again = errand.body.replay();
            let mut lease = None;
            let mut call = match connection {
                Connection::Http1(link, leased) => {
                    lease = Some(leased);
                    self.over_http1(&mut errand, between, link, &client)
                }
                Connection::Http2(ticket) => {
                    let sent = self.over_http2(&mut errand, between, ticket, &client);
                    Attended::by(&client, sent).await?
                }
            };
            let answered = self.converse(&mut call, reply, &client).await;
            client.alarm().clear();
            let touched = call.touched();
            let (wire, upload) = call.into_parts();
            match answered {
                Ok(answer) => return self.accept(answer, wire, lease, upload, &errand),
                Err(error) => {
                    if let Wire::Http1(wire) = wire {
                        errand.take_back(wire.into_parts().1);
                    }
                    // RFC 9110 section 9.2.2: a reused connection that died before a byte came back had most likely been
                    // closed before the request got there.
                    let died = error.side() == Side::Up
                        && error.kind() == ErrorKind::Closed
                        && course.reused
                        && errand.idempotent
                        && !touched;
                    match again {
                        Some(again)
                            if (died || error.retryable() == Retry::Safe)
                                && course.retries < self.options.retry.max
                                && self.budget.spend() =>
                        {
                            course.retries += 1;
                            errand.body = again;
                        }
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    fn over_http1<'a>(
        &'a self,
        errand: &mut Errand,
        between: Between<'_>,
        link: Arc<Link>,
        client: &'a Client,
    ) -> Call<'a> {
        let head = errand.write(between);
        let upload = (!errand.framing.is_empty()).then(|| {
            let mut copy = Out::take();
            copy.extend_from_slice(&head);
            let body = errand.body.take();
            let pump = Pump::new(link.clone(), Side::Up, copy, body, errand.framing);
            Box::new(pump.low_water(self.options.low_water)) as Box<dyn Outgoing>
        });
        let wire = h1::client::Wire::new(link, errand.method, head, upload.is_some());
        Call::new(Wire::Http1(wire), upload, client.alarm(), &self.options)
    }

    async fn over_http2<'a>(
        &'a self,
        errand: &mut Errand,
        between: Between<'_>,
        ticket: Ticket,
        client: &'a Client,
    ) -> Result<Call<'a>> {
        let request = errand.request(between)?;
        let tunnels = errand.upgrade.is_some();
        let ends = errand.framing.is_empty() && !tunnels;
        let mut handle = ticket.handle().await?;
        let (response, send) = handle
            .send_request(request, ends)
            .map_err(|e| fault(e, Side::Up))?;
        let length = match errand.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let (mut upload, mut tunnel) = (None, None);
        if tunnels {
            tunnel = Some(send);
        } else if !ends {
            let sender = Sender::new(send, Side::Up, errand.body.take(), length);
            upload = Some(Box::new(sender) as Box<dyn Outgoing>);
        }
        let wire = h2::client::Wire::new(response, tunnel, ticket);
        let wire = Wire::Http2(Box::new(wire));
        Ok(Call::new(wire, upload, client.alarm(), &self.options))
    }

    /// A connection that is open, or a new one.
    async fn connect(
        &self,
        between: Between<'_>,
        errand: &Errand,
        course: &mut Course,
    ) -> Result<Connection> {
        let endpoint = between.endpoint;
        let ticket = loop {
            if endpoint.speaks() == Speaks::Http1 {
                if let Some((link, lease)) = endpoint.take() {
                    return Ok(Connection::Http1(link, lease));
                }
                let (stream, http2) = self.open(between, course).await?;
                if !http2 {
                    return Ok(Connection::Http1(stream.into_parts().0, endpoint.lease()));
                }
                // It has learned something since.
                let opening = endpoint.sessions.opening();
                break opening.greet(stream, &self.options).await?;
            }
            match endpoint.sessions.place(&self.options.http2) {
                Some(Place::Ticket(ticket)) => break ticket,
                Some(Place::Open(opening)) => {
                    let (stream, http2) = self.open(between, course).await?;
                    if !http2 {
                        return Ok(Connection::Http1(stream.into_parts().0, endpoint.lease()));
                    }
                    break opening.greet(stream, &self.options).await?;
                }
                // Others are about to find out what it speaks, or have taken all the room there is.
                None => {
                    clock::within(
                        self.options.timeouts.first_byte,
                        Side::Up,
                        "waiting for room on an HTTP/2 connection",
                        endpoint.sessions.room(&self.options.http2),
                    )
                    .await?;
                }
            }
        };
        if errand.upgrade.is_some() && !ticket.takes_extended_connect().await {
            return Err(
                Error::up(ErrorKind::Unsupported).context("the origin takes no extended CONNECT")
            );
        }
        Ok(Connection::Http2(ticket))
    }

    /// A new connection, and whether it speaks HTTP/2.
    async fn open(&self, between: Between<'_>, course: &mut Course) -> Result<(StreamIo, bool)> {
        let endpoint = between.endpoint;
        loop {
            match endpoint
                .way()
                .offramp
                .open(&endpoint.target, between.client)
                .await
            {
                Ok(Far {
                    carrier: Carrier::Stream(stream),
                    ..
                }) => {
                    let http2 = match endpoint.way().protocol {
                        Protocol::Auto => false,
                        protocol => protocol == Protocol::Http2,
                    };
                    endpoint.found(http2);
                    return Ok((stream, http2));
                }
                Ok(_) => {
                    return Err(Error::local(ErrorKind::Unsupported).context("HTTP needs a stream"));
                }
                // An idle connection's descriptor serves better here.
                Err(error) if error.kind() == ErrorKind::Overloaded && self.pool.evict() => {}
                Err(error)
                    if error.retryable() == Retry::Safe
                        && error.kind() == ErrorKind::Connect
                        && course.retries < self.options.retry.max.min(1)
                        && self.budget.spend() =>
                {
                    course.retries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends and listens until the final head.
    async fn converse(
        &self,
        call: &mut Call<'_>,
        reply: &mut Reply,
        client: &Client,
    ) -> Result<Answer> {
        loop {
            let answer = call.answer(client).await?;
            match answer.status() {
                101 | 200.. => return Ok(answer),
                100 => {
                    reply.inform(answer.into_head()).await?;
                    call.go_on();
                }
                _ => {
                    reply.inform(answer.into_head()).await?;
                    call.wait_on();
                }
            }
        }
    }

    /// Makes a response of a final head, and ties the connection's fate to its body.
    fn accept(
        &self,
        answer: Answer,
        wire: Wire,
        lease: Option<Lease>,
        upload: Option<Box<dyn Outgoing>>,
        errand: &Errand,
    ) -> Result<Called> {
        match (answer, wire, lease) {
            (Answer::Http1 { buffer, index }, Wire::Http1(wire), Some(lease)) => {
                let link = wire.into_parts().0;
                self.accept_http1((buffer, index), link, lease, upload, errand)
            }
            (Answer::Http2(response), Wire::Http2(wire), _) => {
                accept_http2(*response, *wire, upload, errand)
            }
            _ => Err(Error::local(ErrorKind::Internal).context("an answer from another wire")),
        }
    }

    fn accept_http1(
        &self,
        (mut buffer, index): (Buffer, Spared<Box<ResponseIndex>>),
        link: Arc<Link>,
        mut lease: Lease,
        upload: Option<Box<dyn Outgoing>>,
        errand: &Errand,
    ) -> Result<Called> {
        if index.status == 101 {
            // Only a protocol that was offered can be changed to (RFC 9110 section 7.8).
            let Some(protocol) = errand.upgrade.clone().filter(|_| index.upgrade) else {
                return Err(
                    Error::up(ErrorKind::Malformed).context("an upgrade that nobody asked for")
                );
            };
            let mut stream = StreamIo::from_link(link);
            stream.unread(&buffer.filled()[index.head_len..]);
            buffer.truncate(index.head_len);
            let head = Res::raw(buffer, index, Body::empty());
            return Ok(Called::Switched(head, protocol, stream));
        }
        lease.keep_alive = index.keep_alive;
        lease.upload = upload;
        let rest = Rest::from(index.framing);
        let body = if matches!(rest, Rest::Done) {
            // Bytes behind a response that has no body are nobody's.
            if buffer.len() == index.head_len {
                lease.come_home(Source {
                    link,
                    ahead: None,
                    rest,
                });
            }
            buffer.truncate(index.head_len);
            Body::empty()
        } else {
            let source = Source {
                link,
                ahead: None,
                rest,
            };
            let home = Home::Upstream(lease);
            Body::incoming(Incoming::new(source, home, self.options.chunk.clone()))
        };
        Ok(Called::Response(Res::raw(buffer, index, body)))
    }
}

fn accept_http2(
    response: Response<Option<RecvStream>>,
    wire: h2::client::Wire,
    upload: Option<Box<dyn Outgoing>>,
    errand: &Errand,
) -> Result<Called> {
    let (mut parts, recv) = response.into_parts();
    let Some(recv) = recv else {
        return Err(Error::local(ErrorKind::Internal).context("an interim head for a final one"));
    };
    if let (Some(protocol), Some(send)) = (errand.upgrade.clone(), wire.send)
        && parts.status.is_success()
    {
        // RFC 8441 section 5: what 101 is to HTTP/1.1, where the handshake is proved.
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.headers.remove(header::CONTENT_LENGTH);
        if let Some(key) = errand.websocket_key() {
            let accept = websocket::accept(key.as_bytes());
            parts.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let stream = StreamIo::new(Tunnel::new(send, recv, Some(wire.ticket)));
        let head = Res::from(Response::from_parts(parts, Body::empty()));
        return Ok(Called::Switched(head, protocol, stream));
    }
    let body = if recv.is_end_stream() {
        Body::empty()
    } else {
        let length = content_length(&parts.headers);
        let home = h2::incoming::Home::Upstream {
            _ticket: wire.ticket,
            upload,
        };
        Body::stream(h2::incoming::Incoming::new(recv, length, home))
    };
    Ok(Called::Response(Res::from(Response::from_parts(
        parts, body,
    ))))
}

/// Keeps retries a small share of requests. One worker's own: loads and stores suffice.
struct Budget {
    /// In hundredths of a retry.
    tokens: AtomicU64,
    earned: u64,
    per_second: u64,
    refilled: AtomicU64,
    start: Instant,
}

impl Budget {
    /// Ten seconds' worth may be saved up.
    const SECONDS: u64 = 10;

    fn new(options: &HttpOptions) -> Self {
        let per_second = u64::from(options.retry.budget_min) * 100;
        Self {
            tokens: AtomicU64::new(per_second * Self::SECONDS),
            earned: options.retry.budget_percent.into(),
            per_second,
            refilled: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    fn earn(&self) {
        let cap = (self.per_second * Self::SECONDS).max(100_000);
        let tokens = self.tokens.load(Relaxed);
        if tokens < cap {
            self.tokens.store((tokens + self.earned).min(cap), Relaxed);
        }
    }

    fn spend(&self) -> bool {
        let now = self.start.elapsed().as_secs();
        let since = now - self.refilled.swap(now, Relaxed).min(now);
        let floor = self.per_second * Self::SECONDS;
        let mut tokens = self.tokens.load(Relaxed);
        if tokens < floor {
            tokens = (tokens + since * self.per_second).min(floor);
        }
        let allowed = tokens >= 100;
        self.tokens
            .store(if allowed { tokens - 100 } else { tokens }, Relaxed);
        allowed
    }
}
