//! What the command line may say.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::{Listen, LogFormat, To};

const AFTER: &str = "\
Without a command, oxy shows itself on loopback: a reverse proxy on 127.0.0.1:8080, and on 127.0.0.1:8443 over TLS, in \
front of a small built-in origin, a forward proxy on 127.0.0.1:3128, metrics on 127.0.0.1:9901.

Signals: SIGHUP reads the settings and the certificates again, and changes what is otherwise while it serves. SIGTERM and SIGINT stop the listeners and let what has begun end (at most the drain's time, 60 s unless set); \
a second SIGINT cuts what is left.

Exit codes: 0 ended in good order; 1 something failed while starting or running, such as an address that is taken; \
2 the command line is wrong; 3 the settings are wrong; 4 flows were cut at the end of the drain's time or by a second \
SIGINT.

RUST_LOG sets what is logged to the standard error, for example RUST_LOG=oxy_core=debug.";

/// Not a doc comment, which would want its URLs in brackets.
const TO: &str = "\
Where to go: HOST:PORT, http://HOST, h2c://HOST (HTTP/2 in clear text), https://HOST, unix:PATH, or builtin. Repeat for more, \
which are taken by turns";

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
    /// Have a running oxy read its settings again
    Reload(Reload),
    /// Reverse proxy: HTTP to the origins of your choice
    Reverse(Reverse),
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
#[group(required = true, multiple = false)]
pub(super) struct Reload {
    /// By the process's number: it says in its log what has come of it
    #[arg(long, value_name = "N")]
    pub(super) pid: Option<i32>,
    /// By its admin listener, IP:PORT or unix:PATH: what has come of it is said here
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<Listen>,
}

#[derive(Debug, Args)]
pub(super) struct Reverse {
    /// Where to listen: [https://]IP:PORT, :PORT or unix:PATH; port 0 is any free one. Repeat for more
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,
    #[command(flatten)]
    pub(super) certificates: Certificates,
    #[arg(short, long, required = true, value_name = "ADDR", help = TO)]
    pub(super) to: Vec<To>,
    /// Authorities, in PEM, that the certificates of https:// origins must be by [default: those of the platform]. Repeat
    /// for more
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Vec<PathBuf>,
    /// Take any certificate of https:// origins: for trials
    #[arg(long, conflicts_with = "ca")]
    pub(super) insecure: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Certificates {
    /// A certificate for https:// in --listen, with those between it and its root, in PEM. Repeat for more, with their
    /// keys in the same order; the first is the default
    #[arg(long, value_name = "FILE")]
    pub(super) cert: Vec<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE")]
    pub(super) key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Routed {
    /// Where to listen: IP:PORT, :PORT or unix:PATH; port 0 is any free one. Repeat for more
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,
    /// Where to go: HOST:PORT or unix:PATH. Repeat for more, which are taken by turns
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) to: Vec<To>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Forward {
    /// Where to listen: [https://]IP:PORT, :PORT or unix:PATH; port 0 is any free one. Repeat for more
    #[arg(short, long, required = true, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,
    #[command(flatten)]
    pub(super) certificates: Certificates,
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
    /// Where to serve /metrics, /healthz, /flows and /clusters [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<Listen>,
}
