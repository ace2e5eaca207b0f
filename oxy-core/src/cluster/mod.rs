//! Clusters: several endpoints that serve the same, and how work is shared among them.
//!
//! A [`Cluster`] is made of a [`ClusterSpec`] and shared by all workers: it knows the endpoints, where DNS says they are, and
//! how each fares. Each worker picks through a [`Balancer`] of its own, which has its own turns and counts, and looks at
//! what is shared only when something has changed. A [`Pick`] stands for one request; how that went is said with
//! [`Pick::finish`], and an endpoint that fails too often is left alone for a while. [`Cluster::tend`] runs in the
//! background: it asks DNS and checks the endpoints' health.
//!
//! Nothing here knows what is sent: a flow of bytes, a datagram session and an HTTP request are all the same.
//!
//! ```
//! use oxy_core::cluster::{Cluster, ClusterSpec, EndpointSpec, Verdict, Want};
//! use oxy_core::Target;
//!
//! # fn main() -> oxy_core::Result<()> {
//! let endpoints = [
//!     EndpointSpec::new(Target::tcp([127, 0, 0, 1], 8001)).weight(3),
//!     EndpointSpec::new(Target::tcp([127, 0, 0, 1], 8002)),
//! ];
//! let cluster = Cluster::new(ClusterSpec::new("web", endpoints))?;
//! let balancer = cluster.balancer(0);
//! let pick = balancer.pick(&Want::default())?;
//! println!("to {}", pick.target());
//! pick.finish(Verdict::Success, None);
//! # Ok(())
//! # }
//! ```
//!
//! # How an endpoint is found
//!
//! 1. An endpoint may be used when its health checks do not fail and it is not ejected. When too few of a priority may be,
//!    and no other priority can take over, all of them are used (panic, see [`FailoverOptions`]).
//! 2. The client's sticky endpoint is taken if it may be used.
//! 3. Otherwise a priority is drawn by the priorities' shares: the first one is given as much as its healthy percentage
//!    times 1.4, the next one of what is left, and so on. Where all together cannot carry everything, the shares are
//!    scaled up in proportion.
//! 4. Among the endpoints of that priority the [`BalanceSpec`] chooses by their weights. Those that were tried before are
//!    left out as long as there are others, also of other priorities.

mod balance;
mod balancer;
mod breaker;
mod discover;
mod endpoint;
mod health;
mod open;
mod outlier;
mod pick;
mod plan;
mod report;
mod rng;
mod spec;
mod tend;
mod want;
#[cfg(feature = "settings")]
mod written;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::balance::{AnyBalance, Balance, Candidate, Candidates};
pub use self::balancer::Balancer;
pub use self::endpoint::{Cause, Endpoint, EndpointId, NoEndpointId, Totals};
pub use self::health::{AnyProbe, ConnectProbe, Probe};
pub use self::pick::{Connection, Pending, Pick, Stuck, Verdict};
pub use self::report::{ClusterReport, EndpointReport, Health, LevelReport, SourceReport, Usage};
pub use self::rng::hash_key;
pub use self::spec::{
    Address, Addresses, BalanceSpec, BreakerOptions, ClusterSpec, DnsOptions, EndpointSpec,
    FailoverOptions, HealthCheck, OutlierOptions, RetryBudget, SlowStart, TableOptions,
};
pub use self::tend::Tending;
pub use self::want::Want;

pub use self::open::{Held, open};

use self::breaker::Breaker;
use self::endpoint::Condition;
use self::outlier::Patience;
use self::plan::{Listed, Plan};
use crate::Result;
use crate::target::{HostName, Target};

/// Several endpoints that serve the same, as all workers see them.
pub struct Cluster {
    name: Arc<str>,
    /// That of the plan in force: workers look here for whether theirs is.
    version: AtomicU64,
    patience: Patience,
    breaker: Breaker,
    shared: Mutex<Shared>,
    /// Told whenever the list of endpoints or the settings are others.
    changed: watch::Sender<u64>,
    /// Held by the one who tends it.
    tended: tokio::sync::Mutex<()>,
}

