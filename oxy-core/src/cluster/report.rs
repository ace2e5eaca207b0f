//! What can be told of a cluster: [`ClusterReport`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Cluster;
use super::breaker::Gauge;
use super::endpoint::{Cause, EndpointId, Totals};
use super::plan::{Level, Member};
use super::spec::Address;
use crate::target::{HostName, Target};

/// How a cluster is at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterReport {
    /// Its name.
    pub name: Arc<str>,
    /// Its endpoints, in the order of their priorities.
    pub endpoints: Vec<EndpointReport>,
    /// Its priorities, in their order.
    pub levels: Vec<LevelReport>,
    /// The names that DNS is asked for.
    pub sources: Vec<SourceReport>,
    /// Connections, where they are limited.
    pub connections: Option<Usage>,
    /// Requests that wait for a connection, where they are limited.
    pub pending: Option<Usage>,
    /// Requests under way, where they are limited.
    pub requests: Option<Usage>,
    /// Retries under way, where they are limited.
    pub retries: Option<Usage>,
}

/// How an endpoint is at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointReport {
    /// What it goes by in sticky sessions.
    pub id: EndpointId,
    /// Where it is.
    pub target: Target,
    /// The name that it was found by.
    pub host: Option<HostName>,
    /// What its settings say of it.
    pub labels: BTreeMap<String, String>,
    /// Its priority.
    pub priority: u32,
    /// Its weight.
    pub weight: u32,
    /// The percentage of its weight that it has now: 0 when it is not used, less than 100 in a slow start.
    pub weight_percent: u32,
    /// What its health checks say.
    pub health: Health,
    /// Why its last health check failed, if it did.
    pub why: Option<String>,
    /// For how long it is still ejected, and why.
    pub ejected: Option<(Duration, Cause)>,
    /// How many of its ejections count for the length of the next one.
    pub ejections: u32,
    /// What was sent to it.
    pub totals: Totals,
}

/// What an endpoint's health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// There was none yet.
    Unchecked,
    /// They succeed.
    Healthy,
    /// They fail.
    Unhealthy,
}

/// What DNS said of a name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceReport {
    /// The name, as it is in the settings.
    pub address: Address,
    /// How many endpoints it stands for. `None` when it has not been asked for yet.
    pub endpoints: Option<usize>,
    /// Why it could not be resolved the last time, if so. Its endpoints are those of the time before.
    pub error: Option<String>,
}

/// How a priority is at a moment.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LevelReport {
    /// The priority; 0 is used first.
    pub priority: u32,
    /// Its share of the work in percent, rounded down.
    pub share_percent: u32,
    /// Whether its endpoints' health is not regarded.
    pub panic: bool,
}

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// So many are.
    pub used: u32,
    /// So many may be.
    pub limit: u32,
}

impl Usage {
    fn of(gauge: &Gauge) -> Option<Self> {
        let (used, limit) = gauge.usage()?;
        Some(Self { used, limit })
    }
}

impl Cluster {
    /// How it is now. Takes no lock that a pick takes, but for the moment in which plans are exchanged.
    pub fn report(&self) -> ClusterReport {
        let plan = self.refresh();
        let now = Instant::now();
        let levels = || plan.levels.iter();
        let endpoints = levels().flat_map(|level| {
            let members = &plan.members[level.members.clone()];
            members.iter().map(|member| describe(member, level, now))
        });
        ClusterReport {
            name: self.name().clone(),
            endpoints: endpoints.collect(),
            levels: levels()
                .map(|level| LevelReport {
                    priority: level.priority,
                    share_percent: plan.percent(level),
                    panic: level.panic,
                })
                .collect(),
            sources: self.sources(),
            connections: Usage::of(&self.breaker.connections),
            pending: Usage::of(&self.breaker.pending),
            requests: Usage::of(&self.breaker.requests),
            retries: Usage::of(&self.breaker.retries),
        }
    }
}

impl Cluster {
    fn sources(&self) -> Vec<SourceReport> {
        let names = self.names();
        let shared = self.shared();
        let about = |address: Address| {
            let known = shared.found.get(&address);
            SourceReport {
                endpoints: known.map(|known| known.found.len()),
                error: known.and_then(|known| known.error.clone()),
                address,
            }
        };
        names.into_iter().map(about).collect()
    }
}

fn describe(member: &Member, level: &Level, now: Instant) -> EndpointReport {
    let endpoint = &member.endpoint;
    let condition = &endpoint.condition;
    let totals = condition.totals();
    let course = condition.course();
    let health = if condition.fails_checks() {
        Health::Unhealthy
    } else if course.checked.once {
        Health::Healthy
    } else {
        Health::Unchecked
    };
    EndpointReport {
        id: endpoint.id(),
        target: endpoint.target().clone(),
        host: endpoint.host().cloned(),
        labels: endpoint.labels().clone(),
        priority: level.priority,
        weight: member.weight,
        weight_percent: if member.usable { member.ramp } else { 0 },
        health,
        why: course.checked.error.clone(),
        ejected: course
            .ejected_until
            .map(|until| until.saturating_duration_since(now))
            .zip(course.last_ejected_by),
        ejections: course.ejections,
        totals,
    }
}
