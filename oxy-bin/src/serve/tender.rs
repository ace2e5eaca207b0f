//! The thread that looks after clusters: their names, their health, their rates of failure.
//!
//! Workers look after the clusters of their own upstreams, too; one at a time does it for a cluster. This one is there for
//! those that no worker has for its own, and goes on where a listener goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::Builder;

use oxy_core::cluster::{Address, Cluster, ClusterSpec, Tending};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

/// What is to be looked after: with what, and a text that is another where that is.
pub(super) type Charge = (Arc<Cluster>, Tending, String);

/// Looks after clusters until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Tender {
    thread: Option<UnboundedSender<Vec<Charge>>>,
}

impl Tender {
    /// Looks after these clusters, and no others. The thread is there once there is something to do.
    pub(super) fn look_after(&mut self, charges: Vec<Charge>) {
        let charges: Vec<_> = charges
            .into_iter()
            .filter(|(cluster, ..)| needs_it(&cluster.spec()))
            .collect();
        if self.thread.is_none() && charges.is_empty() {
            return;
        }
        let thread = self.thread.get_or_insert_with(|| {
            let (sender, receiver) = unbounded_channel();
            let started = Builder::new()
                .name("oxy-clusters".into())
                .spawn(move || work(receiver));
            if let Err(e) = started {
                tracing::error!("nobody looks after the clusters: {e}");
            }
            sender
        });
        let _ = thread.send(charges);
    }
}

/// Whether there is anything to do in the background.
fn needs_it(spec: &ClusterSpec) -> bool {
    let rates = spec.outlier.failure_percent > 0 || spec.outlier.deviation_thousandths > 0;
    let names = spec
        .endpoints
        .iter()
        .any(|endpoint| !matches!(endpoint.address, Address::Target(_)));
    rates || names || spec.health.is_some()
}

fn work(mut charges: UnboundedReceiver<Vec<Charge>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!("nobody looks after the clusters: {e}");
            return;
        }
    };
    runtime.block_on(async {
        let mut tasks: HashMap<(usize, String), AbortHandle> = HashMap::new();
        while let Some(charges) = charges.recv().await {
            let mut before = std::mem::take(&mut tasks);
            for (cluster, tending, way) in charges {
                // A cluster's place in memory is its own while a task holds it.
                let key = (Arc::as_ptr(&cluster).addr(), way);
                let task = before
                    .remove(&key)
                    .unwrap_or_else(|| tokio::spawn(cluster.tend(tending)).abort_handle());
                tasks.insert(key, task);
            }
            for task in before.into_values() {
                task.abort();
            }
        }
    });
}
