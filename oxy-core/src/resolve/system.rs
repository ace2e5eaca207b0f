//! Where answers come from: DNS through hickory, or the system's own resolver.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::{Family, Found, FoundServices, Lookup, ResolveOptions, Service};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::target::HostName;

/// DNS over UDP and TCP.
pub(super) struct Dns {
    resolver: TokioResolver,
    search: bool,
}

impl Dns {
    /// Asks the servers in `options`, or else those of the system.
    pub(super) fn new(options: &ResolveOptions) -> Result<Self> {
        let mut builder = if options.nameservers.is_empty() {
            TokioResolver::builder_tokio().map_err(unusable)?
        } else {
            let servers = options.nameservers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let opts: &mut ResolverOpts = builder.options_mut();
        opts.timeout = options.timeout;
        opts.attempts = options.attempts;
        // The cache above this one knows the limits; two would only add up their ages.
        opts.cache_size = 0;
        // The host table is read by the resolver, which does not ask DNS for the family that the table lacks.
        opts.use_hosts_file = ResolveHosts::Never;
        opts.max_active_requests = options.max_lookups;
        Ok(Self {
            resolver: builder.build().map_err(unusable)?,
            search: options.search,
        })
    }
}

fn server(addr: &SocketAddr) -> NameServerConfig {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    udp.port = addr.port();
    tcp.port = addr.port();
    // A server that the operator has named is believed when it says that there is nothing.
    NameServerConfig::new(addr.ip(), true, vec![udp, tcp])
}

fn unusable(error: NetError) -> Error {
    Error::local(ErrorKind::Dns)
        .context("reading the DNS configuration")
        .because(error)
}

impl Lookup for Dns {
    async fn lookup(&self, name: &HostName, family: Family) -> Result<Found> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let (records, ttl) = self.ask(name, kind).await?;
        let addrs = records.iter().filter_map(|record| record.data.ip_addr());
        Ok(Found {
            addrs: addrs.collect(),
            ttl,
        })
    }

    async fn services(&self, name: &HostName) -> Result<FoundServices> {
        let (records, ttl) = self.ask(name, RecordType::SRV).await?;
        let services = records.iter().filter_map(|record| match &record.data {
            // The root as the target says that there is no such service (RFC 2782); it is no host name either.
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                host: srv.target.to_ascii().parse().ok()?,
                port: srv.port,
            }),
            _ => None,
        });
        Ok(FoundServices {
            services: services.collect(),
            ttl,
        })
    }
}

impl Dns {
    /// The records of an answer, and how long it holds. None is an answer, too.
    async fn ask(
        &self,
        name: &HostName,
        kind: RecordType,
    ) -> Result<(Vec<Record>, Option<Duration>)> {
        let mut name =
            Name::from_ascii(name.as_str()).map_err(|error| failure("encoding the name", error))?;
        name.set_fqdn(!self.search);
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) => {
                // The least of the chain: what a CNAME points to holds no longer than the CNAME itself.
                let ttl = lookup.answers().iter().map(|record| record.ttl).min();
                let ttl = ttl.map(|ttl| Duration::from_secs(ttl.into()));
                Ok((lookup.answers().to_vec(), ttl))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let ttl = none.negative_ttl;
                Ok((Vec::new(), ttl.map(|ttl| Duration::from_secs(ttl.into()))))
            }
            Err(NetError::Timeout) => Err(Error::up(ErrorKind::Timeout)
                .context("waiting for a DNS server")
                .retry(Retry::Safe)),
            Err(NetError::Busy) => Err(Error::local(ErrorKind::Overloaded)
                .context("too many DNS queries")
                .retry(Retry::Safe)),
            Err(error) => Err(failure("asking a DNS server", error)),
        }
    }
}

fn failure(
    context: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::up(ErrorKind::Dns)
        .context(context)
        .because(error)
        .retry(Retry::Safe)
}

/// The system's own resolver, `getaddrinfo`, on a thread of tokio's blocking pool.
///
/// It knows whatever nsswitch.conf(5) configures, but neither tells how long an answer holds nor a name that does
/// not exist from a server that does not answer.
#[derive(Clone, Copy, Debug)]
pub struct SystemLookup {
    /// How long an answer is taken to hold. Default: 30 seconds, a common TTL of names that are balanced by DNS.
    pub ttl: Duration,
}

impl Default for SystemLookup {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
        }
    }
}

impl Lookup for SystemLookup {
    async fn lookup(&self, name: &HostName, family: Family) -> Result<Found> {
        // The dot keeps the search list out.
        let addrs = tokio::net::lookup_host((format!("{name}."), 0))
            .await
            .map_err(|error| failure("asking getaddrinfo", error))?
            .map(|addr| addr.ip())
            .filter(|ip| family.has(ip))
            .collect();
        Ok(Found {
            addrs,
            ttl: Some(self.ttl),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    /// Answers one query after the other: A and SRV for "good.test.", nothing with an SOA for all else.
    async fn serve(socket: UdpSocket) {
        let mut buf = [0; 512];
        while let Ok((len, peer)) = socket.recv_from(&mut buf).await {
            let query = &buf[..len];
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_good = query[12..].starts_with(b"\x04good\x04test\0\0\x01");
            let mut reply = query[..2].to_vec();
            let is_srv = query[12..].starts_with(b"\x04good\x04test\0\0\x21");
            let (answers, authorities) = match (is_good, is_srv) {
                (false, false) => (0, 1),
                (is_good, _) => (if is_good { 1 } else { 2 }, 0),
            };
            reply.extend([0x81, 0x80, 0, 1, 0, answers, 0, authorities, 0, 0]);
            reply.extend(&query[12..end]);
            if is_good {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 77, 0, 4, 192, 0, 2, 1]);
            } else if is_srv {
                reply.extend([
                    0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 66, 0, 14, 0, 1, 0, 2, 31, 144,
                ]);
                reply.extend(b"\x01a\x04test\0");
                // The root: no such service.
                reply.extend([
                    0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 55, 0, 7, 0, 1, 0, 2, 31, 144, 0,
                ]);
            } else {
                // SOA of "test.": a TTL of 300, a minimum of 9, of which the less counts.
                reply.extend([0xc0, 17, 0, 6, 0, 1, 0, 0, 1, 44, 0, 22, 0, 0]);
                reply.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9]);
            }
            socket.send_to(&reply, peer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn dns_gives_addresses_and_times() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let options = ResolveOptions {
            nameservers: vec![socket.local_addr().unwrap()],
            ..ResolveOptions::default()
        };
        let server = tokio::spawn(serve(socket));
        let dns = Dns::new(&options).unwrap();
        let name: HostName = "good.test".parse().unwrap();
        let found = dns.lookup(&name, Family::V4).await.unwrap();
        assert_eq!(
            found.addrs,
            ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(found.ttl, Some(Duration::from_secs(77)));
        let found = dns.lookup(&name, Family::V6).await.unwrap();
        assert_eq!(
            found,
            Found {
                addrs: Vec::new(),
                ttl: Some(Duration::from_secs(9))
            }
        );
        let found = dns.services(&name).await.unwrap();
        let service = Service {
            priority: 1,
            weight: 2,
            host: "a.test".parse().unwrap(),
            port: 8080,
        };
        assert_eq!(
            found,
            FoundServices {
                services: vec![service],
                ttl: Some(Duration::from_secs(55))
            }
        );
        let found = dns.services(&"none.test".parse().unwrap()).await.unwrap();
        assert_eq!(found.services, []);
        server.abort();
    }
}
