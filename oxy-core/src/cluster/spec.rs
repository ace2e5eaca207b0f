//! What a cluster is to be: [`ClusterSpec`] and the options in it.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::balance::AnyBalance;
use super::balance::maglev;
use crate::target::{Host, HostName, Target, TargetError};
use crate::{Error, ErrorKind, Result};

/// A cluster to be: its endpoints, and how the work is shared among them.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ClusterSpec {
    /// What logs, metrics and reports call it. Default: empty.
    pub name: String,
    /// Where the endpoints are. Default: none, and every request is refused.
    pub endpoints: Vec<EndpointSpec>,
    /// How an endpoint is chosen. Every way regards weights. Default: `round_robin`, as it needs to know nothing.
    pub balance: BalanceSpec,
    /// The tables of `maglev` and `ring_hash`.
    pub tables: TableOptions,
    /// How names of `dns://` and `srv://` endpoints are resolved.
    pub dns: DnsOptions,
    /// Whether and how endpoints are asked if they are well. Default: they are not asked.
    pub health: Option<HealthCheck>,
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
}

impl ClusterSpec {
    /// A cluster of `endpoints`, with the defaults for all else.
    pub fn new<E: Into<EndpointSpec>>(
        name: impl Into<String>,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Self {
        Self {
            name: name.into(),
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Whether something in it has to be done in the background.
    pub(super) fn needs_tending(&self) -> bool {
        let rates = self.outlier.failure_percent > 0 || self.outlier.deviation_thousandths > 0;
        let is_name = |endpoint: &EndpointSpec| !matches!(endpoint.address, Address::Target(_));
        rates || self.health.is_some() || self.endpoints.iter().any(is_name)
    }

    /// Whether a cluster can be made of it.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what| Err(Error::local(ErrorKind::Malformed).context(what));
        let mut seen = HashSet::new();
        for endpoint in &self.endpoints {
            if !seen.insert(&endpoint.address) {
                return wrong("a cluster lists the same endpoint twice");
            }
            if endpoint.weight > EndpointSpec::WEIGHT_MAX {
                return wrong("an endpoint's weight is at most 65535");
            }
            if endpoint.priority > EndpointSpec::PRIORITY_MAX {
                return wrong("an endpoint's priority is at most 127");
            }
        }
        if !maglev::is_size(self.tables.maglev_size) {
            return wrong("the size of a Maglev table is a prime number up to 5000011");
        }
        if !(1..=10_000).contains(&self.tables.ring_points) {
            return wrong("an endpoint has 1 to 10000 points on a hash ring");
        }
        if !(100..=10_000).contains(&self.failover.overprovision_percent) {
            return wrong("a cluster is overprovisioned by 100 to 10000 percent");
        }
        if let Some(health) = &self.health
            && (health.interval.is_zero() || health.timeout.is_zero())
        {
            return wrong("health checks need an interval and a time-out");
        }
        if self.outlier.interval.is_zero() {
            return wrong("outliers are looked for at an interval above zero");
        }
        Ok(())
    }
}

/// One endpoint, or a name that stands for several.
///
/// In settings it is an address, or a map with more about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "settings", derive(serde::Serialize))]
pub struct EndpointSpec {
    /// Where it is: `host:port`, `udp://host:port`, `unix:/path`, `dns://name:port` or `srv://name`.
    pub address: Address,
    /// Its share of the work, relative to the others' of its priority; 0 gives it none but for what sticks to it
    /// already. At most 65535. Default: 1, which gives all the same.
    pub weight: u32,
    /// 0 is used first; higher ones take over what those before them cannot carry. At most 127. Default: 0.
    pub priority: u32,
    /// What is known of it besides: for reports, hooks, and balancing of one's own. Default: nothing.
    pub labels: BTreeMap<String, String>,
}

impl EndpointSpec {
    /// Weights are multiplied by percents and summed; Envoy and nginx stop at 16 bits, too.
    pub(super) const WEIGHT_MAX: u32 = 65_535;
    /// Each priority has a level with lists of its own. More than a few have never been seen.
    pub(super) const PRIORITY_MAX: u32 = 127;

    /// The endpoint at `address`, with the defaults for all else.
    pub fn new(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
            priority: 0,
            labels: BTreeMap::new(),
        }
    }

    /// With this share of the work.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// With this priority; 0 is used first.
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// With something that is known of it.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

impl<A: Into<Address>> From<A> for EndpointSpec {
    fn from(address: A) -> Self {
        Self::new(address)
    }
}

/// Where endpoints are.
///
/// As text it is a [`Target`], `dns://name:port` or `srv://name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// One endpoint. A name in it stays one endpoint, whose addresses the dialler races when it connects.
    Target(Target),
    /// Each address of a name (A and AAAA records) is an endpoint.
    Dns {
        /// The name.
        name: HostName,
        /// The port of all of them.
        port: u16,
    },
    /// Each SRV record (RFC 2782) names an endpoint, with its port, weight and priority. The least priority in the
    /// answer counts as the endpoint's own, the next one as one more, and so on; weights are multiplied.
    Srv {
        /// The name, as `_http._tcp.example.com`.
        name: HostName,
    },
}

impl FromStr for Address {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(name) = text.strip_prefix("srv://") {
            return Ok(Self::Srv {
                name: name.parse()?,
            });
        }
        let Some(rest) = text.strip_prefix("dns://") else {
            return text.parse().map(Self::Target);
        };
        match Target::authority(rest)? {
            Target::Tcp {
                host: Host::Name(name),
                port,
            } => Ok(Self::Dns { name, port }),
            // An address needs no resolving.
            target => Ok(Self::Target(target)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => target.fmt(f),
            Self::Dns { name, port } => write!(f, "dns://{name}:{port}"),
            Self::Srv { name } => write!(f, "srv://{name}"),
        }
    }
}

impl From<Target> for Address {
    fn from(target: Target) -> Self {
        Self::Target(target)
    }
}

#[cfg(feature = "settings")]
crate::settings_by_text!(
    Address,
    "EndpointAddress",
    "host:port, udp://host:port, unix:/path, dns://name:port or srv://name"
);

/// How an endpoint is chosen among those of a priority that may be used.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum BalanceSpec {
    /// By turns, as evenly spaced as the weights allow. Each worker has turns of its own.
    #[default]
    RoundRobin,
    /// The one of two drawn by weight that has fewer requests under way for its weight, as this worker counts them.
    LeastRequest,
    /// Drawn by weight.
    Random,
    /// By a key, through Maglev's table: the most even spread, and few keys move when endpoints come or go. Without
    /// a key it is `random`.
    Maglev,
    /// By a key, through a hash ring as in ketama: the fewest keys move, at a less even spread. Without a key it is
    /// `random`.
    RingHash,
    /// By an algorithm of the program's own.
    #[cfg_attr(feature = "settings", serde(skip))]
    Custom(AnyBalance),
}

