//! Where requests go: a cluster of endpoints, and how they are spoken to.

use std::fmt;
use std::sync::Arc;

use oxy_core::cluster::{Balancer, Cluster, EndpointId, Pick, Stuck, Tending};
use oxy_core::offramp::{AnyOfframp, DialOptions, Dialer, EgressPolicy};
use oxy_core::resolve::{ResolveOptions, Resolver};
use oxy_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;

use crate::options::PoolOptions;
use crate::pool::{Endpoint, Pool, Protocol, Way};
use crate::sticky::StickyCookie;

/// What an upstream does with the way out before it is used: puts TLS on it, for one.
type Via = Arc<dyn Fn(AnyOfframp) -> AnyOfframp + Send + Sync>;

/// A cluster of endpoints that speak HTTP, and how they are spoken to.
///
/// ```
/// use oxy_core::cluster::{Cluster, ClusterSpec};
/// use oxy_core::Target;
/// use oxy_http::{Protocol, Upstream};
///
/// # fn main() -> oxy_core::Result<()> {
/// let endpoints = [Target::tcp([127, 0, 0, 1], 50051), Target::tcp([127, 0, 0, 1], 50052)];
/// let cluster = Cluster::new(ClusterSpec::new("greeter", endpoints))?;
/// let upstream = Upstream::new(cluster).protocol(Protocol::Http2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Upstream {
    cluster: Arc<Cluster>,
    protocol: Protocol,
    secure: bool,
    via: Option<Via>,
    sticky: Option<StickyCookie>,
    tending: Option<Tending>,
}

impl Upstream {
    /// `cluster`, in clear text and in HTTP/1.1.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            protocol: Protocol::Auto,
            secure: false,
            via: None,
            sticky: None,
            tending: None,
        }
    }

    /// Which version of HTTP is spoken.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Goes out by what `via` makes of the listener's way out, which encrypts: requests are then for `https`. What was
    /// agreed upon in the handshake (ALPN) is in the far side's facts, where [`Protocol::Auto`] looks for it.
    #[must_use]
    pub fn secure(
        mut self,
        via: impl Fn(AnyOfframp) -> AnyOfframp + Send + Sync + 'static,
    ) -> Self {
        self.secure = true;
        self.via(via)
    }

    /// Goes out by what `via` makes of the listener's way out, or of what an earlier call has made of it.
    #[must_use]
    pub fn via(mut self, via: impl Fn(AnyOfframp) -> AnyOfframp + Send + Sync + 'static) -> Self {
        let inner = self.via.take();
        self.via = Some(Arc::new(move |offramp| {
            via(match &inner {
                Some(inner) => inner(offramp),
                None => offramp,
            })
        }));
        self
    }

    /// Keeps a client with one endpoint by a cookie that names it.
    #[must_use]
    pub fn sticky(mut self, cookie: StickyCookie) -> Self {
        self.sticky = Some(cookie);
        self
    }

    /// What the cluster is tended with while it is in use: resolved, and checked for its health. Default: the system's
    /// resolver, and connecting.
    #[must_use]
    pub fn tending(mut self, means: Tending) -> Self {
        self.tending = Some(means);
        self
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}

impl Upstream {
    fn means(&self) -> Option<Tending> {
        if let Some(means) = &self.tending {
            return Some(means.clone());
        }
        match Resolver::new(ResolveOptions::default()) {
            Ok(resolver) => {
                let (policy, options) = (EgressPolicy::open(), DialOptions::default());
                Some(Tending::new(Dialer::new(resolver, policy, options)))
            }
            Err(error) => {
                tracing::warn!(cluster = %self.cluster.name(), "nobody tends it: {error:?}");
                None
            }
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(tending) = &self.tending {
            tending.abort();
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("cluster", self.cluster.name())
            .field("protocol", &self.protocol)
            .field("secure", &self.secure)
            .finish_non_exhaustive()
    }
}

/// One worker's view of an [`Upstream`]: its own turns, and its own connections.
pub(crate) struct Backend {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) balancer: Balancer,
    pool: Arc<Pool>,
    tending: Option<JoinHandle<()>>,
}

impl Backend {
    /// Needs a tokio runtime.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        offramp: &AnyOfframp,
        pool: &PoolOptions,
        worker: usize,
    ) -> Self {
        let offramp = offramp.clone();
        let way = Way {
            offramp: match &upstream.via {
                Some(via) => via(offramp),
                None => offramp,
            },
            protocol: upstream.protocol,
            secure: upstream.secure,
        };
        // One of the workers does the work.
        let tending = upstream.means().map(|means| {
            let cluster = upstream.cluster.clone();
            tokio::spawn(cluster.tend(means))
        });
        Self {
            balancer: upstream.cluster.balancer(worker),
            pool: Pool::new(pool.clone(), way),
            tending,
            upstream,
        }
    }

    /// What is kept of connections to what was picked.
    pub(crate) fn endpoint(&self, pick: &Pick) -> Result<Arc<Endpoint>> {
        let kept = pick.kept(|endpoint| self.pool.endpoint(endpoint.target()));
        kept.cloned()
            .ok_or_else(|| Error::local(ErrorKind::Internal).context("a cluster that is shared"))
    }

    /// Closes an idle connection, if there is one, because its descriptor is needed.
    pub(crate) fn evict(&self) -> bool {
        self.pool.evict()
    }

    /// Whether clients are kept with an endpoint by a cookie.
    pub(crate) fn is_sticky(&self) -> bool {
        self.upstream.sticky.is_some()
    }

    /// The endpoint that a client with these cookies has had before.
    pub(crate) fn had<'a>(&self, cookies: impl Iterator<Item = &'a [u8]>) -> Option<EndpointId> {
        self.upstream.sticky.as_ref()?.find(cookies)
    }

    /// The Set-Cookie that tells a client which endpoint it has, if it does not know.
    pub(crate) fn tells(&self, pick: &Pick, secure: bool) -> Option<http::HeaderValue> {
        let sticky = self.upstream.sticky.as_ref()?;
        (pick.stuck() != Stuck::Kept).then(|| sticky.value(pick.id(), secure))
    }
}
