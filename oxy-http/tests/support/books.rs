//! What became of every request and of every flow.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use oxy_core::Verdict;
use oxy_core::{Ended, ErrorKind, Flow, FlowHooks, FlowInfo, Layer, Result, Side, Summary, Target};
use oxy_http::{At, ExchangeSummary, HttpHooks, Req, Res, Route};
use std::sync::Arc;

/// An [`ExchangeSummary`] that stays.
#[derive(Clone, Debug)]
pub struct Finished {
    pub method: String,
    pub target: String,
    pub host: String,
    pub status: u16,
    pub received: u64,
    pub sent: u64,
    pub upstream: Option<Target>,
    pub reused: bool,
    pub retries: u32,
    pub error: Option<(ErrorKind, Side)>,
}

#[derive(Default)]
pub struct Books {
    /// Requests that `on_request` saw.
    pub seen: AtomicUsize,
    pub finished: Mutex<Vec<Finished>>,
    /// Flows that were opened.
    pub opened: AtomicUsize,
    pub closed: Mutex<Vec<(Layer, Ended)>>,
}

/// Keeps the books of flows.
pub struct Flows(pub Arc<Books>);

impl FlowHooks for Flows {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), _: &mut Flow) -> Result<Verdict> {
        self.0.opened.fetch_add(1, SeqCst);
        Ok(Verdict::Continue)
    }

    fn on_close(&self, (): &(), summary: &Summary) {
        let mut closed = self.0.closed.lock().unwrap();
        closed.push((summary.info.layer, summary.ended));
    }
}

/// Keeps the books of requests, and leaves the decisions to others.
pub struct Exchanges<H> {
    pub books: Arc<Books>,
    pub inner: H,
}

impl<H: HttpHooks> HttpHooks for Exchanges<H> {
    type Cx = H::Cx;

    async fn on_request(&self, at: At<'_>, cx: &mut H::Cx, req: &mut Req) -> Result<Route> {
        self.books.seen.fetch_add(1, SeqCst);
        self.inner.on_request(at, cx, req).await
    }

    async fn on_upstream(
        &self,
        at: At<'_>,
        cx: &mut H::Cx,
        target: &Target,
        req: &mut Req,
    ) -> Result<()> {
        self.inner.on_upstream(at, cx, target, req).await
    }

    async fn on_response(&self, at: At<'_>, cx: &mut H::Cx, res: &mut Res) -> Result<()> {
        self.inner.on_response(at, cx, res).await
    }

    fn on_finish(&self, at: At<'_>, cx: H::Cx, summary: &ExchangeSummary<'_>) {
        self.books.finished.lock().unwrap().push(Finished {
            method: summary.method().into(),
            target: summary.target().into(),
            host: summary.host().into(),
            status: summary.status,
            received: summary.received,
            sent: summary.sent,
            upstream: summary.upstream.cloned(),
            reused: summary.reused,
            retries: summary.retries,
            error: summary.error,
        });
        self.inner.on_finish(at, cx, summary);
    }
}
