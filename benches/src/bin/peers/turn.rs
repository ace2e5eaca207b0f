//! One turn of one peer: started afresh, so that what an earlier turn left in its memory is not measured.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use oxy_benches::child::{Server, TempDir, free_address, output};

use crate::Options;
use crate::case::Case;
use crate::identity::Identity;
use crate::load::{Sample, Shape};
use crate::oxy::Oxy;
use crate::proxy::{Programs, Site, words};
use crate::syscalls::{Syscalls, Trace};
use crate::variant::Entrant;

/// An idle proxy is left alone for so many seconds at least: some give memory back late.
const REST: f64 = 3.0;

/// A turn that finds out what a peer can do needs no more seconds than these.
const PROBE: f64 = 2.0;

/// Beyond the window: the start, and opening the idle connections.
const MARGIN: f64 = 45.0;

/// How long, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) warmup: f64,
    pub(crate) seconds: f64,
    /// Requests each second, for cases that have a rate.
    pub(crate) rate: Option<f64>,
}

impl Pace {
    /// What is measured.
    pub(crate) fn measured(case: Case, options: &Options, rate: Option<f64>) -> Self {
        let least = if case.shape() == Shape::Idle {
            REST
        } else {
            0.0
        };
        Self {
            warmup: options.warmup,
            seconds: options.seconds.max(least),
            rate,
        }
    }

    /// What finds out what a peer can do.
    pub(crate) fn probing(options: &Options) -> Self {
        Self {
            warmup: options.warmup,
            seconds: options.seconds.min(PROBE),
            rate: None,
        }
    }

    /// What counts system calls: every request from the first on.
    fn counting(options: &Options) -> Self {
        Self {
            warmup: 0.0,
            seconds: options.seconds.min(PROBE),
            rate: None,
        }
    }
}

/// What every turn needs.
#[derive(Debug)]
pub(crate) struct Turns<'a> {
    pub(crate) options: &'a Options,
    /// This program.
    pub(crate) itself: String,
    pub(crate) origin: SocketAddr,
    pub(crate) oxy: &'a Oxy,
    pub(crate) identity: &'a Identity,
    pub(crate) programs: &'a Programs,
    pub(crate) dir: &'a TempDir,
}

impl Turns<'_> {
    /// Measures `entrant`. `name` tells this turn from others.
    pub(crate) async fn take(
        &self,
        name: &str,
        case: Case,
        entrant: Entrant,
        pace: Pace,
    ) -> Result<Sample, String> {
        eprintln!("{name} {}", entrant.name());
        let dir = self.place(name, entrant)?;
        let (server, listen) = self.start(case, entrant, &dir).await?;
        let pid = server.pid()?;
        let sample = self.load(case, entrant, listen, pid, pace).await?;
        server.stop().await?;
        Ok(sample)
    }

    /// Counts the system calls of `entrant`.
    pub(crate) async fn count(&self, case: Case, entrant: Entrant) -> Result<Syscalls, String> {
        let name = format!("{} syscalls", case.name());
        eprintln!("{name} {}", entrant.name());
        let dir = self.place(&name, entrant)?;
        let (server, listen) = self.start(case, entrant, &dir).await?;
        let beside = dir.join("strace");
        std::fs::create_dir(&beside).map_err(|error| error.to_string())?;
        let trace = Trace::attach(server.pid()?, &beside).await?;
        let pace = Pace::counting(self.options);
        let pid = server.pid()?;
        let sample = self.load(case, entrant, listen, pid, pace).await?;
        let calls = trace.finish().await?;
        server.stop().await?;
        if sample.requests == 0 || sample.wrong + sample.errors > 0 {
            return Err("no answers, or wrong ones, under strace".into());
        }
        Ok(Syscalls {
            requests: sample.requests,
            calls,
        })
    }

    fn place(&self, name: &str, entrant: Entrant) -> Result<std::path::PathBuf, String> {
        let name = format!("{name} {}", entrant.name()).replace([' ', ','], "-");
        self.dir.sub(&name).map_err(|error| error.to_string())
    }

    async fn start(
        &self,
        case: Case,
        entrant: Entrant,
        dir: &Path,
    ) -> Result<(Server, SocketAddr), String> {
        let listen = free_address().map_err(|error| error.to_string())?;
        let site = Site {
            entrant,
            listen,
            origin: self.origin,
            dir,
            oxy_cmd: &self.oxy.template,
            identity: self.identity,
            programs: self.programs,
        };
        let mut command = words(case.priority());
        command.extend(
            entrant
                .peer
                .prepare(case, &site)
                .map_err(|error| error.to_string())?,
        );
        let server = Server::start(&command, &self.options.proxy_cpus(case), listen, dir).await?;
        Ok((server, listen))
    }

    async fn load(
        &self,
        case: Case,
        entrant: Entrant,
        target: SocketAddr,
        pid: u32,
        pace: Pace,
    ) -> Result<Sample, String> {
        let mut load = words(case.priority());
        load.extend([
            self.itself.clone(),
            "load".into(),
            format!("--target={target}"),
            format!("--pid={pid}"),
            format!("--shape={}", name(&case.shape())),
            format!("--method={}", name(&case.method())),
            format!("--size={}", case.size()),
            format!("--connections={}", entrant.connections(case)),
            format!("--resting={}", entrant.resting()),
            format!("--warmup={}", pace.warmup),
            format!("--seconds={}", pace.seconds),
        ]);
        load.extend(pace.rate.map(|rate| format!("--rate={rate}")));
        if let Some(group) = case.tls() {
            load.push(format!("--tls={}", name(&group)));
        }
        if let Some(streams) = case.streams() {
            load.push(format!("--streams={streams}"));
        }
        if let Some(routes) = case.routes() {
            load.push(format!("--routes={routes}"));
        }
        let limit = Duration::from_secs_f64(pace.warmup + pace.seconds + MARGIN);
        let printed = output(&load, &self.options.load_cpus(case), limit).await?;
        serde_json::from_slice(&printed).map_err(|error| error.to_string())
    }
}

/// A value's name on the command line.
fn name(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}
