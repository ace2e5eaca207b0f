//! What was noted before, in the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

/// What `benches/instructions.json` has: what was counted with each toolchain, of which there are several, as the machines
/// that are to be had have processors of several makers.
#[derive(Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub(crate) struct Kept(Vec<Note>);

/// What was counted with one.
#[derive(Serialize, Deserialize, Debug)]
struct Note {
    toolchain: Toolchain,
    instructions: Instructions,
}

/// Instructions per unit, by the case's name.
pub(crate) type Instructions = BTreeMap<String, u64>;

/// What instructions depend on besides the code.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    rustc: String,
    /// The processor's level and maker, by which libraries choose how they copy and search.
    processor: String,
    valgrind: String,
    /// It copies memory.
    libc: String,
}

impl Kept {
    pub(crate) fn read() -> io::Result<Self> {
        match fs::read(path()) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }

    /// What was counted with `toolchain`, if anything was.
    pub(crate) fn with(&self, toolchain: &Toolchain) -> Option<&Instructions> {
        let note = self.0.iter().find(|note| note.toolchain == *toolchain);
        note.map(|note| &note.instructions)
    }

    /// What was counted last, and what with.
    pub(crate) fn last(&self) -> Option<(&Toolchain, &Instructions)> {
        let note = self.0.last()?;
        Some((&note.toolchain, &note.instructions))
    }

    /// Has `instructions` be what was counted with `toolchain`, and last.
    pub(crate) fn note(&mut self, toolchain: Toolchain, instructions: Instructions) {
        self.0.retain(|note| note.toolchain != toolchain);
        self.0.push(Note {
            toolchain,
            instructions,
        });
    }

    pub(crate) fn write(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(path(), text)
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

impl Toolchain {
    pub(crate) fn here() -> io::Result<Self> {
        let libc = first_line("ldd", "--version")?;
        Ok(Self {
            rustc: first_line("rustc", "--version")?,
            processor: format!("{} {}", level(), maker()),
            valgrind: first_line("valgrind", "--version")?,
            libc: libc.split(' ').next_back().unwrap_or_default().to_owned(),
        })
    }
}

/// The level of the x86-64 psABI that matters here, or what else it is.
fn level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
        return "x86_64-v3";
    }
    std::env::consts::ARCH
}

/// Who has made the processor, as it says itself.
fn maker() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let maker = about
        .lines()
        .find_map(|line| line.strip_prefix("vendor_id")?.split_once(':'));
    maker.map_or_else(|| "of nobody".into(), |(_, maker)| maker.trim().to_owned())
}

fn first_line(program: &str, arg: &str) -> io::Result<String> {
    let said = Command::new(program)
        .arg(arg)
        .output()
        .map_err(|e| io::Error::other(format!("{program}: {e}")))?;
    let said = String::from_utf8_lossy(&said.stdout);
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rustc,
            processor,
            valgrind,
            libc,
        } = self;
        write!(f, "{rustc} for {processor}, {valgrind}, libc {libc}")
    }
}
