//! Finds the oxy to measure, building it if none is given.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Options;

/// How oxy is started.
const ARGUMENTS: &str = "{mode} --listen {listen} --to {origin} --workers 1";

/// The command line template.
pub(crate) fn command(options: &Options) -> Result<String, String> {
    if let Some(template) = &options.oxy_cmd {
        return Ok(template.clone());
    }
    let program = match &options.oxy {
        Some(path) => path.display().to_string(),
        None => build()?,
    };
    Ok(format!("{program} {ARGUMENTS}"))
}

/// Builds the release binary of this workspace and returns its path.
fn build() -> Result<String, String> {
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
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .ok_or_else(|| "cargo built no oxy binary".into())
}
