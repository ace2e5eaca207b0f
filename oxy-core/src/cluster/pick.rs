//! What was picked: [`Pick`], and the places that are held meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::balancer::{Desk, Entry, Seat};
use super::endpoint::{Cause, Endpoint, EndpointId};
use crate::Result;
use crate::target::Target;

/// The endpoint that was picked for a request, which counts as under way until this is finished or dropped. Dropped without a
/// word, it says nothing about its endpoint.
pub struct Pick {
    seat: Arc<Seat>,
    stuck: Stuck,
    is_retry: bool,
    /// Whether the limits of requests and retries count it.
    counted: [bool; 2],
}

/// What became of the wish for a certain endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// There was none.
    Free,
    /// It is that one.
    Kept,
    /// That one is gone, ill, or has been tried: it is another one, which the client should be told.
    Lost,
}

/// How a request went, as far as it says something about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered, whatever the answer was.
    Success,
    /// It was not: there was no connection, or it broke, or a time-out passed.
    Failure,
    /// It was answered with a status (502, 503 or 504, say) which means that the endpoint cannot serve.
    Gateway(u16),
    /// It was given up for reasons of ours or the client's.
    Cancelled,
}

impl Pick {
    /// Called under the worker's lock. `retries` is how many may be under way, if it is one.
    pub(super) fn new(seat: Arc<Seat>, stuck: Stuck, retries: Option<u64>) -> Result<Self> {
        let desk = &seat.entry.desk;
        let breaker = &desk.cluster.breaker;
        let mut counted = [
            breaker.requests.enter("the limit of requests is reached")?,
            false,
        ];
        if let Some(allowed) = retries {
            let retry = breaker
                .retries
                .enter("the limit of retries is reached")
                .and_then(|counted| {
                    let entered = desk.enter_retry(allowed);
                    if entered.is_err() && counted {
                        breaker.retries.give_back();
                    }
                    entered.map(|()| counted)
                });
            match retry {
                Ok(is_counted) => counted[1] = is_counted,
                Err(error) => {
                    if counted[0] {
                        breaker.requests.give_back();
                    }
                    return Err(error);
                }
            }
        }
        seat.tally.begin();
        Ok(Self {
            seat,
            stuck,
            is_retry: retries.is_some(),
            counted,
        })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.seat.entry.endpoint
    }

    /// Where the endpoint is.
    pub fn target(&self) -> &Target {
        self.seat.entry.endpoint.target()
    }

    /// What the endpoint goes by in sticky sessions.
    pub fn id(&self) -> EndpointId {
        self.seat.entry.endpoint.id()
    }

    /// What became of the wish for a certain endpoint.
    pub fn stuck(&self) -> Stuck {
        self.stuck
    }

    /// What the worker keeps with the endpoint, such as its pool of connections; made by `make` when it is asked for
    /// first. It lives as long as the worker knows the endpoint. `None` when something of another type is kept.
    pub fn kept<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce(&Arc<Endpoint>) -> T,
    ) -> Option<&T> {
        let kept = self
            .seat
            .kept
            .get_or_init(|| Box::new(make(&self.seat.entry.endpoint)));
        kept.downcast_ref()
    }

    /// A connection to the endpoint that is about to be opened: a place for it, held until it is dropped.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](crate::ErrorKind::Overloaded) on side `Local` when there are as many connections to the cluster or the
    /// endpoint as may be.
    pub fn connection(&self) -> Result<Connection> {
        let breaker = &self.seat.entry.desk.cluster.breaker;
        let all = breaker
            .connections
            .enter("the limit of connections is reached")?;
        let own = &self.seat.entry.endpoint.condition.connections;
        let own = own.enter("the limit of connections to an endpoint is reached");
        if own.is_err() && all {
            breaker.connections.give_back();
        }
        let counted = [all, own?];
        self.seat.tally.connections.fetch_add(1, Relaxed);
        Ok(Connection {
            entry: self.seat.entry.clone(),
            counted,
        })
    }

    /// Says how it went, and that it is over. `latency` is how long the answer took, if there was one.
    pub fn finish(mut self, verdict: Verdict, latency: Option<Duration>) {
        self.note(verdict, latency);
    }

    /// Says how it goes so far, once: a connection has opened, or the head of an answer is here. It stays under way until it
    /// is dropped, but one that goes well no longer counts as a retry. `latency` is how long that took.
    pub fn note(&mut self, verdict: Verdict, latency: Option<Duration>) {
        if verdict == Verdict::Success {
            self.leave_retries();
        }
        let Entry {
            endpoint,
            tally,
            desk,
        } = &*self.seat.entry;
        if let Some(latency) = latency {
            tally.took(latency);
        }
        let condition = &endpoint.condition;
        let (in_a_row, cause) = match verdict {
            Verdict::Success => {
                tally.success();
                condition.succeeded();
                return;
            }
            Verdict::Failure => {
                tally.failure();
                (condition.failed(), Cause::Failures)
            }
            Verdict::Gateway(_) => {
                tally.gateway();
                (condition.answered_badly(), Cause::Gateway)
            }
            Verdict::Cancelled => return,
        };
        desk.cluster.suspect(endpoint, cause, in_a_row);
    }
}

impl Pick {
    /// Gives back its place among the retries, if it has one.
    fn leave_retries(&mut self) {
        let desk = &self.seat.entry.desk;
        if std::mem::take(&mut self.is_retry) {
            desk.retries.fetch_sub(1, Relaxed);
        }
        if std::mem::take(&mut self.counted[1]) {
            desk.cluster.breaker.retries.give_back();
        }
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.leave_retries();
        self.seat.tally.end();
        if self.counted[0] {
            self.seat.entry.desk.cluster.breaker.requests.give_back();
        }
    }
}

impl fmt::Debug for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pick({})", self.target())
    }
}

/// A connection to an endpoint, which counts as open until this is dropped.
pub struct Connection {
    entry: Arc<Entry>,
    counted: [bool; 2],
}

impl Connection {
    /// The endpoint that it goes to.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.entry.endpoint
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.entry.tally.connections.fetch_sub(1, Relaxed);
        let [all, own] = self.counted;
        if all {
            self.entry.desk.cluster.breaker.connections.give_back();
        }
        if own {
            self.entry.endpoint.condition.connections.give_back();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.entry.endpoint.target())
    }
}

/// A request that waits for a connection, until this is dropped.
#[derive(Debug)]
pub struct Pending {
    desk: Arc<Desk>,
    counted: bool,
}

impl Pending {
    pub(super) fn new(desk: Arc<Desk>) -> Result<Self> {
        let counted = desk
            .cluster
            .breaker
            .pending
            .enter("the limit of waiting requests is reached")?;
        Ok(Self { desk, counted })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.counted {
            self.desk.cluster.breaker.pending.give_back();
        }
    }
}
