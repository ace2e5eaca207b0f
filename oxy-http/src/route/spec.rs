//! Routes as an operator writes them, in a settings file or in Rust.

use std::collections::BTreeMap;
use std::time::Duration;

use super::policy::{Hedge, RouteRetries, RouteTimeouts};

/// Hosts, and the routes of their requests.
///
/// ```
/// use oxy_http::route::{MatchSpec, RouteSpec, RouteTable, VirtualHostSpec};
///
/// let shop = VirtualHostSpec::new(["shop.example", "*.shop.example"])
///     .route(RouteSpec::new(MatchSpec::prefix("/api")).to("api").replace_prefix("/"))
///     .route(RouteSpec::new(MatchSpec::template("/users/{id}")).to("users"))
///     .route(RouteSpec::new(MatchSpec::any()).to("web"));
/// let table = RouteTable::new(&[shop])?;
/// assert_eq!(table.clusters().collect::<Vec<_>>(), ["api", "users", "web"]);
/// # Ok::<_, oxy_http::route::RouteError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct VirtualHostSpec {
    /// The hosts: a name, an IP address, `*.example.com` for every name below it at whatever depth (but not
    /// `example.com` itself), or `*` for all. The exact one wins, then the longest wildcard; ports are ignored.
    /// Default: `*`, because a proxy for one site needs no more.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub hosts: Vec<String>,
    /// The routes. The most specific path wins, whatever the order: literal segments before `{names}`, those before
    /// the rest of a prefix, then regular expressions, then what takes every path. Among routes of one path the first
    /// whose conditions hold wins.
    pub routes: Vec<RouteSpec>,
    /// Whether a path with an escaped slash or backslash (`%2F`, `%5C`, or `\`) is refused with 400. To be set where an
    /// origin takes those for slashes, as it would then see another path than the one that was routed. Default: false,
    /// because names in paths may hold slashes.
    pub refuse_escaped_slashes: bool,
}

impl VirtualHostSpec {
    /// No routes yet. With no hosts it is for all of them.
    pub fn new<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: RouteSpec) -> Self {
        self.routes.push(route);
        self
    }
}

/// A route: which requests, and what becomes of them. Exactly one of `to`, `redirect` and `respond`.
///
/// Texts that say so may hold variables: `{client_ip}`, `{host}` (without its port), `{path}` (in its normal form),
/// `{query}`, `{method}`, `{scheme}`, `{route}`, and what the path's template or regular expression captured, `{id}` or `{1}`.
/// A brace itself is doubled.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RouteSpec {
    /// What it is called in logs and metrics. Default: the first host and its place in the list.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub name: Option<String>,
    /// Which requests. Default: all.
    pub r#match: MatchSpec,
    /// Routes of a higher priority come first, whatever their paths. Default: 0, because the most specific path is
    /// nearly always what is meant.
    pub priority: i32,
    /// Where they go: the name of a cluster, a list of `{cluster, weight}`, or `{header, among, otherwise}`.
    #[cfg_attr(
        feature = "settings",
        schemars(example = &"api"),
        serde(skip_serializing_if = "Option::is_none")
    )]
    pub to: Option<Destination>,
    /// They are told to go elsewhere.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub redirect: Option<RedirectSpec>,
    /// They are answered here.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub respond: Option<RespondSpec>,
    /// What is changed about the path and the host on the way to the origin.
    pub rewrite: RewriteSpec,
    /// What is changed about the request's fields on the way to the origin.
    pub request_headers: EditsSpec,
    /// What is changed about the response's fields on the way to the client.
    pub response_headers: EditsSpec,
    /// How long the steps may take.
    pub timeouts: RouteTimeouts,
    /// When a request is tried again. Default: as the listener has it.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub retry: Option<RouteRetries>,
    /// Whether a second origin is asked while the first keeps us waiting. Default: never, because it costs load.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub hedge: Option<Hedge>,
    /// Bytes of a request body, after which 413 is answered; 0 is no limit. Default: as the listener has it.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSize"))]
    pub max_request_body: Option<usize>,
    /// What keeps a client with one origin, where the cluster balances by hash: all that a request has of these,
    /// together. Default: nothing.
    pub hash: Vec<HashSpec>,
    /// Whether the protocol may be changed (WebSocket and other upgrades). Default: as the listener has it.
    pub upgrade: Option<bool>,
}

