//! What a cluster does as a whole.

use std::collections::BTreeMap;

use super::*;

mod picking;

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
