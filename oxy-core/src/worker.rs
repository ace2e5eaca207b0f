//! One worker: a thread with its own event loop, sockets and books.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use crate::drain::Drain;
use crate::flow::FlowInfo;

/// What belongs to one worker thread. Clones are the same worker.
///
/// Each proxy on it has a branch ([`Worker::branch`]) with a drain node of its own; the books are one.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    index: usize,
    drain: Drain,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    flows: Mutex<Flows>,
    opened: AtomicU64,
}

#[derive(Default)]
struct Flows {
    list: Vec<Option<Line>>,
    free: Vec<usize>,
}

/// An open flow.
struct Line {
    info: Arc<FlowInfo>,
    /// The branch that it came in by.
    branch: usize,
    /// Its task, where it has one of its own.
    task: Option<AbortHandle>,
}

impl Worker {
    /// The worker `index`, which goes away when `drain` says so.
    pub fn new(index: usize, drain: Drain) -> Self {
        Self(Arc::new(Inner {
            index,
            drain,
            books: Arc::default(),
        }))
    }

    /// The same worker with a child of its drain node, for what may go away before the worker does.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self(Arc::new(Inner {
            index: self.0.index,
            drain: self.0.drain.child(),
            books: self.0.books.clone(),
        }))
    }

    /// Which worker it is, from 0.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// Its node of the drain tree: the worker's, or that of the proxy which this is a branch for.
    pub fn drain(&self) -> &Drain {
        &self.0.drain
    }

    /// The flows that are open now, of all branches.
    pub fn flows(&self) -> Vec<Arc<FlowInfo>> {
        let flows = self.0.books.lock();
        let open = flows.list.iter().flatten();
        open.map(|line| line.info.clone()).collect()
    }

    /// How many flows are open now, of all branches.
    pub fn open_flows(&self) -> usize {
        let flows = self.0.books.lock();
        flows.list.len() - flows.free.len()
    }

    /// How many flows have been opened since the start, of all branches.
    pub fn opened_flows(&self) -> u64 {
        self.0.books.opened.load(Relaxed)
    }

    /// Enters a flow into the books until the entry is dropped.
    pub(crate) fn enter(&self, info: Arc<FlowInfo>) -> Entry {
        self.0.books.opened.fetch_add(1, Relaxed);
        let line = Some(Line {
            info,
            branch: self.branch_number(),
            task: None,
        });
        let mut flows = self.0.books.lock();
        let index = if let Some(index) = flows.free.pop() {
            flows.list[index] = line;
            index
        } else {
            flows.list.push(line);
            flows.list.len() - 1
        };
        drop(flows);
        Entry {
            worker: self.clone(),
            index,
        }
    }

    /// Notes that `task` is what drives the flow `info` of line `index`.
    pub(crate) fn driven(&self, index: usize, info: &Arc<FlowInfo>, task: AbortHandle) {
        // On a runtime with several threads it may be over already, and its line another's.
        if let Some(Some(line)) = self.0.books.lock().list.get_mut(index)
            && Arc::ptr_eq(&line.info, info)
        {
            line.task = Some(task);
        }
    }

    /// Drops the tasks of all flows of this branch.
    pub(crate) fn cut(&self) {
        let branch = self.branch_number();
        let flows = self.0.books.lock();
        let tasks: Vec<_> = flows
            .list
            .iter()
            .flatten()
            .filter(|line| line.branch == branch)
            .filter_map(|line| line.task.clone())
            .collect();
        // A task that is dropped closes its line.
        drop(flows);
        for task in tasks {
            task.abort();
        }
    }

    /// Tells branches apart for as long as they live, and each flow keeps its own alive.
    fn branch_number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl Books {
    fn lock(&self) -> std::sync::MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Entry {
    /// Where it stands in the books.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What the line says of its flow from now on.
    pub(crate) fn is_now(&self, info: &Arc<FlowInfo>) {
        if let Some(line) = &mut self.worker.0.books.lock().list[self.index] {
            line.info = info.clone();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut flows = self.worker.0.books.lock();
        let line = flows.list[self.index].take();
        flows.free.push(self.index);
        drop(flows);
        drop(line);
    }
}
