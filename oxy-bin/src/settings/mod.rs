//! What the settings file says.
//!
//! The crates' option structs are the settings: what a program can build, a file can say. [`load`] reads a file into
//! [`Settings`], and [`Plan`] is what they come to once everything has been checked.

mod address;
mod environment;
mod error;
mod load;
mod located;
mod plan;
pub mod reference;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use oxy_core::offramp::{DialOptions, EgressPolicy};
use oxy_core::onramp::{StreamOptions, UdpOptions};
use oxy_core::relay::RelayOptions;
use oxy_core::resolve::ResolveOptions;
use oxy_core::settings::Span;
use oxy_http::HttpOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Listen, To};
pub use error::SettingsError;
pub use load::{load, parse};
pub use located::Located;
pub(crate) use plan::ADMIN;
pub use plan::{Kind, Listener, Plan};

/// The settings that `oxy` runs on when it is given none.
pub const DEFAULTS: &str = include_str!("defaults.yaml");

/// A settings file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many worker threads there are. Default: one for each core that the process may run on.
    pub workers: Option<NonZeroUsize>,
    /// How long flows may take to end after SIGTERM, before they are cut. Default: 60 s, within the 90 s that service
    /// managers commonly wait.
    #[serde(with = "Span")]
    pub drain_timeout: Duration,
    /// Metrics, health and live flows over HTTP. Default: nowhere.
    pub admin: Option<AdminSettings>,
    /// A line for each HTTP exchange, and for each flow that carries none; for an HTTP connection only if it broke off.
    pub access_log: AccessLogSettings,
    /// Where flows come in, and what becomes of them.
    pub listeners: Vec<Located<ListenerSettings>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: None,
            drain_timeout: Duration::from_secs(60),
            admin: None,
            access_log: AccessLogSettings::default(),
            listeners: Vec::new(),
        }
    }
}

/// The admin listener: `/metrics`, `/healthz`, `/flows`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Where it listens: `IP:PORT`, `:PORT` or `unix:PATH`. Whoever reaches it sees who talks to whom, so that it
    /// belongs on loopback or a private network.
    #[schemars(example = "127.0.0.1:9901")]
    pub listen: Listen,
}

/// What is logged of the traffic.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// How it is written. Default: `off`. Queries, userinfo, header fields and bodies are never in it.
    pub format: LogFormat,
    /// Where it is written: `stdout`, `stderr`, or the path of a file, which is appended to. Default: `stdout`.
    pub path: LogPath,
}

/// How the access log is written.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Not at all.
    #[default]
    Off,
    /// A line of text for people.
    Text,
    /// A line of JSON, with OpenTelemetry's names where it has some.
    Json,
}

/// Where a log is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "PathBuf", into = "PathBuf")]
#[schemars(with = "String")]
pub enum LogPath {
    /// The standard output.
    #[default]
    Stdout,
    /// The standard error.
    Stderr,
    /// A file, which is appended to.
    File(PathBuf),
}

impl From<PathBuf> for LogPath {
    fn from(path: PathBuf) -> Self {
        match path.to_str() {
            Some("stdout") => Self::Stdout,
            Some("stderr") => Self::Stderr,
            _ => Self::File(path),
        }
    }
}

impl From<LogPath> for PathBuf {
    fn from(path: LogPath) -> Self {
        match path {
            LogPath::Stdout => "stdout".into(),
            LogPath::Stderr => "stderr".into(),
            LogPath::File(path) => path,
        }
    }
}

/// A listener: addresses, and exactly one of `http`, `tcp` and `udp`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// What it is called in logs and metrics. Default: its kind, with its place in the list from the second of a kind
    /// on.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it listens: `IP:PORT`, `:PORT` (all addresses), or `unix:PATH` for streams; port 0 is any free one.
    #[schemars(example = ["127.0.0.1:8080"])]
    pub listen: Vec<Listen>,
    /// Serve HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
    /// Relay TCP (and Unix) streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<RelaySettings>,
    /// Relay UDP datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<RelaySettings>,
    /// How connections are taken in. Not with `udp`.
    #[serde(default)]
    pub stream: Option<StreamOptions>,
    /// How sessions of datagrams are taken in. Only with `udp`.
    #[serde(default)]
    pub datagram: Option<UdpOptions>,
    /// How streams and datagrams are relayed, those in tunnels too.
    #[serde(default)]
    pub relay: RelayOptions,
    /// Which addresses may be dialled. Default: all of them, as it is these settings that name them; with
    /// `http.forward`, where clients name them, what is written here as each setting's default.
    #[serde(default)]
    pub egress: Option<EgressPolicy>,
    /// How sockets towards targets are opened.
    #[serde(default)]
    pub dial: DialOptions,
    /// How names are resolved.
    #[serde(default)]
    pub resolve: ResolveOptions,
}

/// What an HTTP listener does.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Reverse proxy: the origins, by turns. `HOST:PORT`, `http://HOST:PORT`, `unix:PATH`, or `builtin` for the small
    /// origin that oxy brings along.
    pub to: Vec<To>,
    /// Forward proxy: requests go where they ask to go, CONNECT too. Instead of `to`. Default: false.
    pub forward: bool,
    /// How HTTP is served and forwarded.
    pub options: HttpOptions,
}

/// Where an L4 listener's flows go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// The targets, by turns: `HOST:PORT`, or `unix:PATH` for streams.
    #[schemars(example = ["127.0.0.1:9000"])]
    pub to: Vec<To>,
}
