//! What an HTTP listener is to do: where requests go, and how. It may be replaced while the listener runs.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use foldhash::fast::FixedState;
use oxy_core::cluster::{Cluster, ClusterSpec, EndpointSpec};
use oxy_core::{Error, ErrorKind, Result};

use crate::options::HttpOptions;
use crate::route::{Route, RouteTable, VirtualHostSpec};
use crate::semantics::Pseudonym;
use crate::upstream::Upstream;

/// Routes, upstreams and options of an HTTP listener.
///
/// A listener goes by the one that is in force ([`crate::Http::live`]): each request by the one that was in force when it
/// came, all of it.
#[derive(Clone, Default)]
pub struct HttpPlan {
    pub(crate) options: Arc<HttpOptions>,
    pub(crate) hosts: Arc<[VirtualHostSpec]>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) forward: bool,
    /// Where each cluster is among the upstreams.
    names: HashMap<Arc<str>, usize, FixedState>,
}

impl HttpPlan {
    /// No upstreams, and the defaults.
    pub fn new() -> Self {
        Self::default().options(HttpOptions::default())
    }

    /// How HTTP is served and forwarded. To be said before the routes, which differ from it.
    #[must_use]
    pub fn options(mut self, mut options: HttpOptions) -> Self {
        if options.forward.instance.is_none() {
            options.forward.instance = instance();
        }
        self.options = Arc::new(options);
        self
    }

    /// Adds an upstream, for routes to name. Requests go to the first one where there are no routes.
    ///
    /// # Errors
    ///
    /// `Malformed` if there is one of that name.
    pub fn upstream(mut self, upstream: impl Into<Arc<Upstream>>) -> Result<Self> {
        let upstream = upstream.into();
        let name = upstream.cluster().name().clone();
        if self
            .names
            .insert(name.clone(), self.upstreams.len())
            .is_some()
        {
            return Err(Error::local(ErrorKind::Malformed)
                .context("two upstreams of one name")
                .because(name.to_string()));
        }
        self.upstreams.push(upstream);
        Ok(self)
    }

    /// An upstream of these endpoints, by turns, named `main`.
    pub fn to<E: Into<EndpointSpec>>(self, endpoints: impl IntoIterator<Item = E>) -> Result<Self> {
        let cluster = Cluster::new(ClusterSpec::new("main", endpoints))?;
        self.upstream(Upstream::new(cluster))
    }

    /// Requests go by these routes.
    ///
    /// # Errors
    ///
    /// `Malformed` for what is wrong with them, and for a cluster that is not there.
    pub fn routes(mut self, hosts: &[VirtualHostSpec]) -> Result<Self> {
        let wrong = |what, why: String| {
            Err(Error::local(ErrorKind::Malformed)
                .context(what)
                .because(why))
        };
        let table = match RouteTable::new(hosts) {
            Ok(table) => table,
            Err(error) => return wrong("the routes", error.to_string()),
        };
        if let Some(name) = table
            .clusters()
            .find(|name| !self.names.contains_key(*name))
        {
            return wrong("a route's cluster is not there", name.to_owned());
        }
        self.hosts = hosts.into();
        Ok(self)
    }

    /// Requests that nothing routes go where they ask to go (RFC 9110 section 3.7): a forward proxy.
    #[must_use]
    pub fn forward(mut self) -> Self {
        self.forward = true;
        self
    }

    /// Where the upstream of this name is.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The routes, made for finding one fast: anew for each worker, as what is shared would be counted by all of them.
    pub(crate) fn table(&self) -> Option<RouteTable> {
        if self.hosts.is_empty() {
            return None;
        }
        // They were found to be fine when they were added.
        RouteTable::new(&self.hosts).ok()
    }

    /// The options with what `route` says, if it says anything.
    pub(crate) fn options_of(&self, route: &Route) -> Option<HttpOptions> {
        let policy = route.policy();
        let mut options = (*self.options).clone();
        let timeouts = &mut options.timeouts;
        let first_byte = policy.timeouts.per_try.or(policy.timeouts.first_byte);
        timeouts.first_byte = first_byte.unwrap_or(timeouts.first_byte);
        timeouts.body = policy.timeouts.body.unwrap_or(timeouts.body);
        if let Some(max) = policy.retry.as_ref().and_then(|retry| retry.max) {
            options.retry.max = max;
        }
        if let Some(max) = policy.max_request_body {
            options.body.max_request = max as u64;
        }
        let same = options.timeouts == self.options.timeouts
            && options.retry == self.options.retry
            && options.body == self.options.body;
        (!same).then_some(options)
    }
}

/// What tells this listener from others of the same name, so that it knows a loop when it meets its own requests.
fn instance() -> Option<Pseudonym> {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{random:016x}").parse().ok()
}

impl fmt::Debug for HttpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPlan")
            .field("upstreams", &self.upstreams)
            .field("hosts", &self.hosts.len())
            .field("forward", &self.forward)
            .finish_non_exhaustive()
    }
}
