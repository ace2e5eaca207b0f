//! Active health checks: [`Probe`], and what comes of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::endpoint::Endpoint;
use super::rng::Rng;
use super::spec::HealthCheck;
use crate::BoxFuture;
use crate::error::{Error, ErrorKind, Result};
use crate::offramp::Dialer;
use crate::target::Target;

/// A way to find out whether an endpoint is well.
pub trait Probe: Send + Sync + 'static {
    /// Asks `endpoint` at `target`, which is the endpoint's own but for the port that is to be checked. An error says that it
    /// is not well, and is shown in reports. Dropped when it takes too long.
    fn probe(
        &self,
        endpoint: &Endpoint,
        target: &Target,
    ) -> impl Future<Output = Result<()>> + Send;
}

trait Erased: Send + Sync {
    fn probe<'a>(&'a self, endpoint: &'a Endpoint, target: &'a Target)
    -> BoxFuture<'a, Result<()>>;
}

impl<P: Probe> Erased for P {
    fn probe<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        target: &'a Target,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(Probe::probe(self, endpoint, target))
    }
}

/// Any [`Probe`]. Clones are the same one.
#[derive(Clone)]
pub struct AnyProbe(Arc<dyn Erased>);

impl AnyProbe {
    /// Hides which probe it is.
    pub fn new(probe: impl Probe) -> Self {
        Self(Arc::new(probe))
    }

    /// See [`Probe::probe`].
    pub fn probe<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        target: &'a Target,
    ) -> BoxFuture<'a, Result<()>> {
        self.0.probe(endpoint, target)
    }
}

impl Probe for AnyProbe {
    async fn probe(&self, endpoint: &Endpoint, target: &Target) -> Result<()> {
        self.0.probe(endpoint, target).await
    }
}

impl fmt::Debug for AnyProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyProbe")
    }
}

/// An endpoint is well when a TCP or Unix connection to it opens. It is closed at once.
#[derive(Clone, Debug)]
pub struct ConnectProbe {
    dialer: Dialer,
}

impl ConnectProbe {
    /// Connects as `dialer` does.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }
}

impl Probe for ConnectProbe {
    async fn probe(&self, _: &Endpoint, target: &Target) -> Result<()> {
        match target {
            Target::Tcp { host, port } => self.dialer.tcp(host, *port).await.map(drop),
            Target::Unix(path) => self.dialer.unix(path).await.map(drop),
            Target::Udp { .. } => Err(Error::local(ErrorKind::Unsupported).context(
                "that somebody is there is not seen over UDP; this needs a probe of its own",
            )),
        }
    }
}

/// Keeps a task for each endpoint. Does not end.
pub(super) async fn watch(cluster: &Arc<Cluster>, probe: &AnyProbe) {
    let mut changed = cluster.changed.subscribe();
    let mut tasks = JoinSet::new();
    // By their place in memory, which is theirs alone while they are held here.
    let mut running: HashMap<usize, (Arc<Endpoint>, AbortHandle)> = HashMap::new();
    let mut options = None;
    loop {
        changed.borrow_and_update();
        let spec = cluster.spec();
        if options != spec.health {
            tasks.abort_all();
            running.clear();
            options.clone_from(&spec.health);
        }
        if let Some(check) = &options {
            let mut endpoints: HashMap<_, _> = cluster
                .endpoints()
                .into_iter()
                .map(|endpoint| (Arc::as_ptr(&endpoint).addr(), endpoint))
                .collect();
            running.retain(|place, (_, task)| {
                let stays = endpoints.remove(place).is_some();
                if !stays {
                    task.abort();
                }
                stays
            });
            for (place, endpoint) in endpoints {
                let checks = check_on(
                    cluster.clone(),
                    endpoint.clone(),
                    probe.clone(),
                    check.clone(),
                );
                running.insert(place, (endpoint, tasks.spawn(checks)));
            }
        }
        while tasks.try_join_next().is_some() {}
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Checks on an endpoint again and again.
async fn check_on(
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    probe: AnyProbe,
    check: HealthCheck,
) {
    let target = match (endpoint.target(), check.port) {
        (Target::Tcp { host, .. }, Some(port)) => Target::tcp(host.clone(), port),
        (Target::Udp { host, .. }, Some(port)) => Target::udp(host.clone(), port),
        (target, _) => target.clone(),
    };
    let mut rng = Rng::new();
    let mut jitter = || {
        let percent = check.jitter_percent.min(100);
        Duration::from_nanos(rng.below((check.interval / 100 * percent).as_nanos() as u64))
    };
    sleep(jitter()).await;
    loop {
        let result = timeout(check.timeout, probe.probe(&endpoint, &target)).await;
        let late = |_| Err(Error::up(ErrorKind::Timeout).context("waiting for a health check"));
        cluster.checked(&endpoint, &check, result.unwrap_or_else(late));
        sleep(check.interval.saturating_add(jitter())).await;
    }
}

impl Cluster {
    /// Takes over what a health check says.
    pub(super) fn checked(
        &self,
        endpoint: &Arc<Endpoint>,
        check: &HealthCheck,
        result: Result<()>,
    ) {
        let condition = &endpoint.condition;
        let mut shared = self.shared();
        // The settings may have been changed meanwhile.
        if shared.spec.health.is_none() {
            return;
        }
        let mut course = condition.course();
        let is_first = !std::mem::replace(&mut course.checked.once, true);
        let (is_well, was_well) = (result.is_ok(), !condition.fails_checks());
        let was_waited_for = condition.is_unchecked();
        course.checked.error = result.err().map(|error| format!("{error:?}"));
        if is_well == was_well {
            course.checked.streak = 0;
            if !was_waited_for {
                return;
            }
        } else {
            course.checked.streak += 1;
            let threshold = match (is_first, is_well) {
                (true, _) => 1,
                (_, true) => check.healthy_threshold,
                (_, false) => check.unhealthy_threshold,
            };
            if course.checked.streak < threshold {
                return;
            }
            course.checked.streak = 0;
            condition.set_fails_checks(!is_well);
            let (cluster, endpoint) = (self.name(), endpoint.target());
            match &course.checked.error {
                None => tracing::info!(%cluster, %endpoint, "endpoint is well again"),
                Some(why) => tracing::warn!(%cluster, %endpoint, why, "endpoint is ill"),
            }
        }
        condition.set_unchecked(false);
        let now = tokio::time::Instant::now();
        let is_back = is_well && !was_well && !shared.spec.slow_start.window.is_zero();
        if is_back || (is_well && course.ramp.is_some()) {
            course.ramp = Some(now);
        }
        drop(course);
        self.publish(&mut shared, now);
    }
}
