//! Probes for [`oxy_core::cluster`]: what is asked, and what is made of the answer.

use std::fmt;

use http::uri::Authority;
use http::{Response, StatusCode};
use oxy_core::cluster::{Endpoint, Probe};
use oxy_core::offramp::AnyOfframp;
use oxy_core::{Carrier, Error, ErrorKind, Far, FlowInfo, Layer, Result, StreamIo, Target};

use super::ask::{self, Answer};
use super::question::{self, Ask, Good};
use super::{GrpcCheck, HttpCheck};
use crate::grpc::Code;
use crate::grpc::health::{self, Serving};
use crate::pool::{self, Protocol};

/// Most bytes of a body that are looked at: a page for checks is a line, or a report of a few kilobytes.
const BODY_MAX: usize = 64 * 1024;

/// Most bytes of gRPC's answer, which has a handful.
const GRPC_MAX: usize = 4 * 1024;

/// An endpoint is well when the off-ramp opens a connection to it.
#[derive(Clone, Debug)]
pub struct OpenProbe {
    offramp: AnyOfframp,
}

impl OpenProbe {
    /// Opens by `offramp`.
    pub fn new(offramp: AnyOfframp) -> Self {
        Self { offramp }
    }
}

impl Probe for OpenProbe {
    async fn probe(&self, endpoint: &Endpoint, target: &Target) -> Result<()> {
        open(&self.offramp, endpoint, target).await.map(drop)
    }
}

/// An endpoint is well when it answers an HTTP request as a [`HttpCheck`] says. The connection is a new one each time.
#[derive(Clone)]
pub struct HttpProbe {
    offramp: AnyOfframp,
    protocol: Protocol,
    ask: Ask,
    good: Good,
}

impl HttpProbe {
    /// Goes out by `offramp`, and speaks `protocol`.
    ///
    /// # Errors
    ///
    /// `Malformed` for what is wrong with `check`.
    pub fn new(offramp: AnyOfframp, protocol: Protocol, check: HttpCheck) -> Result<Self> {
        let (ask, good) = question::http(check)?;
        Ok(Self::of(offramp, protocol, ask, good))
    }

    pub(crate) fn of(offramp: AnyOfframp, protocol: Protocol, ask: Ask, good: Good) -> Self {
        Self {
            offramp,
            protocol,
            ask,
            good,
        }
    }
}

impl Probe for HttpProbe {
    async fn probe(&self, endpoint: &Endpoint, target: &Target) -> Result<()> {
        let way = open(&self.offramp, endpoint, target).await?;
        let http2 = match self.protocol {
            Protocol::Auto => way.agreed == Agreed::Http2,
            protocol => protocol == Protocol::Http2,
        };
        let request = way.request(&self.ask, endpoint, target)?;
        let want = if self.good.contains.is_some() {
            BODY_MAX
        } else {
            0
        };
        let answer = if http2 {
            ask::over_http2(way.stream, request, bytes::Bytes::new(), want).await?
        } else {
            ask::over_http1(way.stream, request, want).await?
        };
        judge(&self.good, &answer.response)
    }
}

impl fmt::Debug for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpProbe({} {})", self.ask.method, self.ask.path)
    }
}

fn judge(good: &Good, response: &Response<Vec<u8>>) -> Result<()> {
    let status = response.status();
    if !good.statuses.iter().any(|it| it.contains(status.as_u16())) {
        return Err(ill("its status").because(status.as_str().to_owned()));
    }
    match &good.contains {
        Some(text) if memchr::memmem::find(response.body(), text.as_bytes()).is_none() => {
            Err(ill("what its body should contain is not there"))
        }
        _ => Ok(()),
    }
}

/// An endpoint is well when gRPC's health check says that it serves. The connection is a new one each time.
#[derive(Clone)]
pub struct GrpcProbe {
    offramp: AnyOfframp,
    ask: Ask,
    service: String,
}

impl GrpcProbe {
    /// Goes out by `offramp`.
    ///
    /// # Errors
    ///
    /// `Malformed` for what is wrong with `check`.
    pub fn new(offramp: AnyOfframp, check: GrpcCheck) -> Result<Self> {
        let (ask, service) = question::grpc(check)?;
        Ok(Self::of(offramp, ask, service))
    }

