//! What may be under way at once.

use super::*;
use crate::{ErrorKind, Retry, Side};

fn limited(breaker: BreakerOptions) -> Arc<Cluster> {
    let mut spec = spec(2);
    spec.breaker = breaker;
    Cluster::new(spec).unwrap()
}

#[test]
fn requests_are_limited_over_all_workers() {
    let cluster = limited(BreakerOptions {
        max_requests: Some(3),
        ..BreakerOptions::default()
    });
    let balancers = [cluster.balancer(0), cluster.balancer(1)];
    let held: Vec<_> = (0..3)
        .map(|n| balancers[n % 2].pick(&Want::default()).unwrap())
        .collect();
    for balancer in &balancers {
        let error = balancer.pick(&Want::default()).unwrap_err();
        assert_eq!(
            (error.kind(), error.side(), error.retryable()),
            (ErrorKind::Overloaded, Side::Local, Retry::Safe)
        );
    }
    let usage = cluster.report().requests.unwrap();
    assert_eq!((usage.used, usage.limit), (3, 3));
    drop(held);
    balancers[0].pick(&Want::default()).unwrap();
    assert_eq!(cluster.report().requests.unwrap().used, 0);
}

#[test]
fn a_limit_that_is_lifted_and_set_again_does_not_lose_count() {
    let mut with = spec(1);
    with.breaker.max_requests = Some(1);
    let cluster = Cluster::new(with.clone()).unwrap();
    let balancer = cluster.balancer(0);
    let counted = balancer.pick(&Want::default()).unwrap();
    cluster.update(spec(1)).unwrap();
    let uncounted = balancer.pick(&Want::default()).unwrap();
    cluster.update(with).unwrap();
    drop(uncounted);
    balancer.pick(&Want::default()).unwrap_err();
    drop(counted);
    let _one = balancer.pick(&Want::default()).unwrap();
    balancer.pick(&Want::default()).unwrap_err();
}

#[test]
fn connections_are_limited_and_counted() {
    let cluster = limited(BreakerOptions {
        max_connections: Some(3),
        max_endpoint_connections: Some(2),
        ..BreakerOptions::default()
    });
    let balancer = cluster.balancer(0);
    let pick = balancer.pick(&Want::default()).unwrap();
    let held = [pick.connection().unwrap(), pick.connection().unwrap()];
    pick.connection().unwrap_err();
    assert_eq!(held[0].endpoint().id(), pick.id());
    // What an endpoint refused does not count for the cluster.
    assert_eq!(cluster.report().connections.unwrap().used, 2);
    let other = balancer.pick(&Want::default().retry(&[pick.id()])).unwrap();
    let third = other.connection().unwrap();
    other.connection().unwrap_err();
    assert_eq!(report(&cluster, number(&pick)).totals.connections, 2);
    drop((held, third));
    assert_eq!(report(&cluster, number(&pick)).totals.connections, 0);
    assert_eq!(cluster.report().connections.unwrap().used, 0);
    pick.connection().unwrap();
}

#[test]
fn connections_are_counted_without_a_limit() {
    let cluster = Cluster::new(spec(1)).unwrap();
    let pick = cluster.balancer(0).pick(&Want::default()).unwrap();
    let _held = pick.connection().unwrap();
    assert_eq!(report(&cluster, 1).totals.connections, 1);
    assert_eq!(cluster.report().connections, None);
}

#[test]
fn connections_that_are_kept_with_their_endpoint_close_when_it_leaves() {
    let mut both = spec(2);
    both.breaker.max_connections = Some(10);
    let cluster = Cluster::new(both.clone()).unwrap();
    let balancer = cluster.balancer(0);
    for _ in 0..2 {
        let pick = balancer.pick(&Want::default()).unwrap();
        let pool = pick.kept(|_| Mutex::new(Vec::new())).unwrap();
        pool.lock().unwrap().push(pick.connection().unwrap());
    }
    assert_eq!(cluster.report().connections.unwrap().used, 2);
    both.endpoints.pop();
    cluster.update(both).unwrap();
    let pick = balancer.pick(&Want::default()).unwrap();
    assert_eq!(cluster.report().connections.unwrap().used, 1);
    drop((pick, balancer));
    assert_eq!(cluster.report().connections.unwrap().used, 0);
    assert_eq!(report(&cluster, 1).totals.connections, 0);
    assert_eq!(Arc::strong_count(&cluster), 1);
}

#[test]
fn waiting_requests_are_limited() {
    let cluster = limited(BreakerOptions {
        max_pending: Some(1),
        ..BreakerOptions::default()
    });
    let balancer = cluster.balancer(0);
    let held = balancer.pending().unwrap();
    balancer.pending().unwrap_err();
    assert_eq!(cluster.report().pending.unwrap().used, 1);
    drop(held);
    balancer.pending().unwrap();
}

#[test]
fn retries_are_limited() {
    let cluster = limited(BreakerOptions {
        max_retries: Some(1),
        max_requests: Some(10),
        ..BreakerOptions::default()
    });
    let balancer = cluster.balancer(0);
    let again = Want::default().retry(&[]);
    let held = balancer.pick(&again).unwrap();
    balancer.pick(&again).unwrap_err();
    // What was refused holds no place of any kind.
    assert_eq!(cluster.report().requests.unwrap().used, 1);
    balancer.pick(&Want::default()).unwrap();
    drop(held);
    // One that goes well makes room while it is still under way.
    let mut long = balancer.pick(&again).unwrap();
    balancer.pick(&again).unwrap_err();
    long.note(Verdict::Success, None);
    assert_eq!(cluster.report().retries.unwrap().used, 0);
    balancer.pick(&again).unwrap();
    assert_eq!(cluster.report().requests.unwrap().used, 1);
}

#[test]
fn retries_are_a_part_of_what_is_under_way() {
    let mut spec = spec(2);
    spec.retry_budget = RetryBudget {
        percent: 20,
        min_concurrency: 1,
    };
    spec.breaker.max_retries = Some(100);
    let cluster = Cluster::new(spec).unwrap();
    let balancer = cluster.balancer(0);
    let again = Want::default().retry(&[]);
    let mut held = vec![balancer.pick(&again).unwrap()];
    balancer.pick(&again).unwrap_err();
    assert_eq!(cluster.report().retries.unwrap().used, 1);
    for _ in 0..99 {
        held.push(balancer.pick(&Want::default()).unwrap());
    }
    let allowed = std::iter::repeat_with(|| balancer.pick(&again))
        .take_while(Result::is_ok)
        .map(|pick| held.push(pick.unwrap()))
        .count();
    // 20 percent of the 100 that were, and of the retries themselves.
    assert_eq!(allowed, 23);
    drop(held);
    balancer.pick(&again).unwrap();
}
