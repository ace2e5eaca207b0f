use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::time::advance;

use super::*;

/// A source that counts, and answers what it is told to.
struct Scripted {
    asked: AtomicUsize,
    next: Mutex<Box<dyn Fn() -> Result<Found> + Send>>,
    /// A permit lets one lookup through.
    gate: Option<Semaphore>,
}

#[derive(Clone)]
struct Handle(Arc<Scripted>);

impl Handle {
    fn new(next: impl Fn() -> Result<Found> + Send + 'static) -> Self {
        Self(Arc::new(Scripted {
            asked: AtomicUsize::new(0),
            next: Mutex::new(Box::new(next)),
            gate: None,
        }))
    }

    fn gated(next: impl Fn() -> Result<Found> + Send + 'static) -> Self {
        let gate = Some(Semaphore::new(0));
        Self(Arc::new(Scripted {
            asked: AtomicUsize::new(0),
            next: Mutex::new(Box::new(next)),
            gate,
        }))
    }

    fn then(&self, next: impl Fn() -> Result<Found> + Send + 'static) {
        *self.0.next.lock().unwrap() = Box::new(next);
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
}

impl Lookup for Handle {
    async fn lookup(&self, _: &HostName, family: Family) -> Result<Found> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        let mut found = (self.0.next.lock().unwrap())()?;
        found.addrs.retain(|ip| family.has(ip));
        Ok(found)
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn found(texts: &'static [&'static str], ttl: u64) -> impl Fn() -> Result<Found> + Send + 'static {
    move || {
        Ok(Found {
            addrs: ips(texts),
            ttl: Some(Duration::from_secs(ttl)),
        })
    }
}

fn failing() -> Result<Found> {
    Err(Error::up(ErrorKind::Dns)
        .context("servfail")
        .because("the cause")
        .retry(Retry::Safe))
}

fn options() -> ResolveOptions {
    ResolveOptions {
        hosts_file: false,
        ..ResolveOptions::default()
    }
}

fn v4_only() -> ResolveOptions {
    ResolveOptions {
        families: Families::V4Only,
        ..options()
    }
}

#[tokio::test(start_paused = true)]
async fn both_families_are_asked_and_six_goes_first() {
    let source = Handle::new(found(&["192.0.2.1", "2001:db8::1"], 60));
    let resolver = Resolver::with_lookup(options(), source.clone());
    let answer = resolver.resolve("Example.com.").await.unwrap();
    assert_eq!(answer.addrs, ips(&["2001:db8::1", "192.0.2.1"]));
    assert_eq!(answer.expires, Instant::now() + Duration::from_secs(60));
    assert_eq!(source.asked(), 2);
    resolver.resolve("example.COM").await.unwrap();
    assert_eq!(source.asked(), 2);
    advance(Duration::from_secs(61)).await;
    resolver.resolve("example.com").await.unwrap();
    assert_eq!(source.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn families_can_be_left_out() {
    for (families, addr) in [
        (Families::V4Only, "192.0.2.1"),
        (Families::V6Only, "2001:db8::1"),
    ] {
        let source = Handle::new(found(&["192.0.2.1", "2001:db8::1"], 60));
        let resolver = Resolver::with_lookup(
            ResolveOptions {
                families,
                ..options()
            },
            source.clone(),
        );
        assert_eq!(
            resolver.resolve("a.test").await.unwrap().addrs,
            ips(&[addr])
        );
        assert_eq!(source.asked(), 1);
    }
}

#[tokio::test]
async fn what_is_local_is_never_asked_for() {
    let source = Handle::new(failing);
    let hosts = HashMap::from([("db.test".parse().unwrap(), ips(&["10.0.0.1", "fd00::1"]))]);
    let resolver = Resolver::with_lookup(ResolveOptions { hosts, ..options() }, source.clone());
    let cases: [(&str, &[&str]); 6] = [
        ("localhost", &["::1", "127.0.0.1"]),
        ("a.localhost.", &["::1", "127.0.0.1"]),
        ("192.0.2.7", &["192.0.2.7"]),
        ("::1", &["::1"]),
        ("[2001:db8::1]", &["2001:db8::1"]),
        ("DB.test", &["fd00::1", "10.0.0.1"]),
    ];
    for (name, addrs) in cases {
        assert_eq!(
            resolver.resolve(name).await.unwrap().addrs,
            ips(addrs),
            "{name}"
        );
    }
    for name in ["", "a b", "127.1", "a..b"] {
        assert_eq!(
            resolver.resolve(name).await.unwrap_err().kind(),
            ErrorKind::Malformed,
            "{name}"
        );
    }
    assert_eq!(source.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_askers_make_one_query() {
    let source = Handle::gated(found(&["192.0.2.1"], 60));
    let resolver = Resolver::with_lookup(v4_only(), source.clone());
    let askers: Vec<_> = (0..1000)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve("a.test").await })
        })
        .collect();
    // One who leaves, the first of all, takes nobody along.
    tokio::task::yield_now().await;
    askers[0].abort();
    source.0.gate.as_ref().unwrap().add_permits(1);
    for asker in askers.into_iter().skip(1) {
        assert_eq!(asker.await.unwrap().unwrap().addrs, ips(&["192.0.2.1"]));
    }
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn ttls_are_clamped() {
    let source = Handle::new(found(&["192.0.2.1"], 0));
    let resolver = Resolver::with_lookup(v4_only(), source.clone());
    let now = Instant::now();
    assert_eq!(
        resolver.resolve("a.test").await.unwrap().expires,
        now + Duration::from_secs(1)
    );
    source.then(found(&["192.0.2.1"], 1_000_000));
    assert_eq!(
        resolver.resolve("b.test").await.unwrap().expires,
        now + Duration::from_secs(3600)
    );
}

#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_is_remembered() {
    let source = Handle::new(found(&[], 600));
    let resolver = Resolver::with_lookup(v4_only(), source.clone());
    let error = resolver.resolve("a.test").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retryable()),
        (ErrorKind::Dns, Retry::Safe)
    );
    advance(Duration::from_secs(59)).await;
    resolver.resolve("a.test").await.unwrap_err();
    assert_eq!(source.asked(), 1);
    advance(Duration::from_secs(2)).await;
    resolver.resolve("a.test").await.unwrap_err();
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_are_shared_and_remembered_briefly() {
    let source = Handle::new(failing);
    let resolver = Resolver::with_lookup(v4_only(), source.clone());
    for _ in 0..2 {
        let error = resolver.resolve("a.test").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Dns);
        assert_eq!(format!("{error:?}"), "upstream: dns: servfail: the cause");
    }
    assert_eq!(source.asked(), 1);
    source.then(found(&["192.0.2.1"], 60));
    advance(Duration::from_secs(2)).await;
    resolver.resolve("a.test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_family_that_fails_does_not_take_the_other_along() {
    struct Half;
    impl Lookup for Half {
        async fn lookup(&self, _: &HostName, family: Family) -> Result<Found> {
            match family {
                Family::V4 => found(&["192.0.2.1"], 60)(),
                Family::V6 => failing(),
            }
        }
    }
    let resolver = Resolver::with_lookup(options(), Half);
    assert_eq!(
        resolver.resolve("a.test").await.unwrap().addrs,
        ips(&["192.0.2.1"])
    );
}

