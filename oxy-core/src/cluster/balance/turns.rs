//! Weighted turns: [`Turns`].

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::cluster::rng::Rng;

/// Whose turn it is, spaced as evenly as the weights allow.
///
/// A member has its turns at the times (k + phase) / weight: earliest deadline first. So each has exactly as many as its
/// weight in every window of as many turns as the weights sum up to. A turn costs the logarithm of the number of members.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    heap: BinaryHeap<Turn>,
    skipped: Vec<Turn>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Turns that it has had.
    had: u64,
    phase: u32,
    weight: u64,
    member: usize,
}

/// The golden ratio's part behind the point: its multiples are spread evenly, however many there are.
const GOLDEN: u32 = 0x9e37_79b9;

impl Turns {
    /// Turns of `members` with their `weights`, from a moment drawn by chance: workers do not go in step.
    pub(crate) fn new(members: &[usize], weights: &[u64], rng: &mut Rng) -> Self {
        let start = rng.next() as u32;
        let heap = (0..)
            .zip(members.iter().zip(weights))
            .map(|(n, (member, weight))| Turn {
                had: 0,
                // Those of the same weight would have their turns in a bunch.
                phase: GOLDEN.wrapping_mul(n).wrapping_add(start),
                weight: *weight,
                member: *member,
            })
            .collect();
        Self {
            heap,
            skipped: Vec::new(),
        }
    }

    /// The member whose turn it is. Those that are to be skipped keep theirs.
    pub(crate) fn next(&mut self, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let found = loop {
            match self.heap.peek_mut() {
                None => break None,
                Some(turn) if skip(turn.member) => self.skipped.push(PeekMut::pop(turn)),
                Some(mut turn) => {
                    turn.had += 1;
                    break Some(turn.member);
                }
            }
        };
        self.heap.extend(self.skipped.drain(..));
        found
    }
}

impl Turn {
    /// Compares (had + phase) / weight without rounding.
    fn compare(&self, other: &Self) -> Ordering {
        let mine = self.time() * u128::from(other.weight);
        let theirs = other.time() * u128::from(self.weight);
        mine.cmp(&theirs).then(self.member.cmp(&other.member))
    }

    /// Its next turn, in units of its weight's inverse with 32 bits behind the point.
    fn time(&self) -> u128 {
        (u128::from(self.had) << 32) + u128::from(self.phase)
    }
}

impl Ord for Turn {
    /// The heap gives its greatest: the one that is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.compare(self)
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(turns: &mut Turns, count: usize) -> Vec<usize> {
        (0..count).map(|_| turns.next(|_| false).unwrap()).collect()
    }

    #[test]
    fn every_window_has_each_member_as_often_as_its_weight() {
        for seed in 0..50 {
            let weights = [5, 1, 1, 3];
            let mut turns = Turns::new(&[0, 1, 2, 3], &weights, &mut Rng::seeded(seed));
            let taken = take(&mut turns, 1000);
            for window in taken.windows(10) {
                for (member, weight) in weights.iter().enumerate() {
                    let had = window.iter().filter(|it| **it == member).count() as u64;
                    assert_eq!(had, *weight, "{window:?}");
                }
            }
        }
    }

    #[test]
    fn turns_are_spaced() {
        let mut turns = Turns::new(&[0, 1, 2], &[5, 1, 1], &mut Rng::seeded(3));
        let taken = take(&mut turns, 700);
        // The others' turns are 0.38 and 0.62 of a round apart, in which the first has at most four.
        for window in taken.windows(5) {
            assert!(window.iter().any(|member| *member != 0), "{window:?}");
        }
    }

    #[test]
    fn workers_begin_anywhere() {
        let mut first = [0; 3];
        for seed in 0..300 {
            let mut turns = Turns::new(&[0, 1, 2], &[1, 1, 1], &mut Rng::seeded(seed));
            first[turns.next(|_| false).unwrap()] += 1;
        }
        assert!(first.iter().all(|n| (50..140).contains(n)), "{first:?}");
    }

    #[test]
    fn who_is_skipped_keeps_the_turn() {
        let mut turns = Turns::new(&[0, 1], &[1, 1], &mut Rng::seeded(7));
        let first = turns.next(|_| false).unwrap();
        let second = 1 - first;
        assert_eq!(turns.next(|member| member == second), Some(first));
        assert_eq!(take(&mut turns, 2), [second, second]);
        assert_eq!(turns.next(|_| true), None);
        assert_eq!(Turns::default().next(|_| false), None);
    }
}
