//! Clusters through a whole proxy: tries, ejections, stickiness, shares and limits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use oxy_core::Target;
use oxy_core::cluster::{BalanceSpec, Cause, Cluster, ClusterSpec, EndpointSpec};
use oxy_http::route::{
    HashSpec, Hedge, MatchSpec, RetryOn, RouteRetries, RouteSpec, VirtualHostSpec,
};
use oxy_http::{StickyCookie, Upstream};
use support::{Bench, End, Message, Origin, PATIENCE, Peer, Setup};

fn named(name: &'static str) -> Origin {
    saying(200, name)
}

fn saying(status: u16, name: &'static str) -> Origin {
    let length = name.len();
    Origin::answering(format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{name}"
    ))
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn spec(endpoints: impl IntoIterator<Item = SocketAddr>) -> ClusterSpec {
    ClusterSpec::new("c", endpoints.into_iter().map(Target::from))
}

/// A proxy in front of a cluster, by a route that is changed as the test needs it.
fn bench(
    setup: Setup,
    spec: ClusterSpec,
    change: impl FnOnce(&mut RouteSpec, &mut Option<StickyCookie>),
) -> (Bench, Arc<Cluster>) {
    let cluster = Cluster::new(spec).unwrap();
    let mut upstream = Upstream::new(cluster.clone());
    let (mut route, mut sticky) = (RouteSpec::new(MatchSpec::any()).to("c"), None);
    change(&mut route, &mut sticky);
    if let Some(cookie) = sticky {
        upstream = upstream.sticky(cookie);
    }
    let host = VirtualHostSpec::default().route(route);
    let http = |http: oxy_http::Http<_>| http.upstream(upstream).routes([host]);
    (setup.proxy((), |proxy| proxy, http), cluster)
}

fn retries(on: &[RetryOn], max: u32) -> RouteRetries {
    let mut retries = RouteRetries::default();
    retries.on = Some(on.to_vec());
    retries.max = Some(max);
    retries.backoff.base = Duration::from_millis(1);
    retries
}

fn ask(client: &mut Peer, fields: &str) -> Message {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response()
}

fn finish<const N: usize>(bench: Bench, origins: [Origin; N]) -> Vec<support::Finished> {
    for origin in origins {
        origin.finish();
    }
    bench.finish_with_pool()
}

#[test]
fn another_endpoint_is_tried_where_nobody_listens() {
    let setup = Bench::alone();
    let origin = named("here");
    let mut spec = spec([nobody(), origin.address()]);
    // So that the first stays among those to be chosen.
    spec.outlier.consecutive_failures = 0;
    let (bench, cluster) = bench(setup, spec, |_, _| {});
    let mut client = bench.client();
    for _ in 0..6 {
        let response = ask(&mut client, "");
        assert_eq!((response.status(), response.text()), (200, "here"));
    }
    drop(client);
    let finished = finish(bench, [origin]);
    // A try that takes another's turn counts as one of its own, so that there may be more than three.
    let tried: u32 = finished.iter().map(|it| it.retries).sum();
    assert!(tried >= 3, "{finished:?}");
    let report = cluster.report();
    let totals = [0, 1].map(|n| &report.endpoints[n].totals);
    assert_eq!((totals[0].failures, totals[0].successes), (tried.into(), 0));
    assert_eq!((totals[1].failures, totals[1].successes), (0, 6));
}

/// Where nobody listens nothing of a body has been sent, however large it is.
#[test]
fn a_body_goes_where_somebody_listens() {
    let setup = Bench::alone();
    let origin = Origin::each(|peer| {
        while let Ok(request) = peer.request() {
            let said = request.body.len().to_string();
            let length = said.len();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}"
            ));
        }
    });
    let mut spec = spec([nobody(), origin.address()]);
    spec.outlier.consecutive_failures = 0;
    let (bench, _) = bench(setup, spec, |_, _| {});
    let mut client = bench.client();
    for size in [1, 300_000, 2, 200_000] {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ));
        client.send(vec![b'x'; size]);
        let response = client.response();
        assert_eq!(
            (response.status(), response.text()),
            (200, &*size.to_string())
        );
    }
    drop(client);
    let finished = finish(bench, [origin]);
    assert!(finished.iter().any(|it| it.retries > 0), "{finished:?}");
}

