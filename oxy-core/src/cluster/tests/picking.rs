//! Who is picked, and how often.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

#[test]
fn turns_go_round_by_weight() {
    let cluster = Cluster::new(ClusterSpec::new(
        "test",
        [
            EndpointSpec::new(target(1)).weight(5),
            EndpointSpec::new(target(2)),
            EndpointSpec::new(target(3)).weight(0),
        ],
    ))
    .unwrap();
    assert_eq!(
        count(&balancer(&cluster), 600),
        BTreeMap::from([(1, 500), (2, 100)])
    );
}

#[test]
fn the_less_busy_of_two_is_picked() {
    let mut spec = spec(2);
    spec.balance = BalanceSpec::LeastRequest;
    let balancer = balancer(&Cluster::new(spec).unwrap());
    let held: Vec<_> = (0..100)
        .map(|_| balancer.pick(&Want::default()).unwrap())
        .collect();
    let ones = held.iter().filter(|pick| number(pick) == 1).count();
    assert_eq!(ones, 50);
    let (ones, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|pick| number(pick) == 1);
    drop(ones);
    // Fifty places are free at the first.
    let more: Vec<_> = (0..50)
        .map(|_| balancer.pick(&Want::default()).unwrap())
        .collect();
    assert!(more.iter().all(|pick| number(pick) == 1));
    drop(others);
}

#[test]
fn two_choices_keep_loads_together_and_weights_count() {
    let mut spec = spec(10);
    spec.balance = BalanceSpec::LeastRequest;
    spec.endpoints[9].weight = 3;
    let cluster = Cluster::new(spec).unwrap();
    let balancer = balancer(&cluster);
    let _held: Vec<_> = (0..1200)
        .map(|_| balancer.pick(&Want::default()).unwrap())
        .collect();
    for n in 1..=9 {
        let load = report(&cluster, n).totals.in_flight;
        assert!((95..=105).contains(&load), "{n}: {load}");
    }
    let load = report(&cluster, 10).totals.in_flight;
    assert!((288..=312).contains(&load), "{load}");
}

#[test]
fn chance_follows_weights() {
    for balance in [
        BalanceSpec::Random,
        BalanceSpec::LeastRequest,
        // Without a key.
        BalanceSpec::Maglev,
        BalanceSpec::RingHash,
    ] {
        let mut spec = spec(4);
        spec.balance = balance;
        spec.endpoints[3].weight = 3;
        let had = count(&balancer(&Cluster::new(spec).unwrap()), 60_000);
        for n in 1..=3 {
            assert!((9_600..10_400).contains(&had[&n]), "{had:?}");
        }
    }
}

/// Which endpoint each of many keys goes to.
fn owners(balancer: &Balancer) -> Vec<u8> {
    (0..20_000_u64)
        .map(|key| number(&balancer.pick(&Want::default().key(key)).unwrap()))
        .collect()
}

#[test]
fn a_key_stays_where_it_is() {
    for balance in [BalanceSpec::Maglev, BalanceSpec::RingHash] {
        let mut spec = spec(10);
        spec.balance = balance.clone();
        let cluster = Cluster::new(spec.clone()).unwrap();
        let balancer = cluster.balancer(0);
        let before = owners(&balancer);
        // Another worker and another process agree.
        assert_eq!(owners(&cluster.balancer(1)), before);
        assert_eq!(
            owners(&Cluster::new(spec.clone()).unwrap().balancer(0)),
            before
        );
        // While one is ill, only its own keys go elsewhere: to all others, and they come back.
        set_ill(&cluster, 4, true);
        let meanwhile = owners(&balancer);
        let mut heirs = BTreeMap::new();
        for (was, is) in before.iter().zip(&meanwhile) {
            if *was == 4 {
                *heirs.entry(*is).or_insert(0) += 1;
            } else {
                assert_eq!(was, is);
            }
        }
        assert_eq!(heirs.len(), 9, "{heirs:?}");
        set_ill(&cluster, 4, false);
        assert_eq!(owners(&balancer), before);
        // One that leaves for good takes few others' keys along.
        spec.endpoints.remove(3);
        cluster.update(spec).unwrap();
        let after = owners(&balancer);
        let moved = before.iter().zip(&after).filter(|(was, is)| was != is);
        let disrupted = moved.filter(|(was, _)| **was != 4).count();
        let most = if balance == BalanceSpec::Maglev {
            600
        } else {
            0
        };
        assert!(disrupted <= most, "{balance:?}: {disrupted}");
    }
}

