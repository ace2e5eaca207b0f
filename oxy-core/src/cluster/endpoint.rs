//! One endpoint: where it is, how it fares, and what was sent to it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::Gauge;
use super::rng::hash_key;
use crate::target::{HostName, Target};

/// A place that work is sent to.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    target: Target,
    host: Option<HostName>,
    labels: BTreeMap<String, String>,
    pub(super) condition: Arc<Condition>,
}

impl Endpoint {
    pub(super) fn new(
        target: Target,
        host: Option<HostName>,
        labels: BTreeMap<String, String>,
        condition: Arc<Condition>,
    ) -> Self {
        Self {
            id: EndpointId::of(&target),
            target,
            host,
            labels,
            condition,
        }
    }

    /// What it goes by in sticky sessions: a hash of its target.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The name that it was found by, where its target is an address from DNS: what it is called, and what its certificate
    /// must be for ([`crate::offramp::Offramp::open_as`]). Of a service it is the name of the machine, not of the service.
    pub fn host(&self) -> Option<&HostName> {
        self.host.as_ref()
    }

    /// What its settings say of it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether neither health checks nor what was sent to it say that it should be left alone.
    pub fn is_usable(&self) -> bool {
        self.condition.is_usable()
    }

    /// Whether it is the same with the same things known of it.
    pub(super) fn is(
        &self,
        target: &Target,
        host: Option<&HostName>,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        self.target == *target && self.host.as_ref() == host && self.labels == *labels
    }
}

/// An endpoint's name in a cookie: 64 bits that stay the same in every process and release.
///
/// As text it is 16 hexadecimal digits. It is a hash of the target and no secret: who knows which addresses there can be
/// finds out which one it is. Seal it where clients must not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    /// The one of the endpoint at `target`.
    pub fn of(target: &Target) -> Self {
        Self(hash_key(target.to_string().as_bytes()))
    }

    /// Its bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint's id has 16 hexadecimal digits")]
pub struct NoEndpointId;

impl FromStr for EndpointId {
    type Err = NoEndpointId;

    fn from_str(text: &str) -> Result<Self, NoEndpointId> {
        // `from_str_radix` reads a sign, too.
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoEndpointId);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| NoEndpointId)
    }
}

/// How an endpoint fares, as all workers see it. It outlives updates of the cluster.
#[derive(Debug)]
pub(super) struct Condition {
    /// What speaks against it: [`FAILS_CHECKS`] and the like.
    against: AtomicU8,
    /// Requests in a row that got no answer. Written only when one fails, and by the first that does not thereafter.
    failures: AtomicU32,
    /// Answers in a row that said that it cannot serve. Written as rarely.
    gateways: AtomicU32,
    pub(super) connections: Gauge,
    course: Mutex<Course>,
    tallies: Mutex<Tallies>,
}

/// Health checks fail.
const FAILS_CHECKS: u8 = 1;
/// It was ejected for what it did with requests.
const EJECTED: u8 = 2;
/// No health check is over yet, and it is not to be used before.
const UNCHECKED: u8 = 4;

/// What has become of an endpoint. Changes rarely, and under the cluster's lock.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) ejected_until: Option<Instant>,
    /// How many ejections count for the length of the next one.
    pub(super) ejections: u32,
    pub(super) last_ejected_by: Option<Cause>,
    /// When the last ejection was over.
    pub(super) returned: Option<Instant>,
    /// When its slow start began.
    pub(super) ramp: Option<Instant>,
    pub(super) checked: Checked,
    /// Totals at the beginning of the interval in which rates are counted.
    pub(super) window: Totals,
}

/// What its health checks have said.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Whether a check was ever over.
    pub(super) once: bool,
    /// Checks in a row that say other than what holds now.
    pub(super) streak: u32,
    /// Why the last one failed, if it did.
    pub(super) error: Option<String>,
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Requests in a row got no answer.
    Failures,
    /// Answers in a row said that it cannot serve.
    Gateway,
    /// Too large a part of an interval's requests failed.
    FailureRate,
    /// It failed much more than the others.
    Deviation,
}

impl Cause {
    /// A short name for metrics and logs: a bounded set of values.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Gateway => "gateway",
            Self::FailureRate => "failure_rate",
            Self::Deviation => "deviation",
        }
    }
}

#[derive(Debug, Default)]
struct Tallies {
    live: Vec<Arc<Tally>>,
    /// What those have counted that are gone.
    past: Totals,
}

