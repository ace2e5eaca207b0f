//! Where a request goes: one worker's view of the plan that is in force.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Response, header};
use oxy_core::cluster::{Pick, Want};
use oxy_core::live::{Current, Reader};
use oxy_core::offramp::AnyOfframp;
use oxy_core::{Error, ErrorKind, FlowInfo, Layer, Live, Result, Target};

use crate::asked::Asked;
use crate::body::Body;
use crate::forward::Budget;
use crate::h1::index::TargetForm;
use crate::message::{Req, Res};
use crate::options::HttpOptions;
use crate::plan::HttpPlan;
use crate::pool::{Endpoint, Pool, Protocol, Way};
use crate::respond;
use crate::route::{
    Action, BuiltView, HeaderEdits, Matched, Miss, NewHost, RawView, Route, RouteTable, View,
};
use crate::upstream::Backend;

/// One worker's view of a listener's plans.
pub(crate) struct Dispatch {
    live: Live<HttpPlan>,
    reader: Reader<HttpPlan>,
    offramp: AnyOfframp,
    worker: usize,
    desk: Mutex<Arc<Desk>>,
}

/// One worker's view of one plan.
pub(crate) struct Desk {
    plan: Current<HttpPlan>,
    options: Arc<HttpOptions>,
    table: Option<RouteTable>,
    /// What routes say otherwise than the options, by the address of the route.
    policies: HashMap<usize, Arc<HttpOptions>>,
    backends: Vec<Arc<Backend>>,
    /// Connections to where hooks, or clients of a forward proxy, say.
    open: Arc<Pool>,
    pub(crate) budget: Budget,
    /// What draws by weight.
    turn: AtomicU64,
}

/// What becomes of a request.
pub(crate) enum Decision<'d> {
    Go(Going<'d>),
    Answer(Box<Response<Body>>),
}

/// A request's way to an origin.
pub(crate) struct Going<'d> {
    /// None if it goes to one place only.
    pub(crate) backend: Option<&'d Backend>,
    pub(crate) pick: Option<Pick>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) route: Option<Arc<Route>>,
    /// What its route says otherwise than the desk.
    policy: Option<&'d HttpOptions>,
    pub(crate) desk: &'d Desk,
    /// What the endpoint is chosen by, where it is.
    pub(crate) key: Option<u64>,
    /// The origin is asked by its own name.
    pub(crate) upstream_host: bool,
    /// What is changed about the response's fields.
    pub(crate) edits: Option<HeaderEdits>,
    /// What the client is told to come back with.
    pub(crate) cookies: Vec<HeaderValue>,
}

impl Dispatch {
    /// Needs a tokio runtime.
    pub(crate) fn new(live: Live<HttpPlan>, offramp: AnyOfframp, worker: usize) -> Self {
        let reader = live.reader();
        let desk = Desk::new(reader.get(), &offramp, worker, None);
        Self {
            live,
            reader,
            offramp,
            worker,
            desk: Mutex::new(Arc::new(desk)),
        }
    }

    /// What is in force now.
    pub(crate) fn desk(&self) -> Arc<Desk> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if desk.plan.version() != self.live.version() {
            let plan = self.reader.get();
            *desk = Arc::new(Desk::new(plan, &self.offramp, self.worker, Some(&desk)));
        }
        desk.clone()
    }
}

