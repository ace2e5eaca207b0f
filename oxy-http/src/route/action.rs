//! What becomes of a route's requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::captures::Names;
use super::edit;
use super::pattern::Pattern;
use super::rewrite::{self, NewPath};
use super::spec::{ByHeader, Destination, RedirectSpec, RespondSpec, RouteSpec, Share};
use super::text::{self, Facts, Text};
use super::view::{self, View};

/// What becomes of a route's requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// They go to a cluster ([`super::Matched::cluster`] says to which).
    Forward(Forward),
    /// They are told to go elsewhere ([`super::Matched::location`] says where to).
    Redirect(Box<Redirect>),
    /// They are answered here.
    Respond(Box<Respond>),
}

impl Action {
    pub(super) fn read(spec: &RouteSpec, pattern: &Pattern, names: &Names) -> Result<Self, String> {
        match (&spec.to, &spec.redirect, &spec.respond) {
            (Some(to), None, None) => Forward::read(to).map(Self::Forward),
            (None, Some(redirect), None) => Redirect::read(redirect, pattern, names)
                .map(Box::new)
                .map(Self::Redirect),
            (None, None, Some(respond)) => Respond::read(respond).map(Box::new).map(Self::Respond),
            (None, None, None) => {
                Err("does not say what becomes of it: to, redirect or respond".into())
            }
            _ => Err("has more than one of to, redirect and respond".into()),
        }
    }
}

/// The clusters that a route's requests go to.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Each with the sum of the weights up to and with its own.
    clusters: Vec<(Arc<str>, u64)>,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    /// The one with the weight.
    Weight,
    /// The one that is named, else the last.
    Header(HeaderName),
}

impl Forward {
    fn read(to: &Destination) -> Result<Self, String> {
        match to {
            Destination::Cluster(name) => Self::split(&[Share {
                cluster: name.clone(),
                weight: 1,
            }]),
            Destination::Split(shares) => Self::split(shares),
            Destination::ByHeader(by) => Self::by_header(by),
        }
    }

    fn split(shares: &[Share]) -> Result<Self, String> {
        let mut clusters: Vec<(Arc<str>, u64)> = Vec::new();
        let mut sum = 0_u64;
        for share in shares {
            let name = cluster(&share.cluster)?;
            if clusters.iter().any(|(known, _)| **known == *name) {
                return Err(format!("the cluster {name:?} is there twice"));
            }
            sum += u64::from(share.weight);
            clusters.push((name.into(), sum));
        }
        if sum == 0 {
            return Err("the weights of its clusters come to nothing".into());
        }
        Ok(Self {
            clusters,
            by: By::Weight,
        })
    }

    fn by_header(by: &ByHeader) -> Result<Self, String> {
        let header = HeaderName::from_bytes(by.header.as_bytes())
            .map_err(|_| format!("{:?} is not the name of a field", by.header))?;
        if by.among.is_empty() {
            return Err(format!(
                "the field {header} has no clusters to choose among"
            ));
        }
        let names = by.among.iter().chain([&by.otherwise]);
        let clusters = names
            .map(|name| Ok((cluster(name)?.into(), 0)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            clusters,
            by: By::Header(header),
        })
    }

    /// Has names that `known` has be there only: with thousands of routes to few clusters, each would have the same text in a
    /// place of its own, which no cache has.
    pub(super) fn share(&mut self, known: &mut BTreeSet<Arc<str>>) {
        for (name, _) in &mut self.clusters {
            match known.get(&**name) {
                Some(shared) => *name = shared.clone(),
                None => {
                    known.insert(name.clone());
                }
            }
        }
    }

    /// The names of all of them; one may be there twice.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.iter().map(|(name, _)| &**name)
    }

    /// The cluster for the request in `view`. Where weights decide, `random` picks, evenly: a number drawn anew for each
    /// request, or the hash of what tells clients apart, so that a client stays with its cluster. When weights change,
    /// the hashes that change clusters are no more than the weights do.
    pub fn pick(&self, view: &dyn View, random: u64) -> Option<&Arc<str>> {
        let at = match &self.by {
            By::Weight => {
                let sum = self.clusters.last().map_or(0, |(_, sum)| *sum);
                let point = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
                self.clusters.partition_point(|(_, upto)| *upto <= point)
            }
            By::Header(name) => {
                let wanted = view::first(view, name).unwrap_or_default();
                let among = self
                    .clusters
                    .split_last()
                    .map_or(&[][..], |(_, among)| among);
                among
                    .iter()
                    .position(|(name, _)| name.as_bytes() == wanted)
                    .unwrap_or(among.len())
            }
        };
        self.clusters.get(at).map(|(name, _)| name)
    }
}