impl Condition {
    pub(super) fn new(max_connections: Option<u32>) -> Self {
        Self {
            against: AtomicU8::new(0),
            failures: AtomicU32::new(0),
            gateways: AtomicU32::new(0),
            connections: Gauge::new(max_connections),
            course: Mutex::default(),
            tallies: Mutex::default(),
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.against.load(Relaxed) == 0
    }

    pub(super) fn fails_checks(&self) -> bool {
        self.has(FAILS_CHECKS)
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.has(EJECTED)
    }

    pub(super) fn is_unchecked(&self) -> bool {
        self.has(UNCHECKED)
    }

    pub(super) fn set_fails_checks(&self, on: bool) {
        self.set(FAILS_CHECKS, on);
    }

    pub(super) fn set_ejected(&self, on: bool) {
        self.set(EJECTED, on);
        self.failures.store(0, Relaxed);
        self.gateways.store(0, Relaxed);
    }

    pub(super) fn set_unchecked(&self, on: bool) {
        self.set(UNCHECKED, on);
    }

    fn has(&self, flag: u8) -> bool {
        self.against.load(Relaxed) & flag != 0
    }

    fn set(&self, flag: u8, on: bool) {
        if on {
            self.against.fetch_or(flag, Relaxed);
        } else {
            self.against.fetch_and(!flag, Relaxed);
        }
    }

    /// It has answered, and well.
    pub(super) fn succeeded(&self) {
        clear(&self.failures);
        clear(&self.gateways);
    }

    /// It has answered that it cannot serve. Says how many times in a row it did.
    pub(super) fn answered_badly(&self) -> u32 {
        clear(&self.failures);
        self.gateways.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// It has not answered. Says how many times in a row it did not.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Begins to count anew.
    pub(super) fn forgive(&self) {
        self.succeeded();
    }

    pub(super) fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tally for a worker.
    pub(super) fn enlist(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        self.tallies().live.push(tally.clone());
        tally
    }

    /// Takes over what `tally` has counted.
    pub(super) fn retire(&self, tally: &Arc<Tally>) {
        let mut tallies = self.tallies();
        if let Some(at) = tallies.live.iter().position(|it| Arc::ptr_eq(it, tally)) {
            tallies.live.swap_remove(at);
            tallies.past.add(tally);
        }
    }

    /// What all workers have counted.
    pub(super) fn totals(&self) -> Totals {
        let tallies = self.tallies();
        let mut totals = tallies.past;
        for tally in &tallies.live {
            totals.add(tally);
        }
        totals
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets a counter to 0 without writing where it is already, so that its cache line stays shared.
fn clear(counter: &AtomicU32) {
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
}

/// What one worker has sent to an endpoint. Only that worker writes it, so it has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Tally {
    in_flight: AtomicU32,
    pub(super) connections: AtomicU32,
    picked: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    gateways: AtomicU64,
    /// A moving average, in nanoseconds; 0 is none yet.
    latency: AtomicU64,
}

/// How much a latency weighs in the average: an eighth, as a round trip does in that of TCP (RFC 6298).
const LATENCY_SHARE: u64 = 8;

impl Tally {
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        match self.latency.load(Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// To be called under the worker's lock.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        // Written here only, so it needs no locked addition.
        self.picked.store(self.picked.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(super) fn success(&self) {
        self.successes.fetch_add(1, Relaxed);
    }

    pub(super) fn failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn gateway(&self) {
        self.gateways.fetch_add(1, Relaxed);
    }

    pub(super) fn took(&self, latency: Duration) {
        let new = u64::try_from(latency.as_nanos())
            .unwrap_or(u64::MAX / LATENCY_SHARE)
            .clamp(1, u64::MAX / LATENCY_SHARE);
        let average = match self.latency.load(Relaxed) {
            0 => new,
            old => (old * (LATENCY_SHARE - 1) + new) / LATENCY_SHARE,
        };
        self.latency.store(average, Relaxed);
    }
}

/// What was sent to an endpoint, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Requests under way.
    pub in_flight: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Requests ever sent.
    pub picked: u64,
    /// Requests that were answered well.
    pub successes: u64,
    /// Requests that got no answer.
    pub failures: u64,
    /// Answers that said that it cannot serve.
    pub gateways: u64,
}

impl Totals {
    fn add(&mut self, tally: &Tally) {
        self.in_flight += u64::from(tally.in_flight());
        self.connections += u64::from(tally.connections.load(Relaxed));
        self.picked += tally.picked.load(Relaxed);
        self.successes += tally.successes.load(Relaxed);
        self.failures += tally.failures.load(Relaxed);
        self.gateways += tally.gateways.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        let id = EndpointId::of(&"10.0.0.1:80".parse().unwrap());
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "+123456789abcdef", "123", "0123456789abcdefg"] {
            assert_eq!(bad.parse::<EndpointId>(), Err(NoEndpointId), "{bad}");
        }
    }

    #[test]
    fn latency_is_averaged_and_does_not_overflow() {
        let tally = Tally::default();
        assert_eq!(tally.latency(), None);
        tally.took(Duration::from_millis(8));
        tally.took(Duration::from_millis(16));
        assert_eq!(tally.latency(), Some(Duration::from_millis(9)));
        tally.took(Duration::MAX);
        tally.took(Duration::MAX);
        tally.took(Duration::ZERO);
        assert!(tally.latency().is_some());
    }

    #[test]
    fn what_a_worker_counted_outlives_it() {
        let condition = Condition::new(None);
        let [one, two] = [condition.enlist(), condition.enlist()];
        one.begin();
        one.end();
        one.success();
        two.begin();
        condition.retire(&one);
        condition.retire(&one);
        let totals = condition.totals();
        assert_eq!(
            (totals.in_flight, totals.picked, totals.successes),
            (1, 2, 1)
        );
    }
}
