//! Work that is done for a client for as long as it is there.

use std::pin::Pin;
use std::task::{Context, Poll};

use oxy_core::{Error, ErrorKind, Result, Side};
use pin_project_lite::pin_project;

use crate::client::Client;
use crate::pace::Pace;
use crate::waits::{self, Waits};

pin_project! {
    /// Does `work` unless the client gives the exchange up first, or a body that the work reads stalls or drips. What else
    /// the work waits for is its own affair.
    pub(crate) struct Attended<'a, F> {
        client: &'a Client,
        #[pin]
        work: F,
        // Whether a body is waited for, and the alarm set.
        waiting: bool,
        came: u64,
        pace: Pace,
    }
}

impl<'a, F> Attended<'a, F> {
    pub(crate) fn by(client: &'a Client, work: F) -> Self {
        Self {
            client,
            work,
            waiting: false,
            came: 0,
            pace: Pace::default(),
        }
    }
}

impl<T, F: Future<Output = Result<T>>> Future for Attended<'_, F> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        let (alarm, options) = (this.client.alarm(), this.client.options());
        let (done, Waits { on, came }) = waits::during(|| this.work.poll(cx));
        if let (Poll::Pending, Some(side)) = (&done, on) {
            if !*this.waiting || came > 0 {
                alarm.set(options.timeouts.body);
            }
            *this.waiting = true;
            *this.came += came;
            let client = side == Side::Down;
            this.pace
                .pause(alarm.now(), *this.came, client, &options.body)?;
            if alarm.poll_expired(cx).is_ready() {
                let error = Error::new(ErrorKind::Timeout, side);
                return Poll::Ready(Err(error.context("a hook waits for a body")));
            }
        } else if std::mem::take(this.waiting) {
            alarm.clear();
        }
        if done.is_pending() && this.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(gone()));
        }
        done
    }
}

/// The client has given the exchange up.
pub(crate) fn gone() -> Error {
    Error::down(ErrorKind::Closed).context("the client is gone")
}
