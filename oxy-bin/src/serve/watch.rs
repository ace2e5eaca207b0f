//! The hooks that count and log.

use std::sync::Arc;

use oxy_core::{FlowHooks, FlowInfo, Summary};
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

impl FlowHooks for Watch {
    type Conn = ();

    fn conn(&self, info: &FlowInfo, _: Option<&()>) {
        if let Some(books) = &self.books {
            books.opened(info);
        }
    }

    fn on_close(&self, (): &(), summary: &Summary) {
        if let Some(books) = &self.books {
            books.closed(summary);
        }
        if let Some(log) = &self.log
            && (!self.is_http || summary.info.parent.is_some())
        {
            log.flow(summary);
        }
    }
}

impl HttpHooks for Watch {
    type Cx = ();

    fn on_finish(&self, at: At<'_>, (): (), summary: &ExchangeSummary<'_>) {
        if let Some(books) = &self.books {
            books.exchange(summary);
        }
        if let Some(log) = &self.log {
            log.exchange(at.info, summary);
        }
    }
}