impl Desk {
    /// What `before` has of connections to upstreams that stay is kept.
    fn new(
        plan: Current<HttpPlan>,
        offramp: &AnyOfframp,
        worker: usize,
        before: Option<&Self>,
    ) -> Self {
        let pool = &plan.options.pool;
        let table = plan.table();
        let routes = table.iter().flat_map(RouteTable::routes);
        let policies = routes.filter_map(|route| {
            let options = plan.options_of(route)?;
            Some((address(route), Arc::new(options)))
        });
        let known = |upstream| {
            before?
                .backends
                .iter()
                .find(|backend| Arc::ptr_eq(&backend.upstream, upstream))
                .cloned()
        };
        let backends = plan.upstreams.iter().map(|upstream| {
            known(upstream)
                .unwrap_or_else(|| Arc::new(Backend::new(upstream.clone(), offramp, pool, worker)))
        });
        let open = before.map_or_else(
            || {
                let way = Way {
                    offramp: offramp.clone(),
                    protocol: Protocol::Http1,
                    secure: false,
                };
                Pool::new(pool.clone(), way)
            },
            |before| before.open.clone(),
        );
        Self {
            policies: policies.collect(),
            backends: backends.collect(),
            // Each worker counts references of its own.
            options: Arc::new((*plan.options).clone()),
            table,
            open,
            budget: Budget::new(&plan.options),
            turn: AtomicU64::new(worker as u64 + 1),
            plan,
        }
    }

    pub(crate) fn options(&self) -> &Arc<HttpOptions> {
        &self.options
    }

