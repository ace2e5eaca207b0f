//! Buffers that exist only while bytes are at hand.
//!
//! A buffer is borrowed from a thread-local last-in-first-out list once a socket is known to be readable, and goes back
//! before anything waits: the same few kilobytes stay warm in the cache and an idle connection holds none.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;

/// The size of a pooled buffer in bytes: what a small request or response with its first body bytes fits in, and a size
/// that a socket fills in one read.
pub const SIZE: usize = 16 * 1024;

/// The size of a buffer for bulk in bytes: copying through it costs what `splice(2)` costs, through 64 KiB half as much
/// again.
pub const BULK_SIZE: usize = 512 * 1024;

/// The size of a buffer for bulk that is cut into TLS records in bytes: four of the largest (RFC 8446 section 5.2: 2^14 bytes,
/// up to 256 more for the protection, and a header of 5), and some room for what stands before them. More in one go
/// saves system calls that cost nothing next to the ciphers.
pub const WIDE_SIZE: usize = 68 * 1024;

/// How many free buffers of [`WIDE_SIZE`] a thread keeps (1 MiB).
const WIDE_KEPT: usize = 15;

/// How many free buffers for bulk a thread keeps (2 MiB): they are borrowed for one turn of the event loop each.
const BULK_KEPT: usize = 4;

/// How many free buffers a thread keeps: enough for the deepest burst that one turn of the event loop makes, little
/// enough (1 MiB) to be forgotten.
const KEPT: usize = 64;

type FreeList = RefCell<Vec<Box<[u8]>>>;

thread_local! {
    static FREE: FreeList = const { RefCell::new(Vec::new()) };
    static WIDE: FreeList = const { RefCell::new(Vec::new()) };
    static BULK: FreeList = const { RefCell::new(Vec::new()) };
}

/// Bytes in a pooled block: filled at the end, consumed from the front.
///
/// It grows past [`SIZE`] only when told to ([`Buffer::reserve`]); a grown block is freed rather than pooled.
pub struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer of [`SIZE`] bytes from this thread's list.
    pub fn new() -> Self {
        Self::from_list(&FREE, SIZE)
    }

    /// An empty buffer of [`WIDE_SIZE`] bytes from this thread's list.
    pub fn wide() -> Self {
        Self::from_list(&WIDE, WIDE_SIZE)
    }

    /// An empty buffer of [`BULK_SIZE`] bytes from this thread's list.
    pub fn bulk() -> Self {
        Self::from_list(&BULK, BULK_SIZE)
    }

    /// A buffer that takes no memory before something is put into it.
    pub fn vacant() -> Self {
        Self {
            block: Box::default(),
            start: 0,
            end: 0,
        }
    }

    fn from_list(list: &'static std::thread::LocalKey<FreeList>, size: usize) -> Self {
        let block = list
            .try_with(|free| free.borrow_mut().pop())
            .ok()
            .flatten()
            .unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Self {
            block,
            start: 0,
            end: 0,
        }
    }

    /// What has been filled and not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    /// The same, to decode in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.start..self.end]
    }

    /// How many bytes are filled and not consumed.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is left in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room behind what is filled.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.block[self.end..]
    }

    /// Says that `n` bytes of [`Buffer::spare`] have been written.
    pub fn advance(&mut self, n: usize) {
        debug_assert!(self.end + n <= self.block.len());
        self.end = (self.end + n).min(self.block.len());
    }

    /// Forgets the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Keeps only the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Makes room for `n` more bytes: moves what is filled to the front, and grows the block if that is not enough.
    pub fn reserve(&mut self, n: usize) {
        if self.block.len() - self.end >= n {
            return;
        }
        if self.start > 0 {
            self.block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.block.len() - self.end < n {
            let size = (self.end + n).max(2 * self.block.len());
            let mut block = vec![0; size].into_boxed_slice();
            block[..self.end].copy_from_slice(&self.block[..self.end]);
            recycle(std::mem::replace(&mut self.block, block));
        }
    }

    /// Appends `bytes`, growing if need be.
    pub fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.block[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Gives its block back and keeps what is filled in one of just that size, to wait with.
    pub fn compact(&mut self) {
        if self.block.len() > self.len() {
            let block = self.filled().into();
            (self.start, self.end) = (0, self.len());
            recycle(std::mem::replace(&mut self.block, block));
        }
    }

    /// Puts `bytes` in front of what stands at `at` (in [`Buffer::filled`]), growing if need be.
    pub fn insert(&mut self, at: usize, bytes: &[u8]) {
        let tail = self.len().saturating_sub(at);
        self.put(bytes);
        let len = self.len();
        self.filled_mut()[len - bytes.len() - tail..].rotate_right(bytes.len());
    }

    /// Moves the bytes of `range` (in [`Buffer::filled`]) to its front and drops what was before them.
    pub fn keep(&mut self, range: Range<usize>) {
        self.truncate(range.end);
        self.consume(range.start);
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {})", self.len(), self.block.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.block));
    }
}

fn recycle(block: Box<[u8]>) {
    let (list, kept) = match block.len() {
        SIZE => (&FREE, KEPT),
        WIDE_SIZE => (&WIDE, WIDE_KEPT),
        BULK_SIZE => (&BULK, BULK_KEPT),
        _ => return,
    };
    // At thread exit the list may be gone already: the block is then simply freed.
    let _ = list.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < kept {
            free.push(block);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_returned_is_the_first_handed_out() {
        let mut one = Buffer::new();
        one.put(b"warm");
        let at = one.filled().as_ptr();
        drop(one);
        let mut two = Buffer::new();
        assert!(two.is_empty());
        two.put(b"x");
        assert_eq!(two.filled().as_ptr(), at);
    }

    #[test]
    fn it_compacts_before_it_grows() {
        let mut buffer = Buffer::new();
        buffer.put(&[1; SIZE - 1]);
        buffer.consume(SIZE - 3);
        buffer.reserve(100);
        assert_eq!(buffer.block.len(), SIZE);
        assert_eq!(buffer.filled(), [1, 1]);
        buffer.put(&[2; SIZE]);
        assert!(buffer.block.len() > SIZE);
        assert_eq!(&buffer.filled()[..3], [1, 1, 2]);
    }

    #[test]
    fn what_waits_takes_no_more_room_than_it_needs() {
        let mut buffer = Buffer::new();
        buffer.put(b"skipped ticket");
        buffer.consume(8);
        buffer.compact();
        assert_eq!((buffer.filled(), buffer.block.len()), (&b"ticket"[..], 6));
        buffer.put(b"s");
        assert_eq!(buffer.filled(), b"tickets");
        buffer.clear();
        buffer.compact();
        assert_eq!(buffer.block.len(), 0);
    }

    #[test]
    fn bytes_can_be_put_in_front_of_others() {
        let mut buffer = Buffer::new();
        buffer.put(b"..onethree");
        buffer.consume(2);
        buffer.insert(3, b"two");
        buffer.insert(0, b"zero");
        buffer.insert(15, b"four");
        assert_eq!(buffer.filled(), b"zeroonetwothreefour");
    }
}
