//! Where and when it was measured.

use std::fs;
use std::time::SystemTime;

use serde::Serialize;

/// The machine and the moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// When.
    pub(crate) date: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The processor's model.
    pub(crate) cpu: String,
    /// How many cores there are.
    pub(crate) cores: usize,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            date: httpdate::fmt_http_date(SystemTime::now()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            cpu: cpu
                .lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
                .map_or_else(|| "unknown".into(), |(_, model)| model.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}
