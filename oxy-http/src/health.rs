//! Whether the endpoints of a cluster are well: probes that ask over HTTP, or as gRPC's health checks do.
//!
//! [`HealthKind`] says how; [`crate::Upstream::probe`] has it done, by the same way out as requests go by: over TLS where
//! that has it, over HTTP/2 where the upstream speaks it. How often, and how many answers count, is the cluster's to say
//! ([`oxy_core::cluster::HealthCheck`]).
//!
//! ```
//! use oxy_core::cluster::{Cluster, ClusterSpec, HealthCheck};
//! use oxy_core::Target;
//! use oxy_http::Upstream;
//! use oxy_http::health::HttpCheck;
//!
//! # fn main() -> oxy_core::Result<()> {
//! let mut spec = ClusterSpec::new("web", [Target::tcp([127, 0, 0, 1], 8001)]);
//! spec.health = Some(HealthCheck::default());
//! let upstream = Upstream::new(Cluster::new(spec)?).probe(HttpCheck::new("/healthz"))?;
//! # Ok(())
//! # }
//! ```

mod ask;
mod probe;
mod question;
mod statuses;

use std::collections::BTreeMap;

pub use probe::{GrpcProbe, HttpProbe, OpenProbe};
pub(crate) use question::Question;
pub use statuses::{NoStatuses, Statuses};

/// How an endpoint is asked whether it is well.
///
/// In settings `tcp`, `http: {path: /healthz}` or `grpc: {service: greeter}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum HealthKind {
    /// A connection opens. It is closed at once; nothing is sent, no TLS handshake either.
    #[default]
    Tcp,
    /// An HTTP request is answered as it should be.
    Http(HttpCheck),
    /// gRPC's health check says that it serves.
    Grpc(GrpcCheck),
}

/// An HTTP request, and what its answer has to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct HttpCheck {
    /// The method. Default: `GET`, which every origin has.
    pub method: CheckMethod,
    /// The path, with a query if it needs one. Default: `/`, as an origin that has no page for checks has that one.
    pub path: String,
    /// The host that is asked for, with its port if it needs one. Default: none, for the endpoint's name and port, or its
    /// address where it has no name.
    pub host: Option<String>,
    /// The statuses of a good answer: `200`, or `200-299`. Default: `200-399`, as an origin that redirects is there.
    #[cfg_attr(feature = "settings", schemars(example = &["200-299"]))]
    pub statuses: Vec<Statuses>,
    /// What the first 64 KiB of a good answer's body contain, letter by letter. Default: none, and the body is not read.
    pub contains: Option<String>,
    /// Further fields of the request. Default: none; User-Agent is `oxy-health` unless it is here.
    pub headers: BTreeMap<String, String>,
}

impl HttpCheck {
    /// A GET for `path`, with the defaults for all else.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            method: CheckMethod::default(),
            path: "/".into(),
            host: None,
            statuses: vec![Statuses::WELL],
            contains: None,
            headers: BTreeMap::new(),
        }
    }
}

/// What a health check asks with: methods that change nothing (RFC 9110 section 9.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "UPPERCASE")
)]
pub enum CheckMethod {
    /// GET.
    #[default]
    Get,
    /// HEAD, which has no body to be sent, nor to be looked at.
    Head,
}

/// gRPC's health check (`grpc.health.v1.Health/Check`). It goes over HTTP/2 whatever the upstream's requests do; an endpoint
/// that agrees upon something else (ALPN) is not well.
///
/// An endpoint that has no such service is not well: who asks has been told that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct GrpcCheck {
    /// The service that is asked for. Default: empty, which is the server as a whole.
    pub service: String,
    /// The host that is asked for, with its port if it needs one. Default: none, for the endpoint's name and port, or its
    /// address where it has no name.
    pub host: Option<String>,
}

impl GrpcCheck {
    /// Asks how `service` is; empty is the server as a whole.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            host: None,
        }
    }
}

impl From<HttpCheck> for HealthKind {
    fn from(check: HttpCheck) -> Self {
        Self::Http(check)
    }
}

impl From<GrpcCheck> for HealthKind {
    fn from(check: GrpcCheck) -> Self {
        Self::Grpc(check)
    }
}

#[cfg(all(test, feature = "settings"))]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_and_written() {
        let mut full = HttpCheck::new("/healthz?deep");
        full.method = CheckMethod::Head;
        full.host = Some("a.test".into());
        full.statuses = vec![204.into(), (200..=299).into()];
        full.contains = Some("ok".into());
        full.headers.insert("x-from".into(), "here".into());
        for (text, expected) in [
            ("tcp", HealthKind::Tcp),
            ("http: {}", HttpCheck::default().into()),
            ("http: {path: /healthz}", HttpCheck::new("/healthz").into()),
            (
                "http: {path: '/healthz?deep', method: HEAD, host: a.test, statuses: [204, 200-299], contains: ok, \
                 headers: {x-from: here}}",
                full.into(),
            ),
            ("grpc: {service: ''}", GrpcCheck::default().into()),
            ("grpc: {service: a.B}", GrpcCheck::new("a.B").into()),
        ] {
            let read: HealthKind = serde_saphyr::from_str(text).unwrap();
            assert_eq!(read, expected, "{text}");
            let written = serde_saphyr::to_string(&read).unwrap();
            let again: HealthKind = serde_saphyr::from_str(&written).unwrap();
            assert_eq!(again, expected, "{written}");
        }
        for bad in [
            "udp",
            "http: {pth: /}",
            "http: {statuses: [99]}",
            "http: {method: POST}",
            "grpc: {path: /}",
        ] {
            serde_saphyr::from_str::<HealthKind>(bad).unwrap_err();
        }
        let schema = serde_json::to_value(schemars::schema_for!(HealthKind)).unwrap();
        assert!(schema.to_string().contains("200-299"), "{schema}");
    }
}
