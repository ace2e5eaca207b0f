//! A worker's view of a cluster: [`Balancer`], which picks.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Cluster;
use super::balance::turns::Turns;
use super::balance::{AnyBalance, Balance, Candidates};
use super::breaker::full;
use super::endpoint::{Endpoint, Tally};
use super::pick::{Pending, Pick, Stuck};
use super::plan::{Level, Plan};
use super::rng::{Rng, scale};
use super::spec::BalanceSpec;
use super::want::Want;
use crate::error::{Error, ErrorKind, Result, Retry, Side};

/// Picks endpoints of a cluster for one worker, which has its own turns, chance and counts. Clones are the same one.
///
/// A pick takes a lock that only its worker takes, allocates nothing, and writes nothing that another worker reads on its
/// way; only limits of [`BreakerOptions`](super::BreakerOptions) that are set are counted together.
#[derive(Clone)]
pub struct Balancer(Arc<Inner>);

/// On cache lines of its own (two, as processors fetch pairs), as each pick writes here.
#[repr(align(128))]
struct Inner {
    desk: Arc<Desk>,
    state: Mutex<State>,
}

/// What a worker's picks have in common, and what they go back to when they are over.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) cluster: Arc<Cluster>,
    worker: usize,
    /// Retries of this worker under way.
    pub(super) retries: AtomicU32,
}

/// An endpoint as one worker sees it. On cache lines of its own, as each pick counts a reference to it.
#[repr(align(128))]
pub(super) struct Seat {
    pub(super) entry: Arc<Entry>,
    /// The entry's, which is looked at most.
    pub(super) tally: Arc<Tally>,
    /// Whatever the caller wants to find again with the endpoint, such as a pool of connections.
    pub(super) kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A worker's line in an endpoint's books. Apart from the seat, as connections refer to it that the seat may keep.
pub(super) struct Entry {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) tally: Arc<Tally>,
    pub(super) desk: Arc<Desk>,
}

struct State {
    plan: Arc<Plan>,
    tools: Tools,
}

/// What a worker chooses with. Apart from the plan, so that a pick need not count a reference to what all share.
struct Tools {
    /// One for each of the plan's members.
    seats: Vec<Arc<Seat>>,
    rng: Rng,
    /// One for each of the plan's levels, for round robin.
    turns: Vec<Turns>,
    /// The algorithm of the program's own, and where it is from.
    custom: Option<(AnyBalance, Box<dyn Balance>)>,
    /// Members that the program's own algorithm chooses among in a retry.
    scratch: Vec<usize>,
}

/// How long a request waits for the first answer of DNS.
const READY: Duration = Duration::from_secs(5);

impl Balancer {
    pub(super) fn new(cluster: Arc<Cluster>, worker: usize) -> Self {
        Self::with_rng(cluster, worker, Rng::new())
    }

    pub(super) fn with_rng(cluster: Arc<Cluster>, worker: usize, rng: Rng) -> Self {
        let plan = cluster.plan();
        let desk = Arc::new(Desk {
            cluster,
            worker,
            retries: AtomicU32::new(0),
        });
        let mut tools = Tools {
            seats: Vec::new(),
            rng,
            turns: Vec::new(),
            custom: None,
            scratch: Vec::new(),
        };
        tools.follow(&plan, &desk);
        Self(Arc::new(Inner {
            desk,
            state: Mutex::new(State { plan, tools }),
        }))
    }

