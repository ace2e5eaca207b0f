//! A request on its way to an origin: what it is, and how it is written for whatever version the origin speaks.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Response};
use oxy_core::{Error, ErrorKind, FlowInfo, Result, TlsFacts};

use crate::body::Body;
use crate::call;
use crate::dispatch::is_https;
use crate::h1::index::Framing;
use crate::h1::parse::MethodKind;
use crate::h1::token;
use crate::message::{Head, Req};
use crate::options::HttpOptions;
use crate::pool::Endpoint;
use crate::scratch::Out;
use crate::semantics::{
    self, Fields, ForwardPolicy, MapSink, Outcome, RequestHead, RequestHop, Wire, upgrade_offer,
};

/// A request that is to be sent, and sent again if that is safe and need be.
pub(crate) struct Errand {
    head: Form,
    pub(crate) body: Body,
    /// Whether a connection has been given the body, and may have sent some of it.
    sent: bool,
    pub(crate) framing: Framing,
    pub(crate) method: MethodKind,
    /// Safe to be done twice (RFC 9110 section 9.2.2).
    pub(crate) idempotent: bool,
    /// The protocol that the client offers to change to.
    pub(crate) upgrade: Option<Vec<u8>>,
}

/// The head, in the form that it is in.
enum Form {
    /// As it came, or as hooks have left it.
    Whole(Head<http::Request<Body>>),
    /// As it is sent to an HTTP/1 origin.
    Written(Out),
    /// Between two of these.
    Gone,
}

/// Between whom a request passes.
#[derive(Clone, Copy)]
pub(crate) struct Between<'a> {
    pub(crate) client: &'a FlowInfo,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) options: &'a HttpOptions,
    /// Whether the origin is asked by its own name, whatever the options say.
    pub(crate) upstream_host: bool,
}

impl Between<'_> {
    fn asks_by_own_name(&self) -> bool {
        self.upstream_host || !self.options.forward.preserve_host
    }
}

impl Errand {
    pub(crate) fn new(req: Req) -> Self {
        let (head, body) = req.into_parts();
        let (framing, upgrade, method) = match &head {
            Head::Raw(raw) => {
                let bytes = raw.buffer.filled();
                let fields = semantics::Indexed::request(&raw.index, bytes);
                let upgrade = if raw.index.upgrade {
                    upgrade_offer(&fields).map(<[u8]>::to_vec)
                } else {
                    None
                };
                (raw.index.framing, upgrade, raw.index.method.of(bytes))
            }
            Head::Built(request) => {
                let framing = match body.length() {
                    Some(0) if !expects_length(request) => Framing::None,
                    Some(length) => Framing::Length(length),
                    None => Framing::Chunked,
                };
                let upgrade = upgrade_offer(&semantics::Mapped::new(request.headers()))
                    .filter(|_| framing.is_empty() && names_upgrade(request))
                    .map(<[u8]>::to_vec);
                (framing, upgrade, request.method().as_str().as_bytes())
            }
        };
        let (idempotent, method) = (is_idempotent(method), MethodKind::of(method));
        Self {
            head: Form::Whole(head),
            body,
            sent: false,
            framing,
            method,
            idempotent,
            upgrade,
        }
    }

    /// The response to a request that goes no further (RFC 9110 section 7.6.2); an error if it has been here before.
    pub(crate) fn goes_on(&self, policy: &ForwardPolicy) -> Result<Option<Box<Response<Body>>>> {
        match &self.head {
            Form::Whole(Head::Raw(raw)) => {
                let head = RequestHead::indexed(&raw.index, raw.buffer.filled());
                answered_here(&head, policy)
            }
            Form::Whole(Head::Built(request)) => {
                answered_here(&RequestHead::of_request(request, self.framing), policy)
            }
            _ => Ok(None),
        }
    }