#[tokio::test(start_paused = true)]
async fn stale_answers_are_served_only_where_that_is_wanted() {
    for serve_stale in [None, Some(Duration::from_secs(100))] {
        let source = Handle::new(found(&["192.0.2.1"], 10));
        let resolver = Resolver::with_lookup(
            ResolveOptions {
                serve_stale,
                ..v4_only()
            },
            source.clone(),
        );
        resolver.resolve("a.test").await.unwrap();
        source.then(failing);
        advance(Duration::from_secs(11)).await;
        let second = resolver.resolve("a.test").await;
        assert_eq!(second.is_ok(), serve_stale.is_some());
        if second.is_ok() {
            // The name is asked for again after a while, and given up when it is too old.
            advance(Duration::from_secs(31)).await;
            resolver.resolve("a.test").await.unwrap();
            assert_eq!(source.asked(), 3);
            advance(Duration::from_secs(100)).await;
            resolver.resolve("a.test").await.unwrap_err();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn entries_are_bounded() {
    let source = Handle::new(found(&["192.0.2.1"], 60));
    let resolver = Resolver::with_lookup(
        ResolveOptions {
            cache_entries: 8,
            ..v4_only()
        },
        source.clone(),
    );
    for n in 0..100 {
        resolver.resolve(&format!("n{n}.test")).await.unwrap();
    }
    resolver.resolve("n99.test").await.unwrap();
    assert_eq!(source.asked(), 100);
    let mut kept = 0;
    for n in 0..100 {
        let before = source.asked();
        resolver.resolve(&format!("n{n}.test")).await.unwrap();
        kept += usize::from(source.asked() == before);
    }
    assert!(kept <= 8, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn lookups_on_their_way_are_bounded_in_number_and_time() {
    let source = Handle::gated(found(&["192.0.2.1"], 60));
    let resolver = Resolver::with_lookup(
        ResolveOptions {
            max_lookups: 1,
            ..v4_only()
        },
        source.clone(),
    );
    let slow = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.resolve("a.test").await }
    });
    tokio::task::yield_now().await;
    assert_eq!(
        resolver.resolve("b.test").await.unwrap_err().kind(),
        ErrorKind::Overloaded
    );
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    source.0.gate.as_ref().unwrap().add_permits(1);
    resolver.resolve("b.test").await.unwrap();
}

#[tokio::test]
async fn a_lookup_that_panics_is_over() {
    struct Panics;
    impl Lookup for Panics {
        async fn lookup(&self, _: &HostName, _: Family) -> Result<Found> {
            panic!("on purpose")
        }
    }
    let resolver = Resolver::with_lookup(v4_only(), Panics);
    for _ in 0..2 {
        assert_eq!(
            resolver.resolve("a.test").await.unwrap_err().kind(),
            ErrorKind::Dns
        );
    }
}

#[test]
fn a_resolver_is_made_outside_of_a_runtime() {
    // Whatever the system's configuration is: without one, getaddrinfo is asked.
    Resolver::new(ResolveOptions::default()).unwrap();
    let nameservers = vec![
        "192.0.2.53:53".parse().unwrap(),
        "[2001:db8::53]:5353".parse().unwrap(),
    ];
    Resolver::new(ResolveOptions {
        nameservers,
        ..ResolveOptions::default()
    })
    .unwrap();
}
