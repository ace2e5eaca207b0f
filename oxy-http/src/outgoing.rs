//! Messages on their way out, in whichever version they are written.

use std::task::{Context, Poll, ready};

use oxy_core::clock::Alarm;
use oxy_core::{Error, ErrorKind, Result, Side};

use crate::body::Body;
use crate::options::HttpOptions;
use crate::pace::Pace;

/// A message that is being written: its head has been decided, its body goes as it comes.
pub(crate) trait Outgoing: Send + Sync {
    /// Writes on. Ready once everything has been handed over. An error tells by its side whether reading the body or
    /// writing it failed. Cancel safe.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// Bytes of payload that have been staged so far: grows as long as there is progress.
    fn payload(&self) -> u64;

    /// Whom the last `Pending` waited for.
    fn waits_for(&self) -> Side;

    /// What is written.
    fn body(&mut self) -> &mut Body;

    /// Keeps the body back, or lets it go. The head is written either way.
    fn hold(&mut self, held: bool);

    /// The body as it was before any of it was written, if that is still known. Nothing more is written then.
    fn take_back(&mut self) -> Option<Body> {
        None
    }

    /// The body will not be asked for by [`Outgoing::take_back`].
    fn settle(&mut self) {}

    /// How fast the client has been so far.
    fn pace(&mut self) -> &mut Pace;

    /// [`Outgoing::poll`], with `alarm` set anew whenever there is progress, and an error if the client is too slow.
    fn poll_timed(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &Alarm,
        options: &HttpOptions,
    ) -> Poll<Result<()>> {
        let before = self.payload();
        let done = self.poll(cx);
        if done.is_pending() {
            let payload = self.payload();
            if payload != before {
                alarm.set(options.timeouts.body);
            }
            let client = self.waits_for() == Side::Down;
            self.pace()
                .pause(alarm.now(), payload, client, &options.body)?;
        }
        done
    }

    /// [`Outgoing::poll_timed`] for a response: an error if nothing moves for too long.
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &Alarm,
        options: &HttpOptions,
    ) -> Poll<Result<()>> {
        match self.poll_timed(cx, alarm, options) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                ready!(alarm.poll_expired(cx));
                let error = Error::new(ErrorKind::Timeout, self.waits_for());
                Poll::Ready(Err(error.context("sending a response")))
            }
        }
    }
}
