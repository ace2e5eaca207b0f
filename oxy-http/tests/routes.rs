//! Routes through a whole proxy: what origins see of them, and what clients do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use oxy_core::Live;
use oxy_core::cluster::{Cluster, ClusterSpec};
use oxy_http::route::{
    HeaderMatch, MatchSpec, RedirectSpec, RetryOn, RouteRetries, RouteSpec, VirtualHostSpec,
};
use oxy_http::{HttpPlan, Upstream};
use support::{Bench, Message, Origin, PATIENCE, Peer};

fn upstream(name: &str, origin: &Origin) -> Upstream {
    let spec = ClusterSpec::new(name, [oxy_core::Target::from(origin.address())]);
    Upstream::new(Cluster::new(spec).unwrap())
}

/// A proxy with these routes, to an origin that answers with what it got.
fn bench(routes: impl IntoIterator<Item = RouteSpec>) -> (Bench, Origin) {
    let (setup, origin) = (Bench::alone(), Origin::echo());
    let mut host = VirtualHostSpec::default();
    host.routes.extend(routes);
    let upstream = upstream("echo", &origin);
    let http = |http: oxy_http::Http<_>| http.upstream(upstream).routes([host]);
    (setup.proxy((), |proxy| proxy, http), origin)
}

fn ask(client: &mut Peer, request: &str) -> Message {
    client.send(format!("{request}\r\n"));
    client.response()
}

fn finish(bench: Bench, origin: Origin) {
    origin.finish();
    bench.finish_with_pool();
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let mut own_host = RouteSpec::new("/own/*").to("echo");
    own_host.rewrite.upstream_host = true;
    let (bench, origin) = bench([
        RouteSpec::new("/api/*").to("echo").replace_prefix("/"),
        RouteSpec::new("/users/{id}")
            .to("echo")
            .replace_path("/v2/{id}"),
        RouteSpec::new("/host/*")
            .to("echo")
            .replace_host("{method}.test"),
        own_host,
        RouteSpec::new("/").to("echo"),
    ]);
    let own = origin.address().to_string();
    let mut client = bench.client();
    for (path, seen, host) in [
        ("/", "/", "a.test"),
        ("/api", "/", "a.test"),
        ("/api/", "/", "a.test"),
        ("/api/x/y?q=/api", "/x/y?q=/api", "a.test"),
        ("/x/../api/%7Ex", "/~x", "a.test"),
        ("/users/42?full", "/v2/42?full", "a.test"),
        ("/host/a?b", "/host/a?b", "GET.test"),
        // What is not rewritten is forwarded as it was received.
        ("/own//./%7Ex", "/own//./%7Ex", own.as_str()),
    ] {
        let response = ask(
            &mut client,
            &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n"),
        );
        let text = response.text();
        assert!(
            text.starts_with(&format!("GET {seen} HTTP/1.1\r\n")),
            "{path}: {text}"
        );
        let hosts = text.to_ascii_lowercase().matches("\r\nhost: ").count();
        let expected = format!("\r\nhost: {host}\r\n").to_ascii_lowercase();
        assert!(
            text.to_ascii_lowercase().contains(&expected),
            "{path}: {text}"
        );
        assert_eq!(hosts, 1, "{text}");
    }
    drop(client);
    finish(bench, origin);
}

#[test]
fn fields_are_edited_on_both_sides() {
    let mut route = RouteSpec::new("/edit/{id}").to("echo");
    route.request_headers = std::mem::take(&mut route.request_headers)
        .remove("x-secret")
        .set("x-id", "{id}")
        .set_if_absent("x-kept", "new")
        .add("x-more", "{client_ip}");
    route.response_headers = std::mem::take(&mut route.response_headers)
        .remove("content-type")
        .set("x-route", "{route}");
    let mut fixed = RouteSpec::new("/fixed")
        .respond(418, "short and stout")
        .name("pot");
    fixed.response_headers = std::mem::take(&mut fixed.response_headers).set("x-route", "{route}");
    let (bench, origin) = bench([route.name("edited"), fixed]);
    let mut client = bench.client();
    let fields = "Host: a\r\nX-Secret: s\r\nX-Id: 0\r\nX-Kept: old\r\nX-More: 1\r\n";
    let response = ask(&mut client, &format!("GET /edit/7 HTTP/1.1\r\n{fields}"));
    assert_eq!(response.field("x-route").as_deref(), Some("edited"));
    let text = response.text().to_ascii_lowercase();
    for (line, count) in [
        ("\r\nx-secret:", 0),
        ("\r\nx-id: 7\r\n", 1),
        ("\r\nx-id:", 1),
        ("\r\nx-kept: old\r\n", 1),
        ("\r\nx-more: 1\r\n", 1),
        ("\r\nx-more: 127.0.0.1\r\n", 1),
    ] {
        assert_eq!(text.matches(line).count(), count, "{line:?} in {text}");
    }
    let response = ask(&mut client, "GET /fixed HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(
        (response.status(), response.text()),
        (418, "short and stout")
    );
    assert_eq!(response.field("x-route").as_deref(), Some("pot"));
    drop(client);
    finish(bench, origin);
}

