//! What a listener counts.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use oxy_core::{Ended, ErrorKind, FlowInfo, Layer, Side, Summary};
use oxy_http::ExchangeSummary;

use super::exposition::Page;

/// What one listener counts.
#[derive(Debug)]
pub(crate) struct Books {
    name: String,
    is_http: bool,
    shards: Box<[Shard]>,
    /// The byte counts that were shown last, so that a flow which ends while they are added up does not let them fall.
    shown: Mutex<[u64; 2]>,
}

/// What one thread counts for one listener. Two cache lines, as the prefetcher reads them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    opened: [AtomicU64; LAYERS.len()],
    closed: [AtomicU64; LAYERS.len()],
    /// Of flows that have ended.
    received: AtomicU64,
    sent: AtomicU64,
    statuses: [AtomicU64; STATUSES.len()],
    durations: [AtomicU64; BUCKETS.len() + 1],
    /// In nanoseconds.
    total: AtomicU64,
    upstream: AtomicU64,
    reused: AtomicU64,
    retries: AtomicU64,
    /// Errors are rare, or somebody's attack; then the lock is this thread's own all the same.
    exchange_errors: Mutex<Errors>,
    flow_errors: Mutex<Errors>,
}

/// Counts by side and kind, whose names are a bounded set.
type Errors = BTreeMap<(&'static str, &'static str), u64>;

const LAYERS: [&str; 8] = [
    "tcp", "unix", "udp", "connect", "upgrade", "tls", "http", "other",
];

/// The first is for exchanges that ended without a response.
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The histogram's upper bounds: nanoseconds to compare with, and seconds to show.
const BUCKETS: [(u64, &str); 16] = [
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
];

fn layer(layer: Layer) -> usize {
    match layer {
        Layer::Tcp => 0,
        Layer::Unix => 1,
        Layer::Udp => 2,
        Layer::Connect => 3,
        Layer::Upgrade => 4,
        Layer::Tls => 5,
        Layer::Http => 6,
        _ => 7,
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

/// A number for this thread, from 0 on.
pub(crate) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static THREAD: Cell<Option<usize>> = const { Cell::new(None) });
    THREAD.get().unwrap_or_else(|| {
        let thread = THREADS.fetch_add(1, Relaxed);
        THREAD.set(Some(thread));
        thread
    })
}

impl Books {
    /// The books of the listener `name`, for `threads` threads; more of them share.
    pub(crate) fn new(name: &str, is_http: bool, threads: usize) -> Self {
        Self {
            name: name.into(),
            is_http,
            shards: (0..threads.max(1)).map(|_| Shard::default()).collect(),
            shown: Mutex::default(),
        }
    }

    /// This thread's shard.
    fn shard(&self) -> &Shard {
        &self.shards[thread_number() % self.shards.len()]
    }

    /// Whether they are those of a listener for HTTP.
    pub(crate) fn is_http(&self) -> bool {
        self.is_http
    }

    /// A flow has been opened.
    pub(crate) fn opened(&self, info: &FlowInfo) {
        add(&self.shard().opened[layer(info.layer)], 1);
    }

    /// A flow has ended. Where another lay in it, that has told of what it failed of.
    pub(crate) fn closed(&self, summary: &Summary, lifted: bool) {
        let shard = self.shard();
        add(&shard.closed[layer(summary.info.layer)], 1);
        // The bytes of a tunnel have crossed the connection beneath it.
        if summary.info.parent.is_none() {
            add(&shard.received, summary.received);
            add(&shard.sent, summary.sent);
        }
        match summary.ended {
            _ if lifted => {}
            Ended::Done => {}
            Ended::Failed(kind, side) => count(&shard.flow_errors, side, kind.name()),
            Ended::Cut => count(&shard.flow_errors, Side::Local, "cut"),
        }
    }

    /// An exchange is over.
    pub(crate) fn exchange(&self, summary: &ExchangeSummary<'_>) {
        let (nanos, status) = (summary.took().as_nanos() as u64, summary.status / 100);
        self.took(
            nanos,
            usize::from(status),
            summary.upstream.is_some(),
            summary.reused,
        );
        if summary.retries > 0 {
            add(&self.shard().retries, summary.retries.into());
        }
        if let Some((kind, side)) = summary.error {
            self.failed(kind, side);
        }
    }

