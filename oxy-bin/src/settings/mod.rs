//! What the settings file says.
//!
//! The crates' option structs are the settings: what a program can build, a file can say. [`load`] reads a file into
//! [`Settings`], and [`Plan`] is what they come to once everything has been checked.

mod address;
mod cluster;
mod environment;
mod error;
mod gather;
mod listener;
mod load;
mod located;
mod one_or_many;
mod plan;
pub mod reference;
mod secure;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use oxy_core::settings::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Listen, To};
pub use cluster::{ClusterSettings, HealthSettings, HttpVersion, OriginSettings};
pub use error::SettingsError;
pub(crate) use error::story;
pub use listener::{
    HostSettings, HttpSettings, ListenerSettings, PassSettings, TcpSettings, UdpSettings,
};
pub use load::{load, parse};
pub use located::Located;
pub(crate) use plan::ADMIN;
pub use plan::{ClusterPlan, HttpKind, Kind, Listener, Pass, Plan, RelayKind, Tls};

/// The settings that `oxy` runs on when it is given none.
pub const DEFAULTS: &str = include_str!("defaults.yaml");

/// A settings file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many worker threads there are. Read at the start only: a reload that finds another number says so and goes on with
    /// this one. Default: one for each core that the process may run on.
    pub workers: Option<NonZeroUsize>,
    /// How long flows may take to end after SIGTERM, before they are cut. Read at the start only, as `workers` is. Default: 60 s, within the 90 s that service
    /// managers commonly wait.
    #[serde(with = "Span")]
    pub drain_timeout: Duration,
    /// Metrics, health and live flows over HTTP. Read at the start only, as `workers` is. Default: nowhere.
    pub admin: Option<AdminSettings>,
    /// A line for each HTTP exchange, and for each flow that carries none; for an HTTP connection only if it broke off. Read
    /// at the start only, as `workers` is.
    pub access_log: AccessLogSettings,
    /// Endpoints that serve the same, for listeners to name.
    pub clusters: Vec<Located<ClusterSettings>>,
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
            clusters: Vec::new(),
            listeners: Vec::new(),
        }
    }
}

/// The admin listener: `/metrics`, `/healthz`, `/flows`, `/clusters`, and POST `/reload`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Where it listens: `IP:PORT`, `:PORT` or `unix:PATH`. Whoever reaches it sees who talks to whom, so that it
    /// belongs on loopback or a private network.
    #[schemars(example = "127.0.0.1:9901")]
    pub listen: Listen,
}

/// What is logged of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
