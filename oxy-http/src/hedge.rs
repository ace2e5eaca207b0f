//! Asking a second origin while the first keeps us waiting: the first answer is taken.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use oxy_core::BoxFuture;
use tokio::time::{Instant, Sleep};

use crate::route::Hedge;

/// How a try ended.
pub(crate) type Tried<T, E> = Result<T, E>;

/// Tries that run side by side.
pub(crate) struct Race<'a, T, E> {
    running: Vec<BoxFuture<'a, Tried<T, E>>>,
    timer: Pin<Box<Sleep>>,
    after: std::time::Duration,
    /// How many more may be begun.
    left: u32,
}

/// What happens next in a race.
pub(crate) enum Next<T, E> {
    /// Somebody has answered. Whoever else was asked is given up.
    Won(T),
    /// Nobody has answered for so long that another one may be asked.
    Late,
    /// All that were asked have failed; this is how the last did.
    Lost(E),
}

impl<'a, T, E> Race<'a, T, E> {
    pub(crate) fn new(first: BoxFuture<'a, Tried<T, E>>, hedge: &Hedge) -> Self {
        Self {
            running: vec![first],
            timer: Box::pin(tokio::time::sleep(hedge.after)),
            after: hedge.after,
            left: hedge.max,
        }
    }

    /// Another one is asked.
    pub(crate) fn join(&mut self, other: BoxFuture<'a, Tried<T, E>>) {
        self.running.push(other);
    }

    /// Nobody else can be asked.
    pub(crate) fn close(&mut self) {
        self.left = 0;
    }

    /// What happens next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Next<T, E> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next<T, E>> {
        let mut at = 0;
        while let Some(running) = self.running.get_mut(at) {
            match running.as_mut().poll(cx) {
                Poll::Ready(Ok(won)) => return Poll::Ready(Next::Won(won)),
                Poll::Ready(Err(error)) => {
                    drop(self.running.swap_remove(at));
                    if self.running.is_empty() {
                        return Poll::Ready(Next::Lost(error));
                    }
                }
                Poll::Pending => at += 1,
            }
        }
        if self.left > 0 && self.timer.as_mut().poll(cx).is_ready() {
            self.left -= 1;
            self.timer.as_mut().reset(Instant::now() + self.after);
            return Poll::Ready(Next::Late);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::time::Duration;

    fn hedge(max: u32) -> Hedge {
        Hedge {
            after: Duration::from_secs(1),
            max,
        }
    }

    fn after<'a>(
        seconds: u64,
        tried: Tried<u32, &'static str>,
    ) -> BoxFuture<'a, Tried<u32, &'static str>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            tried
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_wins() {
        let mut race = Race::new(after(10, Ok(1)), &hedge(2));
        assert!(matches!(race.next().await, Next::Late));
        race.join(after(3, Err("no")));
        assert!(matches!(race.next().await, Next::Late));
        race.join(after(2, Ok(3)));
        // No more than two are asked, and the failure of one is not that of all.
        assert!(matches!(race.next().await, Next::Won(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn all_have_to_fail() {
        let mut race = Race::new(Box::pin(ready(Err("first"))), &hedge(1));
        assert!(matches!(race.next().await, Next::<u32, _>::Lost("first")));
        let mut race = Race::new(after(5, Err("first")), &hedge(1));
        assert!(matches!(race.next().await, Next::Late));
        race.join(after(1, Err("second")));
        assert!(matches!(race.next().await, Next::<u32, _>::Lost("first")));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_who_may_not_be() {
        let mut race: Race<'_, u32, &str> = Race::new(Box::pin(pending()), &hedge(3));
        race.close();
        let waited = tokio::time::timeout(Duration::from_secs(60), race.next());
        assert!(waited.await.is_err());
    }
}