#[test]
fn a_key_finds_the_last_one_standing() {
    for balance in [BalanceSpec::Maglev, BalanceSpec::RingHash] {
        let mut spec = spec(100);
        spec.balance = balance;
        spec.failover.panic_percent = 0;
        let cluster = Cluster::new(spec).unwrap();
        cluster.change(|shared, _| {
            for n in 1..100 {
                condition(shared, n).set_fails_checks(true);
            }
        });
        let balancer = cluster.balancer(0);
        for key in 0..1000 {
            let pick = balancer.pick(&Want::default().key(key)).unwrap();
            assert_eq!(number(&pick), 100);
        }
    }
}

#[test]
fn who_sticks_stays_as_long_as_it_can_be() {
    let mut spec = spec(3);
    // One that is to be emptied: it keeps those that it has.
    spec.endpoints[2].weight = 0;
    let cluster = Cluster::new(spec.clone()).unwrap();
    let balancer = cluster.balancer(0);
    let want = |n| Want::default().sticky(EndpointId::of(&target(n)));
    for n in [1, 2, 3] {
        let pick = balancer.pick(&want(n)).unwrap();
        assert_eq!((number(&pick), pick.stuck()), (n, Stuck::Kept));
        assert_eq!(pick.id(), EndpointId::of(&target(n)));
    }
    set_ill(&cluster, 2, true);
    set_ill(&cluster, 3, true);
    for n in [2, 3, 200] {
        let pick = balancer.pick(&want(n)).unwrap();
        assert_eq!((number(&pick), pick.stuck()), (1, Stuck::Lost));
    }
    let tried = [EndpointId::of(&target(1))];
    set_ill(&cluster, 2, false);
    let pick = balancer.pick(&want(1).retry(&tried)).unwrap();
    assert_eq!((number(&pick), pick.stuck()), (2, Stuck::Lost));
    let pick = balancer.pick(&Want::default()).unwrap();
    assert_eq!(pick.stuck(), Stuck::Free);
}

#[test]
fn what_was_tried_is_avoided_as_long_as_there_is_another() {
    let custom = AnyBalance::new(|_| |_: &Candidates<'_>, _: &Want<'_>| Some(0));
    for balance in [
        BalanceSpec::RoundRobin,
        BalanceSpec::LeastRequest,
        BalanceSpec::Random,
        BalanceSpec::Maglev,
        BalanceSpec::RingHash,
        BalanceSpec::Custom(custom),
    ] {
        let mut spec = spec(4);
        spec.balance = balance;
        spec.endpoints[3].priority = 1;
        let balancer = Cluster::new(spec).unwrap().balancer(0);
        for key in 0..100 {
            let mut tried = Vec::new();
            for _ in 0..4 {
                let want = Want::default().key(key).retry(&tried);
                let pick = balancer.pick(&want).unwrap();
                assert!(!tried.contains(&pick.id()));
                tried.push(pick.id());
            }
            // The other priority comes last, and when all have been tried, it begins again.
            assert_eq!(tried[3], EndpointId::of(&target(4)));
            let pick = balancer.pick(&Want::default().retry(&tried)).unwrap();
            assert_ne!(number(&pick), 4);
        }
    }
}

#[test]
fn a_program_may_choose_itself() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let custom = AnyBalance::new(|worker| {
        MADE.fetch_add(1, Relaxed);
        let mut turn = worker;
        move |candidates: &Candidates<'_>, want: &Want<'_>| {
            assert_eq!(candidates.iter().count(), candidates.len());
            assert!(!candidates.is_empty());
            if want.key == Some(7) {
                return None;
            }
            if want.key == Some(8) {
                return Some(candidates.len());
            }
            turn += 1;
            let mut all = candidates.iter();
            // The idle one with the label, if there is one.
            let marked = all.position(|it| {
                it.endpoint().labels().contains_key("mark")
                    && it.in_flight() == 0
                    && it.weight() == 100
                    && it.latency().is_none()
            });
            marked.or(Some(turn % candidates.len()))
        }
    });
    let mut spec = spec(3);
    spec.balance = BalanceSpec::Custom(custom);
    spec.endpoints[1] = EndpointSpec::new(target(2)).label("mark", "");
    let cluster = Cluster::new(spec.clone()).unwrap();
    let balancer = cluster.balancer(1);
    let held = balancer.pick(&Want::default()).unwrap();
    assert_eq!(number(&held), 2);
    assert_eq!(number(&balancer.pick(&Want::default()).unwrap()), 1);
    assert_eq!(number(&balancer.pick(&Want::default()).unwrap()), 2);
    for key in [7, 8] {
        let error = balancer.pick(&Want::default().key(key)).unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (crate::ErrorKind::Overloaded, 503)
        );
    }
    // It stays the same one through updates that do not change it.
    spec.endpoints.pop();
    cluster.update(spec).unwrap();
    balancer.pick(&Want::default()).unwrap();
    assert_eq!(MADE.load(Relaxed), 1);
}

