//! The way of a request to an origin and of the response back: pools, retries, interim responses, upgrades.

mod accept;
mod budget;
mod connect;

use std::sync::Arc;
use std::time::{Duration, Instant};

use oxy_core::cluster::{EndpointId, Pick, Verdict, Want};
use oxy_core::{BoxFuture, Error, ErrorKind, FlowInfo, Result, Retry, Side, StreamIo, pinned};

use self::accept::Arrived;
pub(crate) use self::budget::Budget;
use self::connect::at_hand;
use crate::attended::Attended;
use crate::body::Body;
use crate::call::{Answer, Call};
use crate::client::Client;
use crate::dispatch::Going;
use crate::errand::{Between, Errand};
use crate::hedge::{self, Race};
use crate::message::{Req, Res};
use crate::pool::Endpoint;
use crate::reply::Reply;
use crate::route::{Hedge, RetryOn};

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
    /// How many of these were for nothing but that the origin had refused it unseen.
    refusals: u32,
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
    /// Says how the exchange's last try went: no other follows.
    pub(crate) fn finish(&mut self, verdict: Verdict, latency: Option<Duration>) {
        if let Some(pick) = self.pick.take() {
            pick.finish(verdict, latency);
        }
    }

    /// Whether the request has been refused so often that it is sent once more only, by a connection of its own: the origin
    /// that says goodbye after every few requests takes the first of a connection, and others were faster each time so far.
    fn is_last_call(&self) -> bool {
        self.refusals == REFUSALS_MAX
    }

    /// Says how a try went that another may follow, which goes elsewhere.
    fn give_up(&mut self, verdict: Verdict) {
        self.tried.extend(self.pick.as_ref().map(Pick::id));
        self.finish(verdict, None);
    }
}

/// How often a request is sent that the origin has refused without a look at it, besides tries of other reasons. An origin
/// that ends each connection after a few requests refuses whatever else is on its way, and a busy one meets several such
/// ends in a row; but refusing is work, too, and who refuses so often takes nothing.
const REFUSALS_MAX: u32 = 5;

/// What another try is to an origin.
#[derive(Clone, Copy, Debug)]
enum Cost {
    /// No more than the request would have been: the origin has said that it did not look at it (`REFUSED_STREAM`, or a
    /// GOAWAY before it), so no work is done twice and budgets, which keep an origin in trouble from getting more than its
    /// share, have nothing to guard. gRPC's transparent retries go by the same reason.
    Nothing,
    /// Perhaps as much as the request once more.
    Retry,
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

/// Sends `req` where it is `going` and waits for the final response's head. Interim responses go out by `reply` meanwhile.
///
/// Boxed, so that it is compiled here and not again for every application. The future is kept below 1 KiB, beyond which malloc
/// takes six times as long: `self` and what else is large is handed down by reference, as an async fn holds its arguments twice.
pub(crate) fn call<'a>(
    req: Req,
    going: &'a Going<'a>,
    of: &'a FlowInfo,
    (client, reply): (&'a Client, &'a mut Reply),
    course: &'a mut Course,
) -> BoxFuture<'a, Result<Called>> {
    pinned(move || async move {
        let mut errand = Errand::new(req);
        let trip = Trip { going, of, client };
        trip.run(&mut errand, reply, course).await
    })
}

/// A request's way to an origin and back.
#[derive(Clone, Copy)]
struct Trip<'a> {
    going: &'a Going<'a>,
    of: &'a FlowInfo,
    client: &'a Client,
}

