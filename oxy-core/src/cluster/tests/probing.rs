//! Active health checks.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::offramp::{DialOptions, Dialer, EgressPolicy};
use crate::resolve::{ResolveOptions, Resolver};
use crate::{Error, ErrorKind};

/// What the probe says of each endpoint.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Well,
    Ill,
    Nothing,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<HashMap<String, (Says, usize)>>>);

impl Script {
    fn say(&self, n: u8, says: Says) {
        self.of(&target(n)).0 = says;
    }

    fn asked(&self, n: u8) -> usize {
        self.of(&target(n)).1
    }

    fn of(&self, target: &Target) -> impl std::ops::DerefMut<Target = (Says, usize)> {
        let map = self.0.lock().unwrap();
        Entry(map, target.to_string())
    }
}

struct Entry<'a>(MutexGuard<'a, HashMap<String, (Says, usize)>>, String);

impl std::ops::Deref for Entry<'_> {
    type Target = (Says, usize);

    fn deref(&self) -> &(Says, usize) {
        self.0.get(&self.1).unwrap_or(&(Says::Well, 0))
    }
}

impl std::ops::DerefMut for Entry<'_> {
    fn deref_mut(&mut self) -> &mut (Says, usize) {
        self.0.entry(self.1.clone()).or_insert((Says::Well, 0))
    }
}

impl Probe for Script {
    async fn probe(&self, _: &Endpoint, target: &Target) -> Result<()> {
        let says = {
            let mut entry = self.of(target);
            entry.1 += 1;
            entry.0
        };
        match says {
            Says::Well => Ok(()),
            Says::Ill => Err(Error::up(ErrorKind::Closed).context("as told")),
            Says::Nothing => std::future::pending().await,
        }
    }
}

fn dialer() -> Dialer {
    let resolver = Resolver::new(ResolveOptions::default()).unwrap();
    Dialer::new(resolver, EgressPolicy::open(), DialOptions::default())
}

fn checked(count: u8) -> ClusterSpec {
    let mut spec = spec(count);
    // 100 ms to spare, and no jitter, so that the moments are known.
    spec.health = Some(HealthCheck {
        interval: Duration::from_millis(900),
        timeout: Duration::from_millis(100),
        jitter_percent: 0,
        ..HealthCheck::default()
    });
    spec
}

fn tend(spec: ClusterSpec, script: &Script) -> (Arc<Cluster>, JoinSet<()>) {
    let cluster = Cluster::new(spec).unwrap();
    let mut task = JoinSet::new();
    let means = Tending::new(dialer()).probe(script.clone());
    task.spawn(cluster.clone().tend(means));
    (cluster, task)
}

fn health(cluster: &Cluster) -> Vec<Health> {
    let all = cluster.report().endpoints;
    all.iter().map(|it| it.health).collect()
}

