//! What a process tree has used, from `/proc`.

mod processor;
mod threads;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::processor::{Processor, processor};
pub use self::threads::Threads;

/// Resident memory of a process and its descendants, in bytes.
///
/// From `smaps_rollup`, which is exact; `statm` lags by what each processor has batched.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for pid in tree(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("smaps_rollup has no Rss line"))?;
        total += kib * 1024;
    }
    Ok(total)
}

/// How many descriptors a process tree has open.
pub fn open_files(pid: u32) -> io::Result<usize> {
    let mut total = 0;
    for pid in tree(pid)? {
        total += fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    }
    Ok(total)
}

/// How many children, and children of theirs, a process has; those that wait to be
/// reaped included.
pub fn descendants(pid: u32) -> io::Result<usize> {
    Ok(tree(pid)?.len() - 1)
}

/// The `/proc/PID/task/TID` directories of a process tree.
fn tasks(pid: u32) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pid in tree(pid)? {
        found.extend(tasks_of(pid)?);
    }
    Ok(found)
}

/// The threads of one process.
fn tasks_of(pid: u32) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

/// A process and its descendants, the process itself first.
pub fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        for task in tasks_of(pid)? {
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    Ok(found)
}