    pub(crate) fn of(offramp: AnyOfframp, ask: Ask, service: String) -> Self {
        Self {
            offramp,
            ask,
            service,
        }
    }
}

impl Probe for GrpcProbe {
    async fn probe(&self, endpoint: &Endpoint, target: &Target) -> Result<()> {
        let way = open(&self.offramp, endpoint, target).await?;
        if way.agreed == Agreed::Other {
            return Err(ill("it does not speak HTTP/2, which gRPC needs"));
        }
        let request = way.request(&self.ask, endpoint, target)?;
        let body = health::request(&self.service);
        let answer = ask::over_http2(way.stream, request, body, GRPC_MAX).await?;
        serves(&answer)
    }
}

impl fmt::Debug for GrpcProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrpcProbe({:?})", self.service)
    }
}

fn serves(answer: &Answer) -> Result<()> {
    let Answer { response, trailers } = answer;
    let said = Code::of_fields(response.headers());
    let code = match said.or_else(|| trailers.as_ref().and_then(Code::of_fields)) {
        Some(code) => code,
        None if response.status() == StatusCode::OK => {
            return Err(ill("it does not say how its check has ended"));
        }
        None => return Err(ill("its status").because(response.status().as_str().to_owned())),
    };
    match code {
        Code::Ok => {}
        Code::Unimplemented => return Err(ill("it has no service for health checks")),
        Code::NotFound => return Err(ill("it knows no service of that name")),
        code => return Err(ill("its check has failed").because(format!("{code:?}"))),
    }
    match health::response(response.body()) {
        Ok(Serving::Serving) => Ok(()),
        Ok(Serving::NotServing) => Err(ill("it says that it does not serve")),
        Ok(_) => Err(ill("it does not say that it serves")),
        Err(error) => Err(Error::up(ErrorKind::Malformed)
            .context("what it says of its health")
            .because(error)),
    }
}

/// A connection for one question.
struct Way {
    stream: StreamIo,
    secure: bool,
    agreed: Agreed,
}

/// Which protocol was agreed upon when the connection was opened (ALPN, RFC 7301).
#[derive(Clone, Copy, PartialEq)]
enum Agreed {
    Nothing,
    Http2,
    Other,
}

async fn open(offramp: &AnyOfframp, endpoint: &Endpoint, target: &Target) -> Result<Way> {
    let nobody = FlowInfo::of_our_own(Layer::Other("health"), "health");
    let opened = offramp.open_as(target, endpoint.host(), &nobody).await?;
    let Far { carrier, facts, .. } = opened;
    let Carrier::Stream(stream) = carrier else {
        return Err(Error::local(ErrorKind::Unsupported).context(
            "that somebody is there is not seen over UDP; this needs a probe of its own",
        ));
    };
    let tls = facts.tls.get();
    Ok(Way {
        stream,
        secure: tls.is_some(),
        agreed: match tls.and_then(|tls| tls.alpn.as_deref()) {
            None => Agreed::Nothing,
            Some(b"h2") => Agreed::Http2,
            Some(_) => Agreed::Other,
        },
    })
}

impl Way {
    fn request(
        &self,
        ask: &Ask,
        endpoint: &Endpoint,
        target: &Target,
    ) -> Result<http::Request<()>> {
        let authority = match &ask.host {
            Some(host) => host.clone(),
            None => self.authority(endpoint, target)?,
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.secure {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        });
        parts.authority = Some(authority);
        parts.path_and_query = Some(ask.path.clone());
        let mut request = http::Request::new(());
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = http::Uri::from_parts(parts).map_err(no_request)?;
        *request.headers_mut() = ask.headers.clone();
        Ok(request)
    }

    /// What the endpoint is called by those who do not say otherwise.
    fn authority(&self, endpoint: &Endpoint, target: &Target) -> Result<Authority> {
        let text = pool::authority(target, endpoint.host(), self.secure);
        Authority::try_from(text).map_err(no_request)
    }
}

/// Not reached: whatever a request is made of has been checked.
fn no_request(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::local(ErrorKind::Internal)
        .context("a health check's request")
        .because(why)
}

/// It has answered, and is not well.
fn ill(why: &'static str) -> Error {
    Error::up(ErrorKind::Overloaded).context(why)
}