#[tokio::test(start_paused = true)]
async fn thresholds_decide_but_the_first_check_does_alone() {
    let script = Script::default();
    script.say(2, Says::Ill);
    let (cluster, _task) = tend(checked(3), &script);
    let balancer = balancer(&cluster);
    assert_eq!(health(&cluster), [Health::Unchecked; 3]);
    assert_eq!(count(&balancer, 30).len(), 3);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        health(&cluster),
        [Health::Healthy, Health::Unhealthy, Health::Healthy]
    );
    assert_eq!(count(&balancer, 30).len(), 2);
    assert_eq!(
        report(&cluster, 2).why.as_deref(),
        Some("upstream: closed: as told")
    );
    // Two good ones bring it back; three bad ones in a row are needed for another.
    script.say(2, Says::Well);
    script.say(1, Says::Ill);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(health(&cluster)[1], Health::Unhealthy);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(health(&cluster)[..2], [Health::Healthy, Health::Healthy]);
    script.say(1, Says::Well);
    sleep(Duration::from_millis(900)).await;
    script.say(1, Says::Ill);
    sleep(Duration::from_millis(1800)).await;
    assert_eq!(health(&cluster)[0], Health::Healthy);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(health(&cluster)[0], Health::Unhealthy);
    assert!(!cluster.endpoints()[0].is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_takes_too_long_has_failed() {
    let script = Script::default();
    script.say(1, Says::Nothing);
    let (cluster, _task) = tend(checked(2), &script);
    sleep(Duration::from_millis(99)).await;
    assert_eq!(health(&cluster)[0], Health::Unchecked);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(health(&cluster)[0], Health::Unhealthy);
    assert!(report(&cluster, 1).why.unwrap().contains("timeout"));
}

#[tokio::test(start_paused = true)]
async fn who_is_unknown_may_have_to_wait() {
    let script = Script::default();
    script.say(1, Says::Nothing);
    let mut spec = checked(2);
    spec.failover.panic_percent = 0;
    spec.health.as_mut().unwrap().assume_healthy = false;
    let (cluster, _task) = tend(spec, &script);
    cluster.balancer(0).pick(&Want::default()).unwrap_err();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(count(&cluster.balancer(0), 10), BTreeMap::from([(2, 10)]));
    script.say(1, Says::Well);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(count(&cluster.balancer(0), 10).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_well_again_starts_slowly() {
    let script = Script::default();
    script.say(1, Says::Ill);
    let mut spec = checked(2);
    spec.slow_start.window = Duration::from_secs(10);
    let (cluster, _task) = tend(spec, &script);
    sleep(Duration::from_millis(1)).await;
    script.say(1, Says::Well);
    sleep(Duration::from_millis(1800)).await;
    assert_eq!(report(&cluster, 1).weight_percent, 10);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(report(&cluster, 1).weight_percent, 50);
    assert_eq!(report(&cluster, 2).weight_percent, 100);
}

#[tokio::test(start_paused = true)]
async fn checks_follow_the_settings() {
    let script = Script::default();
    script.say(1, Says::Ill);
    let (cluster, mut task) = tend(checked(2), &script);
    sleep(Duration::from_millis(1)).await;
    assert!(!cluster.endpoints()[0].is_usable());
    // One joins, one leaves.
    let mut other = checked(3);
    other.endpoints.remove(1);
    cluster.update(other.clone()).unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(script.asked(2), 1);
    assert!(script.asked(3) > 5);
    // Without checks nobody is ill.
    other.health = None;
    cluster.update(other).unwrap();
    assert!(cluster.endpoints()[0].is_usable());
    let asked = script.asked(1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(script.asked(1), asked);
    // With others: another port.
    let mut on_port = checked(1);
    on_port.health.as_mut().unwrap().port = Some(81);
    cluster.update(on_port).unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(script.asked(1), asked);
    assert!(script.of(&Target::tcp([10, 0, 0, 1], 81)).1 > 5);
    task.shutdown().await;
    let asked = script.of(&Target::tcp([10, 0, 0, 1], 81)).1;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(script.of(&Target::tcp([10, 0, 0, 1], 81)).1, asked);
}

/// Waits for what other tasks bring about.
async fn until(mut what: impl FnMut() -> bool) {
    let wait = async {
        while !what() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap();
}

#[tokio::test]
async fn connections_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counting = accepted.clone();
    let server = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counting.fetch_add(1, Relaxed);
        }
    });
    let directory = std::env::temp_dir().join(format!("oxy-probe-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("sock");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    let endpoints: [Address; 3] = [
        Target::from(addr).into(),
        Target::unix(&path).unwrap().into(),
        Target::udp([127, 0, 0, 1], addr.port()).into(),
    ];
    let mut spec = ClusterSpec::new("test", endpoints);
    spec.health = Some(HealthCheck {
        interval: Duration::from_millis(5),
        ..HealthCheck::default()
    });
    let cluster = Cluster::new(spec).unwrap();
    let mut task = JoinSet::new();
    task.spawn(cluster.clone().tend(Tending::new(dialer())));
    until(|| health(&cluster) == [Health::Healthy, Health::Healthy, Health::Unhealthy]).await;
    until(|| accepted.load(Relaxed) > 2).await;
    server.abort();
    _ = server.await;
    drop(unix);
    until(|| health(&cluster) == [Health::Unhealthy; 3]).await;
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_dear_is_made_when_there_is_something_to_do() {
    let made = Arc::new(AtomicUsize::new(0));
    let script = Script::default();
    let cluster = Cluster::new(spec(2)).unwrap();
    let mut tasks = JoinSet::new();
    // As many workers do, of whom one has the turn.
    for _ in 0..2 {
        let (made, script) = (made.clone(), script.clone());
        tasks.spawn(cluster.clone().tend_when_needed(move || {
            made.fetch_add(1, Relaxed);
            Ok(Tending::new(dialer()).probe(script))
        }));
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!((made.load(Relaxed), script.asked(1)), (0, 0));
    cluster.update(checked(2)).unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((made.load(Relaxed), script.asked(1)), (1, 1));
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}

    let failing = || Err(Error::local(ErrorKind::Io).context("no resolver"));
    let error = cluster.tend_when_needed(failing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn what_needs_to_be_done_in_the_background() {
    assert!(!spec(2).needs_tending());
    assert!(checked(1).needs_tending());
    let mut rates = [spec(1), spec(1), spec(1)];
    rates[0].outlier.failure_percent = 50;
    rates[1].outlier.deviation_thousandths = 1900;
    rates[2].endpoints = vec!["dns://a.test:80".parse::<Address>().unwrap().into()];
    assert!(rates.iter().all(ClusterSpec::needs_tending));
}
