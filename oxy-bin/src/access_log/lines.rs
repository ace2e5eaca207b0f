//! What has been logged and not been written yet.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

/// Lines that wait for the writer: each worker's apart, so that no worker waits for another.
#[derive(Debug)]
pub(super) struct Lines {
    shards: Box<[Shard]>,
    /// How many bytes of one shard may wait.
    room: usize,
    /// Whether nobody logs any more.
    closed: AtomicBool,
    /// Who is told of the first line.
    writer: OnceLock<Thread>,
}

/// One worker's lines. Two shards never share what a processor fetches at a time, which is two lines of its cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Waiting>);

/// Whole lines, one after the other.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

impl Lines {
    /// For `threads` threads; more of them share.
    pub(super) fn new(threads: usize, room: usize) -> Self {
        Self {
            shards: (0..threads.max(1)).map(|_| Shard::default()).collect(),
            room,
            closed: AtomicBool::new(false),
            writer: OnceLock::new(),
        }
    }

    /// Has `write` add a line to those of thread number `thread`; whether there was room.
    ///
    /// The lock is this thread's but for the moment in which the writer takes what there is.
    pub(super) fn put(&self, thread: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut waiting = self.shards[thread % self.shards.len()].lock();
        if waiting.bytes.len() >= self.room {
            return false;
        }
        write(&mut waiting.bytes);
        waiting.count += 1;
        let is_first = waiting.count == 1;
        drop(waiting);
        if is_first {
            self.wake();
        }
        true
    }

    /// Says that nobody will log any more.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.wake();
    }

    /// Whether nobody logs any more; what was logged before this was asked is found from then on.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Has `writer` told of lines that follow none, and of the end.
    pub(super) fn tell(&self, writer: Thread) {
        // There is one writer.
        let _ = self.writer.set(writer);
    }

    /// Hands what waits to `take`, shard by shard, which leaves the buffer that it was given empty.
    pub(super) fn drain(&self, waiting: &mut Waiting, mut take: impl FnMut(&mut Waiting)) -> bool {
        let mut any = false;
        for shard in &self.shards {
            std::mem::swap(&mut *shard.lock(), waiting);
            if waiting.count > 0 {
                any = true;
                take(waiting);
            }
        }
        any
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(lines: &Lines, thread: usize, line: &str) -> bool {
        lines.put(thread, |bytes| bytes.extend_from_slice(line.as_bytes()))
    }

    fn drained(lines: &Lines) -> Vec<(String, u64)> {
        let (mut waiting, mut all) = (Waiting::default(), Vec::new());
        lines.drain(&mut waiting, |waiting| {
            all.push((
                String::from_utf8(std::mem::take(&mut waiting.bytes)).unwrap(),
                waiting.count,
            ));
            waiting.count = 0;
        });
        all
    }

    #[test]
    fn lines_keep_their_order_and_their_thread() {
        let lines = Lines::new(2, 100);
        for (thread, line) in [(0, "a\n"), (1, "b\n"), (2, "c\n")] {
            assert!(put(&lines, thread, line));
        }
        assert_eq!(drained(&lines), [("a\nc\n".into(), 2), ("b\n".into(), 1)]);
        assert!(drained(&lines).is_empty());
    }

    #[test]
    fn what_finds_no_room_is_not_written() {
        let lines = Lines::new(1, 4);
        assert!(put(&lines, 0, "ab\n") && put(&lines, 0, "cd\n"));
        assert!(!lines.put(0, |_| panic!("there is no room")));
        assert_eq!(drained(&lines), [("ab\ncd\n".into(), 2)]);
        assert!(put(&lines, 0, "ef\n"));
    }
}
