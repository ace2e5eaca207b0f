//! The step between `fork` and `exec` that every child goes through.

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Pins this process to `cpus` if there are any, ties its life to its parent's, and becomes `command`.
///
/// Both survive `exec`. A harness that is killed outright therefore leaves nothing behind.
pub fn run(cpus: &[usize], parent: u32, command: &[String]) -> Result<(), Box<dyn Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(Pid::as_raw_pid) != i32::try_from(parent).ok() {
        return Err("the harness is gone".into());
    }
    if !cpus.is_empty() {
        let mut set = CpuSet::new();
        for &cpu in cpus {
            set.set(cpu);
        }
        sched_setaffinity(None, &set)?;
    }
    let (program, arguments) = command.split_first().ok_or("nothing to run")?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{program}: {error}").into())
}
