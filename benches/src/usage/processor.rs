//! Processor time of a process tree, and how often it gave the core away.

use std::fs;
use std::io;
use std::ops::Sub;

use super::{tasks, tree};

/// What a process, its threads and its descendants have had of the processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processor {
    /// How long they ran, in nanoseconds.
    pub ran_ns: u64,
    /// How long they could have run, while something else had the core.
    pub waited_ns: u64,
    /// In their own code, in ticks of 10 ms.
    pub user_ticks: u64,
    /// In the kernel, in ticks of 10 ms.
    pub kernel_ticks: u64,
    /// How often they gave the core away because they had nothing to do.
    pub slept: u64,
    /// How often it was taken from them.
    pub preempted: u64,
}

impl Processor {
    /// How much of [`ran_ns`](Self::ran_ns) the kernel took, as far as ticks can tell.
    /// Nothing if there was none.
    pub fn kernel_ns(&self) -> Option<f64> {
        let ticks = self.user_ticks + self.kernel_ticks;
        (ticks > 0).then(|| self.ran_ns as f64 * self.kernel_ticks as f64 / ticks as f64)
    }
}

impl Sub for Processor {
    type Output = Self;

    /// From `before` to `self`. What a thread that has ended meanwhile had is lost, and never less than nothing.
    fn sub(self, before: Self) -> Self {
        Self {
            ran_ns: self.ran_ns.saturating_sub(before.ran_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            kernel_ticks: self.kernel_ticks.saturating_sub(before.kernel_ticks),
            slept: self.slept.saturating_sub(before.slept),
            preempted: self.preempted.saturating_sub(before.preempted),
        }
    }
}

/// The time of a process tree.
///
/// `schedstat` counts user and system time together and in nanoseconds; `stat` has them apart, in ticks of 10 ms, and the
/// kernel tells them apart by what its timer interrupts. What the kernel does in soft interrupts on the process's own time
/// is in both. The ticks are those of whole processes: a thread's are cut off to whole ones, which adds up.
pub fn processor(pid: u32) -> io::Result<Processor> {
    let mut total = Processor::default();
    for pid in tree(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (user, kernel) = ticks(&text).unwrap_or_default();
        total.user_ticks += user;
        total.kernel_ticks += kernel;
    }
    for task in tasks(pid)? {
        // A thread may end while it is looked at.
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        let mut numbers = text.split_whitespace().map(|ns| ns.parse().unwrap_or(0));
        total.ran_ns += numbers.next().unwrap_or(0);
        total.waited_ns += numbers.next().unwrap_or(0);
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        total.slept += field(&status, "voluntary_ctxt_switches:");
        total.preempted += field(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(total)
}

/// `utime` and `stime` of a line of `stat`. The name before them may have blanks and brackets in it.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, after) = stat.rsplit_once(')')?;
    // The state is field 3, and they are 14 and 15.
    let mut fields = after.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A number of `status`.
fn field(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Processor, field, processor, ticks};

    #[test]
    fn ticks_stand_behind_any_name() {
        let stat = "7 (a (b) c) S 1 2 3 0 -1 4 102 0 0 0 31 17 5 6 20 0 1 0";
        assert_eq!(ticks(stat), Some((31, 17)));
        assert_eq!(ticks("7 (cut"), None);
    }

    #[test]
    fn switches_by_their_whole_name() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), 12);
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), 3);
        assert_eq!(field("", "voluntary_ctxt_switches:"), 0);
    }

    #[test]
    fn ticks_share_the_exact_time() {
        let used = Processor {
            ran_ns: 1_000,
            user_ticks: 1,
            kernel_ticks: 3,
            ..Processor::default()
        };
        assert_eq!(used.kernel_ns(), Some(750.0));
        assert_eq!(Processor::default().kernel_ns(), None);
    }

    #[test]
    fn counts_this_process() {
        let before = processor(std::process::id()).unwrap();
        // Until the clock of the scheduler has gone on, which it does at the latest with the next tick.
        let used = loop {
            let used = processor(std::process::id()).unwrap() - before;
            if used.ran_ns > 0 {
                break used;
            }
        };
        assert!(used.ran_ns > 0 && used.slept < 1_000_000);
    }
}