impl RouteSpec {
    /// A route for the requests that `of` matches. It needs one of [`RouteSpec::to`], [`RouteSpec::split`],
    /// [`RouteSpec::redirect`] and [`RouteSpec::respond`].
    pub fn new(of: impl Into<MatchSpec>) -> Self {
        Self {
            r#match: of.into(),
            ..Self::default()
        }
    }

    /// Gives it a name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Puts it before all routes of a lower priority.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sends the requests to a cluster.
    #[must_use]
    pub fn to(mut self, to: impl Into<Destination>) -> Self {
        self.to = Some(to.into());
        self
    }

    /// Shares the requests out among clusters by weight.
    #[must_use]
    pub fn split<C: Into<String>>(mut self, shares: impl IntoIterator<Item = (C, u32)>) -> Self {
        let share = |(cluster, weight): (C, u32)| Share {
            cluster: cluster.into(),
            weight,
        };
        self.to = Some(Destination::Split(shares.into_iter().map(share).collect()));
        self
    }

    /// Tells clients to go elsewhere.
    #[must_use]
    pub fn redirect(mut self, redirect: RedirectSpec) -> Self {
        self.redirect = Some(redirect);
        self
    }

    /// Answers here.
    #[must_use]
    pub fn respond(mut self, status: u16, body: impl Into<String>) -> Self {
        self.respond = Some(RespondSpec {
            status,
            body: body.into(),
            ..RespondSpec::default()
        });
        self
    }

    /// Puts `with` in the place of the prefix that was matched.
    #[must_use]
    pub fn replace_prefix(mut self, with: impl Into<String>) -> Self {
        self.rewrite.prefix = Some(with.into());
        self
    }

    /// Puts `with`, which may hold variables, in the place of the path.
    #[must_use]
    pub fn replace_path(mut self, with: impl Into<String>) -> Self {
        self.rewrite.path = Some(with.into());
        self
    }

    /// Puts `host`, which may hold variables, in the place of the host.
    #[must_use]
    pub fn replace_host(mut self, host: impl Into<String>) -> Self {
        self.rewrite.host = Some(host.into());
        self
    }

    /// Keeps a client with one origin, by `what` its requests have.
    #[must_use]
    pub fn hash(mut self, what: HashSpec) -> Self {
        self.hash.push(what);
        self
    }
}

/// Which requests a route is for: those for which everything holds that is said here. At most one of `path`, `prefix`,
/// `template` and `regex`; with none of them, every path.
///
/// A text stands for a path alone: `/a/*` is a prefix, `/users/{id}` a template, and anything else a path.
///
/// Paths are compared in their normal form (RFC 3986 section 6.2.2: without dot segments, and without escapes that are
/// not needed) with runs of slashes made one, so that `/%61dmin` and `/x/..//admin` are `/admin`. What has no normal form,
/// or one that origins do not agree on, is answered with 400: an escape that is none or that stands for NUL, and a dot
/// segment that hides behind an escaped slash, a backslash or a `;`, or climbs over an empty segment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields, remote = "Self"),
    schemars(transform = super::settings::or_text)
)]
pub struct MatchSpec {
    /// This path and no other.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub path: Option<String>,
    /// This path and all below it: `/api` is for `/api`, `/api/` and `/api/x`, but not for `/apiary`. A slash at its end
    /// means nothing.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub prefix: Option<String>,
    /// A path with names in the place of segments, which capture what stands there: `/users/{id}`; `{*rest}` at the end
    /// captures one or more segments. What is captured is not empty.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub template: Option<String>,
    /// A regular expression for the whole path, in the syntax of the `regex` crate for ASCII. Its groups capture.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub regex: Option<String>,
    /// One of these methods. Default: any. `GET` does not stand for `HEAD`.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub methods: Vec<String>,
    /// What the fields must be, all of these.
    pub headers: Vec<HeaderMatch>,
    /// What the query's parameters must be, all of these.
    pub query: Vec<QueryMatch>,
}

