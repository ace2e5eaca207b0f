//! Child processes that cannot outlive the harness.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::usage;

/// How long a child may take to listen.
const START: Duration = Duration::from_secs(5);

/// What the names of our directories begin with; the process's number follows.
const PREFIX: &str = "oxy-benches-";

/// How long killed children may take to go.
const END: Duration = Duration::from_secs(2);

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new directory, named after this process.
    pub fn new() -> io::Result<Self> {
        remove_orphans();
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// A new directory in it.
    pub fn sub(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the directories of harnesses that were killed outright.
fn remove_orphans() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits until every killed child is gone and reaped, which the runtime does meanwhile.
pub async fn all_gone() {
    let begun = Instant::now();
    while usage::descendants(std::process::id()).is_ok_and(|count| count > 0)
        && begun.elapsed() < END
    {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A server that is killed when this is dropped, or when the harness dies without dropping it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Runs `command` on `cpus` and waits until it listens.
    pub async fn start(
        command: &[String],
        cpus: &[usize],
        listen: SocketAddr,
        dir: &Path,
    ) -> Result<Self, String> {
        let mut server = Self::spawn(command, cpus, dir)?;
        server.listening(listen).await?;
        Ok(server)
    }

    /// Runs `command`, on `cpus` if there are any, with what it prints in a file in `dir`.
    pub fn spawn(command: &[String], cpus: &[usize], dir: &Path) -> Result<Self, String> {
        let log = dir.join("log");
        let name = command.first().cloned().unwrap_or_default();
        let spawn = || -> io::Result<Child> {
            let file = File::create(&log)?;
            pinned(command, cpus)?
                .stdout(file.try_clone()?)
                .stderr(file)
                .spawn()
        };
        let child = spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { child, name, log })
    }

    /// Everything that it has printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails once it has exited.
    pub fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(format!(
                "{} exited with {status}: {}",
                self.name,
                self.said()
            )),
            _ => Ok(()),
        }
    }

    /// Its process. `exec` keeps the number, so this is the proxy itself.
    pub fn pid(&self) -> Result<u32, String> {
        self.child
            .id()
            .ok_or_else(|| format!("{} has exited", self.name))
    }

    /// Kills it and waits until it is gone.
    pub async fn stop(mut self) -> Result<(), String> {
        self.child
            .kill()
            .await
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// Interrupts it, as a user would at a terminal, and waits for it to end by itself.
    pub async fn interrupt(mut self, limit: Duration) -> Result<(), String> {
        let pid = i32::try_from(self.pid()?).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{} has no process", self.name))?;
        kill_process(pid, Signal::INT).map_err(|error| format!("{}: {error}", self.name))?;
        match timeout(limit, self.child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{}: {error}", self.name)),
            Err(_) => Err(format!("{} does not end", self.name)),
        }
    }

    async fn listening(&mut self, at: SocketAddr) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            self.alive()?;
            if TcpStream::connect(at).await.is_ok() {
                return Ok(());
            }
            if begun.elapsed() > START {
                return Err(format!("{} does not listen: {}", self.name, self.said()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of its log.
    fn said(&self) -> String {
        self.printed()
            .lines()
            .last()
            .unwrap_or("(it said nothing)")
            .to_owned()
    }
}

/// Runs `command` on `cpus` to its end and returns what it printed.
pub async fn output(
    command: &[String],
    cpus: &[usize],
    limit: Duration,
) -> Result<Vec<u8>, String> {
    let run = async {
        pinned(command, cpus)?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .await
    };
    match timeout(limit, run).await {
        Err(_) => Err(format!("no end within {} s", limit.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if output.status.success() => Ok(output.stdout),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text
                .lines()
                .last()
                .unwrap_or("it failed silently")
                .to_owned())
        }
    }
}

/// `command`, by way of this program's `pinned` role, which it must have.
fn pinned(command: &[String], cpus: &[usize]) -> io::Result<Command> {
    let mut pinned = Command::new(std::env::current_exe()?);
    pinned.arg("pinned");
    for cpu in cpus {
        pinned.arg("--cpu").arg(cpu.to_string());
    }
    pinned
        .arg(std::process::id().to_string())
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(pinned)
}

/// A loopback address with a port that is free now.
pub fn free_address() -> io::Result<SocketAddr> {
    // Below the ephemeral range, so that no outgoing connection takes it meanwhile.
    let first = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    for port in first..first + 10_000 {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}