/// The tables that keys are looked up in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct TableOptions {
    /// Entries of the table of `maglev`, 4 bytes each: a prime number up to 5000011, about a hundred times the number of
    /// endpoints or more. Default: 65537, which spreads up to 650 endpoints within 1 percent.
    pub maglev_size: u32,
    /// Points that an endpoint of average weight has on the ring of `ring_hash`, 16 bytes each, from 1 to 10000.
    /// Default: 160, as in ketama, which spreads within about 8 percent.
    pub ring_points: u32,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            maglev_size: 65_537,
            ring_points: 160,
        }
    }
}

/// How names of `dns://` and `srv://` endpoints are resolved: again whenever an answer's time to live has passed. When
/// that fails, or gives no address, what was known is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct DnsOptions {
    /// Which addresses of a name become endpoints. Default: `prefer_v4`, as a machine with both would count twice
    /// otherwise, and IPv6 is not routed everywhere that its addresses are published.
    pub addresses: Addresses,
    /// A name is asked for again after at least this long. Default: 1 s, so that a TTL of 0 is no flood.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub min_refresh: Duration,
    /// A name is asked for again after at most this long. Default: 5 min, as an answer's TTL may be a day, and nobody
    /// waits that long for a change.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub max_refresh: Duration,
    /// After a failure a name is asked for again after this long. Default: 5 s.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub retry: Duration,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            addresses: Addresses::default(),
            min_refresh: Duration::from_secs(1),
            max_refresh: Duration::from_secs(300),
            retry: Duration::from_secs(5),
        }
    }
}

/// Which addresses of a name become endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum Addresses {
    /// Those of IPv4; where there are none, those of IPv6.
    #[default]
    PreferV4,
    /// Those of IPv6; where there are none, those of IPv4.
    PreferV6,
    /// All.
    All,
}

/// Whether an endpoint is well is asked at an interval.
///
/// A check is a TCP (or Unix) connection that opens, or whatever the program's [`Probe`](super::Probe) does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct HealthCheck {
    /// Time from the end of a check to the beginning of the next one of the same endpoint. Default: 5 s.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub interval: Duration,
    /// Up to how many percent of itself an interval is longer, by chance, so that checks do not come in waves. At most
    /// 100. Default: 10.
    pub jitter_percent: u32,
    /// A check that takes longer has failed. Default: 2 s.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
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

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            jitter_percent: 10,
            timeout: Duration::from_secs(2),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            assume_healthy: true,
            port: None,
        }
    }
}

