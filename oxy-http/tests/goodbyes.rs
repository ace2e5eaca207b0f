//! Origins that take a few requests for a connection and refuse what else is on it already (RFC 9113 sections 6.8 and 8.7).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use oxy_core::Target;
use oxy_core::cluster::{Cluster, ClusterSpec};
use oxy_http::{HttpOptions, Protocol, Upstream};
use support::h2::{GOAWAY, H2, HEADERS, WHOLE, code, frame, headers, reset};
use support::{Bench, Origin, Setup};

/// How many requests an origin takes for a connection.
const BRIEF: usize = 5;

/// How many requests have come, and how many of them were answered.
#[derive(Default)]
struct Seen {
    came: AtomicUsize,
    answered: AtomicUsize,
}

/// An origin that says goodbye on every connection with its fifth request.
fn brief() -> (Origin, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let counted = seen.clone();
    let origin = Origin::once(move |peer| {
        let mut peer = H2::accepted(peer);
        let mut here = 0;
        while let Ok(request) = peer.next_of(HEADERS) {
            counted.came.fetch_add(1, SeqCst);
            here += 1;
            if here > BRIEF {
                continue;
            }
            counted.answered.fetch_add(1, SeqCst);
            let answer = headers(request.stream, WHOLE, &[(":status", "200")]);
            let mut said = Vec::new();
            if here == BRIEF {
                let last = [request.stream.to_be_bytes(), code::NO_ERROR.to_be_bytes()];
                said.extend(frame(GOAWAY, 0, 0, last.concat()));
            }
            said.extend(answer);
            if peer.peer.try_send(&said).is_err() {
                return;
            }
        }
    });
    (origin, seen)
}

/// A proxy in front of a cluster of that origin.
fn proxy(
    setup: Setup,
    origin: &Origin,
    options: HttpOptions,
    change: impl FnOnce(&mut ClusterSpec),
) -> Bench {
    let mut spec = ClusterSpec::new("c", [Target::from(origin.address())]);
    change(&mut spec);
    let upstream = Upstream::new(Cluster::new(spec).unwrap()).protocol(Protocol::Http2);
    let http = |http: oxy_http::Http<_>| http.upstream(upstream).options(options);
    setup.proxy((), |proxy| proxy, http)
}

/// Asks with so many clients at a time, one request after another each, and says how many were not answered well.
fn load(bench: &Bench, clients: usize, each: usize) -> usize {
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = bench.client();
                for _ in 0..each {
                    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                    if client.response().status() != 200 {
                        failed.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

#[test]
fn goodbyes_cost_no_request_and_no_budget() {
    let none = |options: &mut HttpOptions, spec: &mut ClusterSpec| {
        (options.retry.budget_percent, options.retry.budget_min) = (0, 0);
        spec.retry_budget.percent = 0;
        spec.retry_budget.min_concurrency = 0;
    };
    for has_budget in [true, false] {
        for clients in [1, 8] {
            let setup = Bench::alone();
            let (origin, seen) = brief();
            let mut options = HttpOptions::default();
            let mut spec = ClusterSpec::new("c", [Target::from(origin.address())]);
            if !has_budget {
                none(&mut options, &mut spec);
            }
            let bench = proxy(setup, &origin, options, |it| *it = spec);
            let failed = load(&bench, clients, 40);
            let all = clients * 40;
            let came = seen.came.load(SeqCst);
            assert_eq!(failed, 0, "{clients} clients, of {all}; {came} came");
            // None was done twice.
            assert_eq!(seen.answered.load(SeqCst), all);
            drop(origin);
            bench.finish_with_pool();
        }
    }
}

#[test]
fn who_refuses_everything_is_asked_a_few_times() {
    for (max, tries) in [(0, 1), (1, 6), (2, 6)] {
        let setup = Bench::alone();
        let came = Arc::new(AtomicUsize::new(0));
        let counted = came.clone();
        let origin = Origin::once(move |peer| {
            let mut peer = H2::accepted(peer);
            while let Ok(request) = peer.next_of(HEADERS) {
                counted.fetch_add(1, SeqCst);
                if peer
                    .peer
                    .try_send(reset(request.stream, code::REFUSED))
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut options = HttpOptions::default();
        options.retry.max = max;
        let bench = proxy(setup, &origin, options, |_| {});
        assert_eq!(load(&bench, 1, 1), 1);
        assert_eq!(came.load(SeqCst), tries, "{max}");
        drop(origin);
        bench.finish_with_pool();
    }
}

#[test]
fn who_cannot_be_reached_costs_budget() {
    let nobody = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Target::from(listener.local_addr().unwrap())
    };
    let setup = Bench::alone();
    let (origin, _) = brief();
    let mut options = HttpOptions::default();
    (options.retry.budget_percent, options.retry.budget_min) = (0, 0);
    // In turns: one of the two requests begins where nobody listens, and may go nowhere else.
    let bench = proxy(setup, &origin, options, |spec| {
        spec.endpoints.push(nobody().into());
    });
    assert_eq!(load(&bench, 1, 2), 1);
    drop(origin);
    bench.finish_with_pool();
}
