//! Going away in good order: a tree of process, worker and on-ramp.
//!
//! A node is serving, draining (by a deadline), or aborting, and a child is at least as far along as its parent. Flows
//! hold a [`Guard`]; [`Drain::drained`] waits until the last is gone.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// How far a [`Drain`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// New flows are welcome.
    Serving,
    /// What has begun is finished; nothing new begins.
    Draining,
    /// Whatever is left is cut.
    Aborting,
}

/// A node of the drain tree. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Node>);

#[derive(Debug)]
struct Node {
    stage: AtomicU8,
    guards: AtomicUsize,
    changed: Notify,
    empty: Notify,
    children: Mutex<Vec<Weak<Node>>>,
}

/// Keeps a [`Drain`] from being drained until it is dropped.
#[derive(Debug)]
pub struct Guard(Arc<Node>);

impl Drain {
    /// A root that serves.
    pub fn new() -> Self {
        Self(Node::new(Stage::Serving))
    }

    /// A child: it follows this node's stage and may go ahead of it.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut children = self.0.children();
        let node = Node::new(self.stage());
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&node));
        Self(node)
    }

    /// How far this node is.
    pub fn stage(&self) -> Stage {
        match self.0.stage.load(Ordering::Relaxed) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Aborting,
        }
    }

    /// Whether new work is welcome.
    pub fn is_serving(&self) -> bool {
        self.stage() == Stage::Serving
    }

    /// Begins to drain, here and below. Does nothing if that has begun.
    pub fn start(&self) {
        self.0.advance(Stage::Draining);
    }

    /// Cuts what is left, here and below.
    pub fn abort(&self) {
        self.0.advance(Stage::Aborting);
    }

    /// A guard on this node.
    pub fn guard(&self) -> Guard {
        self.0.guards.fetch_add(1, Ordering::Relaxed);
        Guard(self.0.clone())
    }

    /// How many guards are held on this node itself.
    pub fn guards(&self) -> usize {
        self.0.guards.load(Ordering::Relaxed)
    }

    /// Waits until this node has reached `stage`. Cancel safe.
    pub async fn reached(&self, stage: Stage) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }

    /// Waits until no guard is held on this node. Cancel safe.
    pub async fn drained(&self) {
        loop {
            let empty = self.0.empty.notified();
            tokio::pin!(empty);
            empty.as_mut().enable();
            if self.guards() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    fn new(stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            stage: AtomicU8::new(stage as u8),
            guards: AtomicUsize::new(0),
            changed: Notify::new(),
            empty: Notify::new(),
            children: Mutex::default(),
        })
    }

    /// Children are told first: whoever waits on this node may end what waits on them.
    fn advance(&self, stage: Stage) {
        let children = self.children();
        // With the children locked: one that is made in this moment is among them, or begins at this stage.
        let is_news = self.stage.fetch_max(stage as u8, Ordering::Relaxed) < stage as u8;
        let known = children.clone();
        drop(children);
        for child in known.iter().filter_map(Weak::upgrade) {
            child.advance(stage);
        }
        if is_news {
            self.changed.notify_waiters();
        }
    }

    fn children(&self) -> MutexGuard<'_, Vec<Weak<Self>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.guards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Wake};

    use super::*;

    #[tokio::test]
    async fn children_follow_and_may_go_ahead() {
        let root = Drain::new();
        let (left, right) = (root.child(), root.child());
        left.start();
        assert_eq!(
            (root.stage(), left.stage(), right.stage()),
            (Stage::Serving, Stage::Draining, Stage::Serving)
        );
        root.start();
        right.reached(Stage::Draining).await;
        root.abort();
        assert_eq!(left.child().stage(), Stage::Aborting);
    }

    /// Writes down that it was woken.
    struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn who_waits_below_learns_first() {
        let root = Drain::new();
        let child = root.child();
        let woken = Arc::default();
        let mut above = Box::pin(root.reached(Stage::Aborting));
        let mut below = Box::pin(child.reached(Stage::Aborting));
        for (name, waits) in [("above", above.as_mut()), ("below", below.as_mut())] {
            let waker = Arc::new(Note(name, Arc::clone(&woken))).into();
            assert!(waits.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        root.abort();
        assert_eq!(*woken.lock().unwrap(), ["below", "above"]);
    }

    #[tokio::test]
    async fn drained_waits_for_the_last_guard() {
        let drain = Drain::new();
        let (one, two) = (drain.guard(), drain.guard());
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.drained().await }
        });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(two);
        waiting.await.unwrap();
    }
}
