//! The binary as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, eventually};

/// The binary, without settings of the tests' own environment.
pub(crate) fn oxy(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oxy"));
    command.args(args).env_remove("RUST_LOG");
    command
}

/// What a process that has ended left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs it to its end.
pub(crate) fn finish(args: &[&str]) -> Output {
    let output = oxy(args).stdin(Stdio::null()).output().unwrap();
    Output {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that serves.
pub(crate) struct Oxy {
    child: Child,
    /// Where it listens, in the order in which it said so.
    pub(crate) places: Vec<(String, String)>,
    /// Everything that it had printed by the time that it listened.
    pub(crate) greeting: String,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

impl Oxy {
    /// Starts it, and waits until it says that it listens on `listeners` addresses, on its standard output.
    pub(crate) fn start(args: &[&str], listeners: usize) -> Self {
        Self::spawn(oxy(args), listeners)
    }

    pub(crate) fn spawn(mut command: Command, listeners: usize) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut err = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        });
        let mut this = Self {
            child,
            places: Vec::new(),
            greeting: String::new(),
            lines,
            errors: Some(errors),
        };
        while this.places.len() < listeners {
            let Ok(line) = this.lines.recv_timeout(PATIENCE) else {
                this.signal(Signal::KILL);
                panic!("it does not start: {}", this.wait().1);
            };
            if let Some(place) = line.strip_prefix("listening on ") {
                let (address, name) = place.split_once(" (").unwrap();
                let name = name.strip_suffix(')').unwrap();
                this.places.push((name.to_owned(), address.to_owned()));
            }
            this.greeting.push_str(&line);
            this.greeting.push('\n');
        }
        this
    }

    /// The address of the listener `name`.
    pub(crate) fn at(&self, name: &str) -> SocketAddr {
        let place = self.places.iter().find(|(known, _)| known == name);
        let address = &place.unwrap_or_else(|| panic!("{name} is not listening")).1;
        address
            .strip_prefix("udp:")
            .unwrap_or(address)
            .parse()
            .unwrap()
    }

    /// The next line that it prints.
    pub(crate) fn line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("it prints nothing")
    }

    /// What it prints until it ends.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: its exit code, and what it has said on the standard error.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let status = eventually(|| self.child.try_wait().unwrap());
        let errors = self.errors.take().map(|errors| errors.join().unwrap());
        (status, errors.unwrap_or_default())
    }

    /// Stops it with SIGTERM, and expects that it ends in good order.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let (status, errors) = self.wait();
        assert_eq!(status.code(), Some(0), "{errors}");
        errors
    }
}

impl Drop for Oxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
