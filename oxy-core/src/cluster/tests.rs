//! What a cluster does as a whole.

use std::collections::BTreeMap;

use super::*;

mod ejection;
mod failover;
mod finding;
mod limits;
mod picking;
mod probing;
mod scenario;
#[cfg(feature = "settings")]
mod written;

fn target(n: u8) -> Target {
    Target::tcp([10, 0, 0, n], 80)
}

/// `count` endpoints of the same weight.
fn spec(count: u8) -> ClusterSpec {
    ClusterSpec::new("test", (1..=count).map(target))
}

/// A balancer with chance that is the same each time.
fn balancer(cluster: &Arc<Cluster>) -> Balancer {
    Balancer::with_rng(cluster.clone(), 0, rng::Rng::seeded(11))
}

/// Which endpoint of [`spec`] it is.
fn number(pick: &Pick) -> u8 {
    let addr = pick.target().socket_addr().unwrap();
    match addr.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => unreachable!(),
    }
}

/// How often each endpoint is picked in `count` picks that are over at once.
fn count(balancer: &Balancer, count: usize) -> BTreeMap<u8, usize> {
    let mut had = BTreeMap::new();
    for _ in 0..count {
        let pick = balancer.pick(&Want::default()).unwrap();
        *had.entry(number(&pick)).or_default() += 1;
        pick.finish(Verdict::Success, None);
    }
    had
}

/// Has the health checks of endpoint `n` fail, or succeed again.
fn set_ill(cluster: &Cluster, n: u8, is_ill: bool) {
    cluster.change(|shared, _| condition(shared, n).set_fails_checks(is_ill));
}

fn condition(shared: &Shared, n: u8) -> Arc<Condition> {
    let mut all = shared.roster.iter().map(|listed| &listed.endpoint);
    let found = all.find(|endpoint| *endpoint.target() == target(n));
    found.unwrap().condition.clone()
}

/// What is told of endpoint `n`.
fn report(cluster: &Cluster, n: u8) -> EndpointReport {
    let all = cluster.report().endpoints;
    all.into_iter().find(|it| it.target == target(n)).unwrap()
}

/// Picks until it is endpoint `n`, and has it go so.
fn finish_one(balancer: &Balancer, n: u8, verdict: Verdict) {
    let pick = (0..1000)
        .map(|_| balancer.pick(&Want::default()).unwrap())
        .find(|pick| number(pick) == n);
    pick.unwrap().finish(verdict, None);
}
