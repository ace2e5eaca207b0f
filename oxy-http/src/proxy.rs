//! HTTP in a [`Proxy`]: its hooks, its upstreams, its options.

use std::fmt;
use std::sync::Arc;

use oxy_core::cluster::{Cluster, ClusterSpec};
use oxy_core::offramp::AnyOfframp;
use oxy_core::proxy::{IntoListen, IntoTarget, TerminalFactory};
use oxy_core::{Error, ErrorKind, FlowHooks, Live, Proxy, Result, Target, Terminal, Worker};

use crate::dispatch::Dispatch;
use crate::driver::Driver;
use crate::hooks::HttpHooks;
use crate::options::HttpOptions;
use crate::plan::HttpPlan;
use crate::pool::Protocol;
use crate::route::VirtualHostSpec;
use crate::upstream::Upstream;

/// HTTP with an application's hooks: what [`HttpProxy::http`] takes.
pub struct Http<H> {
    hooks: Arc<H>,
    made: Made,
}

/// Where requests go.
enum Made {
    /// What the builder has been told so far.
    Here(Box<Told>),
    /// Somebody else says so, and may change it.
    Live(Live<HttpPlan>),
}

/// What a builder has been told.
#[derive(Default)]
struct Told {
    options: HttpOptions,
    /// Endpoints of one upstream.
    endpoints: Vec<Result<Origin>>,
    upstreams: Vec<Upstream>,
    routes: Vec<VirtualHostSpec>,
    forward: bool,
}

impl<H> Http<H> {
    /// HTTP that `hooks` decides about; `()` for no say.
    pub fn new(hooks: H) -> Self {
        Self {
            hooks: Arc::new(hooks),
            made: Made::Here(Box::default()),
        }
    }

    /// HTTP that goes by the plan that is in force, whichever it is at the time: it may be replaced while requests are under
    /// way. What is said with the other methods is not heard.
    #[must_use]
    pub fn live(mut self, plan: Live<HttpPlan>) -> Self {
        self.made = Made::Live(plan);
        self
    }

    fn told(mut self, tell: impl FnOnce(&mut Told)) -> Self {
        if let Made::Here(told) = &mut self.made {
            tell(told);
        }
        self
    }

    /// Requests that nothing else routes go here: `"127.0.0.1:9000"`, `"http://example.com"`, `"h2c://127.0.0.1:50051"`
    /// (HTTP/2 in clear text), `"unix:/run/app.sock"`. By turns where it is called more than once.
    #[must_use]
    pub fn to(self, origin: impl IntoUpstream) -> Self {
        self.told(|told| told.endpoints.push(origin.into_upstream()))
    }

    /// Adds an upstream, for routes to name. Requests go to the first one where there are neither routes nor
    /// [`Http::to`].
    #[must_use]
    pub fn upstream(self, upstream: Upstream) -> Self {
        self.told(|told| told.upstreams.push(upstream))
    }

    /// Requests for these hosts go by their routes.
    #[must_use]
    pub fn routes(self, hosts: impl IntoIterator<Item = VirtualHostSpec>) -> Self {
        self.told(|told| told.routes.extend(hosts))
    }

    /// Requests that no hook routes go where they ask to go (RFC 9110 section 3.7): a forward proxy. What is allowed is
    /// the off-ramp's to say.
    #[must_use]
    pub fn forward(self) -> Self {
        self.told(|told| told.forward = true)
    }

    /// Serves HTTP at `address` and nothing else, until SIGTERM or SIGINT: the short form of [`Proxy::listen`],
    /// [`HttpProxy::http`] and [`Proxy::run`].
    pub fn run(self, address: impl IntoListen) -> Result<()>
    where
        H: HttpHooks,
    {
        Proxy::new(()).listen(address).http(self).run()
    }

    /// How HTTP is served and forwarded.
    #[must_use]
    pub fn options(self, options: HttpOptions) -> Self {
        self.told(|told| told.options = options)
    }
}