fn cluster(name: &str) -> Result<&str, String> {
    if name.is_empty() {
        return Err("a cluster's name is empty".into());
    }
    Ok(name)
}

/// A redirect.
#[derive(Clone, Debug)]
pub struct Redirect {
    status: StatusCode,
    scheme: Option<&'static str>,
    host: Option<Text>,
    port: Option<u16>,
    path: NewPath,
    strip_query: bool,
}

impl Redirect {
    fn read(spec: &RedirectSpec, pattern: &Pattern, names: &Names) -> Result<Self, String> {
        let status = match spec.status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(spec.status).ok(),
            _ => None,
        };
        let scheme = match spec.scheme.as_deref() {
            None => None,
            Some("http") => Some("http"),
            Some("https") => Some("https"),
            Some(other) => return Err(format!("{other:?} is neither http nor https")),
        };
        if spec.port == Some(0) {
            return Err("a redirect to port 0 leads nowhere".into());
        }
        let path = match (&spec.path, &spec.prefix) {
            (None, None) => NewPath::Keep,
            (Some(path), None) => NewPath::text(path, names)?,
            (None, Some(prefix)) => NewPath::prefix(prefix, pattern)?,
            _ => return Err("the redirect has both a path and a prefix".into()),
        };
        let host = spec.host.as_deref();
        let redirect = Self {
            status: status
                .ok_or_else(|| format!("{} is not 301, 302, 303, 307 or 308", spec.status))?,
            scheme,
            host: host.map(|host| rewrite::host(host, names)).transpose()?,
            port: spec.port,
            path,
            strip_query: spec.strip_query,
        };
        let changes = redirect.has_authority() || !matches!(redirect.path, NewPath::Keep);
        if !changes && !spec.strip_query {
            return Err("the redirect leads to where it came from".into());
        }
        Ok(redirect)
    }

    /// 301, 302, 303, 307 or 308.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn has_authority(&self) -> bool {
        self.scheme.is_some() || self.host.is_some() || self.port.is_some()
    }

    /// The text of Location (RFC 9110 section 10.2.2): a path if nothing else changes, else all of it.
    pub(super) fn location(&self, facts: &Facts<'_>) -> Option<HeaderValue> {
        let mut out = Vec::with_capacity(facts.view.path().len() + 64);
        if self.has_authority() {
            self.write_authority(facts, &mut out);
        }
        self.path.write(facts, &mut out);
        if !self.strip_query {
            rewrite::write_query(facts.view, &mut out);
        }
        HeaderValue::from_maybe_shared(Bytes::from(out)).ok()
    }

    fn write_authority(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let asked = text::sound_host(facts.view);
        let new = self
            .host
            .as_ref()
            .and_then(|host| rewrite::expand_host(host, facts));
        let host = new.as_deref().map_or(&*asked, str::as_bytes);
        // Without a host there is no URI to write; a path is the next best.
        if host.is_empty() {
            return;
        }
        let was = text::scheme(facts.view);
        let scheme = self.scheme.unwrap_or(was);
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(host);
        let port = match self.port {
            Some(port) => Some(port),
            None if scheme == was && new.is_none() => {
                crate::h1::target::authority(facts.view.authority())
                    .and_then(|authority| authority.port)
            }
            None => None,
        };
        let default = if scheme == "https" { 443 } else { 80 };
        if let Some(port) = port.filter(|port| *port != default) {
            out.extend_from_slice(format!(":{port}").as_bytes());
        }
    }
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Respond {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Respond {
    fn read(spec: &RespondSpec) -> Result<Self, String> {
        let status = StatusCode::from_u16(spec.status)
            .ok()
            .filter(|status| (200..=599).contains(&status.as_u16()))
            .ok_or_else(|| format!("{} is not a final status", spec.status))?;
        if !spec.body.is_empty() && matches!(spec.status, 204 | 205 | 304) {
            return Err(format!("a response with {status} has no body"));
        }
        let mut headers = HeaderMap::new();
        if !spec.body.is_empty() {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
        }
        for (name, value) in &spec.headers {
            let name = edit::name(name)?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("{value:?} cannot be the value of a field"))?;
            headers.insert(name, value);
        }
        Ok(Self {
            status,
            headers,
            body: spec.body.clone().into(),
        })
    }

    /// The status, 200 to 599.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields, without those that frame the body.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body; may be empty.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}
