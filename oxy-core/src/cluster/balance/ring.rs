//! A hash ring as in ketama: each endpoint has points on it, and a key belongs to the next point.

use crate::cluster::endpoint::EndpointId;
use crate::cluster::rng::mix;

/// The most points of a ring, 16 MiB: more endpoints have fewer points each.
const POINTS_MAX: u64 = 1 << 20;

/// The points with the member each belongs to, in their order. `points` is how many a member of average weight has.
pub(crate) fn build(members: &[(EndpointId, u32)], points: u32) -> Vec<(u64, u32)> {
    let sum: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let some = members.iter().filter(|(_, weight)| *weight > 0).count() as u64;
    let total = (some * u64::from(points)).min(POINTS_MAX);
    let mut ring = Vec::new();
    for (member, (id, weight)) in (0..).zip(members) {
        if *weight > 0 {
            // A point's place depends on the endpoint and the point's number only, so that others' do not move it.
            let count = (total * u64::from(*weight)).div_ceil(sum);
            ring.extend((0..count).map(|n| (mix(id.bits() ^ mix(n + 1)), member)));
        }
    }
    ring.sort_unstable();
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u32) -> Vec<(EndpointId, u32)> {
        (0..count)
            .map(|n| {
                let target = format!("10.0.0.{n}:80");
                (EndpointId::of(&target.parse().unwrap()), 1)
            })
            .collect()
    }

    fn owner(ring: &[(u64, u32)], key: u64) -> u32 {
        let at = ring.partition_point(|(point, _)| *point < mix(key));
        ring.get(at).unwrap_or(&ring[0]).1
    }

    #[test]
    fn only_the_keys_of_the_one_that_leaves_move() {
        let mut members = members(10);
        let before = build(&members, 160);
        members[4].1 = 0;
        let after = build(&members, 160);
        let mut moved = 0;
        for key in 0..100_000 {
            let (was, is) = (owner(&before, key), owner(&after, key));
            assert!(was == is || was == 4, "{key}: {was} to {is}");
            moved += u32::from(was != is);
        }
        assert!((7_000..13_000).contains(&moved), "{moved}");
    }

    #[test]
    fn shares_follow_weights() {
        let mut members = members(4);
        members[3].1 = 3;
        let ring = build(&members, 160);
        let mut had = [0_u32; 4];
        for key in 0..120_000 {
            had[owner(&ring, key) as usize] += 1;
        }
        for (had, expected) in had.iter().zip([20_000, 20_000, 20_000, 60_000_u32]) {
            assert!(had.abs_diff(expected) < expected / 4, "{had} of {expected}");
        }
    }

    #[test]
    fn rings_are_bounded_and_may_be_empty() {
        assert!(build(&[], 160).is_empty());
        let mut members = members(1);
        members[0].1 = 0;
        assert!(build(&members, 160).is_empty());
        let many: Vec<_> = (0..200)
            .map(|n| (EndpointId::of(&crate::Target::tcp([10, 0, 0, n], 80)), 1))
            .collect();
        assert!(build(&many, 10_000).len() as u64 <= POINTS_MAX + 200);
    }
}
