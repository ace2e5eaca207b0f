//! How threads share what a process tree has of the processor.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::tasks;

/// How long each thread of a process tree has run, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads(BTreeMap<PathBuf, u64>);

impl Threads {
    /// Those of a process and its descendants.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut ran = BTreeMap::new();
        for task in tasks(pid)? {
            // A thread may end while it is looked at.
            let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
                continue;
            };
            let first = text.split_whitespace().next();
            ran.insert(task, first.and_then(|ns| ns.parse().ok()).unwrap_or(0));
        }
        Ok(Self(ran))
    }

    /// How long each has run since `before`, the busiest first; those that have not run at all are left out.
    pub fn since(&self, before: &Self) -> Vec<u64> {
        let ran = self.0.iter().map(|(task, now)| {
            let then = before.0.get(task).copied().unwrap_or(0);
            now.saturating_sub(then)
        });
        let mut ran: Vec<_> = ran.filter(|&ns| ns > 0).collect();
        ran.sort_unstable_by(|a, b| b.cmp(a));
        ran
    }
}

#[cfg(test)]
mod tests {
    use super::Threads;

    fn threads(ran: &[(&str, u64)]) -> Threads {
        Threads(ran.iter().map(|&(task, ns)| (task.into(), ns)).collect())
    }

    #[test]
    fn the_busiest_comes_first() {
        let before = threads(&[("a", 10), ("b", 20), ("ended", 30)]);
        let after = threads(&[("a", 15), ("b", 90), ("new", 7), ("asleep", 0)]);
        assert_eq!(after.since(&before), [70, 7, 5]);
        assert!(before.since(&before).is_empty());
    }

    #[test]
    fn finds_the_threads_of_this_process() {
        let there = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| there.wait());
            let found = Threads::of(std::process::id()).unwrap();
            there.wait();
            assert!(found.0.len() >= 2);
        });
    }
}
