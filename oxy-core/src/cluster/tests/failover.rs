//! Shares of the priorities, and panic.

use super::*;

/// Ten endpoints of priority 0 (1 to 10), ten of priority 1 (11 to 20).
fn two_levels() -> Arc<Cluster> {
    let mut spec = spec(20);
    for endpoint in &mut spec.endpoints[10..] {
        endpoint.priority = 5;
    }
    Cluster::new(spec).unwrap()
}

fn set_all_ill(cluster: &Cluster, which: impl IntoIterator<Item = u8>) {
    cluster.change(|shared, _| {
        for n in which {
            condition(shared, n).set_fails_checks(true);
        }
    });
}

fn shares(cluster: &Cluster) -> Vec<(u32, bool)> {
    let levels = cluster.report().levels;
    levels
        .iter()
        .map(|it| (it.share_percent, it.panic))
        .collect()
}

#[test]
fn the_next_priority_takes_what_the_first_cannot_carry() {
    // As in the table of Envoy's documentation, with 1.4.
    for (ill, first) in [
        (0, 100),
        (2, 100),
        (3, 98),
        (5, 70),
        (7, 42),
        (9, 14),
        (10, 0),
    ] {
        let cluster = two_levels();
        set_all_ill(&cluster, 1..=ill);
        assert_eq!(shares(&cluster), [(first, false), (100 - first, false)]);
        let had = count(&balancer(&cluster), 20_000);
        let of_first: usize = had.range(..=10).map(|(_, n)| n).sum();
        let expected = 200 * first as usize;
        assert!(
            of_first.abs_diff(expected) < 300,
            "{of_first} of {expected}"
        );
        // Nobody who is ill gets anything.
        assert!((1..=ill).all(|n| !had.contains_key(&n)));
    }
}

#[test]
fn what_nobody_can_carry_is_shared_in_proportion() {
    let cluster = two_levels();
    // 4 of 10 and 2 of 10 are well: 56 and 28 percent, both too few.
    set_all_ill(&cluster, (1..=6).chain(11..=18));
    assert_eq!(shares(&cluster), [(66, true), (33, true)]);
    let had = count(&balancer(&cluster), 30_000);
    // In panic all are used.
    assert_eq!(had.len(), 20);
    assert!((1900..2100).contains(&had[&1]), "{had:?}");
    // 6 of 10 are not too few: they carry more than they should, alone.
    let cluster = two_levels();
    set_all_ill(&cluster, (1..=4).chain(11..=20));
    assert_eq!(shares(&cluster), [(100, false), (0, true)]);
    assert_eq!(count(&balancer(&cluster), 600).len(), 6);
}

#[test]
fn a_single_priority_panics_below_the_threshold() {
    let cluster = Cluster::new(spec(4)).unwrap();
    set_all_ill(&cluster, [1, 2]);
    assert_eq!(
        count(&balancer(&cluster), 100),
        BTreeMap::from([(3, 50), (4, 50)])
    );
    set_all_ill(&cluster, [3]);
    assert_eq!(shares(&cluster), [(100, true)]);
    assert_eq!(count(&balancer(&cluster), 100).len(), 4);
    set_all_ill(&cluster, [4]);
    assert_eq!(count(&balancer(&cluster), 100).len(), 4);
    set_ill(&cluster, 1, false);
    set_ill(&cluster, 2, false);
    assert_eq!(count(&balancer(&cluster), 100).len(), 2);
}

#[test]
fn without_panic_nobody_is_used_who_is_ill() {
    let mut spec = spec(4);
    spec.failover.panic_percent = 0;
    spec.endpoints[3].priority = 1;
    let cluster = Cluster::new(spec).unwrap();
    set_all_ill(&cluster, 1..=3);
    assert_eq!(count(&balancer(&cluster), 10), BTreeMap::from([(4, 10)]));
    set_all_ill(&cluster, [4]);
    cluster.balancer(0).pick(&Want::default()).unwrap_err();
    assert_eq!(shares(&cluster), [(0, false), (0, false)]);
}

#[test]
fn where_all_are_ill_the_first_priority_panics() {
    let cluster = two_levels();
    set_all_ill(&cluster, 1..=20);
    let had = count(&balancer(&cluster), 100);
    assert_eq!(had.range(..=10).count(), 10);
    assert_eq!(had.len(), 10);
}

#[test]
fn a_key_goes_to_the_same_priority_each_time() {
    let mut spec = spec(4);
    spec.balance = BalanceSpec::Maglev;
    spec.endpoints[2].priority = 1;
    spec.endpoints[3].priority = 1;
    let cluster = Cluster::new(spec).unwrap();
    set_ill(&cluster, 1, true);
    let (one, two) = (cluster.balancer(0), cluster.balancer(1));
    let mut first = 0;
    for key in 0..10_000 {
        let want = Want::default().key(key);
        let pick = one.pick(&want).unwrap();
        assert_eq!(pick.id(), two.pick(&want).unwrap().id());
        first += usize::from(number(&pick) <= 2);
    }
    assert!((6_800..7_200).contains(&first), "{first}");
}
