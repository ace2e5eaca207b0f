//! The plan that picks are made by: a snapshot of the endpoints and what each may be given now.
//!
//! It is made anew whenever something changes (an update, an answer of DNS, a health check, an ejection, a step of a slow
//! start), which is rare, so that a pick has nothing to find out.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::balance::table::Table;
use super::endpoint::{Endpoint, EndpointId};
use super::rng::{Rng, mix, scale};
use super::spec::{BalanceSpec, ClusterSpec, SlowStart};

/// An endpoint of the cluster, with what the settings or DNS say about its part.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) weight: u32,
    pub(super) priority: u32,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) version: u64,
    pub(super) spec: Arc<ClusterSpec>,
    /// In the order of their priorities.
    pub(super) members: Vec<Member>,
    /// Sorted by id.
    by_id: Vec<(EndpointId, usize)>,
    pub(super) levels: Vec<Level>,
    /// The sum of the levels' shares; 0 when there is nowhere to go.
    total_share: u64,
    /// When time alone changes it: an ejection ends, a slow start goes a step on.
    pub(super) due: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// As listed.
    pub(super) weight: u32,
    /// The percentage of its weight that it has now.
    pub(super) ramp: u32,
    /// Whether it may be given work.
    pub(super) usable: bool,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: u32,
    /// Which of the plan's members they are.
    pub(super) members: Range<usize>,
    /// Which members work is shared among, as indices of the plan's members.
    pub(super) usable: Vec<usize>,
    /// Sums of the usable members' weights up to and with each; empty when all are the same.
    sums: Vec<u64>,
    /// The usable members' weights, without common divisors.
    pub(super) weights: Vec<u64>,
    /// Its share of the work, of [`Plan::total_share`].
    pub(super) share: u64,
    /// Whether its endpoints' health is not regarded.
    pub(super) panic: bool,
    /// For choices by key.
    pub(super) table: Option<Arc<Table>>,
}

/// Into how many steps a slow start is divided: a twentieth of the weight is less than the noise of a second's traffic.
const RAMP_STEPS: u32 = 20;
/// A slow start goes on at most this often, as each step is a new plan for all workers.
const RAMP_STEP_MIN: Duration = Duration::from_millis(100);
/// The unit of the levels' shares.
const WHOLE: u64 = 1_000_000;

