//! Exchanges through the whole driver, on one thread and over streams in memory, without what their two ends do.
#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot begin has nothing to say"
)]

use oxy_benches::exchange::{self, Client, Version};
use oxy_core::offramp::{AnyOfframp, Offramp};
use oxy_core::{Carrier, Facts, Far, Flow, FlowInfo, Layer, Origin, Result, StreamIo, Target};
use oxy_http::Http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

use crate::toggle::{Uncounted, counted};

/// More than is ever on its way, so that nobody waits for room.
const ROOM: usize = 64 << 10;

/// As many exchanges as it takes for the pools to be full, and more than h2 remembers streams that are over.
const WARM_UP: u64 = 200;

/// Counts `times` exchanges of a connection that has had others before.
pub(crate) fn exchanges(version: Version, times: u64) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut asking = runtime.block_on(async {
        let http = Http::new(()).to("127.0.0.1:9000");
        let engine = oxy_http::bench::engine(http, AnyOfframp::new(Memory)).unwrap();
        let (near, far) = StreamIo::pair(ROOM);
        let from = Origin {
            listener: "instructions".into(),
            peer: Some(([127, 0, 0, 1], 40_000).into()),
            local: Some(([127, 0, 0, 1], 8000).into()),
        };
        engine.spawn(Flow::new(Layer::Tcp, Carrier::Stream(near), from));
        let mut asking = Asking {
            client: Client::new(version),
            stream: far,
        };
        asking.ask(WARM_UP).await;
        asking
    });
    counted(|| runtime.block_on(Uncounted(Box::pin(asking.ask(times)))));
}

/// A client.
struct Asking {
    client: Client,
    stream: StreamIo,
}

impl Asking {
    /// Asks again and again.
    async fn ask(&mut self, times: u64) {
        let mut buffer = [0; 4096];
        for _ in 0..times {
            self.stream.write_all(self.client.request()).await.unwrap();
            loop {
                let n = self.stream.read(&mut buffer).await.unwrap();
                assert!(n > 0, "the proxy has closed");
                if self.client.came(&buffer[..n]).unwrap() {
                    break;
                }
            }
        }
    }
}

/// Leads to an origin on this thread.
struct Memory;

impl Offramp for Memory {
    async fn open(&self, target: &Target, _: &FlowInfo) -> Result<Far> {
        let (near, far) = StreamIo::pair(ROOM);
        tokio::spawn(Uncounted(Box::pin(answer(far))));
        Ok(Far {
            carrier: Carrier::Stream(near),
            target: target.clone(),
            peer: None,
            facts: Facts::default(),
        })
    }
}

async fn answer(mut stream: StreamIo) {
    let answer = exchange::answer();
    let (mut buffer, mut end) = ([0; 4096], 0);
    while let n @ 1.. = stream.read(&mut buffer[end..]).await.unwrap_or(0) {
        end += n;
        if exchange::is_asked(&buffer[..end]) {
            stream.write_all(&answer).await.unwrap();
            end = 0;
        }
    }
}