    /// A place that a hook names.
    pub(crate) fn to(&self, target: &Target) -> Going<'_> {
        self.going(self.open.endpoint(target, None))
    }

    fn going(&self, endpoint: Arc<Endpoint>) -> Going<'_> {
        Going {
            backend: None,
            pick: None,
            endpoint,
            route: None,
            policy: None,
            desk: self,
            key: None,
            upstream_host: false,
            edits: None,
            cookies: Vec::new(),
        }
    }

    /// Where a request goes that no hook routes. What its route changes about it is changed.
    pub(crate) fn decide(
        &self,
        asked: &Asked,
        req: &mut Req,
        of: &FlowInfo,
    ) -> Result<Decision<'_>> {
        if asked.is_connect() || self.backends.is_empty() && self.table.is_none() {
            return self.forward(asked).map(Decision::Go);
        }
        let client = of.peer.map(|peer| peer.ip());
        let https = is_https(of);
        let Some(table) = &self.table else {
            let backend = self.backends.first().ok_or_else(no_route)?;
            let want = Wish::of(backend, req, None);
            return Ok(Decision::Go(self.pick(backend, &want)?));
        };
        let routed = if let Some((index, head)) = req.head() {
            let view = RawView {
                index,
                head,
                client,
                https,
            };
            self.routed(table.route(&view))
        } else {
            let view = BuiltView::new(req, client, https);
            self.routed(table.route(&view))
        };
        match routed? {
            Routed::Answer(response) => Ok(Decision::Answer(response)),
            Routed::To(changes) => self.go(*changes, req).map(Decision::Go),
        }
    }

    fn routed(&self, found: Result<Matched<'_>, Miss>) -> Result<Routed> {
        let matched = match found {
            Ok(matched) => matched,
            Err(Miss::Method { allow }) => {
                let mut response = respond::plain(http::StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(header::ALLOW, allow);
                return Ok(Routed::Answer(Box::new(response)));
            }
            Err(Miss::Path) => {
                return Err(Error::down(ErrorKind::Malformed).context("an ambiguous path"));
            }
            Err(_) => return Err(no_route().context("no route takes this request")),
        };
        let edits = matched.response_edits();
        let mut response = match matched.route.action() {
            Action::Forward(_) => {
                let changes = self.changes(&matched, edits)?;
                return Ok(Routed::To(Box::new(changes)));
            }
            Action::Redirect(redirect) => {
                let mut response = respond::plain(redirect.status());
                if let Some(location) = matched.location() {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                response
            }
            Action::Respond(respond) => {
                let mut response = Response::new(Body::from(respond.body().clone()));
                *response.status_mut() = respond.status();
                *response.headers_mut() = respond.headers().clone();
                response
            }
        };
        if let Some(edits) = edits {
            edits.apply(response.headers_mut());
        }
        Ok(Routed::Answer(Box::new(response)))
    }

    fn changes(&self, matched: &Matched<'_>, response: Option<HeaderEdits>) -> Result<Changes> {
        let sticky = matched.sticky(self.random());
        let cluster = matched.cluster(self.random()).ok_or_else(no_route)?;
        Ok(Changes {
            backend: self.plan.find(cluster).ok_or_else(no_route)?,
            path: matched.path_and_query(),
            host: matched.host(),
            request: matched.request_edits(),
            response,
            key: sticky.key,
            cookie: sticky.set_cookie,
            route: matched.route.clone(),
        })
    }

    fn go(&self, changes: Changes, req: &mut Req) -> Result<Going<'_>> {
        let backend = self.backends.get(changes.backend).ok_or_else(no_route)?;
        let wish = Wish::of(backend, req, changes.key);
        let mut going = self.pick(backend, &wish)?;
        going.policy = self
            .policies
            .get(&address(&changes.route))
            .map(|options| &**options);
        going.edits = changes.response;
        going.cookies.extend(changes.cookie);
        going.upstream_host = changes.host == NewHost::Upstream;
        if let Some(path) = changes.path {
            let mut parts = req.uri().clone().into_parts();
            let bad = |e| {
                Error::local(ErrorKind::Internal)
                    .context("a rewritten path")
                    .because(e)
            };
            let path = PathAndQuery::try_from(path).map_err(bad)?;
            parts.path_and_query = Some(path);
            *req.uri_mut() = http::Uri::from_parts(parts)
                .map_err(|e| Error::local(ErrorKind::Internal).because(e))?;
        }
        if let NewHost::Is(host) = changes.host {
            rename(req, &host)?;
        }
        if let Some(edits) = changes.request {
            edits.apply(req.headers_mut());
        }
        if changes.route.policy().upgrade == Some(false) {
            // What is not asked for is not granted.
            req.headers_mut().remove(header::UPGRADE);
        }
        let max = going.options().body.max_request;
        if max != self.options.body.max_request {
            req.body_only().limit(max)?;
        }
        going.route = Some(changes.route);
        Ok(going)
    }

    fn pick<'d>(&'d self, backend: &'d Backend, wish: &Wish) -> Result<Going<'d>> {
        let pick = backend.balancer.pick(&wish.want())?;
        let mut going = self.going(backend.endpoint(&pick)?);
        going.backend = Some(backend);
        going.pick = Some(pick);
        going.key = wish.key;
        Ok(going)
    }

    /// RFC 9112 section 3.2.2: what is meant for a proxy has the absolute form.
    fn forward(&self, asked: &Asked) -> Result<Going<'_>> {
        if asked.is_connect() && !self.plan.forward {
            return Err(Error::down(ErrorKind::Denied).context("CONNECT is not served here"));
        }
        if !self.plan.forward {
            return Err(no_route().context("no upstream is configured"));
        }
        match asked.form() {
            TargetForm::Absolute if asked.https() => {
                Err(Error::down(ErrorKind::Unsupported).context("https needs CONNECT"))
            }
            TargetForm::Absolute | TargetForm::Authority => Ok(self.to(&asked.authority()?)),
            _ => Err(Error::down(ErrorKind::Malformed)
                .context("a forward proxy needs an absolute target")),
        }
    }

    /// A number that is evenly spread, for draws by weight: one worker's own (splitmix64).
    fn random(&self) -> u64 {
        let turn = self.turn.load(Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.turn.store(turn, Relaxed);
        let mixed = (turn ^ turn >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// How long to wait before the try number `again` after the first.
    pub(crate) fn backoff(&self, route: Option<&Arc<Route>>, again: u32) -> Duration {
        match route.and_then(|route| route.policy().retry.as_ref()) {
            Some(retry) => retry.backoff.wait(again, self.random()),
            None => Duration::ZERO,
        }
    }

    /// Closes an idle connection, if there is one, because its descriptor is needed.
    pub(crate) fn evict(&self) -> bool {
        self.open.evict() || self.backends.iter().any(|backend| backend.evict())
    }
}

impl Going<'_> {
    /// What is in force for the request.
    pub(crate) fn options(&self) -> &HttpOptions {
        self.policy.unwrap_or(&self.desk.options)
    }

    /// When the exchange has to be over: by its route, or because the client does not wait for longer.
    pub(crate) fn deadline(&self, patience: Option<Duration>) -> Option<tokio::time::Instant> {
        let route = self
            .route
            .as_ref()
            .and_then(|route| route.policy().timeouts.request);
        let limit = route.filter(|limit| !limit.is_zero());
        let limit = limit.into_iter().chain(patience).min()?;
        tokio::time::Instant::now().checked_add(limit)
    }

    /// Makes the changes to a response that its route asks for.
    pub(crate) fn finish(&mut self, res: &mut Res, pick: Option<&Pick>, of: &FlowInfo) {
        // Who was asked first need not be the one who has answered.
        let told = self.backend.as_ref().zip(pick);
        let told = told.and_then(|(backend, pick)| backend.tells(pick, || is_https(of)));
        self.cookies.extend(told);
        if self.edits.is_none() && self.cookies.is_empty() {
            return;
        }
        let headers = res.headers_mut();
        if let Some(edits) = &self.edits {
            edits.apply(headers);
        }
        for cookie in self.cookies.drain(..) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

/// Whether the client's connection is encrypted.
pub(crate) fn is_https(of: &FlowInfo) -> bool {
    of.stack().any(|info| info.layer == Layer::Tls)
}

fn address(route: &Arc<Route>) -> usize {
    Arc::as_ptr(route) as usize
}

fn no_route() -> Error {
    Error::local(ErrorKind::NoRoute)
}

/// What a route says of a request.
enum Routed {
    Answer(Box<Response<Body>>),
    To(Box<Changes>),
}

/// What a route changes about a request that it sends on.
struct Changes {
    backend: usize,
    path: Option<String>,
    host: NewHost,
    request: Option<HeaderEdits>,
    response: Option<HeaderEdits>,
    key: Option<u64>,
    cookie: Option<HeaderValue>,
    route: Arc<Route>,
}

/// What a request asks of the choice of its endpoint.
struct Wish {
    key: Option<u64>,
    sticky: Option<oxy_core::cluster::EndpointId>,
}

impl Wish {
    fn of(backend: &Backend, req: &Req, key: Option<u64>) -> Self {
        let sticky = match req.head() {
            Some((index, head)) => {
                let view = RawView {
                    index,
                    head,
                    client: None,
                    https: false,
                };
                had(backend, &view)
            }
            None => had(backend, &BuiltView::new(req, None, false)),
        };
        Self { key, sticky }
    }

    fn want(&self) -> Want<'_> {
        let want = Want::default();
        let want = match self.key {
            Some(key) => want.key(key),
            None => want,
        };
        match self.sticky {
            Some(id) => want.sticky(id),
            None => want,
        }
    }
}

fn had(backend: &Backend, view: &dyn View) -> Option<oxy_core::cluster::EndpointId> {
    if !backend.is_sticky() {
        return None;
    }
    let mut found = None;
    view.values(&header::COOKIE, &mut |value| {
        found = backend.had(std::iter::once(value));
        found.is_none()
    });
    found
}

/// Makes `req` be for `host`.
fn rename(req: &mut Req, host: &str) -> Result<()> {
    let bad = |e: http::Error| {
        Error::local(ErrorKind::Internal)
            .context("a rewritten host")
            .because(e)
    };
    if req.uri().authority().is_some() {
        let mut parts = req.uri().clone().into_parts();
        parts.authority = Some(Authority::try_from(host).map_err(|e| bad(e.into()))?);
        *req.uri_mut() = http::Uri::from_parts(parts).map_err(|e| bad(e.into()))?;
    }
    let value = HeaderValue::from_str(host).map_err(|e| bad(e.into()))?;
    req.headers_mut().insert(header::HOST, value);
    Ok(())
}
