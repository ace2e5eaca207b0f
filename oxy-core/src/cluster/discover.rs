//! Asking DNS where endpoints are, again and again.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::spec::{Address, Addresses};
use super::{Cluster, Found};
use crate::resolve::{Resolver, Service};
use crate::target::{HostName, Target};
use crate::{Error, ErrorKind, Result};

/// How many endpoints one name may stand for. An answer of DNS has at most 64 KiB, in which there is room for more.
const ENDPOINTS_MAX: usize = 1024;
/// How many of a service's machines are resolved at a time, which are as many sockets.
const LOOKUPS_MAX: usize = 16;

/// Keeps a task for each name in the settings. Does not end.
pub(super) async fn discover(cluster: &Arc<Cluster>, resolver: &Resolver) {
    let mut changed = cluster.changed.subscribe();
    let mut tasks = JoinSet::new();
    let mut running: HashMap<Address, AbortHandle> = HashMap::new();
    loop {
        changed.borrow_and_update();
        let names = cluster.names();
        running.retain(|address, task| {
            let stays = names.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in names {
            running.entry(address).or_insert_with_key(|address| {
                let follow = follow(cluster.clone(), resolver.clone(), address.clone());
                tasks.spawn(follow)
            });
        }
        while tasks.try_join_next().is_some() {}
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Asks for `address` whenever the last answer has had its time.
async fn follow(cluster: Arc<Cluster>, resolver: Resolver, address: Address) {
    loop {
        let options = cluster.spec().dns.clone();
        let wait = match ask(&resolver, &address, options.addresses).await {
            Ok((found, expires)) => {
                cluster.discovered(&address, Ok(found));
                let max = options.max_refresh.max(options.min_refresh);
                expires
                    .saturating_duration_since(Instant::now())
                    .clamp(options.min_refresh, max)
            }
            Err(error) => {
                tracing::warn!(cluster = %cluster.name(), %address, ?error, "endpoints not resolved");
                cluster.discovered(&address, Err(error));
                options.retry
            }
        };
        // A wait of nothing would ask without a pause.
        sleep(wait.max(Duration::from_millis(10))).await;
    }
}

async fn ask(
    resolver: &Resolver,
    address: &Address,
    which: Addresses,
) -> Result<(Vec<Found>, Instant)> {
    match address {
        Address::Dns { name, port } => {
            let (ips, expires) = resolve(resolver, name, which).await?;
            let found = ips.into_iter().map(|ip| Found {
                target: Target::tcp(ip, *port),
                host: name.clone(),
                weight: 1,
                priority: 0,
            });
            Ok((found.take(ENDPOINTS_MAX).collect(), expires))
        }
        Address::Srv { name } => ask_service(resolver, name, which).await,
        Address::Target(_) => {
            Err(Error::local(ErrorKind::Internal).context("a target needs no resolving"))
        }
    }
}

async fn ask_service(
    resolver: &Resolver,
    name: &HostName,
    which: Addresses,
) -> Result<(Vec<Found>, Instant)> {
    let answer = resolver.services(name).await?;
    let mut expires = answer.expires;
    let mut services = answer.services;
    services.truncate(ENDPOINTS_MAX);
    // 10 and 20 become 0 and 1: what counts is their order.
    let priorities: BTreeSet<_> = services.iter().map(|service| service.priority).collect();
    let ranks: HashMap<_, _> = priorities.into_iter().zip(0..).collect();
    let mut found = Vec::new();
    let mut failed = None;
    for some in services.chunks(LOOKUPS_MAX) {
        for (service, addrs) in resolve_all(resolver, some, which).await {
            match addrs {
                Ok((ips, until)) => {
                    expires = expires.min(until);
                    found.extend(ips.into_iter().map(|ip| Found {
                        target: Target::tcp(ip, service.port),
                        host: service.host.clone(),
                        // A weight of 0 is a very small share, not none (RFC 2782).
                        weight: service.weight.max(1).into(),
                        priority: ranks.get(&service.priority).copied().unwrap_or(0),
                    }));
                }
                Err(error) => failed = Some(error),
            }
        }
    }
    // In the order of their places: answers come in any order, which is no change.
    found.sort_by(|a, b| a.target.cmp(&b.target));
    found.truncate(ENDPOINTS_MAX);
    match failed {
        // Those of one machine that could not be resolved now would be lost.
        Some(error) => Err(error),
        None => Ok((found, expires)),
    }
}

type Resolved = Result<(Vec<IpAddr>, Instant)>;

async fn resolve_all(
    resolver: &Resolver,
    services: &[Service],
    which: Addresses,
) -> Vec<(Service, Resolved)> {
    let mut tasks = JoinSet::new();
    for service in services.iter().cloned() {
        let resolver = resolver.clone();
        tasks.spawn(async move {
            let resolved = resolve(&resolver, &service.host, which).await;
            (service, resolved)
        });
    }
    tasks.join_all().await
}

/// The addresses of `name`, sorted, as their order in an answer means nothing.
async fn resolve(resolver: &Resolver, name: &HostName, which: Addresses) -> Resolved {
    let answer = resolver.resolve_name(name).await?;
    let prefer = |four: bool| {
        let is_there = answer.addrs.iter().any(|ip| ip.is_ipv4() == four);
        answer
            .addrs
            .iter()
            .copied()
            .filter(move |ip| !is_there || ip.is_ipv4() == four)
            .collect()
    };
    let mut ips: Vec<IpAddr> = match which {
        Addresses::PreferV4 => prefer(true),
        Addresses::PreferV6 => prefer(false),
        Addresses::All => answer.addrs.clone(),
    };
    ips.sort_unstable();
    Ok((ips, answer.expires))
}
