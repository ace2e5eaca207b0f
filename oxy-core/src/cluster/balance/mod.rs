//! How one of several endpoints is chosen.

pub(super) mod maglev;
pub(super) mod ring;
pub(super) mod table;
pub(super) mod turns;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::balancer::Seat;
use super::endpoint::Endpoint;
use super::plan::Plan;
use super::want::Want;

/// A way to choose of a program's own. Each worker has one for itself, which may remember what it likes.
///
/// What health, priorities and retries leave out has been left out: it chooses among those that may be used.
pub trait Balance: Send + 'static {
    /// The position among `candidates`, of which there is at least one, of the endpoint that is to be used. `None`, or a
    /// position that there is not, refuses the request.
    ///
    /// Called for each request, under the worker's own lock: it must neither wait nor call the balancer.
    fn choose(&mut self, candidates: &Candidates<'_>, want: &Want<'_>) -> Option<usize>;
}

impl<F> Balance for F
where
    F: FnMut(&Candidates<'_>, &Want<'_>) -> Option<usize> + Send + 'static,
{
    fn choose(&mut self, candidates: &Candidates<'_>, want: &Want<'_>) -> Option<usize> {
        self(candidates, want)
    }
}

type Factory = dyn Fn(usize) -> Box<dyn Balance> + Send + Sync;

/// Makes any [`Balance`] for each worker. Clones are the same one.
#[derive(Clone)]
pub struct AnyBalance(Arc<Factory>);

impl AnyBalance {
    /// `make` is given the worker's number, from 0.
    pub fn new<B: Balance>(make: impl Fn(usize) -> B + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |worker| Box::new(make(worker))))
    }

    pub(super) fn make(&self, worker: usize) -> Box<dyn Balance> {
        (self.0)(worker)
    }
}

impl PartialEq for AnyBalance {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for AnyBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyBalance")
    }
}

/// The endpoints that a [`Balance`] chooses among.
#[derive(Debug)]
pub struct Candidates<'a> {
    pub(super) plan: &'a Plan,
    pub(super) seats: &'a [Arc<Seat>],
    /// Which members of the plan they are.
    pub(super) members: &'a [usize],
}

impl<'a> Candidates<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none, which a [`Balance`] never sees.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The one at `position`, from 0.
    pub fn at(&self, position: usize) -> Option<Candidate<'a>> {
        let member = *self.members.get(position)?;
        Some(Candidate {
            plan: self.plan,
            seat: self.seats.get(member)?,
            member,
        })
    }

    /// All of them, in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'a>> + '_ {
        (0..self.len()).filter_map(|position| self.at(position))
    }

    /// A number that changes whenever the endpoints, their health or their weights may have.
    pub fn version(&self) -> u64 {
        self.plan.version
    }
}

/// An endpoint that may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    plan: &'a Plan,
    seat: &'a Seat,
    member: usize,
}

impl<'a> Candidate<'a> {
    /// The endpoint.
    pub fn endpoint(&self) -> &'a Arc<Endpoint> {
        &self.seat.entry.endpoint
    }

    /// Its weight in hundredths, slow start included.
    pub fn weight(&self) -> u64 {
        let member = &self.plan.members[self.member];
        u64::from(member.weight) * u64::from(member.ramp)
    }

    /// How many of this worker's requests it has.
    pub fn in_flight(&self) -> u32 {
        self.seat.tally.in_flight()
    }

    /// The moving average of how long this worker's requests took, once one is over.
    pub fn latency(&self) -> Option<Duration> {
        self.seat.tally.latency()
    }
}
