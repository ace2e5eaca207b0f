//! How many system calls a proxy makes for each request, by `strace -c`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxy_benches::child::Server;
use oxy_benches::usage;
use serde::Serialize;
use tokio::time::{Instant, sleep};

/// How long strace may take to attach, or to tell what it has counted.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many calls are named in the table: those of a request are fewer.
const NAMED: usize = 6;

/// What was counted during so many requests.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Syscalls {
    /// Answers meanwhile.
    pub(crate) requests: u64,
    /// Calls by name.
    pub(crate) calls: BTreeMap<String, u64>,
}

impl Syscalls {
    /// All of them, for each request.
    pub(crate) fn each(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.requests as f64
    }

    /// The most frequent ones, for each request.
    pub(crate) fn most(&self) -> String {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|&(_, count)| std::cmp::Reverse(*count));
        let named = calls.iter().take(NAMED).map(|&(name, count)| {
            let each = *count as f64 / self.requests as f64;
            format!("{name} {each:.2}")
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

/// An strace that is attached to a process tree.
#[derive(Debug)]
pub(crate) struct Trace {
    strace: Server,
    summary: PathBuf,
}

impl Trace {
    /// Attaches, and returns once every process is traced. What it writes goes to `dir`.
    pub(crate) async fn attach(pid: u32, dir: &Path) -> Result<Self, String> {
        let pids = usage::tree(pid).map_err(|error| error.to_string())?;
        let summary = dir.join("syscalls");
        let mut command = vec!["strace".to_owned(), "-c".into(), "-f".into(), "-o".into()];
        command.push(summary.display().to_string());
        command.extend(pids.iter().map(|pid| format!("--attach={pid}")));
        let strace = Server::spawn(&command, &[], dir)?;
        let mut trace = Self { strace, summary };
        let begun = Instant::now();
        while trace.strace.printed().matches(" attached").count() < pids.len() {
            trace.strace.alive()?;
            if begun.elapsed() > PATIENCE {
                return Err("strace does not attach".into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(trace)
    }

    /// Detaches and returns the calls by name.
    pub(crate) async fn finish(self) -> Result<BTreeMap<String, u64>, String> {
        self.strace.interrupt(PATIENCE).await?;
        let text = fs::read_to_string(&self.summary).map_err(|error| error.to_string())?;
        let calls = parse(&text);
        if calls.is_empty() {
            return Err("strace has counted nothing".into());
        }
        Ok(calls)
    }
}

/// The lines of the summary: share, seconds, microseconds of each call, calls, errors if there were any, name.
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let lines = summary.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (name, calls) = (fields.last()?, fields.get(3)?.parse().ok()?);
        (*name != "total").then(|| ((*name).to_owned(), calls))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::{Syscalls, parse};

    const SUMMARY: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.54    0.000016           1        20           sendto
 38.46    0.000010           0        22         2 recvfrom
  0.00    0.000000           0         1           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000026           0        43         2 total
";

    #[test]
    fn reads_the_summary() {
        let calls = parse(SUMMARY);
        assert_eq!(calls.len(), 3);
        assert_eq!(calls["recvfrom"], 22);
        assert!(parse("").is_empty());
    }

    #[test]
    fn the_most_frequent_come_first() {
        let syscalls = Syscalls {
            requests: 10,
            calls: parse(SUMMARY),
        };
        assert!((syscalls.each() - 4.3).abs() < 1e-9);
        assert_eq!(
            syscalls.most(),
            "recvfrom 2.20, sendto 2.00, epoll_wait 0.10"
        );
    }
}
