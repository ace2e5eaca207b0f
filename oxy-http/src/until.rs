//! Work that has to be done by some time.

use std::pin::Pin;
use std::task::{Context, Poll};

use oxy_core::{Error, ErrorKind, Result};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

pin_project! {
    /// Does `work`, unless it takes longer than the exchange may.
    pub(crate) struct Until<F> {
        #[pin]
        work: F,
        // Few exchanges have one.
        deadline: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> Until<F> {
    pub(crate) fn new(deadline: Option<Instant>, work: F) -> Self {
        Self {
            work,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
        }
    }
}

impl<T, F: Future<Output = Result<T>>> Future for Until<F> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        let done = this.work.poll(cx);
        if done.is_pending()
            && let Some(deadline) = this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let error = Error::up(ErrorKind::Timeout).context("the time for the whole exchange");
            return Poll::Ready(Err(error));
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_too_long_is_given_up() {
        let now = Instant::now();
        let work = || async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        };
        let late = Until::new(Some(now + Duration::from_secs(1)), work()).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(now.elapsed() < Duration::from_secs(2));
        Until::new(Some(now + Duration::from_secs(9)), work())
            .await
            .unwrap();
        Until::new(None, work()).await.unwrap();
    }
}
