//! Oxy next to its peers: the same load through each, one processor core each,
//! in turns. `benches/README.md` says how to run it and how to read it.

mod bars;
mod case;
mod docs;
mod figure;
mod identity;
mod load;
mod machine;
mod origin;
mod oxy;
mod poller;
mod prompt;
mod proxy;
mod relay;
mod report;
mod rounds;
mod routes;
mod syscalls;
mod table;
mod turn;
mod variant;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use oxy_benches::{child, pinned};

use self::case::Case;
use self::proxy::Peer;

/// Compares Oxy with nginx, `HAProxy`, Envoy, Caddy, Pingora, hyper and bare relays.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

/// What to measure and where to put the results.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// A case; may be repeated. Without any: all but rate-1k.
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// A peer; may be repeated. Without any: all. Oxy is always among them.
    #[arg(long = "peer", value_enum)]
    peers: Vec<Peer>,
    /// Rounds of each case.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Seconds of each measured window.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Seconds of load before each measured window.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warmup: f64,
    /// Requests per second in rate-1k.
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// An oxy that is already built.
    #[arg(long, value_name = "PATH", conflicts_with = "oxy_cmd")]
    oxy: Option<PathBuf>,
    /// What to run in oxy's place; `{mode}` (reverse or tcp), `{listen}`, `{origin}` and `{workers}` are filled in.
    /// In the TLS cases `{listen}` begins with https://, and `--cert FILE --key FILE` is appended.
    #[arg(long, value_name = "TEMPLATE")]
    oxy_cmd: Option<String>,
    /// The Envoy to run. Without it: the variable ENVOY, or target/envoy/bin/envoy, or the one on the path.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// The Caddy to run. Without it: the variable CADDY, or target/caddy/bin/caddy, or the one on the path.
    #[arg(long, value_name = "PATH")]
    caddy: Option<PathBuf>,
    /// The program of benches/pingora to run. Without it: the variable PINGORA, or what `--peer pingora` builds,
    /// or what it has built before.
    #[arg(long, value_name = "PATH")]
    pingora: Option<PathBuf>,
    /// The same for benches/hyper and the variable HYPER.
    #[arg(long, value_name = "PATH")]
    hyper: Option<PathBuf>,
    /// Count system calls as well: one more turn of each peer, of 2 s at most, under strace.
    #[arg(long)]
    syscalls: bool,
    /// The core that the proxies run on.
    #[arg(long, default_value_t = 0)]
    proxy_cpu: usize,
    /// The core that the origin and the load run on.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Write everything that was measured as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the tables into a page, between `<!-- peers: begin -->` and `<!-- peers: end -->`. Without a
    /// file: docs/performance.md.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = docs::PAGE)]
    docs: Option<PathBuf>,
    /// Which marks --docs looks for: `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
    #[arg(long, value_name = "NAME", requires = "docs", default_value = docs::PLACE)]
    place: String,
    /// Fail if Oxy misses a bar.
    #[arg(long)]
    bars: bool,
}

impl Options {
    /// The cores that the proxies run on.
    fn proxy_cpus(&self, case: Case) -> Vec<usize> {
        if case.shares_cores() {
            return vec![self.proxy_cpu, self.load_cpu];
        }
        vec![self.proxy_cpu]
    }

    /// The cores that the origin and the load run on.
    fn load_cpus(&self, case: Case) -> Vec<usize> {
        if case.shares_cores() {
            return self.proxy_cpus(case);
        }
        vec![self.load_cpu]
    }
}

/// What the harness starts itself as.
#[derive(Debug, Subcommand)]
enum Role {
    /// The origin.
    #[command(hide = true)]
    Origin {
        /// Where to listen.
        listen: SocketAddr,
    },
    /// The load generator.
    #[command(hide = true)]
    Load(load::Load),
    /// A floor.
    #[command(hide = true)]
    Relay {
        /// Where to listen.
        listen: SocketAddr,
        /// Where to connect.
        to: SocketAddr,
        /// Splice instead of copying.
        #[arg(long)]
        splice: bool,
    },
    /// Any command, on given cores and no longer than the harness.
    #[command(hide = true)]
    Pinned {
        /// The cores.
        #[arg(long)]
        cpu: Vec<usize>,
        /// The harness.
        parent: u32,
        /// The command.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.role {
        None => measure(&cli.options),
        Some(Role::Origin { listen }) => origin::run(*listen).map(|()| ExitCode::SUCCESS),
        Some(Role::Load(load)) => load::run(load).map(|()| ExitCode::SUCCESS),
        Some(Role::Relay { listen, to, splice }) => {
            relay::run(*listen, *to, *splice).map(|()| ExitCode::SUCCESS)
        }
        Some(Role::Pinned {
            cpu,
            parent,
            command,
        }) => pinned::run(cpu, *parent, command).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("peers: {error}");
        ExitCode::FAILURE
    })
}

/// Measures, reports, and judges.
fn measure(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let page = options.docs.clone();
    let page = page
        .map(|path| docs::Page::find(path, &options.place))
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        // Dropping the measurement kills its children and removes its files.
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let report = tokio::select! {
            report = rounds::run(options) => report,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        };
        child::all_gone().await;
        report
    })?;
    print!("{}", report.text());
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json())?)?;
    }
    if let Some(path) = &options.markdown {
        std::fs::write(path, report.markdown())?;
    }
    if let Some(page) = page {
        page.write(&report.markdown())?;
    }
    let missed = report.bars().iter().any(|bar| !bar.met);
    Ok(if options.bars && missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}
