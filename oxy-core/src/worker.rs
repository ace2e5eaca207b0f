//! One worker: a thread with its own event loop, sockets and books.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::drain::Drain;
use crate::flow::FlowInfo;

/// What belongs to one worker thread. Clones are the same worker.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    index: usize,
    drain: Drain,
    flows: Mutex<Flows>,
    opened: AtomicU64,
}

#[derive(Default)]
struct Flows {
    list: Vec<Option<Arc<FlowInfo>>>,
    free: Vec<usize>,
}

impl Worker {
    /// The worker `index`, which goes away when `drain` says so.
    pub fn new(index: usize, drain: Drain) -> Self {
        Self(Arc::new(Inner {
            index,
            drain,
            flows: Mutex::default(),
            opened: AtomicU64::new(0),
        }))
    }

    /// Which worker it is, from 0.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// Its node of the drain tree.
    pub fn drain(&self) -> &Drain {
        &self.0.drain
    }

    /// The flows that are open now.
    pub fn flows(&self) -> Vec<Arc<FlowInfo>> {
        self.lock().list.iter().flatten().cloned().collect()
    }

    /// How many flows are open now.
    pub fn open_flows(&self) -> usize {
        let flows = self.lock();
        flows.list.len() - flows.free.len()
    }

    /// How many flows have been opened since the start.
    pub fn opened_flows(&self) -> u64 {
        self.0.opened.load(Relaxed)
    }

    /// Enters a flow into the books until the entry is dropped.
    pub(crate) fn enter(&self, info: Arc<FlowInfo>) -> Entry {
        self.0.opened.fetch_add(1, Relaxed);
        let mut flows = self.lock();
        let index = if let Some(index) = flows.free.pop() {
            flows.list[index] = Some(info);
            index
        } else {
            flows.list.push(Some(info));
            flows.list.len() - 1
        };
        Entry {
            worker: self.clone(),
            index,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Flows> {
        self.0.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.0.index)
    }
}

/// A flow's line in its worker's books.
pub(crate) struct Entry {
    worker: Worker,
    index: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut flows = self.worker.lock();
        flows.list[self.index] = None;
        flows.free.push(self.index);
    }
}
