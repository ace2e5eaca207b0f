//! The way of a request to an origin and of the response back: pools, retries, interim responses, upgrades.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use http::Response;
use oxy_core::offramp::AnyOfframp;
use oxy_core::{
    BoxFuture, Carrier, Error, ErrorKind, Far, FlowInfo, Link, Result, Retry, Side, StreamIo,
    Target,
};

use crate::attended::Attended;
use crate::body::Body;
use crate::h1::client::{Answer, Call};
use crate::h1::incoming::{Home, Incoming, Rest, Source};
use crate::h1::index::Framing;
use crate::h1::parse::MethodKind;
use crate::h1::server::Reply;
use crate::message::{Head, Req, Res};
use crate::options::HttpOptions;
use crate::pool::{Endpoint, Lease, Pool};
use crate::scratch::Out;
use crate::semantics::{
    self, Fields, ForwardPolicy, Outcome, RequestHead, RequestHop, upgrade_offer,
};

/// One worker's means to reach origins.
pub(crate) struct Forwarder {
    pub(crate) options: Arc<HttpOptions>,
    offramp: AnyOfframp,
    pool: Arc<Pool>,
    budget: Budget,
}

/// What became of a request.
pub(crate) enum Called {
    /// The origin has answered.
    Response(Res),
    /// The origin has changed to another protocol, and has given its end of the stream.
    Switched(Answer, Vec<u8>, StreamIo),
}

/// How it went, for the books.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub(crate) reused: bool,
    pub(crate) retries: u32,
}

/// A request, made ready.
enum Staged {
    Out(Outgoing, Body),
    /// It goes no further (RFC 9110 section 7.6.2).
    Answer(Box<Response<Body>>),
}

/// What is to be known of a request while it is sent.
struct Outgoing {
    framing: Framing,
    method: MethodKind,
    /// Safe to be done twice (RFC 9110 section 9.2.2).
    idempotent: bool,
    /// The protocol that the client offers to change to.
    upgrade: Option<Vec<u8>>,
}