    /// The head as an HTTP/1 origin is sent it (RFC 9112 section 3).
    pub(crate) fn write(&mut self, between: Between<'_>) -> Out {
        if between.asks_by_own_name() {
            // Another endpoint has another name: the head has to be written anew for it.
            let _ = self.build();
        }
        let policy = &between.options.forward;
        let mut out = Out::take();
        match std::mem::replace(&mut self.head, Form::Gone) {
            Form::Whole(Head::Raw(mut raw)) => {
                let head = RequestHead::indexed(&raw.index, raw.buffer.filled());
                let _ = semantics::forward_request(&head, &self.hop(between), policy, &mut out);
                raw.buffer.consume(raw.index.head_len);
                if !raw.buffer.is_empty()
                    && let Some(incoming) = self.body.as_incoming()
                {
                    incoming.give(raw.buffer);
                }
            }
            Form::Whole(Head::Built(request)) => {
                let head = RequestHead::of_request(&request, self.framing);
                let _ = semantics::forward_request(&head, &self.hop(between), policy, &mut out);
                self.head = Form::Whole(Head::Built(request));
            }
            Form::Written(written) => out = written,
            Form::Gone => {}
        }
        out
    }

    /// The same errand again, to be run beside this one: only for what can be replayed.
    pub(crate) fn twin(&mut self) -> Result<Self> {
        self.build()?;
        let (Form::Whole(Head::Built(request)), Some(body)) = (&self.head, self.body.replay())
        else {
            return Err(Error::local(ErrorKind::Internal).context("a request that goes but once"));
        };
        Ok(Self {
            head: Form::Whole(Head::Built(Req::from(same_head(request)))),
            body,
            sent: false,
            framing: self.framing,
            method: self.method,
            idempotent: self.idempotent,
            upgrade: self.upgrade.clone(),
        })
    }

    /// The body, for a connection that is about to send it.
    pub(crate) fn give_body(&mut self) -> Body {
        self.sent = true;
        self.body.take()
    }

    /// The body for another try, if no connection has been given it, or it has been taken back from the one that was.
    pub(crate) fn unsent(&mut self) -> Option<Body> {
        (!self.sent).then(|| self.body.take())
    }

    /// Has `body` sent in the next try.
    pub(crate) fn again_with(&mut self, body: Body) {
        self.sent = false;
        self.body = body;
    }

    /// Takes the head back that [`Errand::write`] gave, for another try.
    pub(crate) fn take_back_from(&mut self, wire: call::Wire) {
        if let (Form::Gone, call::Wire::Http1(wire)) = (&self.head, wire) {
            self.head = Form::Written(wire.into_parts().1);
        }
    }

    /// The head as an HTTP/2 origin is sent it (RFC 9113 section 8.3).
    ///
    /// An error if it has been written for an HTTP/1 origin before, and can be sent to such only.
    pub(crate) fn request(&mut self, between: Between<'_>) -> Result<http::Request<()>> {
        self.build()?;
        let Form::Whole(Head::Built(request)) = &self.head else {
            return Err(Error::local(ErrorKind::Unsupported)
                .context("another try would be in another version of HTTP"));
        };
        let head = RequestHead::of_request(request, self.framing);
        let hop = self.hop(between);
        let mut headers = HeaderMap::with_capacity(request.headers().len() + 6);
        let policy = &between.options.forward;
        let _ = semantics::request_fields(
            &head,
            &hop,
            policy,
            Wire::Multiplexed,
            &mut MapSink::new(&mut headers),
        );
        let mut sent = http::Request::new(());
        *sent.version_mut() = http::Version::HTTP_2;
        *sent.method_mut() = request.method().clone();
        if let Some(protocol) = &self.upgrade {
            // RFC 8441 section 4; what the key proves is proved by the protocol's name.
            *sent.method_mut() = Method::CONNECT;
            let name = String::from_utf8_lossy(protocol);
            sent.extensions_mut()
                .insert(::h2::ext::Protocol::from(&*name));
            headers.remove(header::SEC_WEBSOCKET_KEY);
        }
        let authority = semantics::request::host(&head, &hop, policy);
        let mut target = Vec::new();
        semantics::request::target(&head, &hop, policy, &mut target);
        *sent.uri_mut() = uri(between.endpoint.is_secure(), authority, target)?;
        *sent.headers_mut() = headers;
        Ok(sent)
    }

