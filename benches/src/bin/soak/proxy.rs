//! The proxy under test, and what can be seen of it from outside.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use oxy_benches::child::Server;
use oxy_benches::usage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long it may take to start, or to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running `oxy reverse`.
#[derive(Debug)]
pub(crate) struct Proxy {
    server: Server,
    pid: u32,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts it in front of `origin` and waits until it listens.
    pub(crate) async fn start(
        program: &Path,
        origin: SocketAddr,
        dir: &Path,
    ) -> Result<Self, String> {
        let (program, origin) = (program.display().to_string(), origin.to_string());
        let loopback = "127.0.0.1:0";
        let command = [
            &program,
            "reverse",
            "--listen",
            loopback,
            "--to",
            &origin,
            "--workers",
            "2",
            "--admin",
            loopback,
        ];
        let mut server = Server::spawn(&command.map(str::to_owned), &[], dir)?;
        let begun = Instant::now();
        loop {
            server.alive()?;
            let said = server.printed();
            if let (Some(address), Some(admin)) = (place(&said, "reverse"), place(&said, "admin")) {
                return Ok(Self {
                    pid: server.pid()?,
                    server,
                    address,
                    admin,
                });
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("oxy does not say where it listens: {said}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn alive(&mut self) -> Result<(), String> {
        self.server.alive()
    }

    /// Resident memory.
    pub(crate) fn rss(&self) -> Result<u64, String> {
        usage::rss_bytes(self.pid).map_err(|error| error.to_string())
    }

    /// The most resident memory that it has had.
    pub(crate) fn peak_rss(&self) -> Result<u64, String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .map_err(|error| error.to_string())?;
        text.lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| "status has no VmHWM line".into())
    }

    /// Open descriptors.
    pub(crate) fn files(&self) -> Result<u64, String> {
        let files = usage::open_files(self.pid).map_err(|error| error.to_string())?;
        Ok(files as u64)
    }

    /// Processor time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64, String> {
        let time = usage::processor(self.pid).map_err(|error| error.to_string())?;
        Ok(time.ran_ns as f64 / 1e9)
    }

    /// Open flows, as its admin listener counts them.
    pub(crate) async fn flows(&self) -> Result<u64, String> {
        let text = timeout(PATIENCE, self.ask("/flows"))
            .await
            .map_err(|_| "the admin listener does not answer".to_owned())?
            .map_err(|error| format!("the admin listener: {error}"))?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let flows: serde_json::Value =
            serde_json::from_str(body).map_err(|error| format!("/flows: {error}"))?;
        flows["open"]
            .as_u64()
            .ok_or_else(|| "/flows does not say how many are open".into())
    }

    async fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

/// The address of the listener `name` among the lines in which they are told.
fn place(said: &str, name: &str) -> Option<SocketAddr> {
    said.lines().find_map(|line| {
        let (address, named) = line.strip_prefix("listening on ")?.split_once(" (")?;
        (named.strip_suffix(')')? == name).then(|| address.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn finds_a_listener() {
        let said = "listening on 127.0.0.1:80 (reverse)\nlistening on [::1]:81 (admin)\n";
        assert_eq!(super::place(said, "admin"), "[::1]:81".parse().ok());
        assert_eq!(super::place(said, "other"), None);
    }
}
