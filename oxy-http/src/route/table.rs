//! The routes of a listener.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::action::{Action, Forward};
use super::captures::{Names, Spans};
use super::conditions::Conditions;
use super::edit::{Edits, HeaderEdits};
use super::error::RouteError;
use super::hash::{HashBy, Sticky};
use super::host::{self, Hosts};
use super::normal;
use super::paths::{Paths, Search};
use super::pattern::Pattern;
use super::policy::RoutePolicy;
use super::rewrite::{NewHost, Rewrite};
use super::spec::{RouteSpec, VirtualHostSpec};
use super::text::Facts;
use super::view::View;

/// The routes of a listener, made for finding one fast. See [the module](super) for which one that is.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: Hosts,
    virtual_hosts: Vec<VirtualHost>,
}

#[derive(Debug)]
struct VirtualHost {
    /// Higher priorities first.
    priorities: Vec<(i32, Paths)>,
    refuse_escaped_slashes: bool,
    routes: Vec<Arc<Route>>,
}

impl RouteTable {
    /// Checks `virtual_hosts`, and makes a table of them.
    ///
    /// What is wrong: a host that is there twice or is none; a path, template or regular expression that is none or can
    /// never match; a route for which an earlier one leaves nothing; a route that says nothing of what becomes of it, or
    /// several things; weights that come to nothing; a text that names what is not captured. Whether there are clusters of
    /// the names that are used is for the caller to check ([`RouteTable::clusters`]).
    pub fn new(virtual_hosts: &[VirtualHostSpec]) -> Result<Self, RouteError> {
        let mut table = Self::default();
        let all = ["*".to_owned()];
        let mut clusters = BTreeSet::new();
        for (of, spec) in virtual_hosts.iter().enumerate() {
            let names = if spec.hosts.is_empty() {
                &all
            } else {
                &spec.hosts[..]
            };
            let first = names.first().map_or("", String::as_str);
            for name in names {
                table.hosts.insert(name, of).map_err(|error| {
                    RouteError::of_host(first, format!("{name:?} {}", error.text()))
                })?;
            }
            table
                .virtual_hosts
                .push(VirtualHost::new(first, spec, &mut clusters)?);
        }
        Ok(table)
    }

    /// The route that takes the request in `view`.
    pub fn route<'a>(&'a self, view: &'a dyn View) -> Result<Matched<'a>, Miss> {
        let host = host::read(view.authority());
        let host = self
            .hosts
            .find(&host)
            .and_then(|of| self.virtual_hosts.get(of))
            .ok_or(Miss::Host)?;
        host.route(view)
    }

    /// All routes, by virtual host and in the order in which they are listed.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.virtual_hosts.iter().flat_map(|host| &host.routes)
    }

    /// The names of the clusters that routes send requests to, in alphabetical order.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<_> = self.routes().flat_map(|route| route.clusters()).collect();
        names.into_iter()
    }
}

impl VirtualHost {
    fn new(
        name: &str,
        spec: &VirtualHostSpec,
        clusters: &mut BTreeSet<Arc<str>>,
    ) -> Result<Self, RouteError> {
        let mut host = Self {
            priorities: Vec::new(),
            refuse_escaped_slashes: spec.refuse_escaped_slashes,
            routes: Vec::with_capacity(spec.routes.len()),
        };
        let mut taken = BTreeSet::new();
        for (at, spec) in spec.routes.iter().enumerate() {
            let number = format!("#{}", at + 1);
            let called = spec.name.as_deref().unwrap_or(&number);
            let wrong = |problem: String| RouteError::of_route(name, called, problem);
            let mut route = Route::read(name, at, spec).map_err(wrong)?;
            if let Action::Forward(forward) = &mut route.action {
                forward.share(clusters);
            }
            if !taken.insert(route.name.clone()) {
                return Err(wrong("another route has this name".into()));
            }
            let route = Arc::new(route);
            host.routes.push(route.clone());
            host.paths(spec.priority).insert(route).map_err(|earlier| {
                wrong(format!(
                    "it never matches: {earlier} has the same path and takes all of its requests"
                ))
            })?;
        }
        Ok(host)
    }

