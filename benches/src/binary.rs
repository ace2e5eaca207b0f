//! Programs that are built when they are needed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the release binary of oxy in this workspace and returns its path.
pub fn oxy() -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    build(&manifest, None, "oxy", "oxy")
}

/// Builds the release binary `name` of `package`, below the directory `target` if it is not to be the workspace's own,
/// and returns its path.
pub fn build(
    manifest: &Path,
    target: Option<&Path>,
    package: &str,
    name: &str,
) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--package", package, "--bin", name])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(manifest);
    if let Some(target) = target {
        command.arg("--target-dir").arg(target);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} does not build"));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| format!("cargo built no {name}"))
}
