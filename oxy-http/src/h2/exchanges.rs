//! The exchanges of one connection that are under way, each on a task of its own.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tokio::task::AbortHandle;

/// The exchanges of a connection. Dropped with it, they end as they are.
///
/// It tells when the last is over, and not when each is: the connection is woken by what they write anyway.
#[derive(Default)]
pub(crate) struct Exchanges(Arc<Mutex<Tasks>>);

#[derive(Default)]
struct Tasks {
    places: Vec<Place>,
    free: Vec<usize>,
    /// Whoever waits for the last.
    waker: Option<Waker>,
}

enum Place {
    Free,
    /// The task is about to be known.
    Starting,
    Running(AbortHandle),
}

fn lock(tasks: &Mutex<Tasks>) -> MutexGuard<'_, Tasks> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tasks {
    fn is_over(&self) -> bool {
        self.free.len() == self.places.len()
    }
}

impl Exchanges {
    /// Runs an exchange. Needs a tokio runtime.
    pub(crate) fn spawn(&mut self, exchange: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.0);
        let at = tasks.free.pop().unwrap_or_else(|| {
            tasks.places.push(Place::Free);
            tasks.places.len() - 1
        });
        tasks.places[at] = Place::Starting;
        drop(tasks);
        let exchange = Run {
            exchange,
            held: Held {
                tasks: self.0.clone(),
                at,
            },
        };
        // Not under the lock: a runtime that is shutting down drops the exchange here and now.
        let task = tokio::spawn(exchange).abort_handle();
        let place = &mut lock(&self.0).places[at];
        // It may be over by now, where tasks run on other threads.
        if matches!(place, Place::Starting) {
            *place = Place::Running(task);
        }
    }

    /// Ready if none is under way; until then the task is woken when the last is over. Cancel safe.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tasks = lock(&self.0);
        if tasks.is_over() {
            return Poll::Ready(());
        }
        match &mut tasks.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            other => *other = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Exchanges {
    fn drop(&mut self) {
        let mut tasks = lock(&self.0);
        let running: Vec<_> = tasks
            .places
            .iter_mut()
            .filter_map(|place| match std::mem::replace(place, Place::Starting) {
                Place::Running(task) => Some(task),
                _ => None,
            })
            .collect();
        tasks.waker = None;
        drop(tasks);
        running.iter().for_each(AbortHandle::abort);
    }
}

pin_project! {
    /// An exchange with its place among the others.
    struct Run<F> {
        #[pin]
        exchange: F,
        held: Held,
    }
}

impl<F: Future<Output = ()>> Future for Run<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().exchange.poll(cx)
    }
}

/// A place, given back whatever ends the exchange.
struct Held {
    tasks: Arc<Mutex<Tasks>>,
    at: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut tasks = lock(&self.tasks);
        let ended = std::mem::replace(&mut tasks.places[self.at], Place::Free);
        tasks.free.push(self.at);
        let waker = if tasks.is_over() {
            tasks.waker.take()
        } else {
            None
        };
        drop(tasks);
        // What it refers to is freed by whoever runs it.
        drop(ended);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::oneshot;

    use super::*;

    struct Bell(Arc<AtomicUsize>);

    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn it_is_told_when_the_last_is_over_and_places_are_used_again() {
        let mut exchanges = Exchanges::default();
        poll_fn(|cx| exchanges.poll_over(cx)).await;
        for _ in 0..3 {
            let mut ends = Vec::new();
            for _ in 0..4 {
                let (end, ended) = oneshot::channel::<()>();
                exchanges.spawn(async move { drop(ended.await) });
                ends.push(end);
            }
            let over = tokio::spawn(poll_fn({
                let tasks = Exchanges(exchanges.0.clone());
                // Only looks.
                let tasks = std::mem::ManuallyDrop::new(tasks);
                move |cx| tasks.poll_over(cx)
            }));
            for end in ends {
                assert!(!over.is_finished());
                end.send(()).unwrap();
                tokio::task::yield_now().await;
            }
            over.await.unwrap();
        }
        assert_eq!(lock(&exchanges.0).places.len(), 4);
    }

    async fn all_end_with_their_connection() {
        let rung = Arc::new(AtomicUsize::new(0));
        let mut exchanges = Exchanges::default();
        for _ in 0..100 {
            let bell = Bell(rung.clone());
            exchanges.spawn(async move {
                let _bell = bell;
                pending::<()>().await;
            });
        }
        exchanges.spawn(async {});
        drop(exchanges);
        while rung.load(Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn all_end_with_their_connection_on_one_thread() {
        all_end_with_their_connection().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_end_with_their_connection_on_two() {
        all_end_with_their_connection().await;
    }

    #[test]
    fn a_runtime_that_ends_takes_them_along() {
        let rung = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut exchanges = Exchanges::default();
        let bell = Bell(rung.clone());
        let guard = runtime.enter();
        exchanges.spawn(async move {
            let _bell = bell;
            pending::<()>().await;
        });
        drop(guard);
        drop(runtime);
        assert_eq!(rung.load(Relaxed), 1);
        assert!(lock(&exchanges.0).is_over());
    }
}
