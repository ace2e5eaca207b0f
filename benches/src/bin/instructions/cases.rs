//! What is counted.
#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot begin has nothing to say"
)]

use std::hint::black_box;

use oxy_benches::exchange::Version;
use oxy_benches::messages::{REQUEST, RESPONSE};
use oxy_http::h1::index::{RequestIndex, ResponseIndex};
use oxy_http::h1::parse::{self, MethodKind};
use oxy_http::limits::HeadLimits;
use oxy_http::route::{MatchSpec, RawView, RouteSpec, RouteTable, VirtualHostSpec};
use oxy_http::semantics::{
    ForwardPolicy, RequestHead, RequestHop, ResponseHead, ResponseHop, forward_request,
    forward_response,
};

use crate::ends;
use crate::toggle::counted;

/// Something to count.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How often it does what is counted.
    pub(crate) units: u64,
    pub(crate) run: fn(),
}

/// How often, where each time is like the last.
const TIMES: u64 = 100;

/// How many routes and requests: each request meets another route.
const ROUTES: u64 = 10_000;

pub(crate) const CASES: [Case; 7] = [
    Case {
        name: "parse request",
        units: TIMES,
        run: parse_request,
    },
    Case {
        name: "parse response",
        units: TIMES,
        run: parse_response,
    },
    Case {
        name: "forward request",
        units: TIMES,
        run: write_request,
    },
    Case {
        name: "forward response",
        units: TIMES,
        run: write_response,
    },
    Case {
        name: "route of 10,000",
        units: ROUTES,
        run: route,
    },
    Case {
        name: "exchange, HTTP/1.1",
        units: TIMES,
        run: || ends::exchanges(Version::Http1, TIMES),
    },
    Case {
        name: "exchange, HTTP/2",
        units: TIMES,
        run: || ends::exchanges(Version::Http2, TIMES),
    },
];

/// Does `work` once to warm up, and then as often as is counted.
fn times(mut work: impl FnMut()) {
    work();
    counted(|| (0..TIMES).for_each(|_| work()));
}

fn parse_request() {
    let limits = HeadLimits::default();
    let mut index = RequestIndex::default();
    times(|| assert!(parse::request(black_box(REQUEST), &limits, &mut index).is_ok()));
}

fn parse_response() {
    let limits = HeadLimits::default();
    let mut index = ResponseIndex::default();
    times(|| {
        let head = black_box(RESPONSE);
        assert!(parse::response(head, &limits, MethodKind::Other, &mut index).is_ok());
    });
}

fn write_request() {
    let mut index = RequestIndex::default();
    parse::request(REQUEST, &HeadLimits::default(), &mut index).unwrap();
    let policy = ForwardPolicy::default();
    let hop = RequestHop {
        client: Some([192, 0, 2, 1].into()),
        upstream: b"127.0.0.1:9000",
        ..RequestHop::default()
    };
    let mut out = Vec::new();
    times(|| {
        out.clear();
        let head = RequestHead::indexed(&index, black_box(REQUEST));
        let _ = black_box(forward_request(&head, &hop, &policy, &mut out));
    });
}

fn write_response() {
    let mut index = ResponseIndex::default();
    parse::response(
        RESPONSE,
        &HeadLimits::default(),
        MethodKind::Other,
        &mut index,
    )
    .unwrap();
    let policy = ForwardPolicy::default();
    let hop = ResponseHop {
        minor: 1,
        head: false,
        keep_alive: true,
        date: b"Mon, 23 Nov 2026 12:00:00 GMT",
        upgrade: None,
    };
    let mut out = Vec::new();
    times(|| {
        out.clear();
        let head = ResponseHead::indexed(&index, black_box(RESPONSE));
        black_box(forward_response(&head, &hop, &policy, &mut out));
    });
}

fn route() {
    let host = (0..ROUTES).fold(VirtualHostSpec::new(["*"]), |host, number| {
        host.route(RouteSpec::new(MatchSpec::prefix(format!("/v1/things/{number}"))).to("c"))
    });
    let table = RouteTable::new(&[host]).unwrap();
    let limits = HeadLimits::default();
    let requests: Vec<_> = (0..ROUTES)
        .map(|number| {
            let head = format!(
                "GET /v1/things/{number}/a/b?page=2 HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n"
            );
            let mut index = RequestIndex::default();
            parse::request(head.as_bytes(), &limits, &mut index).unwrap();
            (head.into_bytes(), index)
        })
        .collect();
    let all = || {
        for (head, index) in &requests {
            let view = RawView {
                index,
                head,
                client: None,
                https: false,
            };
            assert!(black_box(table.route(&view)).is_ok());
        }
    };
    all();
    counted(all);
}
