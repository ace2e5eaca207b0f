//! What runs in the background: [`Cluster::tend`].

use std::sync::Arc;

use tokio::time::sleep;

use super::health::{AnyProbe, ConnectProbe, Probe};
use super::{Cluster, discover, health};
use crate::Result;
use crate::offramp::Dialer;
use crate::resolve::Resolver;

/// What a cluster is tended with.
#[derive(Clone, Debug)]
pub struct Tending {
    resolver: Resolver,
    probe: AnyProbe,
}

impl Tending {
    /// Resolves as `dialer` does, and checks health by connecting with it. It has to be allowed to go to the endpoints.
    pub fn new(dialer: Dialer) -> Self {
        Self {
            resolver: dialer.resolver().clone(),
            probe: AnyProbe::new(ConnectProbe::new(dialer)),
        }
    }

    /// Resolves with `resolver`, and checks health with `probe`.
    pub fn with(resolver: Resolver, probe: AnyProbe) -> Self {
        Self { resolver, probe }
    }

    /// Checks health with `probe`.
    #[must_use]
    pub fn probe(mut self, probe: impl Probe) -> Self {
        self.probe = AnyProbe::new(probe);
        self
    }
}

impl Cluster {
    /// Asks DNS where the endpoints are, checks their health, and looks at their rates of failure. Without it there are only
    /// endpoints that are listed with their targets; ejection for failures in a row and slow start work all the same.
    ///
    /// It never ends; dropped, it stops at once. It follows the settings as they are updated. Where it runs more than once
    /// for a cluster, one does the work, and another takes over when that is dropped.
    pub async fn tend(self: Arc<Self>, means: Tending) {
        let _turn = self.tended.lock().await;
        self.go_on(&means).await;
    }

    /// [`Cluster::tend`] with what `means` makes, once there is something to be done: names to be resolved, health checks,
    /// or rates of failure to be looked at. Most clusters need none of it, and `means` may be dear.
    ///
    /// # Errors
    ///
    /// That of `means`; nobody tends the cluster then.
    pub async fn tend_when_needed(
        self: Arc<Self>,
        means: impl FnOnce() -> Result<Tending> + Send,
    ) -> Result<()> {
        let _turn = self.tended.lock().await;
        self.needed().await;
        let means = means()?;
        self.go_on(&means).await;
        Ok(())
    }

    /// Waits until [`Cluster::tend`] has something to do. Cancel safe.
    async fn needed(&self) {
        let mut changed = self.changed.subscribe();
        while !self.spec().needs_tending() {
            if changed.changed().await.is_err() {
                // Not reached: the sender is the cluster's own.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn go_on(self: &Arc<Self>, means: &Tending) {
        tokio::join!(
            discover::discover(self, &means.resolver),
            health::watch(self, &means.probe),
            self.sweep(),
        );
    }

    async fn sweep(&self) {
        loop {
            sleep(self.spec().outlier.interval).await;
            self.sweep_outliers();
            // Ends ejections also where nothing is picked.
            self.refresh();
        }
    }
}
