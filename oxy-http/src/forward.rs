//! The way of a request to an origin and of the response back: pools, retries, interim responses, upgrades.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ::h2::RecvStream;
use http::{Response, StatusCode, header};
use oxy_core::buffer::Buffer;
use oxy_core::cluster::{self, EndpointId, Pick, Verdict, Want};
use oxy_core::{
    BoxFuture, Carrier, Error, ErrorKind, Far, FlowInfo, Link, Result, Retry, Side, StreamIo, clock,
};

use crate::attended::Attended;
use crate::body::Body;
use crate::call::{Answer, Call, Wire};
use crate::client::Client;
use crate::dispatch::Going;
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
use crate::hedge::{self, Race};
use crate::message::{Req, Res};
use crate::options::HttpOptions;
use crate::outgoing::Outgoing;
use crate::pool::{Endpoint, Lease, Protocol, Speaks};
use crate::reply::Reply;
use crate::route::{Hedge, RetryOn};
use crate::scratch::{Out, Spared};
use crate::websocket;

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
    /// Where the last try has gone.
    pub(crate) upstream: Option<Arc<Endpoint>>,
    /// Held until the exchange is over: until then it counts as the endpoint's load.
    pub(crate) pick: Option<Pick>,
    /// What has been tried before.
    tried: Vec<EndpointId>,
    /// When the first try ended, and how long it had taken at least.
    first_ended: Option<(Instant, Duration)>,
}

impl Course {
    /// Says how the last try went.
    pub(crate) fn finish(&mut self, verdict: Verdict, latency: Option<Duration>) {
        if let Some(pick) = self.pick.take() {
            self.tried.push(pick.id());
            pick.finish(verdict, latency);
        }
    }
}

/// What is known of a try that failed.
struct Failure {
    error: Error,
    /// Whether a byte of a response had come.
    touched: bool,
    /// Whether the connection was there before.
    reused: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            touched: false,
            reused: false,
        }
    }
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

/// Sends `req` where it is `going` and waits for the final response's head. Interim responses go out by `reply` meanwhile.
///
/// Boxed, so that it is compiled here and not again for every application.
pub(crate) fn call<'a>(
    req: Req,
    going: &'a Going,
    of: &'a FlowInfo,
    reply: &'a mut Reply,
    course: &'a mut Course,
) -> BoxFuture<'a, Result<Called>> {
    let client = reply.client();
    Box::pin(async move {
        let errand = Errand::new(req);
        let trip = Trip {
            going,
            of,
            client: &client,
        };
        trip.run(errand, reply, course).await
    })
}

/// A request's way to an origin and back.
#[derive(Clone, Copy)]
struct Trip<'a> {
    going: &'a Going,
    of: &'a FlowInfo,
    client: &'a Client,
}

