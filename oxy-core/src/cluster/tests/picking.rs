//! Who is picked, and how often.

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
