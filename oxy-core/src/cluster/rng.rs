//! Chance, and the mixing of keys.

use std::hash::{BuildHasher, Hasher, RandomState};

/// `SplitMix64`: eight bytes of state and a few instructions for each number. Nothing secret depends on it.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// Seeded by what the system gives each process and the standard library each hasher.
    pub(super) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    #[cfg(test)]
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, or 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        scale(self.next(), bound)
    }
}

/// Spreads what a hash or a counter says over all 64 bits (the finaliser of `SplitMix64`, a bijection).
pub(super) fn mix(mut key: u64) -> u64 {
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// `key`, which is anywhere in 64 bits, as a number below `bound`, without a division.
pub(super) fn scale(key: u64, bound: u64) -> u64 {
    ((u128::from(key) * u128::from(bound)) >> 64) as u64
}

/// The hash of some bytes, the same in every process and release, so that all proxies of a fleet send a key to the same
/// endpoint (FNV-1a, mixed).
///
/// It has no secret: whoever chooses the bytes can choose the endpoint.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut rng = Rng::seeded(1);
        let mut seen = [0_u32; 7];
        for _ in 0..70_000 {
            seen[usize::try_from(rng.below(7)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn hashes_never_change() {
        // Cookies and the spread over a fleet of different versions depend on it.
        assert_eq!(hash_key(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash_key(b"10.0.0.1:80"), hash_key(b"10.0.0.1:80"));
        assert_ne!(hash_key(b"10.0.0.1:80"), hash_key(b"10.0.0.2:80"));
    }
}
