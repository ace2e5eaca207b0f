//! What the command line may say.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::{Listen, LogFormat, To};

const AFTER: &str = "\
Without a command, oxy shows itself on loopback: a reverse proxy on 127.0.0.1:8080 in front of a small built-in origin, \
a forward proxy on 127.0.0.1:3128, metrics on 127.0.0.1:9901.

Signals: SIGTERM and SIGINT stop the listeners and let what has begun end (at most the drain's time, 60 s unless set); \
a second SIGINT cuts what is left.

Exit codes: 0 ended in good order; 1 something failed while starting or running, such as an address that is taken; \
2 the command line is wrong; 3 the settings are wrong; 4 flows were cut at the end of the drain's time or by a second \
SIGINT.

RUST_LOG sets what is logged to the standard error, for example RUST_LOG=oxy_core=debug.";

/// An open proxy: reverse, forward and L4.
#[derive(Debug, Parser)]
#[command(name = "oxy", version, after_help = AFTER, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run what a settings file says
    Run {
        /// The settings file; - is the standard input
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say whether a settings file is fine, or what is wrong where
    Check {
        /// The settings file; - is the standard input
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print settings
    Config {
        #[command(subcommand)]
        what: Config,
    },
    /// Reverse proxy: HTTP to the origins of your choice
    Reverse(Routed),
    /// Forward proxy: HTTP and CONNECT to where clients ask to go
    Forward(Forward),
    /// Relay TCP and Unix streams
    Tcp(Routed),
    /// Relay UDP datagrams
    Udp(Routed),
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Every setting with its default and what it does
    Reference,
    /// The settings that oxy runs on when it is given none
    Default,
}

#[derive(Debug, Args)]
pub(super) struct Routed {
    /// Where to listen: IP:PORT, :PORT or unix:PATH; port 0 is any free one. Repeat for more
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,
    /// Where to go: HOST:PORT, http://HOST:PORT, unix:PATH, or builtin. Repeat for more, which are taken by turns
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) to: Vec<To>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Forward {
    /// Where to listen: IP:PORT, :PORT or unix:PATH; port 0 is any free one. Repeat for more
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,
    /// Let clients reach loopback and private networks too
    #[arg(long)]
    pub(super) allow_private: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Worker threads [default: one for each core that the process may run on]
    #[arg(short, long, value_name = "N")]
    pub(super) workers: Option<NonZeroUsize>,
    /// Log each exchange, or each L4 flow, to the standard output
    #[arg(long, value_enum, default_value_t = LogFormat::Off, value_name = "FORMAT")]
    pub(super) access_log: LogFormat,
    /// Where to serve /metrics, /healthz and /flows [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<Listen>,
}
