//! Passive health, and slow start.

use std::time::Duration;

use tokio::time::advance;

use super::*;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Has endpoint 1 fail until it is ejected, and says for how long.
fn eject(cluster: &Cluster, balancer: &Balancer) -> Duration {
    for _ in 0..5 {
        finish_one(balancer, 1, Verdict::Failure);
    }
    report(cluster, 1).ejected.unwrap().0
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject() {
    let cluster = Cluster::new(spec(4)).unwrap();
    let balancers = [cluster.balancer(0), cluster.balancer(1)];
    for n in 0..4 {
        // Over all workers.
        finish_one(&balancers[n % 2], 1, Verdict::Failure);
    }
    // Others' success, and what was given up, say nothing.
    finish_one(&balancers[0], 2, Verdict::Success);
    finish_one(&balancers[0], 1, Verdict::Cancelled);
    assert!(cluster.endpoints()[0].is_usable());
    finish_one(&balancers[0], 1, Verdict::Success);
    for _ in 0..4 {
        finish_one(&balancers[1], 1, Verdict::Failure);
    }
    assert!(cluster.endpoints()[0].is_usable());
    finish_one(&balancers[1], 1, Verdict::Failure);
    assert!(!cluster.endpoints()[0].is_usable());
    assert_eq!(
        report(&cluster, 1).ejected,
        Some((secs(30), Cause::Failures))
    );
    for balancer in &balancers {
        assert_eq!(count(balancer, 30).get(&1), None);
    }
    advance(secs(29)).await;
    assert_eq!(count(&balancers[0], 30).get(&1), None);
    // It is back by itself, and forgiven.
    advance(secs(1)).await;
    assert_eq!(count(&balancers[0], 40)[&1], 10);
    for _ in 0..4 {
        finish_one(&balancers[1], 1, Verdict::Failure);
    }
    assert!(cluster.endpoints()[0].is_usable());
}

#[tokio::test(start_paused = true)]
async fn bad_answers_are_counted_apart() {
    let mut spec = spec(4);
    spec.outlier.consecutive_gateway = 3;
    let cluster = Cluster::new(spec).unwrap();
    let balancer = cluster.balancer(0);
    // That it has not answered does not make the bad answers good, and a bad answer is one.
    for _ in 0..2 {
        finish_one(&balancer, 1, Verdict::Gateway(503));
        for _ in 0..4 {
            finish_one(&balancer, 1, Verdict::Failure);
        }
    }
    assert!(cluster.endpoints()[0].is_usable());
    finish_one(&balancer, 1, Verdict::Gateway(502));
    assert_eq!(report(&cluster, 1).ejected.unwrap().1, Cause::Gateway);
    let totals = report(&cluster, 1).totals;
    assert_eq!((totals.failures, totals.gateways), (8, 3));
}

#[tokio::test(start_paused = true)]
async fn ejections_grow_are_bounded_and_forgotten() {
    let mut spec = spec(4);
    spec.outlier.max_ejection = secs(100);
    let cluster = Cluster::new(spec).unwrap();
    let balancer = cluster.balancer(0);
    for expected in [30, 60, 90, 100, 100] {
        let time = eject(&cluster, &balancer);
        assert_eq!(time, secs(expected));
        advance(time).await;
        assert_eq!(report(&cluster, 1).ejected, None);
    }
    // Three intervals without one: three are forgotten of the five.
    advance(secs(30)).await;
    assert_eq!(eject(&cluster, &balancer), secs(90));
    advance(secs(90 + 1000)).await;
    assert_eq!(eject(&cluster, &balancer), secs(30));
}

#[tokio::test(start_paused = true)]
async fn not_too_many_are_ejected() {
    for (all, percent, most) in [(4, 50, 2), (4, 10, 1), (1, 100, 0), (4, 100, 4), (4, 0, 0)] {
        let mut spec = spec(all);
        spec.outlier.max_ejected_percent = percent;
        let cluster = Cluster::new(spec).unwrap();
        let balancer = cluster.balancer(0);
        for _ in 0..200 {
            let pick = balancer.pick(&Want::default()).unwrap();
            pick.finish(Verdict::Failure, None);
        }
        let reports = cluster.report().endpoints;
        let ejected = reports.iter().filter(|it| it.ejected.is_some()).count();
        assert_eq!(ejected, most, "{all} {percent}");
    }
}

#[tokio::test(start_paused = true)]
async fn counting_can_be_switched_off() {
    let mut spec = spec(2);
    spec.outlier.consecutive_failures = 0;
    spec.outlier.consecutive_gateway = 0;
    let cluster = Cluster::new(spec).unwrap();
    let balancer = cluster.balancer(0);
    for n in 0..100 {
        let verdict = [Verdict::Failure, Verdict::Gateway(500)][n % 2];
        finish_one(&balancer, 1, verdict);
    }
    assert!(cluster.endpoints()[0].is_usable());
}

/// Sends `count` requests to each of the endpoints, of which so many hundredths fail, never many in a row.
fn load(balancer: &Balancer, count: usize, failing: &[usize]) {
    for (n, percent) in (1..).zip(failing) {
        let mut debt = 0;
        for _ in 0..count {
            debt += percent;
            let verdict = if debt >= 100 {
                debt -= 100;
                Verdict::Failure
            } else {
                Verdict::Success
            };
            finish_one(balancer, n, verdict);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rates_of_an_interval_eject() {
    let mut spec = spec(5);
    spec.outlier.consecutive_failures = 0;
    spec.outlier.failure_percent = 60;
    spec.outlier.max_ejected_percent = 100;
    let cluster = Cluster::new(spec).unwrap();
    let balancer = cluster.balancer(0);
    // Too few requests to say.
    load(&balancer, 49, &[100, 0, 0, 0, 0]);
    cluster.sweep_outliers();
    assert!(cluster.endpoints()[0].is_usable());
    // What was before the interval does not count.
    load(&balancer, 50, &[59, 60, 0, 0, 0]);
    cluster.sweep_outliers();
    assert_eq!(report(&cluster, 1).ejected, None);
    assert_eq!(
        report(&cluster, 2).ejected,
        Some((secs(30), Cause::FailureRate))
    );
    // Too few endpoints with a rate.
    load(&balancer, 50, &[90]);
    cluster.sweep_outliers();
    assert_eq!(report(&cluster, 1).ejected, None);
}

#[tokio::test(start_paused = true)]
async fn who_is_much_worse_than_the_others_is_ejected() {
    let mut spec = spec(6);
    spec.outlier.consecutive_failures = 0;
    spec.outlier.deviation_thousandths = 1900;
    let cluster = Cluster::new(spec).unwrap();
    let balancer = cluster.balancer(0);
    load(&balancer, 100, &[5, 5, 5, 5, 5, 5]);
    cluster.sweep_outliers();
    assert!(cluster.endpoints().iter().all(|it| it.is_usable()));
    load(&balancer, 100, &[5, 5, 5, 5, 5, 20]);
    cluster.sweep_outliers();
    let usable: Vec<_> = cluster
        .endpoints()
        .iter()
        .map(|it| it.is_usable())
        .collect();
    assert_eq!(usable, [true, true, true, true, true, false]);
    assert_eq!(report(&cluster, 6).ejected.unwrap().1, Cause::Deviation);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_starts_slowly() {
    let mut spec = spec(2);
    spec.slow_start = SlowStart {
        window: secs(100),
        floor_percent: 10,
    };
    let cluster = Cluster::new(spec.clone()).unwrap();
    let balancer = balancer(&cluster);
    // At first all are new, so none is.
    assert_eq!(count(&balancer, 100)[&1], 50);
    eject(&cluster, &balancer);
    advance(secs(30)).await;
    for (percent, wait) in [(10, 5), (10, 20), (25, 25), (50, 49), (99, 1), (100, 0)] {
        assert_eq!(report(&cluster, 1).weight_percent, percent);
        let had = count(&balancer, 100 * (100 + percent as usize));
        assert_eq!(had[&1], 100 * percent as usize);
        advance(secs(wait)).await;
    }
    assert_eq!(report(&cluster, 1).weight_percent, 100);
    // So does who joins.
    spec.endpoints.push(EndpointSpec::new(target(3)));
    cluster.update(spec.clone()).unwrap();
    assert_eq!(report(&cluster, 3).weight_percent, 10);
    advance(secs(60)).await;
    assert_eq!(report(&cluster, 3).weight_percent, 60);
    // And with it switched off nobody does.
    spec.slow_start.window = Duration::ZERO;
    cluster.update(spec).unwrap();
    assert_eq!(report(&cluster, 3).weight_percent, 100);
}
