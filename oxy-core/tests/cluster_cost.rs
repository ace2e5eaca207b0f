//! What a pick costs: nothing that can be counted.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use allocation_counter::measure;
use oxy_core::Target;
use oxy_core::cluster::{BalanceSpec, Cluster, ClusterSpec, EndpointSpec, Verdict, Want};

#[test]
fn a_pick_allocates_nothing() {
    for balance in [
        BalanceSpec::RoundRobin,
        BalanceSpec::LeastRequest,
        BalanceSpec::Random,
        BalanceSpec::Maglev,
        BalanceSpec::RingHash,
    ] {
        let endpoints = (1..=20_u8).map(|n| {
            let endpoint = EndpointSpec::new(Target::tcp([10, 0, 0, n], 80));
            endpoint
                .weight(1 + u32::from(n % 3))
                .priority(u32::from(n > 15))
        });
        let mut spec = ClusterSpec::new("test", endpoints);
        spec.balance = balance.clone();
        spec.breaker.max_requests = Some(100);
        let cluster = Cluster::new(spec).unwrap();
        let balancer = cluster.balancer(0);
        let sticky = cluster.endpoints()[3].id();
        let go = || {
            for key in 0..1000 {
                let pick = balancer.pick(&Want::default().key(key)).unwrap();
                let connection = pick.connection().unwrap();
                let tried = [pick.id()];
                let other = balancer.pick(&Want::default().retry(&tried)).unwrap();
                other.finish(Verdict::Success, Some(Duration::from_millis(1)));
                drop(connection);
                pick.finish(Verdict::Success, Some(Duration::from_millis(1)));
                drop(balancer.pick(&Want::default().sticky(sticky)).unwrap());
            }
        };
        // What is kept for turns that are skipped is made by the first that is.
        go();
        assert_eq!(measure(go).count_total, 0, "{balance:?}");
    }
}