    fn paths(&mut self, priority: i32) -> &mut Paths {
        let at = self
            .priorities
            .partition_point(|(known, _)| *known > priority);
        if self
            .priorities
            .get(at)
            .is_none_or(|(known, _)| *known != priority)
        {
            self.priorities.insert(at, (priority, Paths::default()));
        }
        &mut self.priorities[at].1
    }

    fn route<'a>(&'a self, view: &'a dyn View) -> Result<Matched<'a>, Miss> {
        let target = view.path();
        let end = memchr::memchr(b'?', target).unwrap_or(target.len());
        let path = normal::path(&target[..end], self.refuse_escaped_slashes)
            .map_err(|normal::Ambiguous| Miss::Path)?;
        let mut search = Search::new(view, &path);
        let found = self
            .priorities
            .iter()
            .find_map(|(_, paths)| paths.find(&mut search));
        let (spans, method_missed) = (search.spans, search.method_missed);
        match found {
            Some(route) => Ok(Matched {
                route,
                view,
                path,
                spans,
            }),
            None if method_missed => Err(self.allowed(view, &path)),
            None => Err(Miss::Route),
        }
    }

    /// What a request is told whose method was wrong for at least one route.
    fn allowed(&self, view: &dyn View, path: &[u8]) -> Miss {
        let mut search = Search::for_methods(view, path);
        for (_, paths) in &self.priorities {
            paths.find(&mut search);
        }
        let methods = search.into_allowed();
        let names: BTreeSet<_> = methods.iter().map(Method::as_str).collect();
        let text = names.into_iter().collect::<Vec<_>>().join(", ");
        match HeaderValue::from_maybe_shared(Bytes::from(text)) {
            Ok(allow) if !allow.is_empty() => Miss::Method { allow },
            _ => Miss::Route,
        }
    }
}

/// Why no route takes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// There is no virtual host for its host (404).
    Host,
    /// No route takes its path, or its conditions do not hold (404).
    Route,
    /// A route would take it but for its method (405).
    Method {
        /// The methods that would be taken, for Allow (RFC 9110 section 10.2.1).
        allow: HeaderValue,
    },
    /// There is no saying which path an origin would see (400); see [`super::MatchSpec`].
    Path,
}

impl Miss {
    /// The status that the client is told.
    pub fn status(&self) -> u16 {
        match self {
            Self::Host | Self::Route => 404,
            Self::Method { .. } => 405,
            Self::Path => 400,
        }
    }
}

/// A route.
///
/// What every request looks at is here, and what few routes say is elsewhere: with thousands of routes, each request meets
/// one that no cache has.
#[derive(Debug)]
pub struct Route {
    pub(super) name: Arc<str>,
    action: Action,
    /// None if it says nothing.
    policy: Option<Box<RoutePolicy>>,
    /// None if it changes nothing.
    rewrite: Option<Box<Rewrite>>,
    request: Edits,
    response: Edits,
    hash: HashBy,
    pub(super) test: Box<Test>,
}

/// Which requests a route takes.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) pattern: Pattern,
    names: Names,
    pub(super) conditions: Conditions,
}

/// That of a route which says nothing.
static INHERITED: LazyLock<RoutePolicy> = LazyLock::new(RoutePolicy::default);

