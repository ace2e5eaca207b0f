//! Instructions that Oxy's own code takes for one unit of work, as `valgrind --tool=callgrind` counts them: figures that do
//! not depend on what else the machine does, so that a build can fail by them.
//!
//! The program runs itself under valgrind, once for each case, and compares what it finds to `benches/instructions.json`.

mod cases;
mod ends;
mod kept;
mod toggle;

use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io};

use clap::Parser;

use crate::cases::CASES;
use crate::kept::{Instructions, Kept, Toolchain};

/// The proxy's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much more than what was noted a case may take, in percent: what a change of the code around it may move, and less
/// than one that is worth a look.
const ALLOWED: f64 = 3.0;

/// How often a case is run. The run that took the least counts: what a tick of a clock or an unlucky hash seed adds to
/// another is not the case's.
const RUNS: usize = 5;

/// Counts instructions, and fails if a case takes more of them than was noted.
#[derive(Parser, Debug)]
struct Args {
    /// Notes what is found.
    #[arg(long, conflicts_with = "filter")]
    update: bool,
    /// Only the cases whose names have this in them.
    filter: Option<String>,
    /// Runs a case, for valgrind to look at.
    #[arg(long, hide = true)]
    run: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.run {
        Some(name) => run(name).map(|()| true),
        None => compare(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> io::Result<()> {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| io::Error::other(format!("there is no case {name}")))?;
    (case.run)();
    Ok(())
}

/// Whether no case takes more than it may.
fn compare(args: &Args) -> io::Result<bool> {
    let toolchain = Toolchain::here()?;
    let mut kept = Kept::read()?;
    let noted = kept.with(&toolchain);
    let comparable = noted.is_some();
    let noted = match (noted, kept.last()) {
        (Some(noted), _) => noted.clone(),
        (None, Some((other, noted))) => {
            println!("noted with: {other}");
            println!("here there is: {toolchain}");
            println!("these differ, so that nothing fails by what is found");
            noted.clone()
        }
        (None, None) => Instructions::new(),
    };
    let mut all = Instructions::new();
    let wanted = |name: &str| {
        args.filter
            .as_deref()
            .is_none_or(|part| name.contains(part))
    };
    let mut good = true;
    println!("{:<24}{:>12}{:>12}{:>9}", "case", "noted", "found", "");
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        let counts = (0..RUNS).map(|_| count(case.name));
        let counts = counts.collect::<io::Result<Vec<_>>>()?;
        let found = counts.into_iter().min().unwrap_or_default() / case.units;
        let before = noted.get(case.name).copied();
        let change = before.map(|before| change(before, found));
        let fault = change.map_or(Some("not noted"), |change| {
            (change > ALLOWED).then_some("too much")
        });
        let fault = fault.filter(|_| comparable && !args.update);
        println!(
            "{:<24}{:>12}{found:>12}{:>9}  {}",
            case.name,
            before.map_or_else(|| "-".into(), |before| before.to_string()),
            change.map_or_else(String::new, |change| format!("{change:+.2}%")),
            fault.unwrap_or_default(),
        );
        good &= fault.is_none();
        all.insert(case.name.to_owned(), found);
    }
    if args.update {
        kept.note(toolchain, all);
        kept.write()?;
    }
    Ok(good)
}

/// By how many percent `found` is more than `noted`.
fn change(noted: u64, found: u64) -> f64 {
    100.0 * (found as f64 / noted as f64 - 1.0)
}

/// Runs a case under valgrind, and tells how many instructions it took.
fn count(name: &str) -> io::Result<u64> {
    let out = env::temp_dir().join(format!("oxy-instructions-{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(toggle::NAMES.map(|name| format!("--toggle-collect=*{name}*")))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(["--run", name])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let done = valgrind
        .output()
        .map_err(|e| io::Error::other(format!("valgrind: {e}")))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("{name} failed:\n{said}")));
    }
    let profile = fs::read_to_string(&out)?;
    fs::remove_file(&out)?;
    // The sum of all functions; "summary:" would count what ran outside of what was toggled, too.
    let total = profile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "));
    total
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| io::Error::other("callgrind tells no total"))
}
