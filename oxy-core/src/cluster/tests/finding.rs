//! Endpoints from DNS.

use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::offramp::{DialOptions, Dialer, EgressPolicy};
use crate::resolve::{
    Family, Found as Addrs, FoundServices, Lookup, ResolveOptions, Resolver, Service,
};
use crate::{Error, ErrorKind};

/// A DNS that says what it is told to.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    addrs: HashMap<&'static str, &'static [&'static str]>,
    services: HashMap<&'static str, Vec<Service>>,
    is_down: bool,
    asked: usize,
}

impl Zone {
    fn set(&self, with: impl FnOnce(&mut Records)) {
        with(&mut self.0.lock().unwrap());
    }

    fn set_addrs(&self, name: &'static str, addrs: &'static [&'static str]) {
        self.set(|it| {
            it.addrs.insert(name, addrs);
        });
    }

    fn ask<T>(&self, with: impl FnOnce(&Records) -> T) -> Result<T> {
        let mut records = self.0.lock().unwrap();
        records.asked += 1;
        if records.is_down {
            return Err(Error::up(ErrorKind::Dns).context("the zone is down"));
        }
        Ok(with(&records))
    }
}

const TTL: Duration = Duration::from_secs(30);

impl Lookup for Zone {
    async fn lookup(&self, name: &HostName, family: Family) -> Result<Addrs> {
        self.ask(|records| Addrs {
            addrs: records
                .addrs
                .get(name.as_str())
                .into_iter()
                .flat_map(|texts| texts.iter())
                .map(|text| text.parse().unwrap())
                .filter(|ip| family.has(ip))
                .collect(),
            ttl: Some(TTL),
        })
    }