#[test]
fn what_is_answered_here_goes_nowhere() {
    let mut moved = RedirectSpec::to_path("/new/{id}").status(301);
    moved.strip_query = true;
    let (bench, origin) = bench([
        RouteSpec::new("/old/{id}").redirect(moved),
        RouteSpec::new("/secure/*").redirect(RedirectSpec::to_https()),
        RouteSpec::new("/gone").respond(410, ""),
        RouteSpec::new(MatchSpec::path("/form").method("POST").method("PUT")).to("echo"),
        RouteSpec::new(MatchSpec::path("/beta").header(HeaderMatch::present("x-beta"))).to("echo"),
        RouteSpec::new("/a/*").to("echo"),
    ]);
    let mut client = bench.client();
    for (request, status, field, value) in [
        ("GET /old/1?q HTTP/1.1", 301, "location", Some("/new/1")),
        (
            "GET /secure/x?q HTTP/1.1",
            308,
            "location",
            Some("https://a.test/secure/x?q"),
        ),
        ("GET /gone HTTP/1.1", 410, "content-length", Some("0")),
        ("GET /form HTTP/1.1", 405, "allow", Some("POST, PUT")),
        ("GET /beta HTTP/1.1", 404, "allow", None),
        ("GET /nothing HTTP/1.1", 404, "allow", None),
        ("GET /apiary HTTP/1.1", 404, "allow", None),
        // Paths that two readers could read as two.
        ("GET /a/%2e%2e%2f..%2fsecret HTTP/1.1", 400, "allow", None),
        ("GET /a/%00 HTTP/1.1", 400, "allow", None),
        ("GET /a/%zz HTTP/1.1", 400, "allow", None),
    ] {
        let response = ask(&mut client, &format!("{request}\r\nHost: a.test\r\n"));
        assert_eq!(response.status(), status, "{request}");
        assert_eq!(response.field(field).as_deref(), value, "{request}");
    }
    assert_eq!(origin.accepted(), 0);
    let response = ask(
        &mut client,
        "GET /beta HTTP/1.1\r\nHost: a\r\nX-Beta: 1\r\n",
    );
    assert_eq!(response.status(), 200);
    drop(client);
    finish(bench, origin);
}

#[test]
fn hosts_have_routes_of_their_own() {
    let setup = Bench::alone();
    let origins = ["exact", "wild", "rest"].map(|name| {
        let length = name.len();
        Origin::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
        ))
    });
    let upstreams = origins.each_ref();
    let bench = setup.proxy(
        (),
        |proxy| proxy,
        |http| {
            let names = ["exact", "wild", "rest"];
            let hosts = [["a.test"], ["*.a.test"], ["*"]];
            let http = names
                .iter()
                .zip(upstreams)
                .fold(http, |http, (name, origin)| {
                    http.upstream(upstream(name, origin))
                });
            http.routes(names.iter().zip(hosts).map(|(name, hosts)| {
                VirtualHostSpec::new(hosts).route(RouteSpec::new(MatchSpec::any()).to(*name))
            }))
        },
    );
    let mut client = bench.client();
    for (host, expected) in [
        ("a.test", "exact"),
        ("A.TEST:8080", "exact"),
        ("x.a.test", "wild"),
        ("y.x.a.test", "wild"),
        ("b.test", "rest"),
    ] {
        let response = ask(&mut client, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n"));
        assert_eq!(response.text(), expected, "{host}");
    }
    drop(client);
    for origin in origins {
        origin.finish();
    }
    bench.finish_with_pool();
}

#[test]
fn a_route_limits_bodies() {
    let mut small = RouteSpec::new("/small").to("echo");
    small.max_request_body = Some(4);
    let (bench, origin) = bench([small, RouteSpec::new("/large").to("echo")]);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n";
    for (path, fields, status) in [
        ("/small", "Content-Length: 4\r\n\r\nabcd", 200),
        ("/small", "Content-Length: 5\r\n\r\nabcde", 413),
        ("/small", chunked, 413),
        ("/large", "Content-Length: 5\r\n\r\nabcde", 200),
        ("/large", chunked, 200),
    ] {
        let mut client = bench.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}"));
        if fields == chunked {
            client.send("\r\n");
        }
        assert_eq!(client.response().status(), status, "{path} {fields:?}");
    }
    finish(bench, origin);
}