/// When an endpoint that fails what it is sent is left alone for a while (passive health).
///
/// The failures in a row are counted over all workers and act at once. Rates are of whole intervals, and need
/// [`Cluster::tend`](super::Cluster::tend) to run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct OutlierOptions {
    /// So many requests in a row that got no answer (no connection, a reset, a time-out) eject an endpoint; 0 is off.
    /// Default: 5.
    pub consecutive_failures: u32,
    /// So many answers in a row that say that the endpoint cannot serve (502, 503 and 504, unless the caller counts
    /// others) eject it; 0 is off. Default: 5.
    pub consecutive_gateway: u32,
    /// How often rates are looked at, and after how long without an ejection one that was is forgotten. Default: 10 s.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub interval: Duration,
    /// An endpoint that fails at least this percentage of an interval's requests is ejected; 0 is off. Default: 0.
    pub failure_percent: u32,
    /// An endpoint whose success rate is more than so many thousandths of a standard deviation below the mean of all
    /// is ejected; 0 is off. Default: 0; a useful value is 1900.
    pub deviation_thousandths: u32,
    /// Rates are regarded for endpoints with at least so many requests in the interval. Default: 50, as the rate of a
    /// few says nothing.
    pub min_requests: u32,
    /// Rates are regarded when at least so many endpoints have one. Default: 3.
    pub min_endpoints: u32,
    /// How long the first ejection lasts. Each further one lasts this much longer. Default: 30 s.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub base_ejection: Duration,
    /// How long an ejection lasts at most. Default: 5 min.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub max_ejection: Duration,
    /// At most this percentage of the endpoints is ejected at a time, but one may always be where there are two or
    /// more; 0 switches ejection off. Default: 50, as the rest would not carry what fewer are left with.
    pub max_ejected_percent: u32,
}

impl Default for OutlierOptions {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            consecutive_gateway: 5,
            interval: Duration::from_secs(10),
            failure_percent: 0,
            deviation_thousandths: 0,
            min_requests: 50,
            min_endpoints: 3,
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected_percent: 50,
        }
    }
}

/// How an endpoint that joins, or is well again, is given its share bit by bit. It does not apply to `maglev` and
/// `ring_hash`, where a smaller share would mean that keys move twice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct SlowStart {
    /// How long it takes until it has its whole weight. Default: 0, which is off.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub window: Duration,
    /// The percentage of its weight that it begins with. From 1 to 100. Default: 10.
    pub floor_percent: u32,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            floor_percent: 10,
        }
    }
}

/// How much fails before health is no longer regarded, and before the next priority helps out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct FailoverOptions {
    /// When less than this percentage of a priority's endpoints is healthy, and the others cannot take over, all of them
    /// are used: that the checks are wrong is then more likely than that so many endpoints are, and the rest would not
    /// carry the load anyway. 0 never does; when none is healthy, requests are refused. Default: 50.
    pub panic_percent: u32,
    /// A priority is given up to its healthy percentage times this percentage of the work, and the next one what is left.
    /// From 100 to 10000. Default: 140: a priority carries all as long as 72 percent of it is healthy.
    pub overprovision_percent: u32,
}

impl Default for FailoverOptions {
    fn default() -> Self {
        Self {
            panic_percent: 50,
            overprovision_percent: 140,
        }
    }
}

/// How much may be under way at once, over all workers. What is above a limit is refused at once.
///
/// A limit that is set is a counter that all workers share; one that is not costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct BreakerOptions {
    /// Connections to all endpoints. Default: no limit, as those of clients are limited.
    pub max_connections: Option<u32>,
    /// Connections to one endpoint. Default: no limit.
    pub max_endpoint_connections: Option<u32>,
    /// Requests that wait for a connection. Default: no limit.
    pub max_pending: Option<u32>,
    /// Requests under way. Default: no limit.
    pub max_requests: Option<u32>,
    /// Retries under way. Default: no limit, as the retry budget is one.
    pub max_retries: Option<u32>,
}

/// How many retries there may be, so that they do not finish off what is overloaded. Each worker has its own. What an origin
/// of HTTP/2 says that it did not look at (`REFUSED_STREAM`, or a GOAWAY before it) is sent again without a place here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RetryBudget {
    /// Retries under way are at most this percentage of the requests under way. Default: 20.
    pub percent: u32,
    /// But so many are always allowed, for each worker. Default: 20: a percentage of few requests is none, and time-outs,
    /// which are looked at ten times a second, come in bursts.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            min_concurrency: 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "127.0.0.1:80",
            "a.test:80",
            "udp://a.test:53",
            "unix:/run/a.sock",
            "dns://a.test:80",
            "srv://_http._tcp.a.test",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(
            "dns://127.0.0.1:80".parse::<Address>().unwrap(),
            Address::Target("127.0.0.1:80".parse().unwrap())
        );
        for bad in ["", "dns://a.test", "srv://", "srv://a b", "dns://:80"] {
            bad.parse::<Address>().unwrap_err();
        }
    }

    #[test]
    fn what_makes_no_cluster_is_refused() {
        fn spec() -> ClusterSpec {
            ClusterSpec::new("c", ["127.0.0.1:80".parse::<Address>().unwrap()])
        }
        spec().check().unwrap();
        let mut wrong = [(); 8].map(|()| spec());
        wrong[0].endpoints.push(wrong[1].endpoints[0].clone());
        wrong[1].endpoints[0].weight = 65_536;
        wrong[2].endpoints[0].priority = 128;
        wrong[3].tables.maglev_size = 65_536;
        wrong[4].tables.ring_points = 0;
        wrong[5].failover.overprovision_percent = 99;
        wrong[6].health = Some(HealthCheck {
            interval: Duration::ZERO,
            ..HealthCheck::default()
        });
        wrong[7].outlier.interval = Duration::ZERO;
        for spec in wrong {
            assert_eq!(spec.check().unwrap_err().kind(), ErrorKind::Malformed);
        }
    }
}
