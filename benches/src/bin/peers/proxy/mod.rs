//! Who is measured, and how each of them is set up.

mod caddy;
mod crates;
mod envoy;
mod haproxy;
mod nginx;
mod oxy;
mod programs;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

pub(crate) use self::programs::Programs;
use crate::case::Case;
use crate::identity::Identity;
use crate::variant::Entrant;

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// Oxy, or what `--oxy-cmd` puts in its place.
    Oxy,
    /// nginx with its default buffering.
    Nginx,
    /// nginx that passes bodies on as they come.
    NginxUnbuffered,
    /// `HAProxy`, splicing bodies through pipes of 1 MiB.
    Haproxy,
    /// Envoy.
    Envoy,
    /// Caddy.
    Caddy,
    /// Pingora, with next to nothing around it.
    Pingora,
    /// A plain proxy on hyper and the client of hyper-util.
    Hyper,
    /// A floor: bare tokio, copying.
    Relay,
    /// A floor: bare tokio, splicing.
    SpliceRelay,
}

/// Why there is no post-quantum row, if there is none.
const NO_MLKEM: &str = "its OpenSSL is older than 3.5, which brought ML-KEM";

/// A command line.
pub(crate) type CommandLine = Vec<String>;

/// Where a proxy works.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// What it is there for.
    pub(crate) entrant: Entrant,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The origin.
    pub(crate) origin: SocketAddr,
    /// A directory of its own.
    pub(crate) dir: &'a Path,
    /// Oxy's command line, with `{mode}`, `{listen}`, `{origin}` and `{workers}` in it.
    pub(crate) oxy_cmd: &'a [String],
    /// What it presents in the TLS cases.
    pub(crate) identity: &'a Identity,
    /// Where the proxies are.
    pub(crate) programs: &'a Programs,
}

