//! Spreads TCP connections over backends: the one with the fewest gets the next.
//!
//! `cargo run -p oxy-core --example tcp_balancer 127.0.0.1:8001 127.0.0.1:8002`, and then `curl http://127.0.0.1:8000/`.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use oxy_core::{Error, Flow, FlowHooks, FlowInfo, Proxy, Result, Summary, Target, Verdict};

pub(crate) struct Balancer(pub(crate) Vec<(Target, AtomicUsize)>);

impl FlowHooks for Balancer {
    type Conn = usize;

    fn conn(&self, info: &FlowInfo, _: Option<&usize>) -> usize {
        let (turn, count) = (info.id.get() as usize, self.0.len());
        let by_turns = (0..count).map(|i| (turn + i) % count);
        let least = by_turns.min_by_key(|i| self.0[*i].1.load(Relaxed));
        let pick = least.unwrap_or_default();
        self.0[pick].1.fetch_add(1, Relaxed);
        pick
    }

    async fn on_flow(&self, pick: &mut usize, _: &mut Flow) -> Result<Verdict> {
        Ok(Verdict::Route(self.0[*pick].0.clone()))
    }

    fn on_close(&self, pick: &usize, _: &Summary) {
        self.0[*pick].1.fetch_sub(1, Relaxed);
    }
}

fn main() -> Result<()> {
    let targets = std::env::args()
        .skip(1)
        .map(|to| Ok((to.parse()?, 0.into())));
    let targets = targets.collect::<Result<Vec<_>>>()?;
    if targets.is_empty() {
        return Err(Error::app("usage: tcp_balancer HOST:PORT..."));
    }
    Proxy::new(Balancer(targets)).listen("127.0.0.1:8000").run()
}
