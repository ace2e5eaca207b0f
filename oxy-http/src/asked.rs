//! What a request asked for.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Version};
use oxy_core::{Error, ErrorKind, Result, Target};

use crate::grpc;
use crate::h1::index::TargetForm;
use crate::message::{Req, Res};
use crate::respond;
use crate::scratch::Out;

/// What a request asked for, kept for routing and for the books once the request itself has gone its way.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Method, target and authority, one after the other.
    text: Out,
    method: usize,
    target: usize,
    form: TargetForm,
    https: bool,
    version: Version,
    is_connect: bool,
    is_grpc: bool,
    /// How long the client waits for a gRPC call to end, if it says so.
    patience: Option<Duration>,
}

impl Asked {
    /// What `req` asks for, as it came in.
    pub(crate) fn of(req: &Req) -> Self {
        let mut text = Out::take();
        let (mut is_grpc, mut patience) = (false, None);
        let asked = if let Some((index, head)) = req.head() {
            text.extend_from_slice(index.method.of(head));
            let method = text.len();
            text.extend_from_slice(index.target.of(head));
            let target = text.len();
            text.extend_from_slice(index.authority(head));
            let version = if index.minor == 0 {
                Version::HTTP_10
            } else {
                Version::HTTP_11
            };
            (index.form, index.target_https, version, method, target)
        } else {
            text.extend_from_slice(req.method().as_str().as_bytes());
            let method = text.len();
            let uri = req.uri();
            let authority = uri.authority().map(Authority::as_str);
            let form = match uri.path_and_query() {
                _ if req.method() == Method::CONNECT => TargetForm::Authority,
                Some(path) if path == "*" => TargetForm::Asterisk,
                // A request of HTTP/2 names its origin, always.
                _ => TargetForm::Absolute,
            };
            let path = uri.path_and_query().map(PathAndQuery::as_str);
            let target = if form == TargetForm::Authority {
                authority
            } else {
                path
            };
            text.extend_from_slice(target.unwrap_or_default().as_bytes());
            let target = text.len();
            let host = || req.headers().get(HOST).map(HeaderValue::as_bytes);
            let authority = authority.map(str::as_bytes).or_else(host);
            text.extend_from_slice(authority.unwrap_or_default());
            let https = uri.scheme() == Some(&Scheme::HTTPS);
            let field = |name| req.headers().get(name).map(HeaderValue::as_bytes);
            if field(CONTENT_TYPE.as_str()).is_some_and(grpc::is_grpc) {
                is_grpc = true;
                patience = field("grpc-timeout").and_then(grpc::timeout);
            }
            (form, https, req.version(), method, target)
        };
        let (form, https, version, method, target) = asked;
        let is_connect = &text[..method] == b"CONNECT";
        Self {
            text,
            method,
            target,
            form,
            https,
            version,
            is_connect,
            is_grpc,
            patience,
        }
    }

    fn str(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The method.
    pub(crate) fn method(&self) -> &str {
        match &self.text[..self.method] {
            b"GET" => "GET",
            method => Self::str(method),
        }
    }

    /// The request target.
    pub(crate) fn target(&self) -> &str {
        Self::str(&self.text[self.method..self.target])
    }

    /// The authority: the target's, or else that of Host.
    pub(crate) fn host(&self) -> &str {
        Self::str(&self.text[self.target..])
    }

    /// The form of the target.
    pub(crate) fn form(&self) -> TargetForm {
        self.form
    }

    /// Whether the target's scheme is https.
    pub(crate) fn https(&self) -> bool {
        self.https
    }

    /// The version of HTTP.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether it is a gRPC call.
    pub(crate) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// How long the client waits for a gRPC call to end.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Whether doing it again changes nothing (RFC 9110 section 9.2.1).
    pub(crate) fn is_safe(&self) -> bool {
        let method = &self.text[..self.method];
        matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    }

    /// What tells the client of `error`: a gRPC client by a status of its own.
    pub(crate) fn answer(&self, error: &Error) -> Res {
        if !self.is_grpc() {
            return Res::from(respond::of_error(error));
        }
        let code = grpc::Code::of_error(error.kind(), error.side());
        // Nothing of what is behind it, as in any answer.
        Res::from(grpc::error_response(code, error.name()))
    }

    /// Whether it is for a tunnel (RFC 9110 section 9.3.6).
    pub(crate) fn is_connect(&self) -> bool {
        self.is_connect
    }

    /// The authority as a target; port 80 unless it names one.
    pub(crate) fn authority(&self) -> Result<Target> {
        let host = self.host();
        let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
        let target = if has_port {
            Target::authority(
                host.strip_suffix(':')
                    .map(|host| format!("{host}:80"))
                    .as_deref()
                    .unwrap_or(host),
            )
        } else {
            Target::authority(&format!("{host}:80"))
        };
        target.map_err(|e| {
            Error::down(ErrorKind::Malformed)
                .context("an authority")
                .because(e)
        })
    }
}