#[test]
fn who_cannot_serve_is_passed_over() {
    for (on, status, body) in [
        (Some(RetryOn::GatewayError), 200, "well"),
        (Some(RetryOn::ServerError), 200, "well"),
        (Some(RetryOn::Reset), 503, "ill"),
        (None, 503, "ill"),
    ] {
        let setup = Bench::alone();
        let (ill, well) = (saying(503, "ill"), named("well"));
        let mut spec = spec([ill.address(), well.address()]);
        // The second only takes what the first cannot.
        spec.endpoints[1].priority = 1;
        let (bench, _) = bench(setup, spec, |route, _| {
            route.retry = on.map(|on| retries(&[on], 2));
        });
        for _ in 0..2 {
            let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(
                (response.status(), response.text()),
                (status, body),
                "{on:?}"
            );
        }
        // A body that is not at hand any more is not sent twice.
        let response = bench.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!((response.status(), response.text()), (503, "ill"), "{on:?}");
        finish(bench, [ill, well]);
    }
}

/// When every try fails, the last answer is the client's.
#[test]
fn tries_come_to_an_end() {
    let setup = Bench::alone();
    let asked = Arc::new(AtomicUsize::new(0));
    let origins = [(); 2].map(|()| {
        let asked = asked.clone();
        Origin::each(move |peer| {
            while peer.request().is_ok() {
                let turn = asked.fetch_add(1, SeqCst) + 1;
                peer.send(format!("HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\n{turn}"));
            }
        })
    });
    let spec = spec(origins.each_ref().map(Origin::address));
    let (bench, _) = bench(setup, spec, |route, _| {
        route.retry = Some(retries(&[RetryOn::GatewayError], 3));
    });
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status(), response.text()), (503, "4"));
    assert_eq!(finish(bench, origins)[0].retries, 3);
}

#[test]
fn a_try_has_a_time_of_its_own() {
    let setup = Bench::alone();
    let hanging = Origin::each(|peer| {
        let _ = peer.request();
        // Until the proxy gives up, and closes.
        assert_ne!(peer.end(), End::Open);
    });
    let well = named("well");
    let mut spec = spec([hanging.address(), well.address()]);
    spec.endpoints[1].priority = 1;
    let (bench, _) = bench(setup, spec, |route, _| {
        route.timeouts.per_try = Some(Duration::from_millis(50));
        route.retry = Some(retries(&[RetryOn::PerTryTimeout], 1));
    });
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status(), response.text()), (200, "well"));
    hanging.join();
    finish(bench, [well]);
}

#[test]
fn there_is_a_wait_before_each_try() {
    let setup = Bench::alone();
    let ill = saying(503, "ill");
    let (bench, _) = bench(setup, spec([ill.address()]), |route, _| {
        let mut retries = retries(&[RetryOn::GatewayError], 4);
        retries.backoff.base = Duration::from_millis(200);
        retries.backoff.max = Duration::from_millis(200);
        route.retry = Some(retries);
    });
    let begun = std::time::Instant::now();
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status(), 503);
    let took = begun.elapsed();
    // Drawn evenly up to 200 ms, four times: less than 20 ms together has a chance of four in a million.
    assert!(
        Duration::from_millis(20) < took && took < PATIENCE,
        "{took:?}"
    );
    assert_eq!(finish(bench, [ill])[0].retries, 4);
}

#[test]
fn who_answers_503_is_left_alone() {
    let setup = Bench::alone();
    let origins = [saying(503, "ill"), named("well"), named("well")];
    let mut spec = spec(origins.each_ref().map(Origin::address));
    spec.outlier.consecutive_gateway = 3;
    let (bench, cluster) = bench(setup, spec, |_, _| {});
    let mut client = bench.client();
    let mut ill = 0;
    for _ in 0..30 {
        ill += usize::from(ask(&mut client, "").status() == 503);
    }
    assert_eq!(ill, 3);
    let ejected = cluster.report().endpoints[0].ejected;
    assert_eq!(ejected.map(|(_, cause)| cause), Some(Cause::Gateway));
    drop(client);
    finish(bench, origins);
}

