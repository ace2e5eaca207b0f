//! Thousands of connections through Oxy to an origin that resets some of them: every byte is compared, every request
//! ends, and nothing stays behind. `benches/README.md` says how to run it and how to read it.

mod client;
mod origin;
mod plan;
mod proxy;
mod rest;
mod tally;
mod verdict;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use oxy_benches::{binary, child, pinned};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use client::Clients;
use proxy::Proxy;
use rest::rest;
use tally::Tally;
use verdict::Outcome;

/// Connections of the phase that shows what the proxy needs at rest.
const WARM_CONNECTIONS: usize = 500;

/// How long that phase lasts.
const WARM_TIME: Duration = Duration::from_secs(3);

/// Loads Oxy, compares every byte, and looks at what is left.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, clap::Args)]
struct Options {
    /// An oxy that is already built.
    #[arg(long, value_name = "PATH")]
    oxy: Option<PathBuf>,
    /// Connections open at a time.
    #[arg(long, default_value_t = 8000)]
    connections: usize,
    /// Seconds of load, not counting the warm-up.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Of a hundred requests, so many have their connection reset by the origin.
    #[arg(long, default_value_t = 1.0)]
    reset_percent: f64,
    /// The longest pause between two requests of a client, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    pause: u64,
    /// Another seed is another series of requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the program starts itself as.
#[derive(Debug, Subcommand)]
enum Role {
    /// Any command, no longer than this program.
    #[command(hide = true)]
    Pinned {
        /// Cores to stay on.
        #[arg(long)]
        cpu: Vec<usize>,
        /// This program.
        parent: u32,
        /// The command.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.role {
        None => soak(&cli.options),
        Some(Role::Pinned {
            cpu,
            parent,
            command,
        }) => pinned::run(cpu, *parent, command).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("soak: {error}");
        ExitCode::FAILURE
    })
}

fn soak(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    raise_limit(options.connections)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Dropping the run kills its child and removes its files.
        let mut terminate = signal(SignalKind::terminate())?;
        let done = tokio::select! {
            done = run(options) => done,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        };
        child::all_gone().await;
        done
    })
}

async fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let program = match &options.oxy {
        Some(path) => path.clone(),
        None => binary::oxy()?,
    };
    let dir = child::TempDir::new()?;
    let tally = Arc::new(Tally::default());
    let origin = origin::start(tally.clone(), options.reset_percent)?;
    let mut proxy = Proxy::start(&program, origin, &dir.sub("oxy")?).await?;
    let clients = Arc::new(Clients::new(
        proxy.address,
        tally.clone(),
        options.reset_percent,
        options.pause,
        options.seed,
    ));

    eprintln!("soak: {WARM_CONNECTIONS} connections to warm up");
    clients.run(WARM_CONNECTIONS, WARM_TIME).await;
    let before = rest(&mut proxy, &tally, u64::MAX).await?;

    let Options {
        connections,
        seconds,
        ..
    } = *options;
    eprintln!("soak: {connections} connections for {seconds} s");
    let begun = Instant::now();
    let most_open = clients.run(connections, Duration::from_secs(seconds)).await;
    let outcome = Outcome {
        tally: &tally,
        wanted: connections as u64,
        most_open,
        seconds: begun.elapsed().as_secs_f64(),
        cpu: proxy.cpu()?,
        peak_rss: proxy.peak_rss()?,
        before,
        after: rest(&mut proxy, &tally, verdict::memory_limit(before)).await?,
    };
    outcome.print();
    let violations = outcome.violations();
    for what in &violations {
        println!("VIOLATION: {what}");
    }
    Ok(if violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The clients and the origin are in this process: two descriptors for each connection, and some.
fn raise_limit(connections: usize) -> Result<(), Box<dyn Error>> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised)?;
    let needed = connections as u64 * 2 + 500;
    match limit.maximum {
        Some(most) if most < needed => {
            Err(format!("{needed} descriptors are needed, and {most} are allowed").into())
        }
        _ => Ok(()),
    }
}