impl<'a> Trip<'a> {
    async fn run(
        &self,
        errand: &mut Errand,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Called> {
        let options = self.going.options();
        if let Some(response) = errand.goes_on(&options.forward)? {
            return Ok(Called::Response(Res::from(*response)));
        }
        self.going.desk.budget.earn();
        let again = errand.body.replay();
        let tried = self.once(errand, &self.going.endpoint, false, reply, course);
        let tried = match tried.await {
            // Nearly always: what comes otherwise is not carried along for it.
            Ok(arrived) if again.is_none() || self.judge(&arrived.answer).is_none() => {
                return arrived.accept(options, errand);
            }
            tried => tried,
        };
        Box::pin(self.persist(errand, tried, again, reply, course)).await
    }

    /// What follows a try that did not go well: others, for as long as they are worth it.
    async fn persist(
        self,
        errand: &mut Errand,
        mut tried: Result<Arrived, Failure>,
        mut again: Option<Body>,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Called> {
        let options = self.going.options();
        let mut endpoint = self.going.endpoint.clone();
        loop {
            let (failure, verdict) = match tried {
                Ok(arrived) => match self.judge(&arrived.answer) {
                    Some(verdict) if again.is_some() => (Err(arrived), verdict),
                    _ => return arrived.accept(options, errand),
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
                    .again(failure, errand, &endpoint, course)
                    .map(|(next, new)| (next, new, body)),
                (Err(_), Some(body)) => self
                    .elsewhere(verdict, Cost::Retry, course)
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
                        course.give_up(verdict);
                    }
                    return Err(failure.error);
                }
                (None, Err(arrived)) => return arrived.accept(options, errand),
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
            tried = self.once(errand, &endpoint, fresh, reply, course).await;
        }
    }

    /// One try, or several side by side where the route says so.
    async fn once(
        &self,
        errand: &mut Errand,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
        reply: &mut Reply,
        course: &mut Course,
    ) -> Result<Arrived, Failure> {
        let between = Between {
            client: self.of,
            endpoint,
            options: self.going.options(),
            upstream_host: self.going.upstream_host,
        };
        if let Some(hedge) = self.hedge(errand) {
            return Box::pin(self.hedged(errand, between, hedge, course)).await;
        }
        self.attempt(errand, &between, fresh, Some(reply), course)
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
        if error.side() != Side::Up {
            return None;
        }
        // RFC 9110 section 9.2.2: a reused connection that died before a byte came back had most likely been closed before
        // the request got there. That says nothing about the endpoint.
        let died = error.kind() == ErrorKind::Closed && *reused && errand.idempotent && !touched;
        if died {
            return self
                .may(Cost::Retry, course)
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
        let cost = match why {
            RetryOn::RefusedStream => Cost::Nothing,
            _ => Cost::Retry,
        };
        if self.going.backend.is_none() {
            // There is one place only: it is tried once more at most, as what did not listen just now seldom does.
            let once = error.kind() != ErrorKind::Connect || course.retries == 0;
            return (once && self.may(cost, course)).then(|| (endpoint.clone(), true));
        }
        self.elsewhere(Verdict::Failure, cost, course)
            .map(|endpoint| (endpoint, false))
    }

    /// Whether another try that costs so much may be made; it is paid for then.
    fn may(self, cost: Cost, course: &mut Course) -> bool {
        let max = self.going.options().retry.max;
        match cost {
            Cost::Nothing => {
                let may = max > 0 && course.refusals < REFUSALS_MAX;
                course.refusals += u32::from(may);
                may
            }
            Cost::Retry => {
                course.retries.saturating_sub(course.refusals) < max
                    && self.going.desk.budget.spend()
            }
        }
    }

    /// Another endpoint of the cluster, after a try of which there is `verdict` to say.
    fn elsewhere(self, verdict: Verdict, cost: Cost, course: &mut Course) -> Option<Arc<Endpoint>> {
        let backend = self.going.backend.as_ref()?;
        if !self.may(cost, course) {
            return None;
        }
        course.give_up(verdict);
        let mut want = match cost {
            Cost::Nothing => Want::default().anew(&course.tried),
            Cost::Retry => Want::default().retry(&course.tried),
        };
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
                    match self.elsewhere(Verdict::Cancelled, Cost::Retry, &mut own) {
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
            let options = self.going.options();
            let between = Between {
                client: self.of,
                endpoint: &endpoint,
                options,
                upstream_host: self.going.upstream_host,
            };
            let attempt = self.attempt(&mut errand, &between, false, None, &mut course);
            // The runners share one alarm, which the first that ends puts out.
            let limit = options.timeouts.first_byte;
            match tokio::time::timeout(limit, attempt).await {
                Ok(Ok(arrived)) => Ok((arrived, errand, course)),
                Ok(Err(failure)) => {
                    course.give_up(Verdict::Failure);
                    Err(failure)
                }
                Err(_) => {
                    course.give_up(Verdict::Failure);
                    let error = Error::up(ErrorKind::Timeout).context("waiting for a response");
                    Err(error.into())
                }
            }
        })
    }

    /// One try.
    async fn attempt(
        &self,
        errand: &mut Errand,
        between: &Between<'_>,
        fresh: bool,
        reply: Option<&mut Reply>,
        course: &mut Course,
    ) -> Result<Arrived, Failure> {
        let upgrades = errand.upgrade.is_some();
        // Whether a shared connection may be upgraded may have to be asked first.
        let shares = !upgrades && !course.is_last_call();
        let connection = if let Some(connection) = at_hand(between.endpoint, fresh, shares) {
            connection
        } else {
            let connect = self.connect(*between, upgrades, course);
            Attended::by(self.client, connect).await?
        };
        let reused = connection.is_reused();
        course.reused = reused;
        let (mut call, lease) = self.over(connection, errand, *between)?;
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

    /// Sends and listens until the final head.
    async fn converse(&self, call: &mut Call<'_>, mut reply: Option<&mut Reply>) -> Result<Answer> {
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