#[test]
fn a_cookie_keeps_a_client_with_its_endpoint() {
    let setup = Bench::alone();
    let origins = [named("a"), named("b"), named("c")];
    let (bench, _) = bench(
        setup,
        spec(origins.each_ref().map(Origin::address)),
        |_, sticky| *sticky = Some(StickyCookie::default()),
    );
    let mut client = bench.client();
    for _ in 0..3 {
        let first = ask(&mut client, "");
        let cookie = first.field("set-cookie").unwrap();
        assert!(cookie.starts_with("oxy_endpoint="), "{cookie}");
        let cookie = cookie.split(';').next().unwrap();
        for _ in 0..4 {
            let again = ask(&mut client, &format!("Cookie: x=y; {cookie}\r\n"));
            assert_eq!(again.text(), first.text());
            assert_eq!(again.field("set-cookie"), None);
        }
    }
    // Who names an endpoint that there is not is told of another.
    let stray = ask(&mut client, "Cookie: oxy_endpoint=0000000000000001\r\n");
    assert!(stray.field("set-cookie").is_some());
    drop(client);
    finish(bench, origins);
}

/// What a client is told is who has answered, and not who was asked first.
#[test]
fn a_cookie_names_who_has_answered() {
    let setup = Bench::alone();
    let origin = named("here");
    let mut spec = spec([nobody(), origin.address()]);
    // The second only takes what the first cannot.
    spec.endpoints[1].priority = 1;
    spec.outlier.consecutive_failures = 0;
    let (bench, cluster) = bench(setup, spec, |_, sticky| {
        *sticky = Some(StickyCookie::default());
    });
    let ids: Vec<_> = cluster.endpoints().iter().map(|it| it.id()).collect();
    let mut client = bench.client();
    for cookie in [
        String::new(),
        format!("Cookie: oxy_endpoint={}\r\n", ids[0]),
    ] {
        let response = ask(&mut client, &cookie);
        assert_eq!(response.text(), "here");
        let told = response.field("set-cookie").unwrap_or_default();
        let expected = format!("oxy_endpoint={};", ids[1]);
        assert!(told.starts_with(&expected), "{told:?}, and not {expected}");
    }
    drop(client);
    finish(bench, [origin]);
}

#[test]
fn a_key_keeps_its_endpoint() {
    for balance in [BalanceSpec::Maglev, BalanceSpec::RingHash] {
        let setup = Bench::alone();
        let origins = [named("a"), named("b"), named("c")];
        let mut spec = spec(origins.each_ref().map(Origin::address));
        spec.balance = balance;
        let (bench, _) = bench(setup, spec, |route, _| {
            route.hash.push(HashSpec::header("x-user"));
        });
        let mut client = bench.client();
        let mut homes = BTreeMap::new();
        for _ in 0..3 {
            for user in 0..20 {
                let home = ask(&mut client, &format!("X-User: {user}\r\n"))
                    .text()
                    .to_owned();
                assert_eq!(homes.entry(user).or_insert_with(|| home.clone()), &home);
            }
        }
        let mut used: Vec<_> = homes.into_values().collect();
        used.sort();
        used.dedup();
        assert_eq!(used, ["a", "b", "c"]);
        drop(client);
        finish(bench, origins);
    }
}

