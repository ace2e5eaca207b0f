//! Names to addresses: [`Resolver`], its cache, and the race between what it found ([`happy`]).
//!
//! A resolver is made per worker: its cache is then under a lock that nobody else takes, and the sockets of its
//! queries belong to the runtime that polls them.

mod cache;
pub mod happy;
mod hosts;
mod system;

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, ready};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result, Retry};
use crate::target::{Host, HostName};

pub use self::system::SystemLookup;

/// How names are resolved. The defaults are those of [`ResolveOptions::default`].
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ResolveOptions {
    /// The servers to ask, over UDP and then TCP. Default: none, which means those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
    /// Whether the search list of `/etc/resolv.conf` is tried, as short names of Kubernetes need. A name that a
    /// client chose then also reaches names below the operator's domains. Default: false.
    pub search: bool,
    /// Whether `/etc/hosts` is read, once, when the resolver is made. Default: true.
    pub hosts_file: bool,
    /// Names with fixed addresses, which are never asked for (`curl --resolve`). They go before `hosts_file`.
    /// Default: none.
    pub hosts: HashMap<HostName, Vec<IpAddr>>,
    /// How long one attempt at one server may take. Default: 2 seconds.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub timeout: Duration,
    /// How often a query is sent again after a failure. Default: 2.
    pub attempts: usize,
    /// How long a lookup may take with all its attempts. Default: 8 seconds.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub deadline: Duration,
    /// Which families are asked for. Default: both.
    pub families: Families,
    /// How many answers are kept, of either family. Default: 4,096, about 1 MiB.
    pub cache_entries: usize,
    /// An answer is kept for at least this long, whatever its TTL. Default: 1 second, so that a TTL of 0 does not
    /// mean a query for each connection.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub min_ttl: Duration,
    /// An answer is kept for at most this long. Default: 1 hour.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub max_ttl: Duration,
    /// That there is no address is remembered for as long as the zone says (RFC 2308 section 5), but at most this
    /// long. Default: 1 minute.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub max_negative_ttl: Duration,
    /// That there was no answer is remembered for this long. Default: 1 second, the least that RFC 9520 section 3.2
    /// asks for.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub failure_ttl: Duration,
    /// How long after its TTL an answer may still be used when no server gives a new one (RFC 8767). Default: off.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSpan"))]
    pub serve_stale: Option<Duration>,
    /// How many lookups may be on their way at a time; further ones fail as overloaded. Default: 256, as each may
    /// need sockets, and clients choose how many names they ask for.
    pub max_lookups: usize,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            search: false,
            hosts_file: true,
            hosts: HashMap::new(),
            timeout: Duration::from_secs(2),
            attempts: 2,
            deadline: Duration::from_secs(8),
            families: Families::Both,
            cache_entries: 4096,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(3600),
            max_negative_ttl: Duration::from_secs(60),
            failure_ttl: Duration::from_secs(1),
            serve_stale: None,
            max_lookups: 256,
        }
    }
}

/// Which families of addresses a name is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum Families {
    /// IPv6 and IPv4.
    #[default]
    Both,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: A records.
    V4,
    /// IPv6: AAAA records.
    V6,
}

impl Families {
    /// Whether `family` is among them.
    pub fn include(self, family: Family) -> bool {
        match self {
            Self::Both => true,
            Self::V4Only => family == Family::V4,
            Self::V6Only => family == Family::V6,
        }
    }
}

impl Family {
    /// Whether `ip` belongs to it.
    pub fn has(self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The addresses in the order of the answer, IPv6 before IPv4. Empty only from [`Resolver::lookup`].
    pub addrs: Vec<IpAddr>,
    /// When it should be asked again.
    pub expires: Instant,
}

/// What a [`Lookup`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The addresses. None is an answer, too: there is no such name, or it has no address of the family.
    pub addrs: Vec<IpAddr>,
    /// How long this holds; the resolver clamps it. `None` where the source does not say.
    pub ttl: Option<Duration>,
}

/// Where a service is to be had: an SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Those with the least are used first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// The machine.
    pub host: HostName,
    /// The port there.
    pub port: u16,
}

