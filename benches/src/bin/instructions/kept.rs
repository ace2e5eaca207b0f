//! What was noted before, in the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

/// What `benches/instructions.json` has.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Kept {
    pub(crate) toolchain: Toolchain,
    /// Instructions per unit, by the case's name.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// What instructions depend on besides the code.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Default)]
pub(crate) struct Toolchain {
    rustc: String,
    /// What valgrind shows of the processor, by which libraries choose how they copy and search.
    processor: String,
    valgrind: String,
    /// It copies memory.
    libc: String,
}

impl Kept {
    pub(crate) fn read() -> io::Result<Self> {
        match fs::read(path()) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self {
                toolchain: Toolchain::default(),
                instructions: BTreeMap::new(),
            }),
            Err(e) => Err(e),
        }
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
            processor: processor().to_owned(),
            valgrind: first_line("valgrind", "--version")?,
            libc: libc.split(' ').next_back().unwrap_or_default().to_owned(),
        })
    }
}

/// The level of the x86-64 psABI that matters here, or what else it is.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
        return "x86_64-v3";
    }
    std::env::consts::ARCH
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