struct Shared {
    spec: Arc<ClusterSpec>,
    /// What DNS has last said of the names in the settings; they are here once they have been asked for.
    found: HashMap<Address, Discovered>,
    /// All endpoints, in the order of their priorities.
    roster: Vec<Listed>,
    plan: Arc<Plan>,
}

/// What DNS has said of a name.
#[derive(Debug, Default)]
struct Discovered {
    /// The last good answer.
    found: Vec<Found>,
    /// Why there was no later one.
    error: Option<String>,
}

/// An endpoint that DNS has named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    target: Target,
    host: HostName,
    /// To be multiplied with the weight in the settings.
    weight: u32,
    /// To be added to the priority in the settings.
    priority: u32,
}

impl Cluster {
    /// A cluster of what `spec` says.
    ///
    /// Endpoints that are named by DNS are there once [`Cluster::tend`] has asked for them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) on side `Local` when the settings contradict each other.
    pub fn new(spec: ClusterSpec) -> Result<Arc<Self>> {
        spec.check()?;
        let now = Instant::now();
        let breaker = Breaker::new(&spec.breaker);
        let spec = Arc::new(spec);
        let mut shared = Shared {
            plan: Arc::new(Plan::new(0, spec.clone(), &[], None, now)),
            spec,
            found: HashMap::new(),
            roster: Vec::new(),
        };
        shared.relist(now);
        shared.replan(now);
        Ok(Arc::new(Self {
            name: shared.spec.name.as_str().into(),
            version: AtomicU64::new(shared.plan.version),
            patience: Patience::new(&shared.spec.outlier),
            breaker,
            shared: Mutex::new(shared),
            changed: watch::Sender::new(0),
            tended: tokio::sync::Mutex::default(),
        }))
    }

    /// What logs, metrics and reports call it. It stays the same when the settings are updated.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A balancer for `worker`, which is counted from 0.
    pub fn balancer(self: &Arc<Self>, worker: usize) -> Balancer {
        Balancer::new(self.clone(), worker)
    }

