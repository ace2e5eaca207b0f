//! Clusters, as a file has them.

use std::time::Duration;

use oxy_core::cluster::{
    BalanceSpec, BreakerOptions, ClusterSpec, DnsOptions, EndpointSpec, FailoverOptions,
    HealthCheck, OutlierOptions, RetryBudget, SlowStart, TableOptions,
};
use oxy_core::resolve::ResolveOptions;
use oxy_core::settings::Span;
use oxy_http::health::HealthKind;
use oxy_http::{Protocol, StickyCookie};
use oxy_tls::ClientOptions;
use oxy_tunnel::proxy_protocol::SendProxyProtocolOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Located;

/// A cluster: endpoints that serve the same, and how the work is shared among them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// What listeners and routes, logs and metrics call it.
    #[schemars(example = &"web")]
    pub name: String,
    /// Where its endpoints are: a list of `host:port`, `unix:/path`, `dns://name:port` (each address of the name is an
    /// endpoint), `srv://name`, or of maps with `address`, `weight`, `priority` and `labels`.
    #[schemars(with = "Vec<String>", example = ["127.0.0.1:9000"])]
    pub endpoints: Vec<EndpointSpec>,
    /// How an endpoint is chosen. Every way regards weights. Default: `round_robin`, as it needs to know nothing.
    pub balance: BalanceSpec,
    /// The tables of `maglev` and `ring_hash`.
    pub tables: TableOptions,
    /// How names of `dns://` and `srv://` endpoints are resolved.
    pub dns: DnsOptions,
    /// How names are resolved that are asked for in the background: those of `dns://` and `srv://` endpoints, and of
    /// endpoints whose health is checked.
    pub resolve: ResolveOptions,
    /// Whether and how endpoints are asked if they are well. Default: they are not asked.
    pub health: Option<HealthSettings>,
    /// When an endpoint that fails what it is sent is left alone for a while.
    pub outlier: OutlierOptions,
    /// How an endpoint that is new or back is given its share bit by bit.
    pub slow_start: SlowStart,
    /// How much fails before health is no longer regarded, and before the next priority helps out.
    pub failover: FailoverOptions,
    /// How much may be under way at once.
    pub breaker: BreakerOptions,
    /// How many retries there may be.
    pub retry_budget: RetryBudget,
    /// How endpoints are spoken to by listeners with `http`.
    pub http: OriginSettings,
    /// Whom a connection is for is told to the endpoint first (the PROXY protocol). HTTP connections are then each one
    /// client's own. Not for `udp`. Default: it is not told.
    pub send_proxy_protocol: Option<SendProxyProtocolOptions>,
}

/// How endpoints are asked if they are well, and how often.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// How they are asked: `tcp` (a connection opens), `http: {path: /healthz}` (a request is answered well), or `grpc:
    /// {service: greeter}` (gRPC's health check says that it serves); by TLS and in the version of HTTP that `http` says.
    /// With `http`: `method` (`GET` or `HEAD`), `path`, `host`, `statuses` (`200-399` unless it is set), `contains` (what
    /// the body has to contain) and `headers`; with `grpc`: `service` and `host`. Default: `tcp`.
    #[schemars(with = "HealthText", example = &"tcp")]
    pub kind: HealthKind,
    /// Time from the end of a check to the beginning of the next one of the same endpoint. Default: 5 s.
    #[serde(with = "Span")]
    pub interval: Duration,
    /// Up to how many percent of itself an interval is longer, by chance, so that checks do not come in waves. At most
    /// 100. Default: 10.
    pub jitter_percent: u32,
    /// A check that takes longer has failed. Default: 2 s.
    #[serde(with = "Span")]
    pub timeout: Duration,
    /// Checks in a row that must fail until an endpoint is no longer used. The first check of all decides alone.
    /// Default: 3, as one lost packet is no illness.
    pub unhealthy_threshold: u32,
    /// Checks in a row that must succeed until an endpoint is used again. Default: 2.
    pub healthy_threshold: u32,
    /// Whether an endpoint is used before its first check is over. Default: true, as a start would refuse what comes
    /// in its first moments otherwise.
    pub assume_healthy: bool,
    /// The port that is checked. Default: that of the endpoint.
    pub port: Option<u16>,
}

/// How a kind of health check is described: one line, as its maps are shown nowhere else.
type HealthText = String;

impl Default for HealthSettings {
    fn default() -> Self {
        let check = HealthCheck::default();
        Self {
            kind: HealthKind::default(),
            interval: check.interval,
            jitter_percent: check.jitter_percent,
            timeout: check.timeout,
            unhealthy_threshold: check.unhealthy_threshold,
            healthy_threshold: check.healthy_threshold,
            assume_healthy: check.assume_healthy,
            port: check.port,
        }
    }
}

impl HealthSettings {
    fn check(&self) -> HealthCheck {
        let mut check = HealthCheck::default();
        check.interval = self.interval;
        check.jitter_percent = self.jitter_percent;
        check.timeout = self.timeout;
        check.unhealthy_threshold = self.unhealthy_threshold;
        check.healthy_threshold = self.healthy_threshold;
        check.assume_healthy = self.assume_healthy;
        check.port = self.port;
        check
    }
}

/// How origins are spoken to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OriginSettings {
    /// Which version of HTTP is spoken. Default: `auto`.
    pub protocol: HttpVersion,
    /// Connections are encrypted. Not for the `cluster` of a `tcp` or `udp` listener, which passes bytes on as they are; what
    /// its `sni` passes on is encrypted by the client. The protocols that are offered (`alpn`) are those of `protocol` unless it is set. Default:
    /// they are not, unless this is there; `tls: {}` will do.
    pub tls: Option<Located<ClientOptions>>,
    /// A cookie that keeps a client with one endpoint. Default: none.
    pub sticky_cookie: Option<StickyCookie>,
}

/// A version of HTTP towards origins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpVersion {
    /// With `tls`, HTTP/2 if the origin agrees to it; HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, also in clear text (h2c with prior knowledge).
    Http2,
}

impl From<HttpVersion> for Protocol {
    fn from(version: HttpVersion) -> Self {
        match version {
            HttpVersion::Auto => Self::Auto,
            HttpVersion::Http1 => Self::Http1,
            HttpVersion::Http2 => Self::Http2,
        }
    }
}

impl ClusterSettings {
    /// What the core makes a cluster of.
    pub(super) fn spec(&self) -> ClusterSpec {
        let mut spec = ClusterSpec::new(self.name.clone(), self.endpoints.iter().cloned());
        spec.balance = self.balance.clone();
        spec.tables = self.tables.clone();
        spec.dns = self.dns.clone();
        spec.health = self.health.as_ref().map(HealthSettings::check);
        spec.outlier = self.outlier.clone();
        spec.slow_start = self.slow_start.clone();
        spec.failover = self.failover.clone();
        spec.breaker = self.breaker.clone();
        spec.retry_budget = self.retry_budget.clone();
        spec
    }
}
