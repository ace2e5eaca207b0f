//! Where and when it was measured.

use std::fs;
use std::path::Path;
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
    /// What TCP goes by to send no faster than the path takes, unless a program asks for something else.
    pub(crate) congestion: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let sysctl = |name| {
            let value = fs::read_to_string(Path::new("/proc/sys").join(name));
            value.unwrap_or_default().trim().to_owned()
        };
        Self {
            date: httpdate::fmt_http_date(SystemTime::now()),
            kernel: sysctl("kernel/osrelease"),
            congestion: sysctl("net/ipv4/tcp_congestion_control"),
            cpu: cpu
                .lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
                .map_or_else(|| "unknown".into(), |(_, model)| model.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}