/// What a [`Lookup`] found of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundServices {
    /// Where it is to be had. Nowhere is an answer, too.
    pub services: Vec<Service>,
    /// How long this holds; the resolver clamps it. `None` where the source does not say.
    pub ttl: Option<Duration>,
}

/// Where a service is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// In the order of the answer. Never empty.
    pub services: Vec<Service>,
    /// When it should be asked again.
    pub expires: Instant,
}

/// A source of addresses, such as DNS. It is asked by a [`Resolver`], which keeps the answers and sees to it that
/// no name is asked for twice at a time.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of `name` in `family`; those of the other family are ignored.
    ///
    /// Runs in a task of its own and under the resolver's deadline; when that passes it is dropped.
    ///
    /// # Errors
    ///
    /// That no answer was to be had, for which [`ErrorKind::Dns`] and [`ErrorKind::Timeout`] are the kinds. That
    /// there is no such name is an answer (see [`Found::addrs`]).
    fn lookup(&self, name: &HostName, family: Family)
    -> impl Future<Output = Result<Found>> + Send;

    /// Where the service `name` (such as `_http._tcp.example.com`) is to be had.
    ///
    /// # Errors
    ///
    /// As [`Lookup::lookup`]; [`ErrorKind::Unsupported`] where the source knows addresses only, as by default.
    fn services(&self, name: &HostName) -> impl Future<Output = Result<FoundServices>> + Send {
        let _ = name;
        ready(Err(Error::local(ErrorKind::Unsupported)
            .context("this resolver knows no SRV records")
            .retry(Retry::Safe)))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The twin of [`Lookup`] that can be a trait object: a lookup asks the network, so a box is nothing to it.
trait DynLookup: Send + Sync {
    fn lookup<'a>(&'a self, name: &'a HostName, family: Family) -> BoxFuture<'a, Result<Found>>;
    fn services<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<FoundServices>>;
}

impl<L: Lookup> DynLookup for L {
    fn lookup<'a>(&'a self, name: &'a HostName, family: Family) -> BoxFuture<'a, Result<Found>> {
        Box::pin(Lookup::lookup(self, name, family))
    }

    fn services<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<FoundServices>> {
        Box::pin(Lookup::services(self, name))
    }
}

/// Resolves names, and remembers what it found.
///
/// A clone is another handle to the same cache. `localhost` and what lies below it is this machine and nothing
/// else (RFC 6761 section 6.3), and addresses are answered as they are; neither is ever asked for.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    options: ResolveOptions,
    /// The names with fixed addresses, from the options and `/etc/hosts`.
    hosts: HashMap<HostName, Vec<IpAddr>>,
    source: Arc<dyn DynLookup>,
    cache: cache::Cache,
}

impl Resolver {
    /// A resolver that asks DNS; where the system's configuration cannot be read, and no server is given, one that
    /// asks `getaddrinfo` ([`SystemLookup`]).
    ///
    /// Reads files, so it is made before the worker serves.
    ///
    /// # Errors
    ///
    /// When the servers that were given cannot be used.
    pub fn new(options: ResolveOptions) -> Result<Self> {
        match system::Dns::new(&options) {
            Ok(dns) => Ok(Self::with_lookup(options, dns)),
            Err(error) if options.nameservers.is_empty() => {
                tracing::warn!(error = ?error, "no usable DNS configuration, asking getaddrinfo");
                Ok(Self::with_lookup(options, SystemLookup::default()))
            }
            Err(error) => Err(error),
        }
    }

    /// A resolver that asks `lookup`.
    pub fn with_lookup(options: ResolveOptions, lookup: impl Lookup) -> Self {
        let mut hosts = if options.hosts_file {
            hosts::read()
        } else {
            HashMap::new()
        };
        hosts.extend(
            options
                .hosts
                .iter()
                .map(|(name, addrs)| (name.clone(), addrs.clone())),
        );
        let cache = cache::Cache::new(&options);
        Self(Arc::new(Inner {
            options,
            hosts,
            source: Arc::new(lookup),
            cache,
        }))
    }

