//! The certificates of authorities that live as long as the process, in files for its clients to trust.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oxy_core::{Error, Result, Side};

use crate::settings::Listener;

/// The file of a listener's authority, which goes with this.
#[derive(Debug)]
pub(super) struct Authority {
    path: PathBuf,
    /// How many the listener had before.
    number: usize,
}

impl Authority {
    /// That of `listener`, if its certificates are made; `old` is the one before, whose clients are not to find another's in
    /// its place.
    pub(super) fn of(listener: &Listener, old: Option<&Self>) -> Result<Option<Self>> {
        let Some(pem) = listener
            .tls
            .as_ref()
            .and_then(|tls| tls.authority.as_deref())
        else {
            return Ok(None);
        };
        let number = old.map_or(0, |old| old.number + 1);
        let path = path(&listener.name, number);
        write(&path, pem).map_err(|e| {
            let named = io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            Error::io(Side::Local, named).context("writing the authority's certificate")
        })?;
        if number > 0 {
            tracing::info!(
                listener = listener.name,
                "clients are to trust {}",
                path.display()
            );
        }
        Ok(Some(Self { path, number }))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A place of the user's own if there is one.
fn path(listener: &str, number: usize) -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let dir = own.filter(|dir| dir.is_absolute() && dir.is_dir());
    let name: String = listener
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let number = if number == 0 {
        String::new()
    } else {
        format!("-{number}")
    };
    let file = format!("oxy-ca-{}-{name}{number}.pem", std::process::id());
    dir.unwrap_or_else(std::env::temp_dir).join(file)
}

/// Writes a new file: in a directory that is everybody's, what is there already may be a link of somebody else's.
fn write(path: &Path, pem: &str) -> io::Result<()> {
    // Of an earlier process of this number, that was killed.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(pem.as_bytes())
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