impl<'a> Trip<'a> {
    async fn run(
        self,
        mut errand: Errand,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Called> {
        let options = &self.going.options;
        if let Some(response) = errand.goes_on(&options.forward)? {
            return Ok(Called::Response(Res::from(*response)));
        }
        self.going.desk.budget.earn();
        let again = errand.body.replay();
        let tried = self.once(&mut errand, &self.going.endpoint, false, reply, course);
        let tried = match tried.await {
            // Nearly always: what comes otherwise is not carried along for it.
            Ok(arrived) if again.is_none() || self.judge(&arrived.answer).is_none() => {
                return arrived.accept(options, &errand);
            }
            tried => tried,
        };
        Box::pin(self.persist(errand, tried, again, reply, course)).await
    }

    /// What follows a try that did not go well: others, for as long as they are worth it.
    async fn persist(
        self,
        mut errand: Errand,
        mut tried: Result<Arrived, Failure>,
        mut again: Option<Body>,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Called> {
        let options = &self.going.options;
        let mut endpoint = self.going.endpoint.clone();
        loop {
            let (failure, verdict) = match tried {
                Ok(arrived) => match self.judge(&arrived.answer) {
                    Some(verdict) if again.is_some() => (Err(arrived), verdict),
                    _ => return arrived.accept(options, &errand),
                },
                Err(failure) => {
                    let verdict = match failure.error.side() {
                        Side::Up => Verdict::Failure,
                        _ => Verdict::Cancelled,
                    };
                    (Ok(failure), verdict)
                }
            };
            // What has failed before it was looked at may have its body still, which then need not be at hand as a whole.
            let body = again.or_else(|| failure.as_ref().ok().and_then(|_| errand.unsent()));
            let timed_out =
                matches!(&failure, Ok(failure) if failure.error.kind() == ErrorKind::Timeout);
            let body = body.filter(|_| self.has_time(timed_out, course));
            let next = match (&failure, body) {
                (Ok(failure), Some(body)) => self
                    .again(failure, &errand, &endpoint, course)
                    .map(|(next, new)| (next, new, body)),
                (Err(_), Some(body)) => self
                    .elsewhere(verdict, course)
                    .map(|next| (next, false, body)),
                _ => None,
            };
            let fresh = match (next, failure) {
                (Some((next, fresh, body)), failure) => {
                    if let Err(arrived) = failure {
                        errand.take_back_from(arrived.wire);
                    }
                    course.retries += 1;
                    endpoint = next;
                    errand.again_with(body);
                    fresh
                }
                (None, Ok(failure)) => {
                    if verdict == Verdict::Failure {
                        course.finish(verdict, None);
                    }
                    return Err(failure.error);
                }
                (None, Err(arrived)) => return arrived.accept(options, &errand),
            };
            let route = self.going.route.as_ref();
            let wait = self.going.desk.backoff(route, course.retries);
            if !wait.is_zero() {
                let wait = async {
                    tokio::time::sleep(wait).await;
                    Ok(())
                };
                Attended::by(self.client, wait).await?;
            }
            again = errand.body.replay();
            tried = self
                .once(&mut errand, &endpoint, fresh, reply, course)
                .await;
        }
    }

    /// One try, or several side by side where the route says so.
    async fn once(
        self,
        errand: &mut Errand,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Arrived, Failure> {
        let between = Between {
            client: self.of,
            endpoint,
            options: &self.going.options,
            upstream_host: self.going.upstream_host,
        };
        if let Some(hedge) = self.hedge(errand) {
            return Box::pin(self.hedged(errand, between, hedge, course)).await;
        }
        self.attempt(errand, between, fresh, Some(reply), course)
            .await
    }

    /// Whether the time that all tries have together leaves some for another one. It counts from the end of the first, so
    /// that requests which are tried once look at no clock.
    fn has_time(self, timed_out: bool, course: &mut Course) -> bool {
        let all = &self.going.desk.options().timeouts;
        let Some(route) = &self.going.route else {
            return true;
        };
        let timeouts = &route.policy().timeouts;
        let all = timeouts.first_byte.unwrap_or(all.first_byte);
        let (ended, took) = *course.first_ended.get_or_insert_with(|| {
            let took = timed_out.then(|| timeouts.per_try.unwrap_or(all));
            (Instant::now(), took.unwrap_or_default())
        });
        took + ended.elapsed() < all
    }

    /// What to say of an endpoint whose answer is worth another try.
    fn judge(self, answer: &Answer) -> Option<Verdict> {
        let retry = self.going.route.as_ref()?.policy().retry.as_ref()?;
        let status = answer.status();
        let grpc = answer.grpc_status();
        (retry.on_status(status) || grpc.is_some_and(|code| retry.on_grpc(code)))
            .then_some(Verdict::Gateway(status))
    }

    /// Where to try again after `failure`, if it is worth it and safe, and whether by a new connection.
    fn again(
        self,
        failure: &Failure,
        errand: &Errand,
        endpoint: &Arc<Endpoint>,
        course: &mut Course,
    ) -> Option<(Arc<Endpoint>, bool)> {
        let Failure {
            error,
            touched,
            reused,
        } = failure;
        if error.side() != Side::Up || course.retries >= self.going.options.retry.max {
            return None;
        }
        // RFC 9110 section 9.2.2: a reused connection that died before a byte came back had most likely been closed before
        // the request got there. That says nothing about the endpoint.
        let died = error.kind() == ErrorKind::Closed && *reused && errand.idempotent && !touched;
        if died {
            return self
                .going
                .desk
                .budget
                .spend()
                .then(|| (endpoint.clone(), true));
        }
        let retry = self
            .going
            .route
            .as_ref()
            .and_then(|route| route.policy().retry.as_ref());
        let why = match (error.kind(), error.retryable()) {
            (ErrorKind::Closed, Retry::Safe) => RetryOn::RefusedStream,
            (_, Retry::Safe) => RetryOn::ConnectFailure,
            (ErrorKind::Closed, _) => RetryOn::Reset,
            (ErrorKind::Timeout, _) => RetryOn::PerTryTimeout,
            _ => return None,
        };
        let worth = match retry {
            Some(retry) => retry.on_failure(why),
            None => matches!(why, RetryOn::RefusedStream | RetryOn::ConnectFailure),
        };
        if !worth || *touched {
            return None;
        }
        if self.going.backend.is_none() {
            // There is one place only: it is tried once more at most, as what did not listen just now seldom does.
            let once = error.kind() != ErrorKind::Connect || course.retries == 0;
            return (once && self.going.desk.budget.spend()).then(|| (endpoint.clone(), true));
        }
        self.elsewhere(Verdict::Failure, course)
            .map(|endpoint| (endpoint, false))
    }

    /// Another endpoint of the cluster, after a try of which there is `verdict` to say.
    fn elsewhere(self, verdict: Verdict, course: &mut Course) -> Option<Arc<Endpoint>> {
        let backend = self.going.backend.as_ref()?;
        if course.retries >= self.going.options.retry.max || !self.going.desk.budget.spend() {
            return None;
        }
        course.finish(verdict, None);
        let mut want = Want::default().retry(&course.tried);
        if let Some(key) = self.going.key {
            want = want.key(key);
        }
        let pick = backend.balancer.pick(&want).ok()?;
        let endpoint = backend.endpoint(&pick).ok()?;
        course.pick = Some(pick);
        course.upstream = Some(endpoint.clone());
        Some(endpoint)
    }

    /// Whether and how a second origin is asked while the first keeps us waiting.
    fn hedge(self, errand: &Errand) -> Option<&'a Hedge> {
        let hedge = self.going.route.as_ref()?.policy().hedge.as_ref()?;
        // What is asked of two is done by two.
        let replays = errand.body.replay().is_some();
        let fits = replays && errand.idempotent && errand.upgrade.is_none();
        (fits && self.going.backend.is_some()).then_some(hedge)
    }

    /// One try that others join when it takes long. Interim responses are not passed on: nobody knows yet whose is the
    /// final one.
    async fn hedged(
        self,
        errand: &mut Errand,
        between: Between<'_>,
        hedge: &Hedge,
        course: &mut Course,
    ) -> Result<Arrived, Failure> {
        let first = Course {
            pick: course.pick.take(),
            upstream: course.upstream.clone(),
            ..Course::default()
        };
        course.tried.extend(first.pick.as_ref().map(Pick::id));
        let first = self.runner(errand.twin()?, between.endpoint.clone(), first);
        let mut race = Race::new(first, hedge);
        loop {
            match race.next().await {
                hedge::Next::Won((arrived, won, own)) => {
                    *errand = won;
                    course.reused = own.reused;
                    (course.pick, course.upstream) = (own.pick, own.upstream);
                    return Ok(arrived);
                }
                hedge::Next::Late => {
                    let mut own = Course {
                        tried: course.tried.clone(),
                        ..Course::default()
                    };
                    match self.elsewhere(Verdict::Cancelled, &mut own) {
                        Some(endpoint) => {
                            course.tried.extend(own.pick.as_ref().map(Pick::id));
                            course.retries += 1;
                            race.join(self.runner(errand.twin()?, endpoint, own));
                        }
                        None => race.close(),
                    }
                }
                hedge::Next::Lost(failure) => return Err(failure),
            }
        }
    }

    /// A try in a race.
    fn runner(
        self,
        mut errand: Errand,
        endpoint: Arc<Endpoint>,
        mut course: Course,
    ) -> BoxFuture<'a, Result<(Arrived, Errand, Course), Failure>> {
        Box::pin(async move {
            let options = &self.going.options;
            let between = Between {
                client: self.of,
                endpoint: &endpoint,
                options,
                upstream_host: self.going.upstream_host,
            };
            let attempt = self.attempt(&mut errand, between, false, None, &mut course);
            // The runners share one alarm, which the first that ends puts out.
            let limit = options.timeouts.first_byte;
            match tokio::time::timeout(limit, attempt).await {
                Ok(Ok(arrived)) => Ok((arrived, errand, course)),
                Ok(Err(failure)) => {
                    course.finish(Verdict::Failure, None);
                    Err(failure)
                }
                Err(_) => {
                    course.finish(Verdict::Failure, None);
                    let error = Error::up(ErrorKind::Timeout).context("waiting for a response");
                    Err(error.into())
                }
            }
        })
    }

    /// One try.
    async fn attempt(
        self,
        errand: &mut Errand,
        between: Between<'_>,
        fresh: bool,
        reply: Option<&mut Reply>,
        course: &mut Course,
    ) -> Result<Arrived, Failure> {
        let upgrades = errand.upgrade.is_some();
        let connection = if let Some(connection) = at_hand(between.endpoint, fresh, upgrades) {
            connection
        } else {
            let connect = self.connect(between, upgrades, course);
            Attended::by(self.client, connect).await?
        };
        let reused = connection.is_reused();
        course.reused = reused;
        let mut lease = None;
        let mut call = match connection {
            Connection::Http1(link, leased) => {
                lease = Some(leased);
                self.over_http1(errand, between, link)
            }
            Connection::Http2(ticket) => self.over_http2(errand, between, ticket)?,
        };
        let answered = self.converse(&mut call, reply).await;
        self.client.alarm().clear();
        let touched = call.touched();
        if let Err(error) = &answered
            && error.retryable() == Retry::Safe
            && let Some(body) = call.take_back()
        {
            errand.again_with(body);
        }
        let (wire, upload) = call.into_parts();
        match answered {
            Ok(answer) => Ok(Arrived {
                answer,
                wire,
                lease,
                upload,
            }),
            Err(error) => {
                errand.take_back_from(wire);
                Err(Failure {
                    error,
                    touched,
                    reused,
                })
            }
        }
    }

    fn over_http1(self, errand: &mut Errand, between: Between<'_>, link: Arc<Link>) -> Call<'a> {
        let options = &self.going.options;
        let head = errand.write(between);
        let upload = (!errand.framing.is_empty()).then(|| {
            let mut copy = Out::take();
            copy.extend_from_slice(&head);
            let body = errand.give_body();
            let pump = Pump::new(link.clone(), Side::Up, copy, body, errand.framing);
            Box::new(pump.low_water(options.low_water)) as Box<dyn Outgoing>
        });
        let wire = h1::client::Wire::new(link, errand.method, head, upload.is_some());
        Call::new(Wire::Http1(wire), upload, self.client.alarm(), options)
    }

    fn over_http2(
        self,
        errand: &mut Errand,
        between: Between<'_>,
        ticket: Ticket,
    ) -> Result<Call<'a>> {
        let request = errand.request(between)?;
        let tunnels = errand.upgrade.is_some();
        let ends = errand.framing.is_empty() && !tunnels;
        let mut handle = ticket.handle()?;
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
            let sender = Sender::new(send, Side::Up, errand.give_body(), length);
            upload = Some(Box::new(sender) as Box<dyn Outgoing>);
        }
        let wire = h2::client::Wire::new(response, tunnel, ticket);
        let wire = Wire::Http2(Box::new(wire));
        let options = &self.going.options;
        Ok(Call::new(wire, upload, self.client.alarm(), options))
    }