impl Route {
    fn read(host: &str, at: usize, spec: &RouteSpec) -> Result<Self, String> {
        let (pattern, names) = Pattern::read(&spec.r#match)?;
        let action = Action::read(spec, &pattern, &names)?;
        let rewrite = Rewrite::read(&spec.rewrite, &pattern, &names)?;
        let hash = HashBy::read(&spec.hash)?;
        let is_forwarded = matches!(action, Action::Forward(_));
        if !is_forwarded && (!rewrite.is_empty() || !hash.is_empty()) {
            return Err("rewrite and hash are for requests that go to a cluster".into());
        }
        let retried = spec.retry.iter().flat_map(|retry| &retry.statuses);
        if let Some(status) = retried
            .into_iter()
            .find(|status| !(200..=599).contains(*status))
        {
            return Err(format!("{status} is not a status that can be tried again"));
        }
        let within = |why| move |error| format!("{why}: {error}");
        let policy = RoutePolicy {
            timeouts: spec.timeouts.clone(),
            retry: spec.retry.clone(),
            hedge: spec.hedge.clone(),
            max_request_body: spec.max_request_body,
            upgrade: spec.upgrade,
        };
        Ok(Self {
            name: match &spec.name {
                Some(name) if name.is_empty() => return Err("the name is empty".into()),
                Some(name) => name.as_str().into(),
                None => format!("{host}#{}", at + 1).into(),
            },
            action,
            policy: (policy != *INHERITED).then(|| Box::new(policy)),
            rewrite: (!rewrite.is_empty()).then(|| Box::new(rewrite)),
            request: Edits::read(&spec.request_headers, &names)
                .map_err(within("request_headers"))?,
            response: Edits::read(&spec.response_headers, &names)
                .map_err(within("response_headers"))?,
            hash,
            test: Box::new(Test {
                conditions: Conditions::read(&spec.r#match)?,
                pattern,
                names,
            }),
        })
    }

    /// Its name, or its virtual host's first host with its place in the list (`example.com#2`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What becomes of its requests.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// How its requests are carried.
    pub fn policy(&self) -> &RoutePolicy {
        self.policy.as_deref().unwrap_or_else(|| &INHERITED)
    }

    /// The names of the clusters that its requests may go to.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let forward = match &self.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        };
        forward.into_iter().flat_map(Forward::clusters)
    }
}

/// A request with its route. Whatever is said of it is computed when it is asked for.
#[derive(Clone)]
pub struct Matched<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    view: &'a dyn View,
    path: Cow<'a, [u8]>,
    spans: Spans,
}

impl fmt::Debug for Matched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matched({})", self.route.name)
    }
}

impl<'a> Matched<'a> {
    /// The path as it was matched: in its normal form, without the query.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// What the path captured as `name`; a group of a regular expression also goes by its number. Empty for a group that
    /// had no part in the match.
    pub fn capture(&self, name: &str) -> Option<&[u8]> {
        self.spans.of(self.route.test.names.find(name)?, &self.path)
    }

    /// The cluster that the request goes to, if it goes to one; see [`super::Forward::pick`] for `random`.
    pub fn cluster(&self, random: u64) -> Option<&'a Arc<str>> {
        match &self.route.action {
            Action::Forward(forward) => forward.pick(self.view, random),
            _ => None,
        }
    }

    /// What keeps the client with one origin; `random` makes the value of a cookie that has to be given.
    pub fn sticky(&self, random: u64) -> Sticky {
        self.route.hash.sticky(self.view, random)
    }

    /// The path and query that the origin is sent; none if it is the one that was received.
    pub fn path_and_query(&self) -> Option<String> {
        let rewrite = self.route.rewrite.as_ref()?;
        rewrite.path_and_query(&self.facts())
    }

    /// The host that the origin is sent.
    pub fn host(&self) -> NewHost {
        let rewrite = self.route.rewrite.as_ref();
        rewrite.map_or(NewHost::Keep, |rewrite| rewrite.host(&self.facts()))
    }

    /// The value of Location (RFC 9110 section 10.2.2), if the route is a redirect: a path where nothing else changes,
    /// else a whole URI.
    pub fn location(&self) -> Option<HeaderValue> {
        match &self.route.action {
            Action::Redirect(redirect) => redirect.location(&self.facts()),
            _ => None,
        }
    }

    /// What is changed about the request's fields, if anything is.
    pub fn request_edits(&self) -> Option<HeaderEdits> {
        self.route.request.resolve(&self.facts())
    }

    /// What is changed about the response's fields, if anything is; to be asked for while the request is there.
    pub fn response_edits(&self) -> Option<HeaderEdits> {
        self.route.response.resolve(&self.facts())
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            view: self.view,
            path: &self.path,
            spans: self.spans,
            captured: &self.path,
            route: &self.route.name,
        }
    }
}
