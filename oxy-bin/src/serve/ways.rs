//! Clusters that serve, and how they are reached.

use std::sync::Arc;

use oxy_core::cluster::{AnyProbe, Cluster, ClusterSpec, EndpointSpec, Tending};
use oxy_core::offramp::{AnyOfframp, DialOptions, Dialer, Direct, EgressPolicy};
use oxy_core::resolve::Resolver;
use oxy_core::{Result, Target};
use oxy_http::Upstream;
use oxy_http::health::{GrpcProbe, HealthKind, HttpProbe, OpenProbe};
use oxy_tls::TlsOfframp;
use oxy_tunnel::proxy_protocol::SendProxyProtocol;

use crate::https::secure;
use crate::settings::ClusterPlan;

/// What a cluster does with a listener's way out before it is used.
pub(super) type Via = Arc<dyn Fn(AnyOfframp) -> AnyOfframp + Send + Sync>;

/// A cluster that serves.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) plan: ClusterPlan,
    pub(super) cluster: Arc<Cluster>,
    /// Its connections last as long as this.
    pub(super) upstream: Arc<Upstream>,
    pub(super) tending: Tending,
}

impl Group {
    /// What `plan` says; of `old`, what stays of it.
    pub(super) fn new(
        mut plan: ClusterPlan,
        builtin: Option<&Target>,
        old: Option<&Self>,
    ) -> Result<Self> {
        plan.spec = spec(&plan, builtin);
        if let Some(old) = old
            && old.plan.way == plan.way
        {
            // Its sessions go on, and so do its counts.
            plan.tls.clone_from(&old.plan.tls);
            return Ok(Self {
                plan,
                ..old.clone()
            });
        }
        let cluster = match old {
            Some(old) => old.cluster.clone(),
            None => Cluster::new(plan.spec.clone())?,
        };
        let tending = tending(&plan)?;
        let mut upstream = Upstream::new(cluster.clone())
            .protocol(plan.protocol)
            .tending(tending.clone());
        // The header comes first on the wire, TLS after it.
        if let Some(via) = via(&plan) {
            upstream = upstream.via(move |offramp| via(offramp));
        }
        if let Some(client) = &plan.tls {
            upstream = secure(upstream, client.clone());
        }
        if let Some(cookie) = &plan.sticky_cookie {
            upstream = upstream.sticky(cookie.clone());
        }
        Ok(Self {
            plan,
            cluster,
            upstream: Arc::new(upstream),
            tending,
        })
    }

    /// How L4 flows go to it.
    pub(super) fn via(&self) -> Option<Via> {
        via(&self.plan)
    }
}

fn spec(plan: &ClusterPlan, builtin: Option<&Target>) -> ClusterSpec {
    let mut spec = plan.spec.clone();
    if let (1.., Some(target)) = (plan.builtin, builtin) {
        let endpoint = EndpointSpec::new(target.clone()).weight(plan.builtin);
        spec.endpoints.push(endpoint);
    }
    spec
}

/// Asks endpoints by the same way as they are used.
fn tending(plan: &ClusterPlan) -> Result<Tending> {
    let resolver = Resolver::new(plan.resolve.clone())?;
    // Endpoints are the operator's own.
    let options = DialOptions::default();
    let dialer = Dialer::new(resolver.clone(), EgressPolicy::open(), options);
    let direct = AnyOfframp::new(Direct::new(dialer));
    let way = || {
        let offramp = match via(plan) {
            Some(via) => via(direct.clone()),
            None => direct.clone(),
        };
        match &plan.tls {
            Some(client) => AnyOfframp::new(TlsOfframp::new(offramp, client.clone())),
            None => offramp,
        }
    };
    let probe = match plan.probe.clone() {
        HealthKind::Http(check) => AnyProbe::new(HttpProbe::new(way(), plan.protocol, check)?),
        HealthKind::Grpc(check) => AnyProbe::new(GrpcProbe::new(way(), check)?),
        _ => AnyProbe::new(OpenProbe::new(direct)),
    };
    Ok(Tending::with(resolver, probe))
}

fn via(plan: &ClusterPlan) -> Option<Via> {
    let options = plan.send_proxy_protocol.clone()?;
    Some(Arc::new(move |offramp: AnyOfframp| {
        match SendProxyProtocol::new(offramp.clone(), options.clone()) {
            Ok(sending) => AnyOfframp::new(sending),
            // Not reached: the settings have been checked.
            Err(error) => {
                tracing::error!("{error:?}");
                offramp
            }
        }
    }))
}
