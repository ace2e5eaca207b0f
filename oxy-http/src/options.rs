//! What an HTTP listener and its way to the origins are told.

use std::time::Duration;

use crate::limits::{ChunkLimits, HeadLimits};
use crate::semantics::ForwardPolicy;

/// How HTTP is served and forwarded.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct HttpOptions {
    /// Bounds on header sections.
    pub head: HeadLimits,
    /// Bounds on chunked bodies.
    pub chunk: ChunkLimits,
    /// Bounds on bodies.
    pub body: BodyLimits,
    /// HTTP/2, on both sides.
    pub http2: Http2Options,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What is added to, and kept of, the fields that pass.
    pub forward: ForwardPolicy,
    /// Connections to origins that wait to be used again.
    pub pool: PoolOptions,
    /// When a request is tried again.
    pub retry: RetryOptions,
    /// Whether fast bodies raise their socket's low-water mark, which saves a quarter of the CPU time of bulk; a sender
    /// that suddenly stops can then have its last bytes held back for up to 0.2 s, once. Default: true.
    pub low_water: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            chunk: ChunkLimits::default(),
            body: BodyLimits::default(),
            http2: Http2Options::default(),
            timeouts: Timeouts::default(),
            forward: ForwardPolicy::default(),
            pool: PoolOptions::default(),
            retry: RetryOptions::default(),
            low_water: true,
        }
    }
}

/// Bounds on bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct BodyLimits {
    /// Bytes of a request body, after which 413 is answered; 0 is no limit. Default: 0: bodies are streamed, so that a
    /// large one costs no memory; what an origin can take is the origin's to say.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_request: u64,
    /// Bytes a second that a body must make on average over [`BodyLimits::grace`], either way; 0 is no minimum.
    /// Default: 100: a client on the worst of links is faster, and one that drips bytes to hold resources is not.
    pub min_rate: u64,
    /// How long a body may be slower than [`BodyLimits::min_rate`]. Default: 20 s, so that a pause for a change of
    /// network is no offence.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub grace: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            max_request: 0,
            min_rate: 100,
            grace: Duration::from_secs(20),
        }
    }
}

/// HTTP/2 (RFC 9113): how much may be under way on one connection. Bounds on header sections are those of
/// [`HttpOptions::head`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Http2Options {
    /// Exchanges at a time on one connection, a client's or one to an origin. Default: 128, as nginx has it: more than a
    /// browser uses, and a bound on what one connection may ask for at once.
    pub max_streams: u32,
    /// Bytes of one body that a peer may send before what it sent has been passed on. Default: 256 KiB: what a path of
    /// 20 ms carries at 100 Mbit/s.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub stream_window: u32,
    /// Bytes of all bodies of one client's connection together that it may send before what it sent has been passed on.
    /// Default: 4 MiB: sixteen bodies that do not get on hold up no other, and it bounds what a client can make a connection
    /// hold. A connection to an origin carries bodies for many clients, of whom some do not read: there it is what all
    /// streams may have together.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub connection_window: u32,
    /// Bytes of one body that are kept for a peer which does not read as fast as it allows us to send. Default: 64 KiB:
    /// several turns of the event loop.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub send_buffer: usize,
    /// Connections to one endpoint of an origin that speaks HTTP/2, per worker; requests that find no room on them wait.
    /// Default: 8, which at an origin's usual 100 exchanges each is more than a worker has under way.
    pub max_connections: usize,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_streams: 128,
            stream_window: 256 * 1024,
            connection_window: 4 * 1024 * 1024,
            send_buffer: 64 * 1024,
            max_connections: 8,
        }
    }
}

/// How long each step may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Timeouts {
    /// From the first byte of a request's header section to its last. Default: 10 s, against slowloris; a header section
    /// fits in a few packets.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub head: Duration,
    /// Silence before a connection's first request, or between two. Default: 75 s, as nginx has it.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub idle: Duration,
    /// Silence within a body, on the client's side or the origin's. Default: 60 s.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub body: Duration,
    /// From the request's end (or its last byte that could be sent) to the response's header section. Default: 60 s, as
    /// nginx has it.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub first_byte: Duration,
    /// How long a connection is read, and what comes thrown away, after a response that ended it, so that the client
    /// reads the response before it sees a reset (RFC 9112 section 9.6). Default: 2 s.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(60),
            first_byte: Duration::from_secs(60),
            linger: Duration::from_secs(2),
        }
    }
}

/// Connections to origins that wait to be used again, per worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct PoolOptions {
    /// Idle connections to one target. Default: 16,384 per worker: as many as a busy worker has requests in flight. With fewer
    /// than that, connections would be closed and opened all the time, just when there is most to do. Of those that a burst
    /// has left, all beyond 1024 are closed after a few seconds.
    pub max_idle: usize,
    /// Idle connections to all targets together. Default: 16,384 per worker. Where descriptors do not suffice, an idle
    /// connection is closed before a request is refused.
    pub max_idle_total: usize,
    /// How long a connection may be idle. Default: 50 s: less than the 60 s and more after which common origins close, so
    /// that it is we who close and no request meets a closing connection.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub idle: Duration,
    /// How many requests one connection carries; 0 is no limit. Default: 0.
    pub max_requests: u64,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_idle: 16_384,
            max_idle_total: 16_384,
            idle: Duration::from_secs(50),
            max_requests: 0,
        }
    }
}

/// When a request is tried again.
///
/// Only what is safe is retried at all: a request that never left, or one with an idempotent method (RFC 9110 section
/// 9.2.2) and a replayable body whose reused connection died before a byte of the response came back.
///
/// Requests that an origin of HTTP/2 says it did not look at (`REFUSED_STREAM`, or a GOAWAY before them) are no retries to
/// `max` and to the budgets, neither to this one nor to that of a cluster, as nothing is done twice: they are sent up to five
/// times more, unless `max` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RetryOptions {
    /// Tries after the first; 0 is no retries of any kind. Default: 2: a fresh connection, and one more for another address.
    pub max: u32,
    /// Retries as a share of requests, in per cent, over the last ten seconds or so. Default: 20: an origin that fails
    /// must not get twice the load for it.
    pub budget_percent: u32,
    /// Retries that are allowed whatever the share, a second. Default: 10, so that a quiet proxy can retry at all.
    pub budget_min: u32,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            max: 2,
            budget_percent: 20,
            budget_min: 10,
        }
    }
}
