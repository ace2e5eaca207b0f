//! A day in the life of a cluster: an endpoint breaks in each of the ways there are, and comes back.

use std::time::Duration;

use tokio::time::advance;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Breaks {
    Refuses,
    Stalls,
    Answers503,
}

#[tokio::test(start_paused = true)]
async fn one_of_three_breaks_and_comes_back() {
    for how in [Breaks::Refuses, Breaks::Stalls, Breaks::Answers503] {
        for balance in [
            BalanceSpec::RoundRobin,
            BalanceSpec::LeastRequest,
            BalanceSpec::Random,
            BalanceSpec::Maglev,
        ] {
            break_one(how, balance).await;
        }
    }
}

async fn break_one(how: Breaks, balance: BalanceSpec) {
    let mut spec = spec(3);
    // What a key belongs to does not change bit by bit.
    let is_slow = balance != BalanceSpec::Maglev;
    spec.balance = balance;
    spec.slow_start.window = Duration::from_secs(20);
    let cluster = Cluster::new(spec).unwrap();
    let workers = [0, 1].map(|worker| {
        let rng = rng::Rng::seeded(worker as u64);
        Balancer::with_rng(cluster.clone(), worker, rng)
    });
    let mut stalled = Vec::new();
    let mut had = BTreeMap::new();
    let (mut failed, mut returned, mut share) = (0, 0, Vec::new());
    // 20 requests a second for 80 seconds; endpoint 2 is broken in the first ten.
    for n in 0..1600_usize {
        let is_broken = n < 200;
        let want = Want::default().key(n as u64);
        let pick = workers[n % 2].pick(&want).unwrap();
        let at = number(&pick);
        *had.entry(at).or_insert(0) += 1;
        match (at == 2 && is_broken, how) {
            (false, _) => pick.finish(Verdict::Success, Some(Duration::from_millis(1))),
            (true, Breaks::Refuses) => {
                pick.finish(Verdict::Failure, None);
                failed += 1;
            }
            (true, Breaks::Answers503) => {
                pick.finish(Verdict::Gateway(503), None);
                failed += 1;
            }
            // It is found out a second later.
            (true, Breaks::Stalls) => stalled.push((n + 20, pick)),
        }
        while stalled.first().is_some_and(|(until, _)| *until <= n) {
            stalled.remove(0).1.finish(Verdict::Failure, None);
            failed += 1;
        }
        if n >= 200 && at == 2 {
            returned += 1;
        }
        if (n + 1) % 200 == 0 {
            share.push(had.remove(&2).unwrap_or(0));
            had.clear();
        }
        advance(Duration::from_millis(50)).await;
    }
    // Five in a row are the last; in a stall those of the second in which it was not known as well.
    let most = if matches!(how, Breaks::Stalls) { 20 } else { 5 };
    assert!((5..=most).contains(&failed), "{how:?}: {failed}");
    assert!(returned > 0);
    // Ejected for 30 s from somewhere in the first ten seconds, then in slow start, then as before.
    assert_eq!(share[1..3], [0, 0], "{how:?} {share:?}");
    if is_slow {
        assert!((1..45).contains(&share[3]), "{how:?} {share:?}");
        assert!(share[3] < share[4], "{how:?} {share:?}");
    }
    assert!((50..85).contains(&share[7]), "{how:?} {share:?}");
    let report = report(&cluster, 2);
    assert_eq!((report.ejected, report.weight_percent), (None, 100));
    assert!(
        cluster
            .report()
            .endpoints
            .iter()
            .all(|it| it.totals.in_flight == 0)
    );
}