    fn took(&self, nanos: u64, class: usize, upstream: bool, reused: bool) {
        let shard = self.shard();
        let bucket = BUCKETS.iter().position(|(bound, _)| nanos <= *bound);
        add(&shard.durations[bucket.unwrap_or(BUCKETS.len())], 1);
        add(&shard.total, nanos);
        add(shard.statuses.get(class).unwrap_or(&shard.statuses[0]), 1);
        if upstream {
            add(&shard.upstream, 1);
        }
        if reused {
            add(&shard.reused, 1);
        }
    }

    #[cold]
    fn failed(&self, kind: ErrorKind, side: Side) {
        count(&self.shard().exchange_errors, side, kind.name());
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards
            .iter()
            .map(|shard| of(shard).load(Relaxed))
            .sum()
    }

    fn errors(&self, of: impl Fn(&Shard) -> &Mutex<Errors>) -> Errors {
        let mut all = Errors::new();
        for shard in &self.shards {
            let errors = of(shard).lock().unwrap_or_else(PoisonError::into_inner);
            for (name, n) in errors.iter() {
                *all.entry(*name).or_default() += n;
            }
        }
        all
    }

    /// Bytes received and sent, with those of the flows that are `open`; they never fall.
    fn bytes(&self, open: &[Arc<FlowInfo>]) -> [u64; 2] {
        let mut bytes = [self.sum(|s| &s.received), self.sum(|s| &s.sent)];
        for info in open {
            if info.parent.is_none() && *info.listener == *self.name {
                bytes[0] += info.meter().received();
                bytes[1] += info.meter().sent();
            }
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = [shown[0].max(bytes[0]), shown[1].max(bytes[1])];
        *shown
    }
}

#[cold]
fn count(errors: &Mutex<Errors>, side: Side, kind: &'static str) {
    let side = match side {
        Side::Down => "client",
        Side::Up => "upstream",
        Side::Local => "local",
    };
    let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
    *errors.entry((side, kind)).or_default() += 1;
}

/// Writes the books of all listeners.
pub(super) fn write(page: &mut Page, listeners: &[Arc<Books>], open: &[Arc<FlowInfo>]) {
    // Ends are read before beginnings, so that there are never more of them.
    let closed: Vec<[u64; LAYERS.len()]> = listeners
        .iter()
        .map(|books| std::array::from_fn(|layer| books.sum(|s| &s.closed[layer])))
        .collect();
    let opened: Vec<[u64; LAYERS.len()]> = listeners
        .iter()
        .map(|books| std::array::from_fn(|layer| books.sum(|s| &s.opened[layer])))
        .collect();
    let mut flows = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize, usize) -> u64| {
        page.family(name, kind, help);
        for (number, books) in listeners.iter().enumerate() {
            for (layer, label) in LAYERS.iter().enumerate() {
                if opened[number][layer] > 0 {
                    let labels = [("listener", books.name.as_str()), ("layer", *label)];
                    page.sample(name, &labels, value(number, layer));
                }
            }
        }
    };
    flows(
        "oxy_flows_opened_total",
        "counter",
        "Flows that were opened: connections, sessions, and the tunnels inside them.",
        &|number, layer| opened[number][layer],
    );
    flows(
        "oxy_flows_open",
        "gauge",
        "Flows that are open.",
        &|number, layer| opened[number][layer].saturating_sub(closed[number][layer]),
    );
    failures(
        page,
        "oxy_flow_errors_total",
        "Flows that ended by an error, by whose it was.",
        listeners.iter(),
        |shard| &shard.flow_errors,
    );

    let bytes: Vec<_> = listeners.iter().map(|books| books.bytes(open)).collect();
    for (which, name, help) in [
        (
            0,
            "oxy_received_bytes_total",
            "Bytes that came from clients.",
        ),
        (1, "oxy_sent_bytes_total", "Bytes that went to clients."),
    ] {
        page.family(name, "counter", help);
        for (books, bytes) in listeners.iter().zip(&bytes) {
            page.sample(name, &[("listener", &books.name)], bytes[which]);
        }
    }
    exchanges(page, listeners);
}

