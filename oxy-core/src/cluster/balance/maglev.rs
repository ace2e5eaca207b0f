//! Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).

use crate::cluster::endpoint::EndpointId;
use crate::cluster::rng::mix;

/// The greatest table, 20 MB: Envoy's bound.
const SIZE_MAX: u32 = 5_000_011;
/// An entry that is not filled.
const EMPTY: u32 = u32::MAX;

/// Whether a table can have this size: a prime, so that every step through it comes by all entries.
pub(crate) fn is_size(size: u32) -> bool {
    (3..=SIZE_MAX).contains(&size)
        && size % 2 == 1
        && (3..)
            .step_by(2)
            .take_while(|d| d * d <= size)
            .all(|d| !size.is_multiple_of(d))
}

/// Which of `members` each entry belongs to. Empty when none has weight.
pub(crate) fn build(members: &[(EndpointId, u32)], size: u32) -> Vec<u32> {
    let weights = members.iter().map(|(_, weight)| u64::from(*weight));
    let heaviest = weights.max().unwrap_or(0);
    if heaviest == 0 {
        return Vec::new();
    }
    let mut walks: Vec<_> = (0..)
        .zip(members)
        .filter(|(_, (_, weight))| *weight > 0)
        .map(|(member, (id, weight))| Walk::new(member, *id, *weight, size))
        .collect();
    // The first round's order must not depend on the order in which they are listed.
    walks.sort_unstable_by_key(|walk| (walk.at, walk.step, walk.member));
    let mut table = vec![EMPTY; size as usize];
    let mut left = size;
    loop {
        for walk in &mut walks {
            // The heaviest takes an entry in each round, the others in as many as their weight says.
            walk.credit += walk.weight;
            if walk.credit < heaviest {
                continue;
            }
            walk.credit -= heaviest;
            while table[walk.at as usize] != EMPTY {
                walk.advance(size);
            }
            table[walk.at as usize] = walk.member;
            left -= 1;
            if left == 0 {
                return table;
            }
        }
    }
}

/// A member's way through the table.
struct Walk {
    member: u32,
    weight: u64,
    credit: u64,
    at: u32,
    step: u32,
}

impl Walk {
    fn new(member: u32, id: EndpointId, weight: u32, size: u32) -> Self {
        let hash = mix(id.bits());
        Self {
            member,
            weight: weight.into(),
            credit: 0,
            at: (hash % u64::from(size)) as u32,
            step: (mix(hash ^ id.bits()) % u64::from(size - 1)) as u32 + 1,
        }
    }

    fn advance(&mut self, size: u32) {
        self.at = (self.at + self.step) % size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Vec<(EndpointId, u32)> {
        (0..count)
            .map(|n| {
                let target = format!("10.0.{}.{}:80", n / 256, n % 256);
                (EndpointId::of(&target.parse().unwrap()), 1)
            })
            .collect()
    }

    fn count(table: &[u32], member: u32) -> usize {
        table.iter().filter(|it| **it == member).count()
    }

    #[test]
    fn sizes_are_primes() {
        for good in [3, 5, 7, 251, 65_537, 5_000_011] {
            assert!(is_size(good), "{good}");
        }
        for bad in [0, 1, 2, 4, 9, 65_535, 65_536, 5_000_013] {
            assert!(!is_size(bad), "{bad}");
        }
    }

    #[test]
    fn entries_are_even_to_one() {
        let table = build(&members(10), 65_537);
        for member in 0..10 {
            let had = count(&table, member);
            assert!((6_553..=6_554).contains(&had), "{had}");
        }
    }

    #[test]
    fn entries_follow_weights() {
        let mut members = members(3);
        members[1].1 = 3;
        members[2].1 = 0;
        let table = build(&members, 65_537);
        assert!((16_383..=16_386).contains(&count(&table, 0)));
        assert_eq!(count(&table, 2), 0);
        for member in &mut members {
            member.1 = 0;
        }
        assert_eq!(build(&members, 251), Vec::<u32>::new());
        assert_eq!(build(&[], 251), Vec::<u32>::new());
    }

    #[test]
    fn few_entries_move_when_one_leaves() {
        let mut members = members(10);
        let before = build(&members, 65_537);
        members[4].1 = 0;
        let after = build(&members, 65_537);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b);
        let (gone, disrupted): (Vec<_>, Vec<_>) = moved.partition(|(a, _)| **a == 4);
        assert_eq!(gone.len(), count(&before, 4));
        // The paper's figure 12: about 1 to 2 percent with a table of this size.
        assert!(disrupted.len() < 65_537 * 3 / 100, "{}", disrupted.len());
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let members = members(7);
        let mut reversed = members.clone();
        reversed.reverse();
        let (one, other) = (build(&members, 251), build(&reversed, 251));
        assert!(one.iter().zip(&other).all(|(a, b)| *a == 6 - b));
    }

    #[test]
    fn more_members_than_entries_is_no_trouble() {
        assert_eq!(build(&members(20), 7).len(), 7);
    }
}
