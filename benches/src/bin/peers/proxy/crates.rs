//! Peers that are crates: small programs around them, in workspaces of their own, built when they are asked for.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use oxy_benches::binary;

use super::{CommandLine, Site, words};
use crate::case::Case;

/// The program `oxy-bench-NAME` that is given, or is built now from `benches/NAME`, or was built before; or why there is none.
pub(super) fn find(given: Option<&Path>, name: &str, wanted: bool) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    if let Some(path) = env::var_os(name.to_uppercase()) {
        return Ok(path.into());
    }
    let (program, target) = (format!("oxy-bench-{name}"), target()?);
    if wanted {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}/Cargo.toml"));
        return binary::build(&manifest, Some(&target), &program, &program);
    }
    let before = target.join("release").join(program);
    if before.exists() {
        return Ok(before);
    }
    Err(format!("it is built when it is named: --peer {name}"))
}

/// Cargo's target directory, with this program in it.
fn target() -> Result<PathBuf, String> {
    let itself = env::current_exe().map_err(|error| error.to_string())?;
    itself
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .ok_or_else(|| "this program is in no directory of Cargo's".into())
}

/// The command that runs it in the foreground.
pub(super) fn command(
    program: &Result<PathBuf, String>,
    case: Case,
    site: &Site<'_>,
) -> io::Result<CommandLine> {
    let program = program.as_deref();
    let program = program.map_err(|missing| io::Error::other(missing.clone()))?;
    let mut command = words(&[
        &program.display().to_string(),
        &site.listen.to_string(),
        &site.origin.to_string(),
        &case.upstreams().to_string(),
    ]);
    if case.tls().is_some() {
        command.extend(words(&[
            "--tls",
            &site.identity.certificate.display().to_string(),
            &site.identity.key.display().to_string(),
        ]));
    }
    Ok(command)
}
