//! Relaying through sockets, spliced, and through memory, copied.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot begin has nothing to say"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oxy_core::StreamIo;
use oxy_core::relay::{self, RelayOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn sockets() -> (StreamIo, StreamIo) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await;
    (
        near.unwrap().into(),
        listener.accept().await.unwrap().0.into(),
    )
}

/// Sends `size` bytes through a relay between `client` and `server`.
async fn carry(size: usize, client: (StreamIo, StreamIo), server: (StreamIo, StreamIo)) {
    let ((mut client, near), (far, mut server)) = (client, server);
    let relaying = tokio::spawn(async move {
        relay::stream(near, far, &RelayOptions::default())
            .await
            .unwrap();
    });
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 256 * 1024];
        let mut got = 0;
        while let n @ 1.. = server.read(&mut buffer).await.unwrap() {
            got += n;
        }
        assert_eq!(got, size);
    });
    client.write_all(&vec![7; size]).await.unwrap();
    client.shutdown().await.unwrap();
    reading.await.unwrap();
    relaying.await.unwrap();
}

fn relays(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut group = c.benchmark_group("relay");
    for size in [1024, 1024 * 1024] {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("sockets", size), &size, |b, &size| {
            b.iter(|| {
                runtime.block_on(async { carry(size, sockets().await, sockets().await).await });
            });
        });
        group.bench_with_input(BenchmarkId::new("memory", size), &size, |b, &size| {
            let pair = || StreamIo::pair(64 * 1024);
            b.iter(|| runtime.block_on(carry(size, pair(), pair())));
        });
    }
    group.finish();
}

criterion_group!(benches, relays);
criterion_main!(benches);
