//! How the process ends, and what it says last.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use oxy_core::{Error, ErrorKind};

use crate::settings::{SettingsError, story};

/// The exit codes. They are documented in `--help` and docs/configuration.md.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exit {
    /// It did what it was asked to do.
    Done = 0,
    /// Starting or running failed.
    Failed = 1,
    /// The settings are wrong. 2 is left out: with it clap ends the process over a wrong command line.
    Settings = 3,
    /// Flows were cut.
    Cut = 4,
}

impl Exit {
    pub(super) fn settings(error: &SettingsError) -> Self {
        complain(&error.to_string());
        Self::Settings
    }

    pub(super) fn failed(error: &Error) -> Self {
        if error.kind() == ErrorKind::Draining {
            complain("flows were cut before they had ended");
            return Self::Cut;
        }
        complain(&story(error));
        if is_taken(error) {
            complain("another process listens there; choose another address or stop that process");
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn is_taken(error: &Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::AddrInUse)
}

/// Prints a whole text.
pub(super) fn print(text: &str) -> Result<Exit, Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Done),
        // Whoever reads has had enough (`| head`).
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(e) => {
            complain(&format!("writing to the standard output: {e}"));
            Err(Exit::Failed)
        }
    }
}

pub(super) fn complain(text: &str) {
    // Nothing is left to be done if that fails, too.
    let _ = writeln!(io::stderr(), "oxy: {text}");
}