impl Told {
    fn plan(self) -> Result<HttpPlan> {
        let Self {
            options,
            endpoints,
            upstreams,
            routes,
            forward,
        } = self;
        let mut plan = HttpPlan::new().options(options);
        let endpoints = endpoints.into_iter().collect::<Result<Vec<_>>>()?;
        if let Some(first) = endpoints.first() {
            let protocol = first.protocol;
            if endpoints.iter().any(|origin| origin.protocol != protocol) {
                return Err(Error::local(ErrorKind::Malformed)
                    .context("origins that take turns speak the same version of HTTP"));
            }
            let targets = endpoints.into_iter().map(|origin| origin.target);
            let cluster = Cluster::new(ClusterSpec::new("main", targets))?;
            plan = plan.upstream(Upstream::new(cluster).protocol(protocol))?;
        }
        for upstream in upstreams {
            plan = plan.upstream(upstream)?;
        }
        if !routes.is_empty() {
            plan = plan.routes(&routes)?;
        }
        Ok(if forward { plan.forward() } else { plan })
    }
}

impl<H> fmt::Debug for Http<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// An HTTP origin: where it is, and which version it is spoken to in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it is.
    pub target: Target,
    /// The version.
    pub protocol: Protocol,
}

/// Something that names an HTTP origin.
pub trait IntoUpstream {
    /// The origin.
    fn into_upstream(self) -> Result<Origin>;
}

impl IntoUpstream for Origin {
    fn into_upstream(self) -> Result<Origin> {
        Ok(self)
    }
}

impl IntoUpstream for Target {
    fn into_upstream(self) -> Result<Origin> {
        Ok(Origin {
            target: self,
            protocol: Protocol::Auto,
        })
    }
}

impl IntoUpstream for std::net::SocketAddr {
    fn into_upstream(self) -> Result<Origin> {
        Target::from(self).into_upstream()
    }
}

impl IntoUpstream for &str {
    fn into_upstream(self) -> Result<Origin> {
        if self.starts_with("https://") {
            return Err(Error::local(ErrorKind::Unsupported)
                .context("https needs an upstream that goes out through TLS"));
        }
        let (rest, protocol, has_scheme) = match self.strip_prefix("h2c://") {
            Some(rest) => (rest, Protocol::Http2, true),
            None => match self.strip_prefix("http://") {
                Some(rest) => (rest, Protocol::Auto, true),
                None => (self, Protocol::Auto, false),
            },
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let host = authority.rsplit(']').next().unwrap_or(authority);
        let target = if has_scheme && !host.contains(':') {
            format!("{authority}:80").as_str().into_target()?
        } else {
            authority.into_target()?
        };
        Ok(Origin { target, protocol })
    }
}

impl IntoUpstream for String {
    fn into_upstream(self) -> Result<Origin> {
        self.as_str().into_upstream()
    }
}

/// Adds HTTP to a [`Proxy`].
pub trait HttpProxy<A: FlowHooks> {
    /// Serves HTTP on flows that nobody routes, with `http` as its application.
    #[must_use]
    fn http<H: HttpHooks<A::Conn>>(self, http: Http<H>) -> Self;
}

impl<A: FlowHooks> HttpProxy<A> for Proxy<A> {
    fn http<H: HttpHooks<A::Conn>>(self, http: Http<H>) -> Self {
        self.terminal(factory(http))
    }
}

/// Makes HTTP for each worker.
pub(crate) fn factory<A: FlowHooks, H: HttpHooks<A::Conn>>(http: Http<H>) -> TerminalFactory<A> {
    let Http { hooks, made } = http;
    // What is wrong with it is said when the proxy starts.
    let live = match made {
        Made::Here(told) => told
            .plan()
            .map(Live::new)
            .map_err(|error| (error.kind(), format!("{error:?}"))),
        Made::Live(live) => Ok(live),
    };
    Box::new(move |worker: &Worker, offramp: &AnyOfframp| {
        let live = match &live {
            Ok(live) => live.clone(),
            Err((kind, text)) => {
                let error = Error::local(*kind).context("where requests go");
                return Err(error.because(text.clone()));
            }
        };
        let dispatch = Dispatch::new(live, offramp.clone(), worker.index());
        let driver = Driver::new(hooks.clone(), dispatch);
        Ok(Arc::new(driver) as Arc<dyn Terminal<A>>)
    })
}