impl MatchSpec {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// This path and no other.
    pub fn path(path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    /// This path and all below it.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: Some(prefix.into()),
            ..Self::default()
        }
    }

    /// A path with names in the place of segments.
    pub fn template(template: impl Into<String>) -> Self {
        Self {
            template: Some(template.into()),
            ..Self::default()
        }
    }

    /// Paths that a regular expression matches as a whole.
    pub fn regex(regex: impl Into<String>) -> Self {
        Self {
            regex: Some(regex.into()),
            ..Self::default()
        }
    }

    /// Adds a method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.methods.push(method.into());
        self
    }

    /// Adds a condition on a field.
    #[must_use]
    pub fn header(mut self, header: HeaderMatch) -> Self {
        self.headers.push(header);
        self
    }

    /// Adds a condition on a parameter of the query.
    #[must_use]
    pub fn query(mut self, query: QueryMatch) -> Self {
        self.query.push(query);
        self
    }
}

impl From<&str> for MatchSpec {
    /// The short form: `/a/*`, `/users/{id}`, `/a`.
    fn from(text: &str) -> Self {
        if text == "*" {
            Self::any()
        } else if text.contains(['{', '}']) {
            Self::template(text)
        } else if let Some(prefix) = text.strip_suffix("/*") {
            Self::prefix(if prefix.is_empty() { "/" } else { prefix })
        } else {
            Self::path(text)
        }
    }
}

/// What a field must be. Exactly one of `exact`, `prefix`, `suffix`, `contains`, `regex` and `present`. A field that has
/// several lines needs one that fits.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct HeaderMatch {
    /// The field's name, whatever its case.
    pub name: String,
    /// The value is one of these.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub exact: Vec<String>,
    /// The value begins with one of these.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub prefix: Vec<String>,
    /// The value ends with one of these.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub suffix: Vec<String>,
    /// One of these is in the value.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub contains: Vec<String>,
    /// A regular expression for the whole value.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub regex: Option<String>,
    /// Whether the field is there at all.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub present: Option<bool>,
    /// Whether the opposite must hold. Default: false.
    pub not: bool,
}

impl HeaderMatch {
    pub(super) fn of_name(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The value is `value`.
    pub fn exact(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            exact: vec![value.into()],
            ..Self::of_name(name)
        }
    }

    /// The value begins with `start`.
    pub fn prefix(name: impl Into<String>, start: impl Into<String>) -> Self {
        Self {
            prefix: vec![start.into()],
            ..Self::of_name(name)
        }
    }

    /// The value ends with `end`.
    pub fn suffix(name: impl Into<String>, end: impl Into<String>) -> Self {
        Self {
            suffix: vec![end.into()],
            ..Self::of_name(name)
        }
    }

    /// `part` is in the value.
    pub fn contains(name: impl Into<String>, part: impl Into<String>) -> Self {
        Self {
            contains: vec![part.into()],
            ..Self::of_name(name)
        }
    }

    /// A regular expression matches the whole value.
    pub fn regex(name: impl Into<String>, regex: impl Into<String>) -> Self {
        Self {
            regex: Some(regex.into()),
            ..Self::of_name(name)
        }
    }

    /// The field is there.
    pub fn present(name: impl Into<String>) -> Self {
        Self {
            present: Some(true),
            ..Self::of_name(name)
        }
    }

    /// The field is not there.
    pub fn absent(name: impl Into<String>) -> Self {
        Self {
            present: Some(false),
            ..Self::of_name(name)
        }
    }

