//! The hooks that count and log.

use std::sync::{Arc, Mutex, PoisonError};

use oxy_core::{Ended, ErrorKind, FlowHooks, FlowInfo, Side, Summary};
use oxy_http::{At, ExchangeSummary, HttpHooks};

use crate::access_log::AccessLog;
use crate::metrics::Books;

/// Counts and logs what a listener does, each if it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) books: Option<Arc<Books>>,
    pub(super) log: Option<AccessLog>,
    /// Whether connections carry exchanges, which are logged instead of them.
    pub(super) is_http: bool,
}

/// What a connection's last exchange failed of, if it did: when the connection fails of the same, that is no news.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Option<(ErrorKind, Side)>>);

impl Watch {
    /// Whether a flow is to be logged that has ended: if no exchange has told of its end.
    fn is_news(&self, told: &Told, summary: &Summary) -> bool {
        let is_http = self.is_http && summary.info.parent.is_none();
        match summary.ended {
            // It may have been no request at all, or one that could not be read.
            Ended::Failed(kind, side) if is_http => {
                let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
                *told != Some((kind, side))
            }
            _ => !is_http,
        }
    }
}

impl FlowHooks for Watch {
    type Conn = Told;

    fn conn(&self, info: &FlowInfo, _: Option<&Told>) -> Told {
        if let Some(books) = &self.books {
            books.opened(info);
        }
        Told::default()
    }

    fn on_close(&self, told: &Told, summary: &Summary) {
        if let Some(books) = &self.books {
            books.closed(summary);
        }
        if let Some(log) = &self.log
            && self.is_news(told, summary)
        {
            log.flow(summary);
        }
    }
}

impl HttpHooks<Told> for Watch {
    type Cx = ();

    fn on_finish(&self, at: At<'_, Told>, (): (), summary: &ExchangeSummary<'_>) {
        if let Some(books) = &self.books {
            books.exchange(summary);
        }
        if let Some(log) = &self.log {
            *at.conn.0.lock().unwrap_or_else(PoisonError::into_inner) = summary.error;
            log.exchange(at.info, summary);
        }
    }
}