    /// A connection that is new, or has room on it soon. Boxed, as it is rare and large.
    fn connect<'b>(
        self,
        between: Between<'b>,
        upgrades: bool,
        course: &'b Course,
    ) -> BoxFuture<'b, Result<Connection>>
    where
        'a: 'b,
    {
        Box::pin(self.connect_anew(between, upgrades, course))
    }

    async fn connect_anew(
        self,
        between: Between<'_>,
        upgrades: bool,
        course: &Course,
    ) -> Result<Connection> {
        let endpoint = between.endpoint;
        let options = &self.going.options;
        let ticket = loop {
            if endpoint.speaks() == Speaks::Http1 {
                let opened = self.open(between, course).await?;
                if !opened.http2 {
                    return Ok(opened.lease(endpoint));
                }
                // It has learned something since.
                let opening = endpoint.sessions.opening();
                break opening.greet(opened.stream, opened.place, options).await?;
            }
            match endpoint.sessions.place(&options.http2) {
                Some(Place::Ticket(ticket)) => break ticket,
                Some(Place::Open(opening)) => {
                    let opened = self.open(between, course).await?;
                    if !opened.http2 {
                        return Ok(opened.lease(endpoint));
                    }
                    break opening.greet(opened.stream, opened.place, options).await?;
                }
                // Others are about to find out what it speaks, or have taken all the room there is.
                None => {
                    clock::within(
                        options.timeouts.first_byte,
                        Side::Up,
                        "waiting for room on an HTTP/2 connection",
                        endpoint.sessions.room(&options.http2),
                    )
                    .await?;
                }
            }
        };
        if upgrades && !ticket.takes_extended_connect().await {
            return Err(
                Error::up(ErrorKind::Unsupported).context("the origin takes no extended CONNECT")
            );
        }
        Ok(Connection::Http2(ticket))
    }

    /// A new connection.
    async fn open(self, between: Between<'_>, course: &Course) -> Result<Opened> {
        let endpoint = between.endpoint;
        let way = endpoint.way();
        let _pending = match &self.going.backend {
            Some(backend) => Some(backend.balancer.pending()?),
            None => None,
        };
        let place = course.pick.as_ref().map(Pick::connection).transpose()?;
        loop {
            match way.offramp.open(&endpoint.target, between.client).await {
                Ok(Far {
                    carrier: Carrier::Stream(stream),
                    facts,
                    ..
                }) => {
                    let agreed = facts.tls.get().and_then(|tls| tls.alpn.as_deref());
                    let http2 = match way.protocol {
                        Protocol::Auto => agreed == Some(b"h2"),
                        protocol => protocol == Protocol::Http2,
                    };
                    endpoint.found(http2);
                    return Ok(Opened {
                        stream,
                        http2,
                        place,
                    });
                }
                Ok(_) => {
                    return Err(Error::local(ErrorKind::Unsupported).context("HTTP needs a stream"));
                }
                // An idle connection's descriptor serves better here.
                Err(error) if error.kind() == ErrorKind::Overloaded && self.going.desk.evict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends and listens until the final head.
    async fn converse(self, call: &mut Call<'_>, mut reply: Option<&mut Reply>) -> Result<Answer> {
        loop {
            let answer = call.answer(self.client).await?;
            match answer.status() {
                101 | 200.. => return Ok(answer),
                status => {
                    if let Some(reply) = &mut reply {
                        Box::pin(reply.inform(answer.into_head())).await?;
                    }
                    if status == 100 {
                        call.go_on();
                    } else {
                        call.wait_on();
                    }
                }
            }
        }
    }
}

/// A connection that is open and free, if there is one.
fn at_hand(endpoint: &Arc<Endpoint>, fresh: bool, upgrades: bool) -> Option<Connection> {
    if endpoint.speaks() == Speaks::Http1 {
        let (link, lease) = if fresh { None } else { endpoint.take() }?;
        return Some(Connection::Http1(link, lease));
    }
    // Whether it may be upgraded may have to be asked first.
    let ticket = (!upgrades).then(|| endpoint.sessions.ticket())??;
    Some(Connection::Http2(ticket))
}

/// A connection that has just been opened.
struct Opened {
    stream: StreamIo,
    http2: bool,
    place: Option<cluster::Connection>,
}

impl Opened {
    fn lease(self, endpoint: &Arc<Endpoint>) -> Connection {
        Connection::Http1(self.stream.into_parts().0, endpoint.lease(self.place))
    }
}

/// A final head, and what the rest of the response comes from.
struct Arrived {
    answer: Answer,
    wire: Wire,
    lease: Option<Lease>,
    upload: Option<Box<dyn Outgoing>>,
}

impl Arrived {
    /// Makes a response of it, and ties the connection's fate to its body.
    fn accept(self, options: &HttpOptions, errand: &Errand) -> Result<Called> {
        let Self {
            answer,
            wire,
            lease,
            upload,
        } = self;
        match (answer, wire, lease) {
            (Answer::Http1 { buffer, index }, Wire::Http1(wire), Some(lease)) => {
                let link = wire.into_parts().0;
                accept_http1((buffer, index), link, (lease, upload), options, errand)
            }
            (Answer::Http2(response), Wire::Http2(wire), _) => {
                accept_http2(*response, *wire, upload, errand)
            }
            _ => Err(Error::local(ErrorKind::Internal).context("an answer from another wire")),
        }
    }
}

fn accept_http1(
    (mut buffer, index): (Buffer, Spared<Box<ResponseIndex>>),
    link: Arc<Link>,
    (mut lease, upload): (Lease, Option<Box<dyn Outgoing>>),
    options: &HttpOptions,
    errand: &Errand,
) -> Result<Called> {
    if index.status == 101 {
        // Only a protocol that was offered can be changed to (RFC 9110 section 7.8).
        let Some(protocol) = errand.upgrade.clone().filter(|_| index.upgrade) else {
            return Err(Error::up(ErrorKind::Malformed).context("an upgrade that nobody asked for"));
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
        Body::incoming(Incoming::new(source, home, options.chunk.clone()))
    };
    Ok(Called::Response(Res::raw(buffer, index, body)))
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
pub(crate) struct Budget {
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

    pub(crate) fn new(options: &HttpOptions) -> Self {
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
