//! Taking a connection out of the pool and giving it back.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot begin has nothing to say"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use oxy_core::{StreamIo, Target};
use oxy_http::bench::PooledEndpoint;
use tokio::net::{TcpListener, TcpStream};

fn turn(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (target, near, _far) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..64 {
            near.push(StreamIo::from(TcpStream::connect(address).await.unwrap()));
            far.push(listener.accept().await.unwrap());
        }
        (Target::from(address), near, far)
    });
    let _entered = runtime.enter();
    let pool = PooledEndpoint::new(&target, near.into_iter().map(|io| io.into_parts().0));
    c.bench_function("pool/take and put", |b| {
        b.iter(|| assert!(pool.turn()));
    });
}

criterion_group!(benches, turn);
criterion_main!(benches);
