//! Where requests go: a cluster of endpoints, and how they are spoken to.

use std::fmt;
use std::sync::Arc;

use oxy_core::cluster::{AnyProbe, Balancer, Cluster, EndpointId, Pick, Stuck, Tending};
use oxy_core::offramp::AnyOfframp;
use oxy_core::resolve::{ResolveOptions, Resolver};
use oxy_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;

use crate::health::{GrpcProbe, HealthKind, HttpProbe, OpenProbe, Question};
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
    question: Option<Question>,
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
            question: None,
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

    /// How endpoints are asked whether they are well, if the cluster's settings say that they are
    /// ([`oxy_core::cluster::ClusterSpec::health`]). They are asked by the same way out, and in the same version of HTTP,
    /// as requests. Default: by connecting.
    ///
    /// # Errors
    ///
    /// `Malformed` for what is wrong with it.
    pub fn probe(mut self, kind: impl Into<HealthKind>) -> Result<Self> {
        self.question = Some(Question::new(kind.into())?);
        Ok(self)
    }

    /// What the cluster is tended with while it is in use: resolved, and checked for its health, unless
    /// [`Upstream::probe`] says how that is done. Default: the system's resolver, and connecting.
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
    /// What the cluster is tended with, by `listener`'s way out, or by that through what this upstream makes of it.
    fn means(&self, listener: AnyOfframp, way: &Way) -> Result<Tending> {
        let probe = self
            .question
            .as_ref()
            .map(|question| match question.clone() {
                Question::Tcp => AnyProbe::new(OpenProbe::new(listener.clone())),
                Question::Http(ask, good) => {
                    let offramp = way.offramp.clone();
                    AnyProbe::new(HttpProbe::of(offramp, way.protocol, ask, good))
                }
                Question::Grpc(ask, service) => {
                    AnyProbe::new(GrpcProbe::of(way.offramp.clone(), ask, service))
                }
            });
        if let Some(means) = &self.tending {
            let means = means.clone();
            return Ok(match probe {
                Some(probe) => means.probe(probe),
                None => means,
            });
        }
        let probe = probe.unwrap_or_else(|| AnyProbe::new(OpenProbe::new(listener)));
        Ok(Tending::with(
            Resolver::new(ResolveOptions::default())?,
            probe,
        ))
    }

    /// One of the workers does the work.
    async fn tend(self: Arc<Self>, listener: AnyOfframp, way: Way) {
        let cluster = self.cluster.clone();
        let means = || self.means(listener, &way);
        if let Err(error) = cluster.tend_when_needed(means).await {
            tracing::warn!(cluster = %self.cluster.name(), "nobody tends it: {error:?}");
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.tending.abort();
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
    tending: JoinHandle<()>,
}

impl Backend {
    /// Needs a tokio runtime.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        offramp: &AnyOfframp,
        pool: &PoolOptions,
        worker: usize,
    ) -> Self {
        let way = Way {
            offramp: match &upstream.via {
                Some(via) => via(offramp.clone()),
                None => offramp.clone(),
            },
            protocol: upstream.protocol,
            secure: upstream.secure,
        };
        let tending = upstream.clone().tend(offramp.clone(), way.clone());
        Self {
            balancer: upstream.cluster.balancer(worker),
            pool: Pool::new(pool.clone(), way),
            tending: tokio::spawn(tending),
            upstream,
        }
    }

    /// What is kept of connections to what was picked.
    pub(crate) fn endpoint(&self, pick: &Pick) -> Result<Arc<Endpoint>> {
        let kept = pick.kept(|endpoint| self.pool.endpoint(endpoint.target(), endpoint.host()));
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
    pub(crate) fn tells(
        &self,
        pick: &Pick,
        is_secure: impl FnOnce() -> bool,
    ) -> Option<http::HeaderValue> {
        let sticky = self.upstream.sticky.as_ref()?;
        (pick.stuck() != Stuck::Kept).then(|| sticky.value(pick.id(), is_secure()))
    }
}
