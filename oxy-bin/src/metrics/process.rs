//! The process itself, by the names that Prometheus's own client libraries use.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::Page;

#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Process {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: since.unwrap_or_default().as_secs_f64(),
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let mut gauge = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                page.family(name, kind, help);
                page.sample(name, &[], value);
            }
        };
        gauge(
            "process_start_time_seconds",
            "gauge",
            "When the process started, in seconds since 1970.",
            Some(self.started),
        );
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        gauge(
            "process_cpu_seconds_total",
            "counter",
            "Time that the process has spent on the CPU.",
            Some(cpu),
        );
        gauge(
            "process_resident_memory_bytes",
            "gauge",
            "Memory that the process has in RAM.",
            resident(),
        );
        gauge(
            "process_open_fds",
            "gauge",
            "Descriptors that are open.",
            descriptors(),
        );
        gauge(
            "process_max_fds",
            "gauge",
            "Descriptors that may be open.",
            getrlimit(Resource::Nofile).current.map(|max| max as f64),
        );
    }
}

fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn descriptors() -> Option<f64> {
    // The directory's own descriptor is one of them.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(open.saturating_sub(1) as f64)
}