    /// The opposite.
    #[must_use]
    pub fn negate(mut self) -> Self {
        self.not = !self.not;
        self
    }
}

/// What a parameter of the query must be. Exactly one of `exact`, `regex` and `present`. Names and values are compared
/// with their escapes decoded; a parameter that is there several times needs one that fits.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: String,
    /// The value is one of these.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub exact: Vec<String>,
    /// A regular expression for the whole value.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub regex: Option<String>,
    /// Whether the parameter is there at all.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub present: Option<bool>,
    /// Whether the opposite must hold. Default: false.
    pub not: bool,
}

impl QueryMatch {
    /// The value is `value`.
    pub fn exact(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            exact: vec![value.into()],
            ..Self::default()
        }
    }

    /// A regular expression matches the whole value.
    pub fn regex(name: impl Into<String>, regex: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            regex: Some(regex.into()),
            ..Self::default()
        }
    }

    /// The parameter is there.
    pub fn present(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            present: Some(true),
            ..Self::default()
        }
    }

    /// The opposite.
    #[must_use]
    pub fn negate(mut self) -> Self {
        self.not = !self.not;
        self
    }
}

/// Where a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// To the cluster of this name.
    Cluster(String),
    /// To one of these, by weight.
    Split(Vec<Share>),
    /// To the one that a field names.
    ByHeader(ByHeader),
}

impl From<&str> for Destination {
    fn from(cluster: &str) -> Self {
        Self::Cluster(cluster.into())
    }
}

impl From<ByHeader> for Destination {
    fn from(by: ByHeader) -> Self {
        Self::ByHeader(by)
    }
}

/// A cluster's share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(deny_unknown_fields)
)]
pub struct Share {
    /// The cluster's name.
    pub cluster: String,
    /// Its share, as a part of the sum of all; 0 is nothing. Default: 1.
    #[cfg_attr(feature = "settings", serde(default = "one"))]
    pub weight: u32,
}

#[cfg(feature = "settings")]
fn one() -> u32 {
    1
}

/// A field that names the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(deny_unknown_fields)
)]
pub struct ByHeader {
    /// The field; its first line counts.
    pub header: String,
    /// The clusters that it may name, because clients can write what they like.
    pub among: Vec<String>,
    /// Where requests go that name none of them.
    pub otherwise: String,
}

/// A redirect (RFC 9110 section 15.4). What is left out stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RedirectSpec {
    /// 301, 302, 303, 307 or 308. Default: 302, because browsers remember the permanent ones, mistakes too.
    pub status: u16,
    /// `http` or `https`. A port that was asked for is dropped with a change of scheme.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub scheme: Option<String>,
    /// The host, which may hold variables; without a port.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub host: Option<String>,
    /// The port.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub port: Option<u16>,
    /// The path, which may hold variables.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub path: Option<String>,
    /// What takes the place of the prefix that was matched. Not together with `path`.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub prefix: Option<String>,
    /// Whether the query is dropped. Default: false.
    pub strip_query: bool,
}

impl Default for RedirectSpec {
    fn default() -> Self {
        Self {
            status: 302,
            scheme: None,
            host: None,
            port: None,
            path: None,
            prefix: None,
            strip_query: false,
        }
    }
}