#[test]
fn a_cluster_of_nobody_refuses() {
    let cluster = Cluster::new(ClusterSpec::default()).unwrap();
    let error = cluster.balancer(0).pick(&Want::default()).unwrap_err();
    assert_eq!(
        (
            error.kind(),
            error.side(),
            error.retryable(),
            error.status()
        ),
        (
            crate::ErrorKind::Overloaded,
            crate::Side::Up,
            crate::Retry::Safe,
            503
        )
    );
    let mut idle = spec(1);
    idle.endpoints[0].weight = 0;
    cluster.update(idle).unwrap();
    cluster.balancer(0).pick(&Want::default()).unwrap_err();
}

#[test]
fn an_update_keeps_what_is_known_of_those_that_stay() {
    let mut spec = spec(3);
    spec.health = Some(HealthCheck::default());
    let cluster = Cluster::new(spec.clone()).unwrap();
    let balancer = cluster.balancer(0);
    let held: Vec<_> = (0..3)
        .map(|_| balancer.pick(&Want::default()).unwrap())
        .collect();
    set_ill(&cluster, 1, true);
    spec.endpoints = vec![
        EndpointSpec::new(target(1)).weight(7),
        EndpointSpec::new(target(2)).label("zone", "a"),
        EndpointSpec::new(target(9)),
    ];
    cluster.update(spec.clone()).unwrap();
    assert_eq!(report(&cluster, 1).health, Health::Unhealthy);
    assert_eq!(report(&cluster, 1).weight, 7);
    assert_eq!(report(&cluster, 1).weight_percent, 0);
    for n in [1, 2] {
        assert_eq!(report(&cluster, n).totals.in_flight, 1, "{n}");
        assert_eq!(report(&cluster, n).totals.picked, 1, "{n}");
    }
    assert_eq!(report(&cluster, 9).totals, Totals::default());
    assert_eq!(report(&cluster, 2).labels["zone"], "a");
    let had = count(&balancer, 100);
    assert_eq!(had, BTreeMap::from([(2, 50), (9, 50)]));
    // What goes to one that has left goes on, and is nobody's any more.
    for pick in held {
        pick.finish(Verdict::Failure, None);
    }
    assert_eq!(report(&cluster, 2).totals.in_flight, 0);
    assert_eq!(report(&cluster, 2).totals.failures, 1);
    // A bad update changes nothing.
    spec.endpoints.push(EndpointSpec::new(target(9)));
    cluster.update(spec).unwrap_err();
    assert_eq!(cluster.endpoints().len(), 3);
}

#[test]
fn a_worker_keeps_things_with_its_endpoints() {
    let cluster = Cluster::new(spec(1)).unwrap();
    let made = AtomicUsize::new(0);
    for worker in 0..2 {
        let balancer = cluster.balancer(worker);
        for _ in 0..3 {
            let pick = balancer.pick(&Want::default()).unwrap();
            let kept = pick.kept(|endpoint| {
                made.fetch_add(1, Relaxed);
                endpoint.target().to_string()
            });
            assert_eq!(kept.unwrap(), "10.0.0.1:80");
            assert_eq!(pick.kept(|_| 7_u8), None);
            set_ill(&cluster, 1, false);
        }
    }
    assert_eq!(made.load(Relaxed), 2);
}

#[test]
fn many_threads_pick_while_the_set_changes() {
    let cluster = Cluster::new(spec(8)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let picked = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    let balancer = cluster.balancer(worker);
                    let mut picked = 0;
                    while !stop.load(Relaxed) {
                        let one = balancer.pick(&Want::default()).unwrap();
                        let tried = [one.id()];
                        let two = balancer.pick(&Want::default().retry(&tried)).unwrap();
                        assert_ne!(one.id(), two.id());
                        one.finish(Verdict::Success, None);
                        two.finish(
                            if picked % 7 == 0 {
                                Verdict::Failure
                            } else {
                                Verdict::Success
                            },
                            None,
                        );
                        picked += 2;
                    }
                    picked
                })
            })
            .collect();
        for n in 0..200_u8 {
            let mut spec = spec(4 + n % 5);
            spec.balance = [
                BalanceSpec::RoundRobin,
                BalanceSpec::LeastRequest,
                BalanceSpec::Random,
            ][usize::from(n % 3)]
            .clone();
            cluster.update(spec).unwrap();
            set_ill(&cluster, 1 + n % 4, n % 2 == 0);
            std::thread::yield_now();
        }
        stop.store(true, Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum::<u64>()
    });
    assert!(picked > 0);
    let totals = cluster.report().endpoints.into_iter().map(|it| it.totals);
    // Nothing is left under way, at those that have stayed all the time no pick is lost.
    assert!(totals.clone().all(|totals| totals.in_flight == 0));
    for totals in totals.take(4) {
        assert_eq!(totals.picked, totals.successes + totals.failures);
    }
}