    /// Goes by `spec` from now on. Endpoints that stay (those at the same target) keep their health and their counts, and
    /// what is under way goes on.
    ///
    /// # Errors
    ///
    /// As [`Cluster::new`]; what was in force stays so.
    pub fn update(&self, spec: ClusterSpec) -> Result<()> {
        spec.check()?;
        self.breaker.update(&spec.breaker);
        self.patience.update(&spec.outlier);
        self.change(|shared, now| {
            let listed: Vec<_> = spec.endpoints.iter().map(|it| &it.address).collect();
            shared.found.retain(|address, _| listed.contains(&address));
            shared.spec = Arc::new(spec);
            for listed in &shared.roster {
                let condition = &listed.endpoint.condition;
                let limit = shared.spec.breaker.max_endpoint_connections;
                condition.connections.set_limit(limit);
                if shared.spec.health.is_none() {
                    condition.set_fails_checks(false);
                    condition.set_unchecked(false);
                }
            }
            shared.relist(now);
        });
        self.changed.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Waits until DNS has been asked once for each name in the settings, whatever it said.
    ///
    /// [`Cluster::tend`] has to run meanwhile. Cancel safe.
    pub async fn ready(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let names = self.names();
            if names
                .iter()
                .all(|name| self.shared().found.contains_key(name))
            {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The settings in force.
    pub fn spec(&self) -> Arc<ClusterSpec> {
        self.shared().spec.clone()
    }

    /// All endpoints, in the order of their priorities.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let shared = self.shared();
        let all = shared.roster.iter();
        all.map(|listed| listed.endpoint.clone()).collect()
    }

    /// The names in the settings that DNS is asked for.
    fn names(&self) -> Vec<Address> {
        let spec = self.spec();
        let all = spec.endpoints.iter().map(|it| &it.address);
        all.filter(|address| !matches!(address, Address::Target(_)))
            .cloned()
            .collect()
    }

    /// Takes over what DNS says of a name in the settings. After an error what was known is kept.
    fn discovered(&self, address: &Address, answer: Result<Vec<Found>>) {
        let mut shared = self.shared();
        if !shared
            .spec
            .endpoints
            .iter()
            .any(|it| it.address == *address)
        {
            return;
        }
        let is_first = !shared.found.contains_key(address);
        let known = shared.found.entry(address.clone()).or_default();
        let mut is_news = is_first;
        match answer {
            Ok(found) => {
                known.error = None;
                is_news |= known.found != found;
                known.found = found;
            }
            Err(error) => known.error = Some(format!("{error:?}")),
        }
        if is_news {
            let now = Instant::now();
            shared.relist(now);
            self.publish(&mut shared, now);
            drop(shared);
            self.changed.send_modify(|version| *version += 1);
        }
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The plan in force.
    fn plan(&self) -> Arc<Plan> {
        self.shared().plan.clone()
    }

    /// The plan in force now, after what time has changed.
    fn refresh(&self) -> Arc<Plan> {
        let mut shared = self.shared();
        let now = Instant::now();
        // Another worker may have seen to it.
        if shared.plan.due.is_some_and(|due| due <= now) {
            self.publish(&mut shared, now);
        }
        shared.plan.clone()
    }

    /// Does something to the endpoints, and has all workers know.
    fn change<T>(&self, with: impl FnOnce(&mut Shared, Instant) -> T) -> T {
        let mut shared = self.shared();
        let now = Instant::now();
        let result = with(&mut shared, now);
        self.publish(&mut shared, now);
        result
    }

    fn publish(&self, shared: &mut Shared, now: Instant) {
        shared.replan(now);
        self.version.store(shared.plan.version, Ordering::Release);
    }

    /// Code that holds the lock does not panic half-way, so a poisoned one is as good as any.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Lists the endpoints anew, from the settings and DNS.
    fn relist(&mut self, now: Instant) {
        let mut old: HashMap<_, _> = self
            .roster
            .drain(..)
            .map(|listed| (listed.endpoint.target().clone(), listed.endpoint))
            .collect();
        let is_first = old.is_empty();
        let mut roster: Vec<Listed> = Vec::with_capacity(old.len());
        let mut seen = std::collections::HashSet::new();
        for spec in &self.spec.endpoints {
            let found = match &spec.address {
                Address::Target(target) => vec![(target.clone(), None, 1, 0)],
                address => self
                    .found
                    .get(address)
                    .into_iter()
                    .flat_map(|known| &known.found)
                    .map(|it| {
                        (
                            it.target.clone(),
                            Some(it.host.clone()),
                            it.weight,
                            it.priority,
                        )
                    })
                    .collect(),
            };
            for (target, host, weight, priority) in found {
                // Two names may lead to the same place; the one that is listed first counts.
                if !seen.insert(target.clone()) {
                    continue;
                }
                let endpoint = match old.remove(&target) {
                    Some(same) if same.is(&target, host.as_ref(), &spec.labels) => same,
                    Some(other) => Arc::new(Endpoint::new(
                        target,
                        host,
                        spec.labels.clone(),
                        other.condition.clone(),
                    )),
                    None => Arc::new(Endpoint::new(
                        target,
                        host,
                        spec.labels.clone(),
                        self.newcomer(is_first, now),
                    )),
                };
                roster.push(Listed {
                    endpoint,
                    weight: spec.weight.saturating_mul(weight),
                    priority: spec.priority.saturating_add(priority),
                });
            }
        }
        roster.sort_by_key(|listed| listed.priority);
        self.roster = roster;
    }

    /// The condition of an endpoint that joins.
    fn newcomer(&self, is_first: bool, now: Instant) -> Arc<Condition> {
        let condition = Condition::new(self.spec.breaker.max_endpoint_connections);
        let checks = self.spec.health.as_ref();
        condition.set_unchecked(checks.is_some_and(|checks| !checks.assume_healthy));
        // Where all are new, there is nobody else to carry the rest.
        if !is_first && !self.spec.slow_start.window.is_zero() {
            condition.course().ramp = Some(now);
        }
        Arc::new(condition)
    }

    /// Makes a new plan, after ending what is over.
    fn replan(&mut self, now: Instant) {
        for listed in &self.roster {
            outlier::end_ejection(&listed.endpoint.condition, &self.spec, now);
        }
        let version = self.plan.version + 1;
        let plan = Plan::new(
            version,
            self.spec.clone(),
            &self.roster,
            Some(&self.plan),
            now,
        );
        self.plan = Arc::new(plan);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.name)
    }
}

#[cfg(test)]
mod tests;
