//! Finding a request's route: what it costs must not grow with the table.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use oxy_http::h1::index::RequestIndex;
use oxy_http::h1::parse;
use oxy_http::limits::HeadLimits;
use oxy_http::route::{HeaderMatch, MatchSpec, RawView, RouteSpec, RouteTable, VirtualHostSpec};

const SIZES: [usize; 2] = [10, 10_000];

/// One host with a route for each number, and one for the rest.
fn one_host(size: usize, of: impl Fn(usize) -> MatchSpec) -> RouteTable {
    let host = (0..size).fold(VirtualHostSpec::new(["*"]), |host, number| {
        host.route(RouteSpec::new(of(number)).to("c"))
    });
    table(&[host.route(RouteSpec::new(MatchSpec::any()).to("rest"))])
}

fn many_hosts(size: usize, name: impl Fn(usize) -> String) -> RouteTable {
    let host = |number| VirtualHostSpec::new([name(number)]).route(RouteSpec::new("/*").to("c"));
    let mut hosts: Vec<_> = (0..size).map(host).collect();
    hosts.push(VirtualHostSpec::new(["*"]).route(RouteSpec::new("/*").to("rest")));
    table(&hosts)
}

#[expect(
    clippy::panic,
    reason = "a bench that measures the wrong thing has to stop"
)]
fn table(hosts: &[VirtualHostSpec]) -> RouteTable {
    RouteTable::new(hosts).unwrap_or_else(|error| panic!("{error}"))
}

/// A request's head and its index.
type Request = (Vec<u8>, RequestIndex);

fn request(host: &str, path: &str) -> Request {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8\r\nAccept: */*\r\nX-Canary: 1\r\n\r\n"
    );
    let mut index = RequestIndex::default();
    assert!(parse::request(head.as_bytes(), &HeadLimits::default(), &mut index).is_ok());
    (head.into_bytes(), index)
}

/// Measures requests by turns, all of which have to find `expected`: those `of` numbers that are spread over the table,
/// so that the processor's caches do not hold the one entry that is asked for.
fn find(
    c: &mut Criterion,
    name: &str,
    size: usize,
    table: &RouteTable,
    expected: &str,
    of: impl Fn(usize) -> Request,
) {
    let step = size.div_ceil(1000);
    let requests: Vec<_> = (0..size).step_by(step).map(of).collect();
    let views: Vec<_> = requests
        .iter()
        .map(|(head, index)| RawView {
            index,
            head,
            client: None,
            https: false,
        })
        .collect();
    for view in &views {
        let found = table.route(view).ok();
        let cluster = found.and_then(|matched| matched.cluster(0).cloned());
        assert_eq!(cluster.as_deref(), Some(expected), "{name} of {size}");
    }
    c.bench_function(&format!("route/{name} of {size}"), |b| {
        let mut turns = views.iter().cycle();
        b.iter(|| {
            turns
                .next()
                .map(|view| black_box(table.route(view)).is_ok())
        });
    });
}

fn hosts(c: &mut Criterion) {
    for size in SIZES {
        let table = many_hosts(size, |n| format!("shop{n}.example.com"));
        let of = |n| request(&format!("shop{n}.example.com"), "/");
        find(c, "exact host", size, &table, "c", of);
        let of = |n| request(&format!("none{n}.example.com"), "/");
        find(c, "no such host", size, &table, "rest", of);
        let table = many_hosts(size, |n| format!("*.shop{n}.example.com"));
        let of = |n| request(&format!("www.shop{n}.example.com"), "/");
        find(c, "wildcard host", size, &table, "c", of);
    }
}

fn paths(c: &mut Criterion) {
    let get = |path: String| request("example.com", &path);
    for size in SIZES {
        let table = one_host(size, |n| MatchSpec::path(format!("/v1/things/{n}")));
        let of = |n| get(format!("/v1/things/{n}?page=2"));
        find(c, "exact path", size, &table, "c", of);

        let table = one_host(size, |n| MatchSpec::prefix(format!("/v1/things/{n}")));
        let of = |n| get(format!("/v1/things/{n}/a/b?page=2"));
        find(c, "prefix", size, &table, "c", of);

        let canary = HeaderMatch::exact("x-canary", "1");
        let table = one_host(size, |n| {
            MatchSpec::prefix(format!("/v1/things/{n}")).header(canary.clone())
        });
        find(c, "prefix with a field", size, &table, "c", of);

        let table = one_host(size, |n| {
            MatchSpec::template(format!("/v1/things{n}/{{id}}/parts/{{part}}"))
        });
        let of = |n| get(format!("/v1/things{n}/42/parts/7?page=2"));
        find(c, "template", size, &table, "c", of);
        let of = |n| get(format!("/v1/none{n}/42/parts/7?page=2"));
        find(c, "no such path", size, &table, "rest", of);
        let of = |n| get(format!("/x/..//v1/%74hings{n}/42/parts/7?page=2"));
        find(c, "template, not normal", size, &table, "c", of);
    }
}

criterion_group!(benches, hosts, paths);
criterion_main!(benches);
