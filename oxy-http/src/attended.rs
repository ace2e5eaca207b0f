//! Work that is done for a client for as long as it is there.

use std::pin::Pin;
use std::task::{Context, Poll};

use oxy_core::{Error, ErrorKind, Link, Result};
use pin_project_lite::pin_project;

pin_project! {
    /// Does `work` unless the client resets its connection first.
    pub(crate) struct Attended<'a, F> {
        client: &'a Link,
        #[pin]
        work: F,
    }
}

impl<'a, F> Attended<'a, F> {
    pub(crate) fn by(client: &'a Link, work: F) -> Self {
        Self { client, work }
    }
}

impl<T, F: Future<Output = Result<T>>> Future for Attended<'_, F> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        let done = this.work.poll(cx);
        if done.is_pending() && this.client.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(gone()));
        }
        done
    }
}

/// The client has reset its connection.
pub(crate) fn gone() -> Error {
    Error::down(ErrorKind::Closed).context("the client is gone")
}
