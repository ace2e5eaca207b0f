//! Values that change while the process runs: a configuration, a set of certificates, a list of backends.
//!
//! A [`Live`] is published from anywhere; each worker looks at it through a [`Reader`] of its own. What a look costs does
//! not depend on other workers: it takes a lock that nobody else takes except a [`Live::publish`], and counts references
//! in a place that is the worker's own, so that no line of memory moves between cores until something is published.
//!
//! The lock is a plain mutex. Without contention it is one compare-and-swap to take and one swap to release, as much as
//! the reference count itself; a publisher holds it for the time that it takes to swap two pointers.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A value that may be replaced at any time. Clones are the same one.
pub struct Live<T>(Arc<Shared<T>>);

struct Shared<T> {
    version: AtomicU64,
    published: Mutex<Published<T>>,
}

struct Published<T> {
    value: Arc<T>,
    readers: Vec<Weak<Slot<T>>>,
}

/// Where a reader finds the value that is in force.
struct Slot<T>(Mutex<Current<T>>);

/// One worker's view of a [`Live`]. It is shared by reference between the worker's tasks.
///
/// It sees what was published before the look began, never goes back to an older value, and keeps no older one alive.
pub struct Reader<T>(Arc<Slot<T>>);

/// A value as it was when it was looked at: it stays as it is for as long as it is held. Clones are cheap, as long as they
/// stay on their worker.
pub struct Current<T>(Arc<Versioned<T>>);

/// The count of references to this is the reader's own; that of `value` is shared by all and left alone.
struct Versioned<T> {
    version: u64,
    value: Arc<T>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Live<T> {
    /// `value` is in force, as version 0.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            version: AtomicU64::new(0),
            published: Mutex::new(Published {
                value: Arc::new(value),
                readers: Vec::new(),
            }),
        }))
    }

    /// Puts `value` in force and returns its version. From here on every look sees it, or a later one. What was in force
    /// before is dropped by the last who holds it, perhaps here.
    pub fn publish(&self, value: T) -> u64 {
        let value = Arc::new(value);
        // Dropped when the locks are free again, as that may take long.
        let mut old = Vec::new();
        let mut published = lock(&self.0.published);
        let version = self.0.version.load(Ordering::Relaxed) + 1;
        published.readers.retain(|reader| {
            let Some(slot) = reader.upgrade() else {
                return false;
            };
            let new = Current::new(version, value.clone());
            old.push(std::mem::replace(&mut *lock(&slot.0), new));
            true
        });
        let last = std::mem::replace(&mut published.value, value);
        // Whoever sees the number sees what it stands for.
        self.0.version.store(version, Ordering::Release);
        drop(published);
        drop((old, last));
        version
    }

    /// How often something has been published: one atomic load.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The value in force, for looks that are rare: it takes the lock that [`Live::publish`] takes.
    pub fn get(&self) -> Arc<T> {
        lock(&self.0.published).value.clone()
    }

    /// A worker's own view, for looks that are frequent.
    pub fn reader(&self) -> Reader<T> {
        let mut published = lock(&self.0.published);
        let version = self.0.version.load(Ordering::Relaxed);
        let current = Current::new(version, published.value.clone());
        let slot = Arc::new(Slot(Mutex::new(current)));
        published.readers.retain(|reader| reader.strong_count() > 0);
        published.readers.push(Arc::downgrade(&slot));
        Reader(slot)
    }
}

impl<T> Reader<T> {
    /// The value in force. Never waits for another worker.
    pub fn get(&self) -> Current<T> {
        lock(&self.0.0).clone()
    }

    /// Looks at the value in force without holding it: `look` should be short, as a publisher waits for its end. It must
    /// not publish.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&lock(&self.0.0))
    }
}

impl<T> Current<T> {
    fn new(version: u64, value: Arc<T>) -> Self {
        Self(Arc::new(Versioned { version, value }))
    }

    /// How often something had been published when this was.
    pub fn version(&self) -> u64 {
        self.0.version
    }
}

impl<T> Deref for Current<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live(version {})", self.version())
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader(version {})", self.get().version())
    }
}

impl<T: fmt::Debug> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn readers_on_many_threads_never_go_back() {
        const LAST: u64 = 2000;
        let live = Live::new(0_u64);
        let begin = Arc::new(Barrier::new(5));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (live, reader, begin) = (live.clone(), live.reader(), begin.clone());
                std::thread::spawn(move || {
                    begin.wait();
                    let mut seen = 0;
                    while seen < LAST {
                        let announced = live.version();
                        let current = reader.get();
                        assert!(*current >= announced, "what was announced is there");
                        assert!(*current >= seen, "{} after {seen}", *current);
                        assert_eq!(*current, current.version());
                        seen = *current;
                    }
                })
            })
            .collect();
        begin.wait();
        for value in 1..=LAST {
            assert_eq!(live.publish(value), value);
        }
        for reader in readers {
            reader.join().unwrap();
        }
    }

    #[test]
    fn what_is_held_stays_and_what_nobody_holds_is_dropped() {
        let first = Arc::new(());
        let gone = Arc::downgrade(&first);
        let live = Live::new(Some(first));
        let (busy, idle) = (live.reader(), live.reader());
        let held = busy.get();
        live.publish(None);
        assert!(held.is_some(), "a look is not disturbed");
        assert!(busy.get().is_none());
        assert!(gone.upgrade().is_some());
        drop(held);
        // The other reader has not looked since, and keeps nothing alive all the same.
        assert!(gone.upgrade().is_none());
        assert!(idle.with(Option::is_none));
    }

    #[test]
    fn a_publish_waits_for_a_look_in_place_and_comes_through() {
        let live = Live::new(1);
        let reader = live.reader();
        let publishing = reader.with(|value| {
            let other = live.clone();
            let publishing = std::thread::spawn(move || other.publish(2));
            assert_eq!(*value, 1);
            publishing
        });
        assert_eq!(publishing.join().unwrap(), 1);
        assert_eq!(*reader.get(), 2);
        assert_eq!(*live.get(), 2);
    }

    #[test]
    fn readers_that_are_gone_are_forgotten() {
        let live = Live::new(0);
        for _ in 0..100 {
            drop(live.reader());
        }
        assert!(lock(&live.0.published).readers.len() <= 1);
        live.publish(1);
        assert!(lock(&live.0.published).readers.is_empty());
        assert_eq!(*live.reader().get(), 1);
    }
}