    async fn services(&self, name: &HostName) -> Result<FoundServices> {
        self.ask(|records| FoundServices {
            services: records
                .services
                .get(name.as_str())
                .cloned()
                .unwrap_or_default(),
            ttl: Some(TTL),
        })
    }
}

fn service(priority: u16, weight: u16, host: &str, port: u16) -> Service {
    Service {
        priority,
        weight,
        host: host.parse().unwrap(),
        port,
    }
}

/// A cluster of that address, tended with that zone.
async fn tended(zone: &Zone, spec: ClusterSpec) -> (Arc<Cluster>, tokio::task::JoinSet<()>) {
    let options = ResolveOptions {
        hosts_file: false,
        ..ResolveOptions::default()
    };
    let resolver = Resolver::with_lookup(options, zone.clone());
    let dialer = Dialer::new(resolver, EgressPolicy::open(), DialOptions::default());
    let cluster = Cluster::new(spec).unwrap();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(cluster.clone().tend(Tending::new(dialer)));
    cluster.ready().await;
    (cluster, task)
}

fn of(address: &str) -> ClusterSpec {
    ClusterSpec::new("test", [address.parse::<Address>().unwrap()])
}

fn targets(cluster: &Cluster) -> Vec<String> {
    let all = cluster.endpoints();
    all.iter().map(|it| it.target().to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_address_is_an_endpoint_and_follows_the_zone() {
    let zone = Zone::default();
    zone.set_addrs("a.test", &["10.0.0.2", "10.0.0.1", "fd00::1"]);
    let (cluster, _task) = tended(&zone, of("dns://a.test:80")).await;
    assert_eq!(targets(&cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(cluster.endpoints()[0].host().unwrap().as_str(), "a.test");
    let balancer = cluster.balancer(0);
    let held = balancer.pick(&Want::default()).unwrap();
    set_ill(&cluster, 1, true);
    // Nothing is asked before its time.
    let asked = zone.0.lock().unwrap().asked;
    zone.set_addrs("a.test", &["10.0.0.3", "10.0.0.1"]);
    sleep(Duration::from_secs(29)).await;
    assert_eq!(targets(&cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(zone.0.lock().unwrap().asked, asked);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(targets(&cluster), ["10.0.0.1:80", "10.0.0.3:80"]);
    // What is known of the one that has stayed is kept.
    assert_eq!(report(&cluster, 1).health, Health::Unhealthy);
    assert_eq!(count(&balancer, 10), BTreeMap::from([(3, 10)]));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_what_was_known() {
    let zone = Zone::default();
    zone.set_addrs("a.test", &["10.0.0.1"]);
    let (cluster, _task) = tended(&zone, of("dns://a.test:80")).await;
    zone.set(|it| it.is_down = true);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(targets(&cluster), ["10.0.0.1:80"]);
    let source = &cluster.report().sources[0];
    assert_eq!(source.endpoints, Some(1));
    assert!(source.error.as_ref().unwrap().contains("the zone is down"));
    // That there is no address any more is taken for a failure, too.
    zone.set(|it| {
        it.is_down = false;
        it.addrs.clear();
    });
    sleep(Duration::from_secs(100)).await;
    assert_eq!(targets(&cluster), ["10.0.0.1:80"]);
    zone.set_addrs("a.test", &["10.0.0.2"]);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(targets(&cluster), ["10.0.0.2:80"]);
    assert_eq!(cluster.report().sources[0].error, None);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_dns_recovers() {
    let zone = Zone::default();
    zone.set(|it| it.is_down = true);
    let (cluster, _task) = tended(&zone, of("dns://a.test:80")).await;
    cluster.balancer(0).pick(&Want::default()).unwrap_err();
    zone.set(|it| {
        it.is_down = false;
        it.addrs.insert("a.test", &["10.0.0.1"]);
    });
    sleep(Duration::from_secs(6)).await;
    cluster.balancer(0).pick(&Want::default()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn families_are_chosen() {
    let zone = Zone::default();
    zone.set(|it| {
        it.addrs.insert("a.test", &["10.0.0.1", "fd00::1"]);
        it.addrs.insert("six.test", &["fd00::6"]);
    });
    for (addresses, expected) in [
        (Addresses::PreferV4, vec!["10.0.0.1:80", "[fd00::6]:80"]),
        (Addresses::PreferV6, vec!["[fd00::1]:80", "[fd00::6]:80"]),
        (
            Addresses::All,
            vec!["10.0.0.1:80", "[fd00::1]:80", "[fd00::6]:80"],
        ),
    ] {
        let mut spec = of("dns://a.test:80");
        let six: Address = "dns://six.test:80".parse().unwrap();
        spec.endpoints.push(six.into());
        spec.dns.addresses = addresses;
        let (cluster, _task) = tended(&zone, spec).await;
        assert_eq!(targets(&cluster), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn services_give_ports_weights_and_priorities() {
    let zone = Zone::default();
    zone.set(|it| {
        it.addrs.insert("a.test", &["10.0.0.1"]);
        it.addrs.insert("b.test", &["10.0.0.2"]);
        it.addrs.insert("c.test", &["10.0.0.3"]);
        let list = vec![
            service(20, 5, "c.test", 83),
            service(10, 3, "a.test", 81),
            service(10, 0, "b.test", 82),
        ];
        it.services.insert("_http._tcp.test", list);
    });
    let mut spec = of("srv://_http._tcp.test");
    spec.endpoints[0].weight = 2;
    spec.endpoints[0].priority = 1;
    let (cluster, _task) = tended(&zone, spec).await;
    let parts: Vec<_> = cluster
        .report()
        .endpoints
        .iter()
        .map(|it| (it.target.to_string(), it.weight, it.priority))
        .collect();
    let expected = [
        ("10.0.0.1:81", 6, 1),
        ("10.0.0.2:82", 2, 1),
        ("10.0.0.3:83", 10, 2),
    ];
    assert_eq!(
        parts,
        expected.map(|(target, weight, priority)| (target.to_owned(), weight, priority))
    );
    assert_eq!(cluster.endpoints()[0].host().unwrap().as_str(), "a.test");
    // One machine that is not resolved now does not take the others' news along, nor is it lost.
    zone.set_addrs("a.test", &[]);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(targets(&cluster).len(), 3);
    zone.set(|it| {
        it.services
            .insert("_http._tcp.test", vec![service(1, 1, "b.test", 80)]);
    });
    sleep(Duration::from_secs(100)).await;
    assert_eq!(targets(&cluster), ["10.0.0.2:80"]);
    zone.set(|it| it.services.clear());
    sleep(Duration::from_secs(100)).await;
    assert_eq!(targets(&cluster), ["10.0.0.2:80"]);
}

#[tokio::test(start_paused = true)]
async fn names_come_and_go_with_the_settings() {
    let zone = Zone::default();
    zone.set(|it| {
        it.addrs.insert("a.test", &["10.0.0.1", "10.0.0.2"]);
        it.addrs.insert("b.test", &["10.0.0.2", "10.0.0.3"]);
    });
    let (cluster, mut task) = tended(&zone, of("dns://a.test:80")).await;
    let mut both = of("dns://a.test:80");
    both.endpoints
        .push("dns://b.test:80".parse::<Address>().unwrap().into());
    cluster.update(both).unwrap();
    cluster.ready().await;
    // What two names lead to is one endpoint.
    assert_eq!(
        targets(&cluster),
        ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    );
    cluster.update(of("dns://b.test:80")).unwrap();
    assert_eq!(targets(&cluster), ["10.0.0.2:80", "10.0.0.3:80"]);
    // The name that is gone is asked for no more, and nothing is once nobody tends.
    sleep(Duration::from_secs(31)).await;
    let asked = zone.0.lock().unwrap().asked;
    sleep(Duration::from_secs(31)).await;
    assert_eq!(zone.0.lock().unwrap().asked, asked + 2);
    task.shutdown().await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(zone.0.lock().unwrap().asked, asked + 2);
    assert_eq!(Arc::strong_count(&cluster), 1);
}
