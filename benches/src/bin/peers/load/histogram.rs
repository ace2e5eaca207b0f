//! A log-linear histogram of latencies: 1.6% wide buckets, no allocation per record.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: u64 = 64;

/// Counts by latency.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; bucket(u64::MAX) + 1],
            count: 0,
        }
    }
}

impl Histogram {
    /// Counts one.
    pub(crate) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that this share of the records did not exceed, in microseconds.
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let mut left = self.count as f64 * share;
        for (index, &count) in self.buckets.iter().enumerate() {
            left -= count as f64;
            if count > 0 && left <= 0.0 {
                return floor_ns(index as u64) / 1000.0;
            }
        }
        0.0
    }
}

/// Linear below `STEPS`, then `STEPS` buckets for each power of two.
fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = u64::from(ns.ilog2() - STEPS.ilog2());
    (shift * STEPS + (ns >> shift)) as usize
}

/// The lowest latency of a bucket.
fn floor_ns(index: u64) -> f64 {
    if index < STEPS {
        return index as f64;
    }
    let shift = index / STEPS - 1;
    (index - shift * STEPS) as f64 * 2f64.powi(i32::try_from(shift).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Histogram, bucket, floor_ns};
    use std::time::Duration;

    #[test]
    fn buckets_are_ordered_and_narrow() {
        for ns in (0..200_000).chain([1 << 40, u64::MAX / 2]) {
            let floor = floor_ns(bucket(ns) as u64);
            assert!(
                floor <= ns as f64 && floor >= ns as f64 * 0.98,
                "{ns}: {floor}"
            );
        }
    }

    #[test]
    fn percentiles_follow_the_records() {
        let mut histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        assert!((histogram.percentile_us(0.5) - 500.0).abs() < 10.0);
        assert!((histogram.percentile_us(0.99) - 990.0).abs() < 17.0);
    }
}