#[test]
fn a_route_has_times_of_its_own() {
    let setup = Bench::alone();
    let origin = Origin::each(|peer| {
        // Says nothing until it is left.
        let _ = peer.request();
        peer.end();
    });
    let mut quick = RouteSpec::new("/quick").to("hanging");
    quick.timeouts.first_byte = Some(Duration::from_millis(50));
    let host = VirtualHostSpec::default().route(quick);
    let hanging = upstream("hanging", &origin);
    let http = |http: oxy_http::Http<_>| http.upstream(hanging).routes([host]);
    let bench = setup.proxy((), |proxy| proxy, http);
    let begun = Instant::now();
    let response = bench.ask("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status(), 504);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    finish(bench, origin);
}

/// All tries together have one time, and the whole exchange another.
#[test]
fn tries_and_exchanges_have_times_of_their_own() {
    let setup = Bench::alone();
    let origin = Origin::each(|peer| {
        let Ok(request) = peer.request() else { return };
        if request.start.contains("/drip") {
            // A head, and then nothing more.
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        }
        peer.end();
    });
    let mut tries = RouteSpec::new("/tries").to("hanging");
    tries.timeouts.per_try = Some(Duration::from_millis(40));
    tries.timeouts.first_byte = Some(Duration::from_millis(100));
    let mut retries = RouteRetries::default();
    retries.on = Some(vec![RetryOn::PerTryTimeout]);
    retries.max = Some(1000);
    tries.retry = Some(retries);
    let whole = |path: &str| {
        let mut whole = RouteSpec::new(path).to("hanging");
        whole.timeouts.request = Some(Duration::from_millis(50));
        whole
    };
    let routes = [tries, whole("/whole"), whole("/drip")];
    let host = routes
        .into_iter()
        .fold(VirtualHostSpec::default(), VirtualHostSpec::route);
    let hanging = upstream("hanging", &origin);
    let options = |options: &mut oxy_http::HttpOptions| {
        (options.retry.budget_min, options.retry.budget_percent) = (1000, 100);
    };
    let http = |http: oxy_http::Http<_>| {
        let mut all = oxy_http::HttpOptions::default();
        options(&mut all);
        http.options(all).upstream(hanging).routes([host])
    };
    let bench = setup.proxy((), |proxy| proxy, http);
    for path in ["/tries", "/whole"] {
        let begun = Instant::now();
        let response = bench.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status(), 504, "{path}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{path}: {took:?}");
    }
    let mut client = bench.client();
    client.send("GET /drip HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    assert_ne!(client.end(), support::End::Open);
    drop(client);
    finish(bench, origin);
}

/// A plan is swapped while clients ask: none of them notices.
#[test]
fn plans_are_swapped_under_load() {
    let setup = Bench::alone();
    let origin = Origin::echo();
    // The same upstream in all plans: what it has of connections stays.
    let upstream = Arc::new(upstream("echo", &origin));
    let plan = |turn: usize| {
        let mut route = RouteSpec::new(MatchSpec::any()).to("echo");
        route.response_headers =
            std::mem::take(&mut route.response_headers).set("x-turn", turn.to_string());
        HttpPlan::new()
            .upstream(upstream.clone())
            .unwrap()
            .routes(&[VirtualHostSpec::default().route(route)])
            .unwrap()
    };
    let live = Live::new(plan(0));
    let served = live.clone();
    let bench = setup.proxy((), |proxy| proxy, move |http| http.live(served));
    const CLIENTS: usize = 3;
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = bench.client();
                    let mut turn = 0;
                    while !done.load(SeqCst) {
                        let response = ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n");
                        assert_eq!(response.status(), 200);
                        let now = response.field("x-turn").unwrap().parse().unwrap();
                        assert!(now >= turn, "{now} after {turn}");
                        turn = now;
                        asked.fetch_add(1, SeqCst);
                    }
                    turn
                })
            })
            .collect();
        for turn in 1..=50 {
            // Some requests go by each plan.
            let before = asked.load(SeqCst);
            live.publish(plan(turn));
            let went = support::eventually(|| asked.load(SeqCst) > before + CLIENTS);
            assert!(went, "no request after plan {turn}");
        }
        done.store(true, SeqCst);
        clients
            .into_iter()
            .map(|it| it.join().unwrap())
            .collect::<Vec<usize>>()
    });
    assert!(last.iter().all(|turn| *turn >= 49), "{last:?}");
    assert!(
        origin.accepted() <= CLIENTS,
        "{} connections",
        origin.accepted()
    );
    finish(bench, origin);
}

/// Another upstream of the same name is another one: its connections are its own.
#[test]
fn a_plan_with_another_upstream_goes_there() {
    let setup = Bench::alone();
    let origins = [Origin::echo(), Origin::echo()];
    let plan = |origin: &Origin| {
        let plan = HttpPlan::new().upstream(upstream("main", origin)).unwrap();
        Live::new(plan)
    };
    let live = plan(&origins[0]);
    let served = live.clone();
    let bench = setup.proxy((), |proxy| proxy, move |http| http.live(served));
    let mut client = bench.client();
    for _ in 0..2 {
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n");
    }
    let next = HttpPlan::new()
        .upstream(upstream("main", &origins[1]))
        .unwrap();
    live.publish(next);
    for _ in 0..2 {
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n");
    }
    let accepted = origins.each_ref().map(Origin::accepted);
    assert_eq!(accepted, [1, 1]);
    drop(client);
    for origin in origins {
        origin.finish();
    }
    bench.finish_with_pool();
}
