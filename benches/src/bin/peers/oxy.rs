//! Finds the oxy to measure, building it if none is given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Options;

/// How oxy is started.
const ARGUMENTS: &str = "{mode} --listen {listen} --to {origin} --workers 1";

/// What stands for Oxy.
#[derive(Debug)]
pub(crate) struct Oxy {
    /// The binary, unless something else is in its place.
    pub(crate) program: Option<PathBuf>,
    /// The command line, with `{mode}`, `{listen}` and `{origin}` in it.
    pub(crate) template: Vec<String>,
}

impl Oxy {
    /// As the options say.
    pub(crate) fn find(options: &Options) -> Result<Self, String> {
        if let Some(template) = &options.oxy_cmd {
            return Ok(Self {
                program: None,
                template: words(template).collect(),
            });
        }
        let program = match &options.oxy {
            Some(path) => path.clone(),
            None => build()?,
        };
        let template = std::iter::once(program.display().to_string())
            .chain(words(ARGUMENTS))
            .collect();
        Ok(Self {
            program: Some(program),
            template,
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

/// Builds the release binary of this workspace and returns its path.
fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "oxy", "--bin", "oxy"])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err("oxy does not build".into());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "oxy")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo built no oxy binary".into())
}
