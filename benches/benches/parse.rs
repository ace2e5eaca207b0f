//! Reading heads and chunks.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oxy_benches::messages::{REQUEST, RESPONSE};
use oxy_http::h1::chunked::Decoder;
use oxy_http::h1::index::{RequestIndex, ResponseIndex};
use oxy_http::h1::parse::{self, MethodKind};
use oxy_http::limits::{ChunkLimits, HeadLimits};

fn heads(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("request", |b| {
        let mut index = RequestIndex::default();
        b.iter(|| parse::request(REQUEST, &limits, &mut index).is_ok());
    });
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response", |b| {
        let mut index = ResponseIndex::default();
        b.iter(|| parse::response(RESPONSE, &limits, MethodKind::Other, &mut index).is_ok());
    });
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let limits = ChunkLimits::default();
    let mut group = c.benchmark_group("chunked");
    for size in [16, 1024, 16 * 1024] {
        let mut body = Vec::new();
        for _ in 0..(16 * 1024 / size) {
            body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            body.extend_from_slice(&vec![b'x'; size]);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("chunks of {size}"), |b| {
            let mut buffer = body.clone();
            b.iter(|| {
                buffer.copy_from_slice(&body);
                Decoder::new().compact(&mut buffer, &limits).is_ok()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, chunks);
criterion_main!(benches);