impl Peer {
    /// All of them; Oxy first, because the others are compared with it.
    pub(crate) const ALL: [Self; 10] = [
        Self::Oxy,
        Self::Nginx,
        Self::NginxUnbuffered,
        Self::Haproxy,
        Self::Envoy,
        Self::Caddy,
        Self::Pingora,
        Self::Hyper,
        Self::Relay,
        Self::SpliceRelay,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oxy => "oxy",
            Self::Nginx => "nginx",
            Self::NginxUnbuffered => "nginx-unbuffered",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Pingora => "pingora",
            Self::Hyper => "hyper",
            Self::Relay => "relay",
            Self::SpliceRelay => "splice-relay",
        }
    }

    /// Whether it shows what is possible, rather than competing.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::Relay | Self::SpliceRelay)
    }

    /// Why a case says nothing about this peer, if it does not.
    pub(crate) fn unfit_for(self, case: Case, programs: &Programs) -> Option<&'static str> {
        match (self, case) {
            (Self::Relay | Self::SpliceRelay, _) if case.tls().is_some() => {
                Some("a relay knows no TLS")
            }
            (Self::Relay | Self::SpliceRelay, _) if case.streams().is_some() => {
                Some("a relay knows no HTTP")
            }
            (Self::Oxy, Case::Routes | Case::AccessLog) if programs.oxy.is_none() => {
                Some("what stands in oxy's place takes no settings file")
            }
            (Self::NginxUnbuffered, Case::TlsHandshake | Case::TlsHandshakePq) => {
                Some("the same as nginx where no body matters")
            }
            (Self::Nginx, Case::TlsHandshakePq) if !programs.nginx_mlkem => Some(NO_MLKEM),
            (Self::Haproxy, Case::TlsHandshakePq) if !programs.haproxy_mlkem => Some(NO_MLKEM),
            (Self::Relay | Self::SpliceRelay, Case::Conn | Case::Idle) => {
                Some("a relay has no upstream keep-alive")
            }
            (Self::SpliceRelay, Case::Get1k | Case::Rate1k | Case::Half1k) => {
                Some("splicing is for bulk")
            }
            (Self::NginxUnbuffered, Case::L41m) => Some("the same as nginx at layer 4"),
            (Self::Nginx, Case::L41m) if programs.nginx_stream.is_none() => {
                Some("nginx has no stream module here")
            }
            (Self::Caddy, Case::L41m) => Some("layer 4 is no part of Caddy as it comes"),
            (Self::Pingora | Self::Hyper, Case::L41m) => Some("its proxy is one for HTTP"),
            (Self::Pingora, Case::TlsHandshakePq) => {
                Some("its rustls has ring underneath, which has no ML-KEM")
            }
            _ => None,
        }
    }

    /// Writes its configuration and returns the command that runs it in the foreground.
    pub(crate) fn prepare(self, case: Case, site: &Site<'_>) -> io::Result<CommandLine> {
        let config = site.dir.join("config");
        let itself = || Ok::<_, io::Error>(std::env::current_exe()?.display().to_string());
        let (listen, origin) = (site.listen.to_string(), site.origin.to_string());
        Ok(match self {
            Self::Oxy => oxy::command(case, site)?,
            Self::Nginx | Self::NginxUnbuffered => {
                let buffered = self == Self::Nginx;
                fs::write(&config, nginx::config(case, site, buffered))?;
                words(&[
                    "nginx",
                    "-p",
                    &site.dir.display().to_string(),
                    "-c",
                    "config",
                ])
            }
            Self::Haproxy => {
                fs::write(&config, haproxy::config(case, site))?;
                words(&["haproxy", "-db", "-f", &config.display().to_string()])
            }
            Self::Envoy => {
                let config = config.with_extension("json"); // which says how to read it
                fs::write(&config, envoy::config(case, site).to_string())?;
                words(&[
                    &site.programs.envoy.display().to_string(),
                    "--config-path",
                    &config.display().to_string(),
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "error",
                ])
            }
            Self::Caddy => {
                fs::write(&config, caddy::config(case, site))?;
                let (caddy, config) = (&site.programs.caddy, config.display().to_string());
                words(&[
                    &caddy.display().to_string(),
                    "run",
                    "--config",
                    &config,
                    "--adapter",
                    "caddyfile",
                ])
            }
            Self::Pingora => {
                let mut command = crates::command(&site.programs.pingora, case, site)?;
                if case.tls().is_none() && case.streams().is_some() {
                    command.push("--h2c".into());
                }
                command
            }
            Self::Hyper => crates::command(&site.programs.hyper, case, site)?,
            Self::Relay => words(&[&itself()?, "relay", &listen, &origin]),
            Self::SpliceRelay => words(&[&itself()?, "relay", &listen, &origin, "--splice"]),
        })
    }

    /// What it calls itself, or why it cannot run here. Nothing can be asked of
    /// what stands in Oxy's place.
    pub(crate) fn version(self, programs: &Programs) -> Result<String, String> {
        let (program, flag) = match (self, &programs.oxy) {
            (Self::Oxy, None) => return Ok("replaced by --oxy-cmd".into()),
            (Self::Oxy, Some(oxy)) => (oxy.as_path(), "--version"),
            (Self::Nginx | Self::NginxUnbuffered, _) => (Path::new("nginx"), "-v"),
            (Self::Haproxy, _) => (Path::new("haproxy"), "-v"),
            (Self::Envoy, _) => (programs.envoy.as_path(), "--version"),
            (Self::Caddy, _) => (programs.caddy.as_path(), "version"),
            (Self::Pingora, _) => (
                programs.pingora.as_deref().map_err(String::clone)?,
                "--version",
            ),
            (Self::Hyper, _) => (
                programs.hyper.as_deref().map_err(String::clone)?,
                "--version",
            ),
            (Self::Relay | Self::SpliceRelay, _) => return Ok("built with the harness".into()),
        };
        let output = Command::new(program)
            .arg(flag)
            .output()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty());
        // Where it lies is nobody's business (Envoy begins with that).
        let path = format!("{} ", program.display());
        let line = line.unwrap_or("unknown").trim();
        Ok(line.strip_prefix(&path).unwrap_or(line).trim().to_owned())
    }
}

/// A command of these words.
pub(crate) fn words(words: &[&str]) -> CommandLine {
    words.iter().map(|&word| word.to_owned()).collect()
}