fn exchanges(page: &mut Page, listeners: &[Arc<Books>]) {
    let http = || listeners.iter().filter(|books| books.is_http);
    page.family(
        "oxy_http_requests_total",
        "counter",
        "Requests that are over, by the class of their status; none is without a response.",
    );
    for books in http() {
        for (class, label) in STATUSES.iter().enumerate() {
            let labels = [("listener", books.name.as_str()), ("status", *label)];
            let value = books.sum(|s| &s.statuses[class]);
            page.sample("oxy_http_requests_total", &labels, value);
        }
    }
    page.family(
        "oxy_http_request_duration_seconds",
        "histogram",
        "Time from a request's head to its response's end.",
    );
    for books in http() {
        durations(page, books);
    }
    failures(
        page,
        "oxy_http_errors_total",
        "Requests that failed, by whose error it was.",
        http(),
        |shard| &shard.exchange_errors,
    );
    let mut counter = |name: &str, help: &str, of: fn(&Shard) -> &AtomicU64| {
        page.family(name, "counter", help);
        for books in http() {
            page.sample(name, &[("listener", &books.name)], books.sum(of));
        }
    };
    counter(
        "oxy_http_upstream_requests_total",
        "Requests that were meant for an upstream.",
        |shard| &shard.upstream,
    );
    counter(
        "oxy_http_upstream_reused_total",
        "Requests that went by a connection which had been used before.",
        |shard| &shard.reused,
    );
    counter(
        "oxy_http_retries_total",
        "Tries after the first.",
        |shard| &shard.retries,
    );
}

fn durations(page: &mut Page, books: &Books) {
    let name = books.name.as_str();
    let mut count = 0;
    let bounds = BUCKETS.iter().map(|(_, bound)| *bound);
    for (bucket, bound) in bounds.chain(["+Inf"]).enumerate() {
        count += books.sum(|s| &s.durations[bucket]);
        page.sample(
            "oxy_http_request_duration_seconds_bucket",
            &[("listener", name), ("le", bound)],
            count,
        );
    }
    let labels = [("listener", name)];
    let total = books.sum(|s| &s.total) as f64 / 1e9;
    page.sample("oxy_http_request_duration_seconds_sum", &labels, total);
    page.sample("oxy_http_request_duration_seconds_count", &labels, count);
}

fn failures<'a>(
    page: &mut Page,
    name: &str,
    help: &str,
    listeners: impl Iterator<Item = &'a Arc<Books>>,
    of: fn(&Shard) -> &Mutex<Errors>,
) {
    page.family(name, "counter", help);
    for books in listeners {
        for ((side, kind), n) in books.errors(of) {
            let labels = [
                ("listener", books.name.as_str()),
                ("side", side),
                ("kind", kind),
            ];
            page.sample(name, &labels, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_apart_is_added_up() {
        let books = Arc::new(Books::new("main", true, 2));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let books = books.clone();
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        books.took(1_000_001, 2, true, true);
                    }
                    books.failed(ErrorKind::Timeout, Side::Up);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let mut page = Page::default();
        write(&mut page, &[books], &[]);
        let text = page.into_text();
        for line in [
            "oxy_http_requests_total{listener=\"main\",status=\"2xx\"} 3000",
            "oxy_http_request_duration_seconds_bucket{listener=\"main\",le=\"0.001\"} 0",
            "oxy_http_request_duration_seconds_bucket{listener=\"main\",le=\"0.0025\"} 3000",
            "oxy_http_request_duration_seconds_bucket{listener=\"main\",le=\"+Inf\"} 3000",
            "oxy_http_request_duration_seconds_sum{listener=\"main\"} 3.000003",
            "oxy_http_request_duration_seconds_count{listener=\"main\"} 3000",
            "oxy_http_errors_total{listener=\"main\",side=\"upstream\",kind=\"timeout\"} 3",
            "oxy_http_upstream_reused_total{listener=\"main\"} 3000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn bounds_are_shown_as_they_are_compared() {
        for (nanos, seconds) in BUCKETS {
            let shown: f64 = seconds.parse().unwrap();
            assert!((shown * 1e9 - nanos as f64).abs() < 1.0, "{seconds}");
        }
        assert!(BUCKETS.is_sorted());
    }
}