    /// The cluster that it picks from.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.0.desk.cluster
    }

    /// The endpoint for a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`], which is [`Retry::Safe`]: on side `Up` when no endpoint may be used, on side `Local` when a
    /// limit or the retry budget is exhausted.
    pub fn pick(&self, want: &Want<'_>) -> Result<Pick> {
        let desk = &self.0.desk;
        let State { plan, tools } = &mut *self.state();
        if let Some(newer) = desk.cluster.newer(plan) {
            tools.follow(&newer, desk);
            *plan = newer;
        }
        let (member, stuck) = tools.choose(plan, want).ok_or_else(nobody)?;
        let seat = tools.seats.get(member).ok_or_else(nobody)?.clone();
        let retries = want.is_retry.then(|| tools.allowed_retries(plan));
        Pick::new(seat, stuck, retries)
    }

    /// [`Balancer::pick`], which waits for the first answer of DNS where there is nobody yet: at most 5 seconds, as a start
    /// should take no longer, and where nobody tends the cluster there never is one. Cancel safe.
    ///
    /// # Errors
    ///
    /// As [`Balancer::pick`].
    pub async fn pick_when_ready(&self, want: &Want<'_>) -> Result<Pick> {
        match self.pick(want) {
            Err(error) if error.side() == Side::Up => {
                let ready = Box::pin(self.cluster().ready());
                _ = tokio::time::timeout(READY, ready).await;
                self.pick(want)
            }
            picked => picked,
        }
    }

    /// A place for a request that waits for a connection, held until it is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] on side `Local` when as many as may be are waiting.
    pub fn pending(&self) -> Result<Pending> {
        Pending::new(self.0.desk.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Desk {
            cluster, worker, ..
        } = &*self.0.desk;
        write!(f, "Balancer({}, worker {worker})", cluster.name())
    }
}

#[cold]
fn nobody() -> Error {
    Error::up(ErrorKind::Overloaded)
        .context("no endpoint may be used")
        .retry(Retry::Safe)
}

