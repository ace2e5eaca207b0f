//! Writing heads as a proxy sends them on.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot begin has nothing to say"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use oxy_benches::messages::{REQUEST, RESPONSE};
use oxy_http::h1::index::{RequestIndex, ResponseIndex};
use oxy_http::h1::parse::{self, MethodKind};
use oxy_http::limits::HeadLimits;
use oxy_http::semantics::{
    ForwardPolicy, RequestHead, RequestHop, ResponseHead, ResponseHop, forward_request,
    forward_response,
};

fn request(c: &mut Criterion) {
    let mut index = RequestIndex::default();
    parse::request(REQUEST, &HeadLimits::default(), &mut index).unwrap();
    let policy = ForwardPolicy::default();
    let hop = RequestHop {
        client: Some([192, 0, 2, 1].into()),
        upstream: b"127.0.0.1:9000",
        ..RequestHop::default()
    };
    let mut out = Vec::new();
    c.bench_function("serialise/request", |b| {
        b.iter(|| {
            out.clear();
            forward_request(
                &RequestHead::indexed(&index, REQUEST),
                &hop,
                &policy,
                &mut out,
            )
        });
    });
}

fn response(c: &mut Criterion) {
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
    c.bench_function("serialise/response", |b| {
        b.iter(|| {
            out.clear();
            forward_response(
                &ResponseHead::indexed(&index, RESPONSE),
                &hop,
                &policy,
                &mut out,
            )
        });
    });
}

criterion_group!(benches, request, response);
criterion_main!(benches);
