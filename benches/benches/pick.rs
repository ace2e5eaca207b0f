//! Picking an endpoint of a cluster, and saying how it went.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot begin has nothing to say"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use oxy_core::Target;
use oxy_core::cluster::{BalanceSpec, Balancer, Cluster, ClusterSpec, EndpointSpec, Verdict, Want};

fn cluster(balance: BalanceSpec, count: u16, weights: u32) -> Arc<Cluster> {
    let endpoints = (0..count).map(|n| {
        let [high, low] = n.to_be_bytes();
        let endpoint = EndpointSpec::new(Target::tcp([10, 0, high, low], 80));
        endpoint.weight(1 + u32::from(n) % weights)
    });
    let mut spec = ClusterSpec::new("bench", endpoints);
    spec.balance = balance;
    Cluster::new(spec).unwrap()
}

fn turn(balancer: &Balancer, key: &mut u64) {
    *key += 1;
    let pick = balancer.pick(&Want::default().key(*key)).unwrap();
    pick.finish(Verdict::Success, None);
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for (name, balance) in [
        ("round_robin", BalanceSpec::RoundRobin),
        ("least_request", BalanceSpec::LeastRequest),
        ("random", BalanceSpec::Random),
        ("maglev", BalanceSpec::Maglev),
        ("ring_hash", BalanceSpec::RingHash),
    ] {
        for (count, weights) in [(3, 1), (3, 3), (1000, 3)] {
            let balancer = cluster(balance.clone(), count, weights).balancer(0);
            let mut key = 0;
            let id = BenchmarkId::new(name, format!("{count} endpoints, weights to {weights}"));
            group.bench_function(id, |b| b.iter(|| turn(&balancer, &mut key)));
        }
    }
    // What another worker does beside it must show no more than what a stranger does.
    let ours = cluster(BalanceSpec::RoundRobin, 3, 1);
    let theirs = cluster(BalanceSpec::RoundRobin, 3, 1);
    for (name, other) in [("stranger", &theirs), ("worker", &ours)] {
        let (stop, other) = (Arc::new(AtomicBool::new(false)), other.clone());
        let beside = std::thread::spawn({
            let stop = stop.clone();
            move || {
                // Made where it is used, as workers do.
                let balancer = other.balancer(1);
                let mut key = 0;
                while !stop.load(Relaxed) {
                    turn(&balancer, &mut key);
                }
            }
        });
        let balancer = ours.balancer(0);
        let mut key = 0;
        group.bench_function(format!("beside a {name}"), |b| {
            b.iter(|| turn(&balancer, &mut key));
        });
        stop.store(true, Relaxed);
        beside.join().unwrap();
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