    /// The addresses of `name`, which may also be an address itself.
    ///
    /// Cancel safe: a query that is on its way goes on, and its answer is kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] for what is no host name; [`ErrorKind::Dns`] when there is no address or no answer,
    /// [`ErrorKind::Timeout`] after the deadline, [`ErrorKind::Overloaded`] when too many lookups are on their way.
    /// But for the first all are [`Retry::Safe`].
    pub async fn resolve(&self, name: &str) -> Result<Arc<Answer>> {
        match name.parse::<Host>()? {
            Host::Ip(ip) => Ok(self.fixed(vec![ip])),
            Host::Name(name) => self.resolve_name(&name).await,
        }
    }

    /// [`Resolver::resolve`] for a name that has been checked.
    pub async fn resolve_name(&self, name: &HostName) -> Result<Arc<Answer>> {
        let (six, four) =
            tokio::join!(self.lookup(name, Family::V6), self.lookup(name, Family::V4));
        let answer = match (six, four) {
            (Ok(six), Ok(four)) if six.addrs.is_empty() => four,
            (Ok(six), Ok(four)) if four.addrs.is_empty() => six,
            (Ok(six), Ok(four)) => Arc::new(Answer {
                addrs: six.addrs.iter().chain(&four.addrs).copied().collect(),
                expires: six.expires.min(four.expires),
            }),
            // A server that fails for one family, mostly AAAA, must not take the other one with it (RFC 4074).
            (Ok(one), Err(error)) | (Err(error), Ok(one)) => {
                if one.addrs.is_empty() {
                    return Err(error);
                }
                one
            }
            (Err(_), Err(error)) => return Err(error),
        };
        if answer.addrs.is_empty() {
            Err(no_address())
        } else {
            Ok(answer)
        }
    }

    /// The addresses of `name` in one family, possibly none. Families that the options leave out have none.
    ///
    /// # Errors
    ///
    /// As [`Resolver::resolve`].
    pub async fn lookup(&self, name: &HostName, family: Family) -> Result<Arc<Answer>> {
        let inner = &*self.0;
        if !inner.options.families.include(family) {
            return Ok(self.fixed(Vec::new()));
        }
        if let Some(addrs) = inner.hosts.get(name) {
            return Ok(self.fixed(addrs.iter().copied().filter(|ip| family.has(ip)).collect()));
        }
        if name.is_localhost() {
            return Ok(self.fixed(vec![match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            }]));
        }
        inner.cache.get(name, family, &inner.source).await
    }

    /// Where the service `name` (such as `_http._tcp.example.com`) is to be had.
    ///
    /// The answer is not kept: a service is asked for by the one who spreads work over it, and not for each connection.
    ///
    /// # Errors
    ///
    /// As [`Resolver::resolve`]; [`ErrorKind::Dns`] also when the service is nowhere to be had.
    pub async fn services(&self, name: &HostName) -> Result<Services> {
        let options = &self.0.options;
        let asked = tokio::time::timeout(options.deadline, self.0.source.services(name));
        let found = asked.await.map_err(|_| {
            Error::up(ErrorKind::Timeout)
                .context("resolving a service")
                .retry(Retry::Safe)
        })??;
        if found.services.is_empty() {
            return Err(Error::up(ErrorKind::Dns)
                .context("the service is nowhere to be had")
                .retry(Retry::Safe));
        }
        // `clamp` panics when the bounds are the wrong way round.
        let (min, max) = (options.min_ttl, options.max_ttl.max(options.min_ttl));
        Ok(Services {
            services: found.services,
            expires: Instant::now() + found.ttl.unwrap_or_default().clamp(min, max),
        })
    }

    /// An answer that is as good at any time.
    fn fixed(&self, addrs: Vec<IpAddr>) -> Arc<Answer> {
        Arc::new(Answer {
            addrs,
            expires: Instant::now() + self.0.options.max_ttl,
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// There is no such name, or it has no address of a family that may be used.
#[cold]
pub(crate) fn no_address() -> Error {
    Error::up(ErrorKind::Dns)
        .context("the name has no address")
        .retry(Retry::Safe)
}

#[cfg(test)]
mod tests;
