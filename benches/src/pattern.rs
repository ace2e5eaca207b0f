//! The bytes that both ends know, so that every body can be compared exactly.

use std::sync::LazyLock;

/// The longest body that a case may ask for.
const MAX_BODY: usize = 4 << 20;

/// How far into the pattern a connection's body may start.
const MAX_SHIFT: usize = 64 << 10;

/// Pseudo-random, so that no two aligned blocks are equal: a proxy that loses,
/// repeats or reorders a block cannot pass the comparison.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(MAX_BODY + MAX_SHIFT);
    while bytes.len() < MAX_BODY + MAX_SHIFT {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
});

/// `len` bytes starting at `shift`, or nothing if that is out of range.
pub fn body(len: usize, shift: usize) -> Option<&'static [u8]> {
    (len <= MAX_BODY && shift <= MAX_SHIFT).then(|| &PATTERN[shift..shift + len])
}

/// The shift of connection `slot`: different for neighbours, so that an answer
/// delivered to the wrong connection is noticed.
pub fn shift(slot: usize) -> usize {
    slot * 61 % MAX_SHIFT
}

/// A shift for any number, so that bodies of requests that have nothing to do with
/// each other are hardly ever the same.
pub fn shift_of(number: u64) -> usize {
    (number % MAX_SHIFT as u64) as usize
}
