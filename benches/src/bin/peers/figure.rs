//! What is read off a sample.

use crate::case::Case;
use crate::load::{Sample, Shape};

/// A figure of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Requests each second.
    Rate,
    /// Requests each second that were offered.
    Offered,
    /// Processor time of each request, in microseconds.
    Cpu,
    /// The part of it that was spent in the proxy's own code.
    User,
    /// The part of it that was spent in the kernel.
    Kernel,
    /// How much of the time the proxy ran, in percent of one core.
    Ran,
    /// How much of the time it wanted to, and something else had the core.
    Waited,
    /// How much of the proxy's time its busiest thread had, in percent.
    Busiest,
    /// Requests each second that would take all of a core from the busiest thread.
    Reach,
    /// Context switches of each request.
    Switches,
    /// Median latency.
    P50,
    /// 99th percentile of latency.
    P99,
    /// 99.9th percentile of latency.
    P999,
    /// Resident memory, in KiB.
    Rss,
    /// Resident memory for each idle connection, in KiB.
    Idle,
}

impl Figure {
    /// All of them, in the order of the columns.
    pub(crate) const ALL: [Self; 15] = [
        Self::Offered,
        Self::Rate,
        Self::Cpu,
        Self::User,
        Self::Kernel,
        Self::Ran,
        Self::Waited,
        Self::Busiest,
        Self::Reach,
        Self::Switches,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Rss,
        Self::Idle,
    ];

    /// The heading of its column in a case, and its key in JSON.
    pub(crate) fn name(self, case: Case) -> String {
        let unit = case.unit();
        match self {
            Self::Rate => format!("{unit}/s"),
            Self::Offered => format!("offered {unit}/s"),
            Self::Cpu => format!("cpu us/{unit}"),
            Self::User => "user".into(),
            Self::Kernel => "kernel".into(),
            Self::Ran => "core %".into(),
            Self::Waited => "wait %".into(),
            Self::Busiest => "busiest thread %".into(),
            Self::Reach => format!("{unit}/s at its full core"),
            Self::Switches => format!("switches/{unit}"),
            Self::P50 => "p50 us".into(),
            Self::P99 => "p99 us".into(),
            Self::P999 => "p99.9 us".into(),
            Self::Rss => "rss KiB".into(),
            Self::Idle => "KiB/idle conn".into(),
        }
    }

    /// Whether a case measures it.
    pub(crate) fn applies(self, case: Case) -> bool {
        match self {
            Self::Idle => case.shape() == Shape::Idle,
            Self::Rss => true,
            Self::Offered => case.shape() == Shape::Rate,
            Self::Busiest | Self::Reach => case == Case::Workers,
            _ => case.shape() != Shape::Idle,
        }
    }

    /// Whether Oxy's is worth dividing by a peer's.
    pub(crate) fn compares(self) -> bool {
        matches!(
            self,
            Self::Rate
                | Self::Reach
                | Self::Cpu
                | Self::P50
                | Self::P99
                | Self::P999
                | Self::Rss
                | Self::Idle
        )
    }

    /// What it is in a sample.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let each = |value: f64| (sample.requests > 0).then(|| value / sample.requests as f64);
        match self {
            Self::Rate => Some(sample.requests as f64 / sample.seconds),
            Self::Offered => sample.offered,
            Self::Cpu => each(sample.cpu_ns as f64 / 1000.0),
            Self::User => each((sample.cpu_ns as f64 - sample.kernel_ns?) / 1000.0),
            Self::Kernel => each(sample.kernel_ns? / 1000.0),
            Self::Ran => Some(sample.cpu_ns as f64 / 1e7 / sample.seconds),
            Self::Waited => Some(sample.waited_ns as f64 / 1e7 / sample.seconds),
            Self::Busiest => {
                let busiest = *sample.threads_ns.first()? as f64;
                Some(busiest * 100.0 / sample.threads_ns.iter().sum::<u64>() as f64)
            }
            Self::Reach => Some(sample.requests as f64 * 1e9 / *sample.threads_ns.first()? as f64),
            Self::Switches => each(sample.switches as f64),
            Self::P50 => Some(sample.p50_us),
            Self::P99 => Some(sample.p99_us),
            Self::P999 => Some(sample.p999_us),
            Self::Rss => Some(sample.rss_bytes as f64 / 1024.0),
            Self::Idle => Some(sample.idle_bytes? / 1024.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Figure;
    use crate::case::Case;
    use crate::load::Sample;

    #[test]
    fn user_and_kernel_are_the_whole() {
        let sample = Sample {
            requests: 10,
            cpu_ns: 100_000,
            kernel_ns: Some(70_000.0),
            ..Sample::default()
        };
        assert_eq!(Figure::Cpu.of(&sample), Some(10.0));
        assert_eq!(Figure::Kernel.of(&sample), Some(7.0));
        assert_eq!(Figure::User.of(&sample), Some(3.0));
    }

    #[test]
    fn two_threads_reach_as_far_as_the_busier_one() {
        let sample = Sample {
            requests: 1000,
            threads_ns: vec![6_000_000, 4_000_000],
            ..Sample::default()
        };
        assert_eq!(Figure::Busiest.of(&sample), Some(60.0));
        // 6 us of its busier thread for each request.
        let reach = Figure::Reach.of(&sample).unwrap();
        assert!((reach - 1e6 / 6.0).abs() < 1.0, "{reach}");
        assert_eq!(Figure::Reach.of(&Sample::default()), None);
    }

    #[test]
    fn nothing_is_divided_by_no_requests() {
        let sample = Sample::default();
        for figure in [Figure::Cpu, Figure::User, Figure::Kernel, Figure::Switches] {
            assert_eq!(figure.of(&sample), None);
        }
    }

    #[test]
    fn names_say_the_unit() {
        assert_eq!(Figure::Cpu.name(Case::L41m), "cpu us/MiB");
        assert_eq!(Figure::Cpu.name(Case::Conn), "cpu us/req");
    }
}
