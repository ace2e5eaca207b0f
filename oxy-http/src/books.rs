//! An exchange's books.

use std::time::Instant;

use oxy_core::cluster::Verdict;
use oxy_core::{Error, ErrorKind, Side};

use crate::asked::Asked;
use crate::client::Client;
use crate::forward::Course;
use crate::hooks::{At, ExchangeSummary, HttpHooks};

/// How an exchange goes, with the application's state of it. [`HttpHooks::on_finish`] is called when the books are closed
/// or dropped, so that it is called once whatever ends the exchange.
pub(crate) struct Books<'a, C: Sync + 'static, H: HttpHooks<C>> {
    hooks: &'a H,
    pub(crate) at: At<'a, C>,
    pub(crate) cx: H::Cx,
    pub(crate) asked: Asked,
    pub(crate) client: &'a Client,
    started: Instant,
    first_byte: Option<Instant>,
    status: u16,
    /// Bytes of the response's body that went out.
    pub(crate) sent: u64,
    pub(crate) course: Course,
    /// When the exchange has to be over.
    pub(crate) deadline: Option<tokio::time::Instant>,
    /// The first thing that went wrong; that nobody closed the books, until somebody does.
    error: Option<(ErrorKind, Side)>,
    closed: bool,
}

impl<'a, C: Sync + 'static, H: HttpHooks<C>> Books<'a, C, H> {
    pub(crate) fn open(hooks: &'a H, at: At<'a, C>, asked: Asked, client: &'a Client) -> Self {
        Self {
            hooks,
            at,
            cx: H::Cx::default(),
            asked,
            client,
            started: Instant::now(),
            first_byte: None,
            status: 0,
            sent: 0,
            course: Course::default(),
            deadline: None,
            error: None,
            closed: false,
        }
    }

    /// A final head is on its way.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
        self.first_byte = Some(Instant::now());
    }

    /// Something went wrong.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.error.get_or_insert((error.kind(), error.side()));
    }

    /// What the exchange says of the endpoint that it has gone to last.
    fn verdict(&self) -> Verdict {
        match (self.error, self.status) {
            (Some((_, Side::Up)), _) => Verdict::Failure,
            (Some(_), _) => Verdict::Cancelled,
            (None, status @ 500..) => Verdict::Gateway(status),
            (None, _) => Verdict::Success,
        }
    }

    /// The exchange has come to its end; the books are dropped now, or soon.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }
}

impl<C: Sync + 'static, H: HttpHooks<C>> Drop for Books<'_, C, H> {
    fn drop(&mut self) {
        if !self.closed {
            // Only a drain that has run out of time drops an exchange half-way.
            self.error.get_or_insert((ErrorKind::Draining, Side::Local));
        }
        let first_byte = self.first_byte.map(|at| at - self.started);
        let verdict = self.verdict();
        self.course.finish(verdict, first_byte);
        let upstream = self.course.upstream.take();
        let summary = ExchangeSummary {
            asked: &self.asked,
            started: self.started,
            version: self.asked.version(),
            status: self.status,
            received: self.client.received(),
            sent: self.sent,
            upstream: upstream.as_ref().map(|endpoint| &endpoint.target),
            reused: self.course.reused,
            retries: self.course.retries,
            first_byte,
            error: self.error,
        };
        let cx = std::mem::take(&mut self.cx);
        self.hooks.on_finish(self.at, cx, &summary);
    }
}
