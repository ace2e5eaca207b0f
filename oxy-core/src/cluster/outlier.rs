//! Passive health: endpoints that fail what they are sent are left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::{Cause, Condition, Endpoint, Totals};
use super::spec::{ClusterSpec, OutlierOptions};
use super::{Cluster, Shared};

/// No ejection lasts longer, whatever the settings say: a day is forever, and the clock's arithmetic does not overflow.
const EJECTION_MAX: Duration = Duration::from_secs(86_400);

impl Cluster {
    /// A request has failed, the `in_a_row`th time.
    pub(super) fn suspect(&self, endpoint: &Arc<Endpoint>, cause: Cause, in_a_row: u32) {
        let threshold = self.patience.of(cause);
        let condition = &endpoint.condition;
        if threshold == 0 || in_a_row < threshold || condition.is_ejected() {
            return;
        }
        let mut shared = self.shared();
        let now = Instant::now();
        if shared.eject(endpoint, cause, now) {
            self.publish(&mut shared, now);
        } else {
            condition.forgive();
        }
    }

    /// Looks at the rates of the interval that is over.
    pub(super) fn sweep_outliers(&self) {
        let mut shared = self.shared();
        let now = Instant::now();
        let mut ejected = false;
        for (endpoint, cause) in shared.outliers() {
            ejected |= shared.eject(&endpoint, cause, now);
        }
        if ejected {
            self.publish(&mut shared, now);
        }
    }
}

impl Shared {
    /// Ejects an endpoint, unless too many are. Says whether it did.
    fn eject(&mut self, endpoint: &Arc<Endpoint>, cause: Cause, now: Instant) -> bool {
        // Those whose time is over do not count.
        for listed in &self.roster {
            end_ejection(&listed.endpoint.condition, &self.spec, now);
        }
        let condition = &endpoint.condition;
        let options = &self.spec.outlier;
        let roster = self.roster.iter().map(|listed| &listed.endpoint.condition);
        // One that an update has removed is nobody's any more.
        let is_listed = roster.clone().any(|it| Arc::ptr_eq(it, condition));
        let ejected = roster.filter(|it| it.is_ejected()).count();
        if !is_listed || condition.is_ejected() || ejected >= cap(options, self.roster.len()) {
            return false;
        }
        let mut course = condition.course();
        if let Some(returned) = course.returned {
            let quiet = now.saturating_duration_since(returned).as_nanos();
            let forgotten = quiet / options.interval.as_nanos().max(1);
            course.ejections = course
                .ejections
                .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        }
        course.ejections = course.ejections.saturating_add(1);
        let time = options
            .base_ejection
            .saturating_mul(course.ejections)
            .min(options.max_ejection.max(options.base_ejection))
            .min(EJECTION_MAX);
        course.ejected_until = Some(now + time);
        course.last_ejected_by = Some(cause);
        condition.set_ejected(true);
        tracing::warn!(
            cluster = %self.spec.name,
            endpoint = %endpoint.target(),
            cause = cause.name(),
            for_ms = time.as_millis() as u64,
            "endpoint ejected"
        );
        true
    }

    /// Which endpoints' rates were too bad in the interval that is over, and begins the next one.
    fn outliers(&self) -> Vec<(Arc<Endpoint>, Cause)> {
        let options = &self.spec.outlier;
        let mut rates = Vec::new();
        for listed in &self.roster {
            let endpoint = &listed.endpoint;
            let totals = endpoint.condition.totals();
            let mut course = endpoint.condition.course();
            let (failed, all) = since(&course.window, &totals);
            course.window = totals;
            if all >= u64::from(options.min_requests.max(1)) && !endpoint.condition.is_ejected() {
                rates.push((endpoint, failed as f64 / all as f64));
            }
        }
        if rates.len() < options.min_endpoints as usize {
            return Vec::new();
        }
        let count = rates.len() as f64;
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = rates
            .iter()
            .map(|(_, rate)| (rate - mean).powi(2))
            .sum::<f64>()
            / count;
        let tolerated = mean + variance.sqrt() * f64::from(options.deviation_thousandths) / 1000.0;
        // The worst first, as not all may be ejected.
        rates.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        rates
            .into_iter()
            .filter_map(|(endpoint, rate)| {
                let limit = f64::from(options.failure_percent);
                if options.failure_percent > 0 && rate * 100.0 >= limit {
                    Some((endpoint.clone(), Cause::FailureRate))
                } else if options.deviation_thousandths > 0 && rate > tolerated {
                    Some((endpoint.clone(), Cause::Deviation))
                } else {
                    None
                }
            })
            .collect()
    }
}

/// How many failures in a row eject, where workers can read it without a lock.
#[derive(Debug)]
pub(super) struct Patience {
    failures: AtomicU32,
    gateways: AtomicU32,
}

impl Patience {
    pub(super) fn new(options: &OutlierOptions) -> Self {
        Self {
            failures: AtomicU32::new(options.consecutive_failures),
            gateways: AtomicU32::new(options.consecutive_gateway),
        }
    }

    pub(super) fn update(&self, options: &OutlierOptions) {
        self.failures.store(options.consecutive_failures, Relaxed);
        self.gateways.store(options.consecutive_gateway, Relaxed);
    }

    fn of(&self, cause: Cause) -> u32 {
        match cause {
            Cause::Failures => self.failures.load(Relaxed),
            _ => self.gateways.load(Relaxed),
        }
    }
}

/// How many endpoints of `all` may be ejected at a time.
fn cap(options: &OutlierOptions, all: usize) -> usize {
    match options.max_ejected_percent as usize {
        0 => 0,
        _ if all < 2 => 0,
        percent => (all * percent / 100).max(1),
    }
}

/// Requests that failed, and all that were over, between two moments.
fn since(then: &Totals, now: &Totals) -> (u64, u64) {
    let failed = (now.failures + now.gateways).saturating_sub(then.failures + then.gateways);
    (
        failed,
        failed + now.successes.saturating_sub(then.successes),
    )
}

/// Lets an endpoint back whose time is over.
pub(super) fn end_ejection(condition: &Condition, spec: &ClusterSpec, now: Instant) {
    let mut course = condition.course();
    if let Some(until) = course.ejected_until.filter(|until| *until <= now) {
        course.ejected_until = None;
        course.returned = Some(until);
        if spec.slow_start.window > Duration::ZERO {
            course.ramp = Some(now);
        }
        condition.set_ejected(false);
    }
}
