//! The hooks of a listener: they count and log, tell TLS apart by the names that clients ask for, and tell origins who clients
//! are.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderName;
use oxy_core::{
    Ended, ErrorKind, Flow, FlowHooks, FlowInfo, Layer, Result, Side, Summary, Verdict, pinned,
};
use oxy_http::{At, ExchangeSummary, HttpHooks, Req, Route};

use super::identity;
use super::switch::{Held, Switch};
use crate::access_log::{AccessLog, Who};
use crate::metrics::Books;

/// What a listener does besides, each if it is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct App {
    pub(super) books: Option<Arc<Books>>,
    pub(super) log: Option<AccessLog>,
    /// Whether connections carry exchanges, which are logged instead of them.
    pub(super) is_http: bool,
    /// Where connections go by the name that their clients ask for.
    pub(super) switch: Option<Switch>,
    /// The field that tells origins who a client is.
    pub(super) client_identity: Option<HeaderName>,
}

/// What is kept with a flow.
#[derive(Debug, Default)]
pub(super) struct Conn {
    /// What its last exchange failed of, if it did: when the connection fails of the same, that is no news.
    told: Told,
    /// Whether another flow lies in it, which is told of in its place.
    lifted: AtomicBool,
    /// Whether it is the plaintext of such a flow, and no tunnel.
    plain: bool,
    /// What counts as under way at an endpoint.
    held: Option<Held>,
    /// What is logged of it with each of its exchanges.
    who: Who,
}

/// What the last exchange failed of.
#[derive(Debug, Default)]
struct Told {
    /// Whether there has been anything to tell: hardly ever, and then nothing is locked.
    any: AtomicBool,
    last: Mutex<Option<(ErrorKind, Side)>>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Option<(ErrorKind, Side)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, error: Option<(ErrorKind, Side)>) {
        if error.is_some() || self.any.load(Relaxed) {
            self.any.store(true, Relaxed);
            *self.lock() = error;
        }
    }
}

impl App {
    /// Whether nobody looks: hooks that do nothing cost nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.books.is_none()
            && self.log.is_none()
            && self.switch.is_none()
            && self.client_identity.is_none()
    }

    /// Whether a flow is to be logged that has ended: if nothing else has told of its end.
    fn is_news(&self, conn: &Conn, summary: &Summary) -> bool {
        if conn.lifted.load(Relaxed) {
            return false;
        }
        // What was passed on as it is carried no exchange that we know of.
        let is_http =
            self.is_http && conn.held.is_none() && (summary.info.parent.is_none() || conn.plain);
        match summary.ended {
            // It may have been no request at all, or one that could not be read.
            Ended::Failed(kind, side) if is_http => *conn.told.lock() != Some((kind, side)),
            _ => !is_http,
        }
    }
}

impl FlowHooks for App {
    type Conn = Conn;

    fn conn(&self, info: &FlowInfo, parent: Option<&Conn>) -> Conn {
        if let Some(books) = &self.books {
            books.opened(info);
        }
        let plain = info.layer == Layer::Tls;
        if let (true, Some(parent)) = (plain, parent) {
            parent.lifted.store(true, Relaxed);
        }
        Conn {
            plain,
            ..Conn::default()
        }
    }

    async fn on_flow(&self, conn: &mut Conn, flow: &mut Flow) -> Result<Verdict> {
        match &self.switch {
            Some(switch) if flow.info.parent.is_none() => {
                // What it takes to decide is freed before the flow goes on.
                let (verdict, held) = pinned(|| switch.decide(flow)).await?;
                conn.held = held;
                Ok(verdict)
            }
            _ => Ok(Verdict::Continue),
        }
    }

    fn on_close(&self, conn: &Conn, summary: &Summary) {
        if let Some(books) = &self.books {
            books.closed(summary, conn.lifted.load(Relaxed));
        }
        if let Some(log) = &self.log
            && self.is_news(conn, summary)
        {
            log.flow(summary);
        }
    }
}

impl HttpHooks<Conn> for App {
    type Cx = ();

    async fn on_request(&self, at: At<'_, Conn>, (): &mut (), req: &mut Req) -> Result<Route> {
        if let Some(field) = &self.client_identity {
            identity::tell(field, at.info, req);
        }
        Ok(Route::Table)
    }

    fn on_finish(&self, at: At<'_, Conn>, (): (), summary: &ExchangeSummary<'_>) {
        if let Some(books) = &self.books {
            books.exchange(summary);
        }
        if let Some(log) = &self.log {
            at.conn.told.set(summary.error);
            log.exchange(&at.conn.who, at.info, summary);
        }
    }
}