    /// What the client proves a WebSocket handshake with, if it makes one.
    pub(crate) fn websocket_key(&self) -> Option<HeaderValue> {
        match &self.head {
            Form::Whole(Head::Built(request)) => {
                request.headers().get(header::SEC_WEBSOCKET_KEY).cloned()
            }
            _ => None,
        }
    }

    /// Turns a raw head into one in the types of the `http` crate.
    fn build(&mut self) -> Result<()> {
        if !matches!(self.head, Form::Whole(Head::Raw(_))) {
            return Ok(());
        }
        if let Form::Whole(Head::Raw(mut raw)) = std::mem::replace(&mut self.head, Form::Gone) {
            let head = bytes::Bytes::copy_from_slice(raw.buffer.filled());
            let parts = raw.index.parts(&head).map_err(super::h1::Reject::down)?;
            raw.buffer.consume(raw.index.head_len);
            if !raw.buffer.is_empty()
                && let Some(incoming) = self.body.as_incoming()
            {
                incoming.give(raw.buffer);
            }
            let request = http::Request::from_parts(parts, Body::empty());
            self.head = Form::Whole(Head::Built(Req::from(request)));
        }
        Ok(())
    }

    fn hop<'a>(&'a self, between: Between<'a>) -> RequestHop<'a> {
        RequestHop {
            client: between.client.peer.map(|peer| peer.ip()),
            https: is_https(between.client),
            upstream: &between.endpoint.authority,
            to_proxy: false,
            close: false,
            upgrade: self.upgrade.as_deref(),
            own_name: between.upstream_host,
            early: between.client.tls().is_some_and(TlsFacts::may_be_replay),
        }
    }
}

fn answered_here<F: Fields>(
    head: &RequestHead<'_, F>,
    policy: &ForwardPolicy,
) -> Result<Option<Box<Response<Body>>>> {
    match semantics::request::outcome(head, policy) {
        Outcome::Forward => Ok(None),
        Outcome::Answer => Ok(Some(Box::new(semantics::answer_here(head)))),
        Outcome::Loop => {
            Err(Error::local(ErrorKind::Loop).context("the request has been here before"))
        }
    }
}

fn uri(secure: bool, authority: &[u8], path: Vec<u8>) -> Result<Uri> {
    let bad = |e: http::Error| {
        Error::local(ErrorKind::Internal)
            .context("a request that cannot be sent over HTTP/2")
            .because(e)
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(authority).map_err(|e| bad(e.into()))?);
    let path = PathAndQuery::from_maybe_shared(bytes::Bytes::from(path));
    parts.path_and_query = Some(path.map_err(|e| bad(e.into()))?);
    Uri::from_parts(parts).map_err(|e| bad(e.into()))
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}

/// A request with the same head.
fn same_head(request: &http::Request<Body>) -> http::Request<Body> {
    let mut same = http::Request::new(Body::empty());
    *same.method_mut() = request.method().clone();
    *same.uri_mut() = request.uri().clone();
    *same.version_mut() = request.version();
    *same.headers_mut() = request.headers().clone();
    *same.extensions_mut() = request.extensions().clone();
    same
}

/// Whether an empty body is worth a Content-Length: 0 (RFC 9110 section 8.6).
fn expects_length(request: &http::Request<Body>) -> bool {
    matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    )
}

fn names_upgrade(request: &http::Request<Body>) -> bool {
    request
        .headers()
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| {
            token::elements(value.as_bytes()).any(|name| name.eq_ignore_ascii_case(b"upgrade"))
        })
}