impl Plan {
    /// The plan for `roster`, which is in the order of its priorities. Tables are taken over from `last` where they fit.
    pub(super) fn new(
        version: u64,
        spec: Arc<ClusterSpec>,
        roster: &[Listed],
        last: Option<&Self>,
        now: Instant,
    ) -> Self {
        let mut due = None;
        let members: Vec<_> = roster
            .iter()
            .map(|listed| {
                let (ramp, change) = situation(&listed.endpoint, &spec.slow_start, now);
                due = soonest(due, change);
                Member {
                    endpoint: listed.endpoint.clone(),
                    weight: listed.weight,
                    ramp,
                    usable: listed.weight > 0 && listed.endpoint.is_usable(),
                }
            })
            .collect();
        let mut by_id: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(at, member)| (member.endpoint.id(), at))
            .collect();
        by_id.sort_unstable();
        let mut plan = Self {
            version,
            spec,
            members,
            by_id,
            levels: Vec::new(),
            total_share: 0,
            due,
        };
        plan.build_levels(roster);
        plan.share_out();
        plan.weigh();
        plan.build_tables(last);
        plan
    }

    fn build_levels(&mut self, roster: &[Listed]) {
        let mut from = 0;
        for group in roster.chunk_by(|a, b| a.priority == b.priority) {
            self.levels.push(Level {
                priority: group[0].priority,
                members: from..from + group.len(),
                usable: Vec::new(),
                sums: Vec::new(),
                weights: Vec::new(),
                share: 0,
                panic: false,
                table: None,
            });
            from += group.len();
        }
    }

    /// Gives each level its share of the work, and says which of them panic.
    fn share_out(&mut self) {
        let failover = &self.spec.failover;
        let mut left = WHOLE;
        let mut able = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            let part = &self.members[level.members.clone()];
            let all = part.iter().filter(|member| member.weight > 0).count() as u64;
            let healthy = part.iter().filter(|member| member.usable).count() as u64;
            let capacity = (healthy * WHOLE * u64::from(failover.overprovision_percent))
                .checked_div(all * 100)
                .unwrap_or(0);
            let share = capacity.min(left);
            left -= share;
            able.push((all, healthy, share));
        }
        let populated = able.iter().filter(|(all, ..)| *all > 0).count();
        // Shares are of their sum: where all levels together cannot carry everything, each is given more than its part.
        for (level, (all, healthy, share)) in self.levels.iter_mut().zip(&able) {
            level.share = *share;
            let few = healthy * 100 < all * u64::from(failover.panic_percent);
            level.panic = few && (left > 0 || populated == 1);
        }
        self.total_share = WHOLE - left;
        if self.total_share == 0
            && let Some(level) = (self.levels.iter_mut().zip(&able))
                .find_map(|(level, (all, ..))| (*all > 0 && level.panic).then_some(level))
        {
            level.share = WHOLE;
            self.total_share = WHOLE;
        }
        for level in self.levels.iter().filter(|level| level.panic) {
            for member in &mut self.members[level.members.clone()] {
                member.usable = member.weight > 0;
                member.ramp = 100;
            }
        }
    }

    /// Lists each level's usable members with their weights.
    fn weigh(&mut self) {
        for level in &mut self.levels {
            for at in level.members.clone() {
                let member = &self.members[at];
                if member.usable {
                    level.usable.push(at);
                    level
                        .weights
                        .push(u64::from(member.weight) * u64::from(member.ramp));
                }
            }
            let divisor = level.weights.iter().copied().fold(0, gcd);
            for weight in &mut level.weights {
                *weight /= divisor.max(1);
            }
            if level.weights.iter().any(|weight| *weight != 1) {
                let mut sum = 0;
                level.sums.extend(level.weights.iter().map(|weight| {
                    sum += weight;
                    sum
                }));
            }
        }
    }

    fn build_tables(&mut self, last: Option<&Self>) {
        if !matches!(
            self.spec.balance,
            BalanceSpec::Maglev | BalanceSpec::RingHash
        ) {
            return;
        }
        for level in &mut self.levels {
            // Those that are ill stay in: their keys come back to them, and nobody else's move.
            let of: Vec<_> = self.members[level.members.clone()]
                .iter()
                .map(|member| (member.endpoint.id(), member.weight))
                .collect();
            let old = last
                .iter()
                .flat_map(|last| &last.levels)
                .filter_map(|old| old.table.as_ref())
                .find(|table| table.is_of(&of, &self.spec));
            level.table = Some(match old {
                Some(table) => table.clone(),
                None => Arc::new(Table::new(of, &self.spec)),
            });
        }
    }

    /// Which level a request with this key, or by chance, goes to. `None` when there is nowhere to go.
    pub(super) fn level(&self, key: Option<u64>, rng: &mut Rng) -> Option<usize> {
        match self.total_share {
            0 => None,
            total if self.levels[0].share == total => Some(0),
            total => {
                // Mixed once more, so that it says nothing about where in the level's table the key falls.
                let key = key.map_or_else(|| rng.next(), |key| mix(mix(key) ^ total));
                let mut left = scale(key, total);
                self.levels.iter().position(|level| {
                    let here = left < level.share;
                    left = left.saturating_sub(level.share);
                    here
                })
            }
        }
    }

    /// The member with this id.
    pub(super) fn find(&self, id: EndpointId) -> Option<usize> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.by_id[at].1)
    }

    /// Whether who sticks to this member stays there: also where it gets nobody new.
    pub(super) fn keeps(&self, member: usize) -> bool {
        let member = &self.members[member];
        member.usable || (member.weight == 0 && member.endpoint.is_usable())
    }

    /// The share of all work that `level` is given, in percent.
    pub(super) fn percent(&self, level: &Level) -> u32 {
        (level.share * 100)
            .checked_div(self.total_share)
            .unwrap_or(0) as u32
    }
}

impl Level {
    /// One of the usable members by weight, as an index into `usable`. Not `but`, if it is given. There must be one.
    pub(super) fn draw(&self, but: Option<usize>, rng: &mut Rng) -> usize {
        let Some(total) = self.sums.last() else {
            let count = self.usable.len() as u64;
            return match but {
                None => rng.below(count) as usize,
                Some(but) => {
                    let at = rng.below(count - 1) as usize;
                    at + usize::from(at >= but)
                }
            };
        };
        let at = match but {
            None => rng.below(*total),
            Some(but) => {
                // As if the weight of `but` were cut out of the line.
                let at = rng.below(total - self.weights[but]);
                if at < self.sums[but] - self.weights[but] {
                    at
                } else {
                    at + self.weights[but]
                }
            }
        };
        self.sums.partition_point(|sum| *sum <= at)
    }
}

/// The percentage of its weight that an endpoint has now, and when that or its use changes by time alone.
fn situation(endpoint: &Endpoint, slow: &SlowStart, now: Instant) -> (u32, Option<Instant>) {
    let mut course = endpoint.condition.course();
    let back = course.ejected_until;
    let Some(begun) = course.ramp else {
        return (100, back);
    };
    let gone = now.saturating_duration_since(begun);
    if gone >= slow.window {
        course.ramp = None;
        return (100, back);
    }
    let percent = gone.as_nanos() * 100 / slow.window.as_nanos().max(1);
    let percent = (percent as u32).max(slow.floor_percent.clamp(1, 100));
    let step = (slow.window / RAMP_STEPS).max(RAMP_STEP_MIN);
    let next = now + step.min(slow.window.saturating_sub(gone));
    (percent, soonest(back, Some(next)))
}

pub(super) fn soonest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
