//! HTTP in a [`Proxy`]: its hooks, its upstreams, its options.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use oxy_core::offramp::AnyOfframp;
use oxy_core::proxy::{IntoListen, IntoTarget};
use oxy_core::{Error, FlowHooks, Proxy, Result, Target, Terminal, Worker};

use crate::driver::Driver;
use crate::forward::Forwarder;
use crate::hooks::HttpHooks;
use crate::options::HttpOptions;
use crate::table::Table;

/// HTTP with an application's hooks: what [`HttpProxy::http`] takes.
pub struct Http<H> {
    hooks: Arc<H>,
    options: HttpOptions,
    upstreams: Vec<Result<Target>>,
    forward: bool,
}

impl<H> Http<H> {
    /// HTTP that `hooks` decides about; `()` for no say.
    pub fn new(hooks: H) -> Self {
        Self {
            hooks: Arc::new(hooks),
            options: HttpOptions::default(),
            upstreams: Vec::new(),
            forward: false,
        }
    }

    /// Requests that no hook routes go here: `"127.0.0.1:9000"`, `"http://example.com"`, `"unix:/run/app.sock"`. By turns
    /// where it is called more than once.
    #[must_use]
    pub fn to(mut self, upstream: impl IntoUpstream) -> Self {
        self.upstreams.push(upstream.into_upstream());
        self
    }

    /// Requests that no hook routes go where they ask to go (RFC 9110 section 3.7): a forward proxy. What is allowed is
    /// the off-ramp's to say.
    #[must_use]
    pub fn forward(mut self) -> Self {
        self.forward = true;
        self
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
    pub fn options(mut self, options: HttpOptions) -> Self {
        self.options = options;
        self
    }
}

impl<H> fmt::Debug for Http<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("upstreams", &self.upstreams)
            .field("forward", &self.forward)
            .finish_non_exhaustive()
    }
}

/// Something that names an HTTP origin.
pub trait IntoUpstream {
    /// The origin.
    fn into_upstream(self) -> Result<Target>;
}

impl IntoUpstream for Target {
    fn into_upstream(self) -> Result<Target> {
        Ok(self)
    }
}

impl IntoUpstream for std::net::SocketAddr {
    fn into_upstream(self) -> Result<Target> {
        Ok(self.into())
    }
}

impl IntoUpstream for &str {
    fn into_upstream(self) -> Result<Target> {
        let authority = self.strip_prefix("http://").unwrap_or(self);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if self.starts_with("http://")
            && !authority
                .rsplit(']')
                .next()
                .unwrap_or(authority)
                .contains(':')
        {
            return format!("{authority}:80").as_str().into_target();
        }
        authority.into_target()
    }
}

impl IntoUpstream for String {
    fn into_upstream(self) -> Result<Target> {
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
        let Http {
            hooks,
            mut options,
            upstreams,
            forward,
        } = http;
        if options.forward.instance.is_none() {
            // What tells this process from others of the same name, so that it knows a loop when it meets its own requests.
            let random = RandomState::new().hash_one(std::process::id());
            options.forward.instance = format!("{random:016x}").parse().ok();
        }
        let options = Arc::new(options);
        self.terminal(Box::new(move |worker: &Worker, offramp: &AnyOfframp| {
            let forwarder = Forwarder::new(options.clone(), offramp.clone());
            let mut endpoints = Vec::new();
            for upstream in &upstreams {
                match upstream {
                    Ok(target) => endpoints.push(forwarder.endpoint(target)),
                    Err(error) => {
                        return Err(Error::local(error.kind())
                            .context("an upstream")
                            .because(format!("{error:?}")));
                    }
                }
            }
            let table = Table::new(endpoints, forward, worker.index());
            let driver = Driver::new(hooks.clone(), table, forwarder);
            Ok(Arc::new(driver) as Arc<dyn Terminal<A>>)
        }))
    }
}