impl RedirectSpec {
    /// To another path of the same site, with 302.
    pub fn to_path(path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    /// To another host, with 302.
    pub fn to_host(host: impl Into<String>) -> Self {
        Self {
            host: Some(host.into()),
            ..Self::default()
        }
    }

    /// To the same by https, with 308.
    pub fn to_https() -> Self {
        Self {
            status: 308,
            scheme: Some("https".into()),
            ..Self::default()
        }
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RespondSpec {
    /// The status, 200 to 599. Default: 200.
    pub status: u16,
    /// The body, as it stands. Default: empty.
    pub body: String,
    /// Fields, as they stand. Default: `content-type: text/plain; charset=utf-8` where there is a body.
    pub headers: BTreeMap<String, String>,
}

impl Default for RespondSpec {
    fn default() -> Self {
        Self {
            status: 200,
            body: String::new(),
            headers: BTreeMap::new(),
        }
    }
}

/// What is changed about the path and the host. At most one of `prefix`, `path` and `regex`, and at most one of `host`
/// and `upstream_host`. A path is rewritten from its normal form; the query stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RewriteSpec {
    /// What takes the place of the prefix that was matched: `/` takes it away.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub prefix: Option<String>,
    /// The path, which may hold variables.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub path: Option<String>,
    /// A replacement within the path.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub regex: Option<RegexRewrite>,
    /// The host, which may hold variables. Default: as the listener forwards it.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub host: Option<String>,
    /// Whether the origin is sent its own name as the host. Default: false, because virtual hosts, links and cookies of
    /// an origin go by the name that the client used.
    pub upstream_host: bool,
}

/// A replacement within the path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(deny_unknown_fields)
)]
pub struct RegexRewrite {
    /// What is replaced, wherever it is found: a regular expression.
    pub pattern: String,
    /// What takes its place. It may hold variables; captures are those of `pattern`.
    pub with: String,
}

/// What is changed about fields, in this order: removed, set, set if absent, added. Values may hold variables. The fields
/// that frame a message or belong to one connection cannot be changed, and Host is rewritten by `rewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct EditsSpec {
    /// Fields that go.
    #[cfg_attr(
        feature = "settings",
        serde(with = "super::settings::OneOrMany"),
        schemars(with = "super::settings::OneOrMany")
    )]
    pub remove: Vec<String>,
    /// Fields whose value is this, in place of any that they had.
    pub set: BTreeMap<String, String>,
    /// Fields whose value is this if they have none.
    pub set_if_absent: BTreeMap<String, String>,
    /// Fields that get this as one more line.
    pub add: BTreeMap<String, String>,
}

impl EditsSpec {
    /// Takes a field away.
    #[must_use]
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.remove.push(name.into());
        self
    }

    /// Gives a field this value and no other.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(name.into(), value.into());
        self
    }

    /// Gives a field this value if it has none.
    #[must_use]
    pub fn set_if_absent(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_if_absent.insert(name.into(), value.into());
        self
    }

    /// Adds a line.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.add.insert(name.into(), value.into());
        self
    }
}

/// Something of a request that tells clients apart. Exactly one of `header`, `cookie`, `query` and `source_ip`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct HashSpec {
    /// The value of a field, all its lines.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub header: Option<String>,
    /// The value of a cookie.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub cookie: Option<String>,
    /// With `cookie`: a client without it is given one that lasts this long; `0s` is for as long as the browser runs.
    /// Default: it is given none.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSpan"))]
    pub ttl: Option<Duration>,
    /// The value of a parameter of the query.
    #[cfg_attr(feature = "settings", serde(skip_serializing_if = "Option::is_none"))]
    pub query: Option<String>,
    /// The client's address. Default: false.
    pub source_ip: bool,
    /// Whether those that follow are left out when a request has this. Default: false.
    pub terminal: bool,
}

impl HashSpec {
    /// By the value of a field.
    pub fn header(name: impl Into<String>) -> Self {
        Self {
            header: Some(name.into()),
            ..Self::default()
        }
    }

    /// By the value of a cookie; with `ttl`, clients without it are given one.
    pub fn cookie(name: impl Into<String>, ttl: Option<Duration>) -> Self {
        Self {
            cookie: Some(name.into()),
            ttl,
            ..Self::default()
        }
    }

    /// By the value of a parameter of the query.
    pub fn query(name: impl Into<String>) -> Self {
        Self {
            query: Some(name.into()),
            ..Self::default()
        }
    }

    /// By the client's address.
    pub fn source_ip() -> Self {
        Self {
            source_ip: true,
            ..Self::default()
        }
    }

    /// And by nothing that follows, where a request has this.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }
}