impl Desk {
    /// A place among the retries of this worker, of which so many are allowed.
    pub(super) fn enter_retry(&self, allowed: u64) -> Result<()> {
        if u64::from(self.retries.load(Relaxed)) >= allowed {
            return Err(full("the retry budget is exhausted"));
        }
        self.retries.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl Seat {
    fn new(endpoint: Arc<Endpoint>, desk: Arc<Desk>) -> Self {
        let tally = endpoint.condition.enlist();
        Self {
            tally: tally.clone(),
            entry: Arc::new(Entry {
                endpoint,
                tally,
                desk,
            }),
            kept: OnceLock::new(),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.endpoint.condition.retire(&self.tally);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({})", self.entry.endpoint.target())
    }
}

impl Tools {
    /// Goes by `plan` from now on.
    fn follow(&mut self, plan: &Plan, desk: &Arc<Desk>) {
        let mut old: HashMap<_, _> = self
            .seats
            .drain(..)
            .map(|seat| (Arc::as_ptr(&seat.entry.endpoint), seat))
            .collect();
        self.seats = plan
            .members
            .iter()
            .map(|member| {
                old.remove(&Arc::as_ptr(&member.endpoint))
                    .unwrap_or_else(|| Arc::new(Seat::new(member.endpoint.clone(), desk.clone())))
            })
            .collect();
        self.turns.clear();
        if plan.spec.balance == BalanceSpec::RoundRobin {
            let rng = &mut self.rng;
            self.turns.extend(
                plan.levels
                    .iter()
                    .map(|level| Turns::new(&level.usable, &level.weights, rng)),
            );
        }
        match &plan.spec.balance {
            BalanceSpec::Custom(any) => {
                if self.custom.as_ref().is_none_or(|(is, _)| is != any) {
                    self.custom = Some((any.clone(), any.make(desk.worker)));
                }
            }
            _ => self.custom = None,
        }
    }

    /// How many retries the budget allows at this moment. Counted when it is asked for, as retries are rare.
    fn allowed_retries(&self, plan: &Plan) -> u64 {
        let budget = &plan.spec.retry_budget;
        let in_flight = self.seats.iter().map(|seat| seat.tally.in_flight());
        let active: u64 = in_flight.map(u64::from).sum();
        (active * u64::from(budget.percent) / 100).max(budget.min_concurrency.into())
    }

    /// The member for a request, and what became of its wish for a certain one.
    fn choose(&mut self, plan: &Plan, want: &Want<'_>) -> Option<(usize, Stuck)> {
        let mut stuck = Stuck::Free;
        if let Some(id) = want.sticky {
            match plan.find(id) {
                Some(member) if plan.keeps(member) && !want.avoids(id) => {
                    return Some((member, Stuck::Kept));
                }
                _ => stuck = Stuck::Lost,
            }
        }
        let level = plan.level(want.key, &mut self.rng)?;
        let mut found = self.choose_in(plan, level, want);
        if found.is_none() && !want.avoid.is_empty() {
            // All others of its priority have been tried: those of the other ones, and at last anyone again.
            found = (0..plan.levels.len())
                .filter(|other| *other != level)
                .find_map(|other| self.choose_in(plan, other, want))
                .or_else(|| {
                    self.choose_in(
                        plan,
                        level,
                        &Want {
                            avoid: &[],
                            ..*want
                        },
                    )
                });
        }
        found.map(|member| (member, stuck))
    }

    /// A member of `level` that `want` does not avoid.
    fn choose_in(&mut self, plan: &Plan, level: usize, want: &Want<'_>) -> Option<usize> {
        let (turns, level) = (level, &plan.levels[level]);
        let avoided = |member: usize| want.avoids(plan.members[member].endpoint.id());
        if level.usable.iter().all(|member| avoided(*member)) {
            return None;
        }
        match &plan.spec.balance {
            BalanceSpec::RoundRobin => self.turns.get_mut(turns)?.next(avoided),
            BalanceSpec::LeastRequest => {
                let one = self.draw(plan, level, None, want)?;
                let Some(other) = self.draw(plan, level, Some(one), want) else {
                    return Some(level.usable[one]);
                };
                // In flight for each weight; the one that was drawn first, where both have as many.
                let load = |at: usize| u64::from(self.seats[level.usable[at]].tally.in_flight());
                let better = if load(other) * level.weights[one] < load(one) * level.weights[other]
                {
                    other
                } else {
                    one
                };
                Some(level.usable[better])
            }
            BalanceSpec::Random => self
                .draw(plan, level, None, want)
                .map(|at| level.usable[at]),
            BalanceSpec::Maglev | BalanceSpec::RingHash => {
                let Some(key) = want.key else {
                    return self
                        .draw(plan, level, None, want)
                        .map(|at| level.usable[at]);
                };
                let start = level.members.start;
                let fits = |member: usize| plan.members[member].usable && !avoided(member);
                level
                    .table
                    .as_ref()
                    .and_then(|table| table.find(key, |at| fits(start + at)))
                    .map(|at| start + at)
                    .or_else(|| {
                        let begin = scale(key, level.usable.len() as u64) as usize;
                        let from_there = level.usable[begin..].iter().chain(&level.usable[..begin]);
                        from_there.copied().find(|member| fits(*member))
                    })
            }
            BalanceSpec::Custom(_) => {
                let members = if want.avoid.is_empty() {
                    &level.usable
                } else {
                    self.scratch.clear();
                    let left = level.usable.iter().copied();
                    self.scratch.extend(left.filter(|member| !avoided(*member)));
                    &self.scratch
                };
                let candidates = Candidates {
                    plan,
                    seats: &self.seats,
                    members,
                };
                let (_, custom) = self.custom.as_mut()?;
                members.get(custom.choose(&candidates, want)?).copied()
            }
        }
    }

    /// One of the level's usable members by weight, as an index into that list: not `but`, and none that is avoided.
    fn draw(
        &mut self,
        plan: &Plan,
        level: &Level,
        but: Option<usize>,
        want: &Want<'_>,
    ) -> Option<usize> {
        if want.avoid.is_empty() {
            let is_left = level.usable.len() > usize::from(but.is_some());
            return is_left.then(|| level.draw(but, &mut self.rng));
        }
        // A retry is rare, so it may look at all of them.
        let left = || {
            level.usable.iter().enumerate().filter(|(at, member)| {
                Some(*at) != but && !want.avoids(plan.members[**member].endpoint.id())
            })
        };
        let total = left().map(|(at, _)| level.weights[at]).sum();
        let mut drawn = self.rng.below(total);
        left().map(|(at, _)| at).find(|at| {
            let here = drawn < level.weights[*at];
            drawn = drawn.saturating_sub(level.weights[*at]);
            here
        })
    }
}

impl Cluster {
    /// The plan in force, if it is another than `plan`.
    fn newer(&self, plan: &Plan) -> Option<Arc<Plan>> {
        if self.version() != plan.version {
            return Some(self.plan());
        }
        // The clock is asked only while something waits for it.
        let due = plan.due?;
        (Instant::now() >= due).then(|| self.refresh())
    }
}
