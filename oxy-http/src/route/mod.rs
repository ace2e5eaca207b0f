//! Which route takes a request, and what it changes: a table without I/O.
//!
//! [`VirtualHostSpec`]s say it as an operator writes it, in a settings file or in Rust; [`RouteTable::new`] checks them and
//! makes them fast. A request is looked at through a [`View`], so that a raw head needs no header map.
//!
//! ```
//! use oxy_http::route::{Action, MatchSpec, BuiltView, RedirectSpec, RouteSpec, RouteTable, VirtualHostSpec};
//!
//! let host = VirtualHostSpec::new(["example.com"])
//!     .route(RouteSpec::new("/users/{id}").to("users").replace_path("/v2/people/{id}"))
//!     .route(RouteSpec::new("/old/*").redirect(RedirectSpec::to_path("/new").status(301)));
//! let table = RouteTable::new(&[host])?;
//!
//! let request = http::Request::get("http://example.com/users/42?full").body(()).unwrap();
//! let view = BuiltView::new(&request, None, false);
//! let matched = table.route(&view).unwrap();
//! assert_eq!(matched.cluster(0).map(|name| &**name), Some("users"));
//! assert_eq!(matched.path_and_query().as_deref(), Some("/v2/people/42?full"));
//! # Ok::<_, oxy_http::route::RouteError>(())
//! ```
//!
//! # Which route is taken
//!
//! 1. The virtual host: the exact one, else the one with the longest wildcard, else `*`. If none of its routes takes the
//!    request, no other host is asked.
//! 2. Routes of a higher `priority` come first.
//! 3. The most specific path, whatever the order in the list. Paths are compared segment by segment from the left: a
//!    literal comes before a `{name}`, and that before the rest of the path, which a prefix or a `{*name}` takes. So `path:
//!    /a/b` comes before `template: /a/{x}`, that before `prefix: /a`, and `prefix: /a/b` before `template: /{x}/c`.
//!    Then come regular expressions, as they are listed, and after them what takes every path: `prefix: /`, `template:
//!    /{*rest}`, and no path at all.
//! 4. Of routes with the same path, the first in the list whose other conditions hold.
//!
//! A route whose path fits but whose conditions do not is passed over, and the next specific one is asked. A request for
//! which only the method was wrong is told which ones are right ([`Miss::Method`]).
//!
//! # Which path is matched
//!
//! The normal form: see [`MatchSpec`]. It is computed only where a path needs it. Without a rewrite, what is forwarded
//! is still the path as it was received.
//!
//! # What it costs
//!
//! Hosts and paths are looked up by hash, prefixes and templates segment by segment, where a segment that is both a literal
//! and a `{name}` may cost both ways; how many there are costs nothing. What is gone through one by one are regular
//! expressions, and routes with the same path. Nothing is allocated but for a path
//! that is not in its normal form, a host that is not in small letters, and the groups of a regular expression.
//!
//! Counters and caches within a table are shared by whoever shares it: build one for each worker.

mod action;
mod captures;
mod conditions;
mod edit;
mod error;
mod hash;
mod host;
mod normal;
mod paths;
mod pattern;
pub mod policy;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod reference;
mod rewrite;
#[cfg(feature = "settings")]
mod settings;
pub mod spec;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod view;

pub use action::{Action, Forward, Redirect, Respond};
pub use edit::HeaderEdits;
pub use error::RouteError;
pub use hash::Sticky;
pub use policy::{Backoff, Hedge, RetryGrpc, RetryOn, RoutePolicy, RouteRetries, RouteTimeouts};
pub use rewrite::NewHost;
pub use spec::{
    ByHeader, Destination, EditsSpec, HashSpec, HeaderMatch, MatchSpec, QueryMatch, RedirectSpec,
    RegexRewrite, RespondSpec, RewriteSpec, RouteSpec, Share, VirtualHostSpec,
};
pub use table::{Matched, Miss, Route, RouteTable};
pub use view::{BuiltView, RawView, View};