impl Forwarder {
    pub(crate) fn new(options: Arc<HttpOptions>, offramp: AnyOfframp) -> Self {
        let mut pooling = options.pool.clone();
        if offramp.is_per_client() {
            // Its connections say whom they are for: the next client's request must not go by one.
            pooling.max_requests = 1;
        }
        let pool = Pool::new(pooling);
        let budget = Budget::new(&options);
        Self {
            options,
            offramp,
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
        let mut out = Out::take();
        let (request, mut body) = match self.stage(req, endpoint, of, &mut out)? {
            Staged::Out(request, body) => (request, body),
            Staged::Answer(response) => return Ok(Called::Response(Res::from(*response))),
        };
        self.budget.earn();
        loop {
            let connect = self.connect(endpoint, of, course);
            let (link, lease) = Attended::by(reply.conn(), connect).await?;
            course.reused = lease.reused;
            let again = if lease.reused && request.idempotent {
                body.replay()
            } else {
                None
            };
            let conn = reply.conn().clone();
            let message = (out, std::mem::take(&mut body), request.framing);
            let mut call = Call::new(
                link.clone(),
                request.method,
                message,
                &conn.alarm,
                &self.options,
            );
            match self.converse(&mut call, reply).await {
                Ok(answer) => {
                    conn.alarm.clear();
                    let upload = call.into_upload();
                    return self.accept(answer, link, lease, upload, request);
                }
                Err(error) => {
                    // RFC 9110 section 9.2.2: a reused connection that died before a byte came back had most likely been
                    // closed before the request got there.
                    let died = error.side() == Side::Up
                        && error.kind() == ErrorKind::Closed
                        && !call.touched();
                    conn.alarm.clear();
                    match again {
                        Some(again)
                            if died
                                && course.retries < self.options.retry.max
                                && self.budget.spend() =>
                        {
                            course.retries += 1;
                            out = call.into_head();
                            body = again;
                        }
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    /// Turns the request into what goes out.
    fn stage(&self, req: Req, endpoint: &Endpoint, of: &FlowInfo, out: &mut Out) -> Result<Staged> {
        let policy = &self.options.forward;
        let hop = RequestHop {
            client: of.peer.map(|peer| peer.ip()),
            https: false,
            upstream: &endpoint.authority,
            to_proxy: false,
            close: false,
            upgrade: None,
        };
        let (head, mut body) = req.into_parts();
        let (answer, request) = match head {
            Head::Raw(mut raw) => {
                let bytes = raw.buffer.filled();
                let head = RequestHead::indexed(&raw.index, bytes);
                let upgrade = if raw.index.upgrade {
                    upgrade_offer(&head.fields).map(<[u8]>::to_vec)
                } else {
                    None
                };
                let hop = RequestHop {
                    upgrade: upgrade.as_deref(),
                    ..hop
                };
                let answer = write_head(&head, &hop, policy, out)?;
                let method = raw.index.method.of(bytes);
                let request = Outgoing {
                    framing: raw.index.framing,
                    method: MethodKind::of(method),
                    idempotent: is_idempotent(method),
                    upgrade,
                };
                raw.buffer.consume(raw.index.head_len);
                if !raw.buffer.is_empty()
                    && let Some(incoming) = body.as_incoming()
                {
                    incoming.give(raw.buffer);
                }
                (answer, request)
            }
            Head::Built(parts) => {
                let framing = match body.length() {
                    Some(0) if !expects_length(&parts) => Framing::None,
                    Some(length) => Framing::Length(length),
                    None => Framing::Chunked,
                };
                let head = RequestHead::of_parts(&parts, framing);
                let upgrade = upgrade_offer(&head.fields)
                    .filter(|_| framing.is_empty() && names_upgrade(&parts))
                    .map(<[u8]>::to_vec);
                let hop = RequestHop {
                    upgrade: upgrade.as_deref(),
                    ..hop
                };
                let answer = write_head(&head, &hop, policy, out)?;
                let method = parts.method.as_str().as_bytes();
                let request = Outgoing {
                    framing,
                    method: MethodKind::of(method),
                    idempotent: is_idempotent(method),
                    upgrade,
                };
                (answer, request)
            }
        };
        Ok(match answer {
            None => Staged::Out(request, body),
            Some(response) => Staged::Answer(response),
        })
    }

    /// A connection from the pool, or a new one.
    async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        of: &FlowInfo,
        course: &mut Course,
    ) -> Result<(Arc<Link>, Lease)> {
        if let Some(pooled) = endpoint.take() {
            return Ok(pooled);
        }
        loop {
            match self.offramp.open(&endpoint.target, of).await {
                Ok(Far {
                    carrier: Carrier::Stream(stream),
                    ..
                }) => {
                    return Ok((stream.into_parts().0, endpoint.lease()));
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
    async fn converse(&self, call: &mut Call<'_>, reply: &mut Reply) -> Result<Answer> {
        loop {
            let answer = call.answer(&reply.conn().link).await?;
            match answer.index.status {
                101 | 200.. => return Ok(answer),
                100 => {
                    reply.inform(&answer).await?;
                    call.go_on();
                }
                _ => {
                    reply.inform(&answer).await?;
                    call.wait_on();
                }
            }
        }
    }

    /// Makes a response of a final head, and ties the connection's fate to its body.
    fn accept(
        &self,
        mut answer: Answer,
        link: Arc<Link>,
        mut lease: Lease,
        upload: Option<Box<crate::h1::pump::Pump>>,
        request: Outgoing,
    ) -> Result<Called> {
        let index = &answer.index;
        if index.status == 101 {
            // Only a protocol that was offered can be changed to (RFC 9110 section 7.8).
            let Some(protocol) = request.upgrade.filter(|_| index.upgrade) else {
                return Err(
                    Error::up(ErrorKind::Malformed).context("an upgrade that nobody asked for")
                );
            };
            let mut stream = StreamIo::from_link(link);
            stream.unread(&answer.buffer.filled()[index.head_len..]);
            let head_len = index.head_len;
            answer.buffer.truncate(head_len);
            return Ok(Called::Switched(answer, protocol, stream));
        }
        lease.keep_alive = index.keep_alive;
        lease.upload = upload;
        let rest = Rest::from(index.framing);
        let body = if matches!(rest, Rest::Done) {
            // Bytes behind a response that has no body are nobody's.
            if answer.buffer.len() == index.head_len {
                lease.come_home(Source {
                    link,
                    ahead: None,
                    rest,
                });
            }
            answer.buffer.truncate(answer.index.head_len);
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
        Ok(Called::Response(Res::raw(
            answer.buffer,
            answer.index,
            body,
        )))
    }
}

/// Writes what goes out, or gives the response to what goes no further.
fn write_head<F: Fields>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    out: &mut Out,
) -> Result<Option<Box<Response<Body>>>> {
    match semantics::forward_request(head, hop, policy, out) {
        Outcome::Forward => Ok(None),
        Outcome::Answer => Ok(Some(Box::new(semantics::answer_here(head)))),
        Outcome::Loop => {
            Err(Error::local(ErrorKind::Loop).context("the request has been here before"))
        }
    }
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}

/// Whether an empty body is worth a Content-Length: 0 (RFC 9110 section 8.6).
fn expects_length(parts: &http::request::Parts) -> bool {
    matches!(
        parts.method,
        http::Method::POST | http::Method::PUT | http::Method::PATCH
    )
}

fn names_upgrade(parts: &http::request::Parts) -> bool {
    parts
        .headers
        .get_all(http::header::CONNECTION)
        .iter()
        .any(|value| {
            value
                .as_bytes()
                .split(|&byte| byte == b',')
                .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        })
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