#[test]
fn work_is_shared_by_weight() {
    let setup = Bench::alone();
    let origins = [named("a"), named("b"), named("c")];
    let weights = [3, 1, 0];
    let endpoints = origins.iter().zip(weights);
    let endpoints = endpoints
        .map(|(origin, weight)| EndpointSpec::new(Target::from(origin.address())).weight(weight));
    let spec = ClusterSpec::new("c", endpoints);
    let (bench, _) = bench(setup, spec, |_, _| {});
    let mut client = bench.client();
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        *counts
            .entry(ask(&mut client, "").text().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".into(), 30), ("b".into(), 10)]));
    drop(client);
    finish(bench, origins);
}

/// An origin that answers when it is told to.
fn told() -> (Origin, mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (tell, told) = mpsc::channel();
    let (told, asked) = (Mutex::new(told), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let origin = Origin::each(move |peer| {
        while peer.request().is_ok() {
            counted.fetch_add(1, SeqCst);
            let _ = told.lock().unwrap().recv_timeout(PATIENCE);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    (origin, tell, asked)
}

/// How long a hedged request is waited for.
const AFTER: Duration = Duration::from_millis(50);

/// A cluster whose first endpoint is always asked first, by a route that asks another one after [`AFTER`].
fn hedged(setup: Setup, first: &Origin, second: &Origin) -> (Bench, Arc<Cluster>) {
    let mut spec = spec([first.address(), second.address()]);
    spec.endpoints[1].priority = 1;
    bench(setup, spec, |route, _| {
        let mut hedge = Hedge::default();
        hedge.after = AFTER;
        route.hedge = Some(hedge);
    })
}

/// What each endpoint's books say: picked, successes, failures, in flight.
fn books(cluster: &Cluster) -> Vec<[u64; 4]> {
    let endpoints = cluster.report().endpoints;
    let totals = endpoints.into_iter().map(|endpoint| endpoint.totals);
    totals
        .map(|it| [it.picked, it.successes, it.failures, it.in_flight])
        .collect()
}

#[test]
fn another_is_asked_while_the_first_keeps_us_waiting() {
    let setup = Bench::alone();
    let hanging = Origin::each(|peer| {
        let _ = peer.request();
        // It is given up as soon as the other has answered.
        assert_ne!(peer.end(), End::Open);
    });
    let well = named("well");
    let (bench, cluster) = hedged(setup, &hanging, &well);
    let begun = std::time::Instant::now();
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status(), response.text()), (200, "well"));
    let took = begun.elapsed();
    assert!(AFTER <= took && took < PATIENCE, "{took:?}");
    let place = Target::from(well.address());
    hanging.join();
    // That it was slower than the other is no failure of the first.
    assert!(
        support::eventually(|| books(&cluster) == [[1, 0, 0, 0], [1, 1, 0, 0]]),
        "{:?}",
        books(&cluster)
    );
    let finished = finish(bench, [well]);
    assert_eq!(
        (finished[0].retries, &finished[0].upstream),
        (1, &Some(place))
    );
}

#[test]
fn nobody_else_is_asked_what_must_not_be_done_twice() {
    let setup = Bench::alone();
    let (first, tell, asked) = told();
    let well = named("well");
    let (bench, cluster) = hedged(setup, &first, &well);
    let mut posting = bench.client();
    posting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert!(support::eventually(|| asked.load(SeqCst) == 1));
    // Where this one, which began later, has waited long enough, so has the other.
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.text(), "well");
    assert!(
        support::eventually(|| books(&cluster) == [[2, 0, 0, 1], [1, 1, 0, 0]]),
        "{:?}",
        books(&cluster)
    );
    tell.send(()).unwrap();
    assert_eq!(posting.response().text(), "ok");
    assert!(
        support::eventually(|| books(&cluster) == [[2, 1, 0, 0], [1, 1, 0, 0]]),
        "{:?}",
        books(&cluster)
    );
    drop((posting, tell));
    finish(bench, [first, well]);
}

#[test]
fn what_is_over_a_limit_is_refused_at_once() {
    type Limit = fn(&mut ClusterSpec);
    let limits: [Limit; 3] = [
        |spec| spec.breaker.max_requests = Some(1),
        |spec| spec.breaker.max_connections = Some(1),
        |spec| spec.breaker.max_endpoint_connections = Some(1),
    ];
    for (case, limit) in limits.into_iter().enumerate() {
        let setup = Bench::alone();
        let (origin, tell, asked) = told();
        let mut spec = spec([origin.address()]);
        limit(&mut spec);
        let (bench, _) = bench(setup, spec, |_, _| {});
        let mut first = bench.client();
        first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(support::eventually(|| asked.load(SeqCst) == 1));
        let refused = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused.status(), 503, "case {case}");
        tell.send(()).unwrap();
        assert_eq!(first.response().text(), "ok");
        // There is room again: the connection that is idle serves, too.
        bench.finished(2);
        tell.send(()).unwrap();
        let again = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(again.status(), 200, "case {case}");
        drop((first, tell));
        finish(bench, [origin]);
    }
}

#[test]
fn a_cluster_of_nobody_refuses() {
    let (bench, _) = bench(Bench::alone(), spec([]), |_, _| {});
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status(), 503);
    finish(bench, []);
}
