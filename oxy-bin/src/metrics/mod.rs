//! What is counted, and how Prometheus reads it.
//!
//! Each thread counts in a shard of its own, so that no two workers write to the same cache line; whoever reads adds the
//! shards up. An exchange costs five uncontended additions.

mod books;
mod clusters;
mod exposition;
mod observed;
mod process;
mod tls;

use std::sync::Arc;

pub(crate) use books::{Books, thread_number};
use exposition::Page;
pub(crate) use observed::Observed;
use oxy_core::FlowInfo;
use oxy_http::Flood;

use crate::access_log::Counts;
use crate::serve::Reloads;

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    observed: Arc<Observed>,
    reloads: Arc<Reloads>,
    log: Option<Arc<Counts>>,
    process: process::Process,
}

impl Metrics {
    /// The metrics of what is shown.
    pub(crate) fn new(
        observed: Arc<Observed>,
        reloads: Arc<Reloads>,
        log: Option<Arc<Counts>>,
    ) -> Self {
        Self {
            observed,
            reloads,
            log,
            process: process::Process::now(),
        }
    }

    /// All of it as Prometheus reads it, with the flows that are `open` now.
    pub(crate) fn page(&self, open: &[Arc<FlowInfo>], draining: bool) -> String {
        let mut page = Page::default();
        page.family("oxy_build_info", "gauge", "The version that runs.");
        page.sample(
            "oxy_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        page.family(
            "oxy_draining",
            "gauge",
            "Whether the process is going away.",
        );
        page.sample("oxy_draining", &[], u8::from(draining));
        let (succeeded, failed) = self.reloads.counts();
        page.family(
            "oxy_reloads_total",
            "counter",
            "Times that the settings were read again.",
        );
        for (result, count) in [("success", succeeded), ("failure", failed)] {
            page.sample("oxy_reloads_total", &[("result", result)], count);
        }
        self.shown(&mut page, open);
        page.family(
            "oxy_http2_floods_total",
            "counter",
            "HTTP/2 connections that were let go for what they sent too much of.",
        );
        for kind in Flood::ALL {
            page.sample(
                "oxy_http2_floods_total",
                &[("kind", kind.name())],
                kind.count(),
            );
        }
        if let Some(log) = &self.log {
            page.family(
                "oxy_access_log_lines_total",
                "counter",
                "Lines written to the access log.",
            );
            page.sample("oxy_access_log_lines_total", &[], log.written());
            page.family(
                "oxy_access_log_dropped_total",
                "counter",
                "Lines that found the access log's queue full, or could not be written.",
            );
            page.sample("oxy_access_log_dropped_total", &[], log.dropped());
        }
        self.process.write(&mut page);
        page.into_text()
    }

    fn shown(&self, page: &mut Page, open: &[Arc<FlowInfo>]) {
        let reports: Vec<_> = self
            .observed
            .clusters()
            .iter()
            .map(|it| it.report())
            .collect();
        let shown = self.observed.shown();
        books::write(page, &shown.books, open);
        tls::write(page, &shown);
        clusters::write(page, &reports);
    }

    /// What is shown.
    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// How reloads go.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }
}

/// The flows that are open on all workers, oldest first.
pub(crate) fn open_flows(workers: &[oxy_core::Worker]) -> Vec<Arc<FlowInfo>> {
    let mut flows: Vec<_> = workers.iter().flat_map(oxy_core::Worker::flows).collect();
    flows.sort_unstable_by_key(|info| (info.started, info.id));
    flows
}

/// How many shards a listener's books need, for one on each of the threads that count in them.
pub(crate) fn shards(workers: Option<usize>) -> usize {
    workers
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1)
        .max(1)
}
