//! Coarse time: one sweep per worker and tick instead of a timer entry per connection and read.
//!
//! A connection owns one [`Alarm`] for its life. Arming it is a store; a sweeper task, which runs only while alarms
//! exist, wakes those whose time has come. Alarms are late by at most two [`TICK`]s, which is plenty for idle and header
//! time-outs of seconds.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often alarms are looked at. Ten looks a second cost under half a percent of a core at 20,000 connections.
pub const TICK: Duration = Duration::from_millis(100);

/// In 64 bits, as a division in the 128 of [`Duration::as_millis`] takes longer than all else about an alarm.
const TICKS_PER_SECOND: u64 = 1_000_000_000 / TICK.subsec_nanos() as u64;

/// No deadline.
const NEVER: u64 = u64::MAX;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Sweeper>>> = const { RefCell::new(None) };
}

/// The alarms of one worker thread.
#[derive(Debug, Default)]
struct Sweeper {
    /// Ticks since the sweeper began: the coarse clock that deadlines are measured on.
    now: AtomicU64,
    running: AtomicBool,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    chunks: Vec<Arc<Chunk>>,
    free: Vec<usize>,
}

/// How many slots are made at a time: an exchange over HTTP/2 has an alarm of its own, which is no allocation then.
const CHUNK: usize = 64;

type Chunk = [Slot; CHUNK];

#[derive(Debug)]
struct Slot {
    deadline: AtomicU64,
    waker: Mutex<Option<Waker>>,
    /// Which waker that is, to be compared without the lock: its data and its vtable.
    known: [AtomicUsize; 2],
}

impl Slot {
    /// Whether it has `waker` already. If it has been taken in this moment, it is about to be woken.
    fn knows(&self, waker: &Waker) -> bool {
        self.known[0].load(Relaxed) == waker.data().addr()
            && self.known[1].load(Relaxed) == std::ptr::from_ref(waker.vtable()).addr()
    }

    fn keep(&self, waker: &Waker) {
        let mut kept = lock(&self.waker);
        *kept = Some(waker.clone());
        self.known[0].store(waker.data().addr(), Relaxed);
        self.known[1].store(std::ptr::from_ref(waker.vtable()).addr(), Relaxed);
    }

    fn take(&self) -> Option<Waker> {
        let mut kept = lock(&self.waker);
        // No vtable is at 0.
        self.known[1].store(0, Relaxed);
        kept.take()
    }
}

/// One connection's deadline, re-armed at will.
///
/// Needs a tokio runtime with time enabled when it is made.
#[derive(Debug)]
pub struct Alarm {
    chunk: Arc<Chunk>,
    sweeper: Arc<Sweeper>,
    index: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alarm {
    /// An alarm that is not armed, looked after by this thread's sweeper.
    pub fn new() -> Self {
        let sweeper = Sweeper::current();
        let (chunk, index) = lock(&sweeper.slots).take();
        Self {
            chunk,
            sweeper,
            index,
        }
    }

    fn slot(&self) -> &Slot {
        &self.chunk[self.index % CHUNK]
    }

    /// Goes off `after` from now, or up to two ticks later. Replaces any earlier deadline.
    pub fn set(&self, after: Duration) {
        let ticks = after.as_secs().saturating_mul(TICKS_PER_SECOND)
            + u64::from(after.subsec_nanos().div_ceil(TICK.subsec_nanos()));
        let deadline = self.sweeper.now.load(Relaxed).saturating_add(ticks + 1);
        self.slot().deadline.store(deadline, Relaxed);
    }

    /// Never goes off.
    pub fn clear(&self) {
        self.slot().deadline.store(NEVER, Relaxed);
    }

    /// Whether the deadline has passed.
    pub fn expired(&self) -> bool {
        self.slot().deadline.load(Relaxed) <= self.sweeper.now.load(Relaxed)
    }

    /// Ready once the deadline has passed; until then the task is woken when it does, or when [`wake_all`] is called on
    /// this alarm's thread. Cancel safe.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.expired() {
            return Poll::Ready(());
        }
        // The same task nearly always, as often as it waits for anything.
        let slot = self.slot();
        if !slot.knows(cx.waker()) {
            slot.keep(cx.waker());
        }
        Poll::Pending
    }

    /// Coarse time since some point in the past, in units of [`TICK`].
    pub fn now(&self) -> u64 {
        self.sweeper.now.load(Relaxed)
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
        let waker = self.slot().take();
        lock(&self.sweeper.slots).free.push(self.index);
        drop(waker);
    }
}

/// Runs `work`; an error of kind `Timeout` on `side` if it takes longer than `limit`. For rare waits: a timer entry each.
pub async fn within<T>(
    limit: Duration,
    side: crate::Side,
    what: &'static str,
    work: impl Future<Output = crate::Result<T>>,
) -> crate::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(crate::Error::new(crate::ErrorKind::Timeout, side).context(what)),
    }
}

