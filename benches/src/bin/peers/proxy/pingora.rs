//! Pingora, by way of the program in `benches/pingora`, which is built when it is asked for.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use oxy_benches::binary;

use super::{CommandLine, Site, words};
use crate::case::Case;

/// Its package and its program.
const NAME: &str = "oxy-bench-pingora";

/// Its workspace, which is no part of this one: what it needs is nobody else's.
const MANIFEST: &str = "pingora/Cargo.toml";

/// The one that is given, or is built now, or was built before; or why there is none.
pub(super) fn find(given: Option<&Path>, wanted: bool) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    if let Some(path) = env::var_os("PINGORA") {
        return Ok(path.into());
    }
    if wanted {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST);
        return binary::build(&manifest, Some(&target()?), NAME, NAME);
    }
    let before = target()?.join("release").join(NAME);
    if before.exists() {
        return Ok(before);
    }
    Err("it is built when it is named: --peer pingora".into())
}

/// Cargo's target directory, with this program in it.
fn target() -> Result<PathBuf, String> {
    let itself = env::current_exe().map_err(|error: io::Error| error.to_string())?;
    itself
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .ok_or_else(|| "this program is in no directory of Cargo's".into())
}

/// The command that runs it in the foreground.
pub(super) fn command(program: &Path, case: Case, site: &Site<'_>) -> CommandLine {
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
    } else if case.streams().is_some() {
        command.push("--h2c".into());
    }
    command
}