/// Wakes every task of this thread that waits on an alarm, so that idle connections see a drain at once.
pub fn wake_all() {
    let sweeper = CURRENT.with_borrow(Clone::clone);
    if let Some(sweeper) = sweeper {
        for waker in sweeper.wakers(|_| true) {
            waker.wake();
        }
    }
}

impl Slots {
    fn are_free(&self) -> bool {
        self.free.len() == self.chunks.len() * CHUNK
    }

    fn take(&mut self) -> (Arc<Chunk>, usize) {
        if self.free.is_empty() {
            let first = self.chunks.len() * CHUNK;
            self.free.extend((first..first + CHUNK).rev());
            self.chunks.push(Arc::new(std::array::from_fn(|_| Slot {
                deadline: AtomicU64::new(NEVER),
                waker: Mutex::new(None),
                known: [const { AtomicUsize::new(0) }; 2],
            })));
        }
        // There is one: it has just been made.
        let index = self.free.pop().unwrap_or_default();
        (self.chunks[index / CHUNK].clone(), index)
    }
}

impl Sweeper {
    fn current() -> Arc<Self> {
        let sweeper = CURRENT.with_borrow_mut(|current| current.get_or_insert_default().clone());
        if !sweeper.running.swap(true, Relaxed) {
            tokio::spawn(sweep(Running(sweeper.clone())));
        }
        sweeper
    }

    fn wakers(&self, which: impl Fn(&Slot) -> bool) -> Vec<Waker> {
        lock(&self.slots)
            .chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .filter(|slot| which(slot))
            .filter_map(Slot::take)
            .collect()
    }

    fn is_idle(&self) -> bool {
        lock(&self.slots).are_free()
    }

    /// Gives back what a busier time has left.
    fn forget(&self) {
        let mut slots = lock(&self.slots);
        if slots.are_free() {
            *slots = Slots::default();
        }
    }
}

/// Says that the sweeper has stopped, also when its runtime is dropped under it.
struct Running(Arc<Sweeper>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Relaxed);
    }
}

async fn sweep(running: Running) {
    let sweeper = &running.0;
    let mut idle = 0;
    let start = tokio::time::Instant::now();
    let base = sweeper.now.load(Relaxed);
    // An idle second ends the task: a process without connections does not wake up.
    while idle < 10 {
        tokio::time::sleep(TICK).await;
        let now = base + (start.elapsed().as_millis() / TICK.as_millis()) as u64;
        sweeper.now.store(now, Relaxed);
        for waker in sweeper.wakers(|slot| slot.deadline.load(Relaxed) <= now) {
            waker.wake();
        }
        idle = if sweeper.is_idle() { idle + 1 } else { 0 };
    }
    sweeper.forget();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_once_its_time_has_come() {
        let alarm = Alarm::new();
        let start = tokio::time::Instant::now();
        alarm.set(Duration::from_secs(3));
        poll_fn(|cx| alarm.poll_expired(cx)).await;
        let took = start.elapsed();
        assert!(
            took >= Duration::from_secs(3) && took <= Duration::from_secs(3) + 3 * TICK,
            "{took:?}"
        );
    }

    /// Polls `alarm` for `woken`; whether it has gone off.
    fn poll(alarm: &Alarm, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(woken.clone());
        alarm
            .poll_expired(&mut Context::from_waker(&waker))
            .is_ready()
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_last_is_woken_each_time() {
        let alarm = Alarm::new();
        let (first, last) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        for _ in 0..3 {
            alarm.set(TICK);
            assert!(!poll(&alarm, &first) && !poll(&alarm, &last) && !poll(&alarm, &last));
            tokio::time::sleep(4 * TICK).await;
            assert!(poll(&alarm, &last));
            assert!(last.0.swap(false, Relaxed) && !first.0.load(Relaxed));
        }
        alarm.clear();
        assert!(!poll(&alarm, &first));
        wake_all();
        assert!(first.0.load(Relaxed) && !poll(&alarm, &first));
    }

    #[tokio::test(start_paused = true)]
    async fn re_arming_moves_the_deadline_and_clearing_removes_it() {
        let alarm = Alarm::new();
        alarm.set(Duration::from_secs(1));
        alarm.set(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!alarm.expired());
        alarm.clear();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!alarm.expired());
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_reused_and_the_sweeper_stops_when_idle() {
        for _ in 0..100 {
            drop(Alarm::new());
        }
        let sweeper = Sweeper::current();
        assert_eq!(lock(&sweeper.slots).chunks.len(), 1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!sweeper.running.load(Relaxed));
        let many: Vec<_> = (0..3 * CHUNK).map(|_| Alarm::new()).collect();
        let mut indices: Vec<_> = many.iter().map(|alarm| alarm.index).collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), many.len(), "each has a slot of its own");
        drop(many);
        let alarm = Alarm::new();
        alarm.set(TICK);
        poll_fn(|cx| alarm.poll_expired(cx)).await;
    }
}
