//! What a proxy changes in a request.

use std::net::IpAddr;

use oxy_core::AddressText;

use super::Received;
use super::fields::{Fields, Indexed, Lines, Mapped, Sink};
use super::normalise;
use super::policy::{ForwardPolicy, Forwarding};
use crate::h1::index::{Framing, RequestIndex, TargetForm};
use crate::h1::known::Known;
use crate::h1::{token, write};

/// A request as it was received.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a, F> {
    /// The method.
    pub method: &'a [u8],
    /// The form of the target.
    pub form: TargetForm,
    /// The authority that the request is for; may be empty.
    pub authority: &'a [u8],
    /// The path with its query; may be empty or begin with `?`.
    pub path: &'a [u8],
    /// How the body will be delimited.
    pub framing: Framing,
    /// In which version it came.
    pub received: Received,
    /// Whether the client waits for 100 (Continue); Expect is dropped if not.
    pub expect_continue: bool,
    /// Whether the client takes trailers.
    pub te_trailers: bool,
    /// The fields.
    pub fields: F,
}

impl<'a> RequestHead<'a, Indexed<'a>> {
    /// The request in `head`, which is what was indexed.
    pub fn indexed(index: &'a RequestIndex, head: &'a [u8]) -> Self {
        Self {
            method: index.method.of(head),
            form: index.form,
            authority: index.authority(head),
            path: index.path.of(head),
            framing: index.framing,
            received: Received::of_minor(index.minor),
            expect_continue: index.expect_continue,
            te_trailers: index.te_trailers,
            fields: Indexed::request(index, head),
        }
    }
}

impl<'a> RequestHead<'a, Mapped<'a>> {
    /// A request in the types of the `http` crate, whose body is delimited by `framing`: whatever the fields say about
    /// its length is ignored.
    pub fn of_request<B>(request: &'a http::Request<B>, framing: Framing) -> Self {
        let uri = request.uri();
        let authority = match uri.authority() {
            // A hook may have put credentials there, which never leave in a Host.
            Some(authority) => authority
                .as_str()
                .rsplit('@')
                .next()
                .unwrap_or_default()
                .as_bytes(),
            None => request
                .headers()
                .get(http::header::HOST)
                .map_or(&b""[..], |host| host.as_bytes()),
        };
        let form = match uri.path_and_query() {
            _ if *request.method() == http::Method::CONNECT => TargetForm::Authority,
            Some(path) if path.as_str() == "*" => TargetForm::Asterisk,
            _ if uri.scheme().is_some() => TargetForm::Absolute,
            _ => TargetForm::Origin,
        };
        // HTTP/1.0 knows neither expectations nor trailers (RFC 9110 section 10.1.1).
        let knows = !matches!(
            request.version(),
            http::Version::HTTP_09 | http::Version::HTTP_10
        );
        let listed = |name, word: &[u8]| {
            let all = request.headers().get_all(name);
            knows
                && all.iter().any(|value| {
                    token::elements(value.as_bytes())
                        .any(|element| element.eq_ignore_ascii_case(word))
                })
        };
        Self {
            method: request.method().as_str().as_bytes(),
            form,
            authority,
            path: uri
                .path_and_query()
                .map_or(&b""[..], |path| path.as_str().as_bytes()),
            framing,
            received: Received::of(request.version()),
            expect_continue: !framing.is_empty() && listed(http::header::EXPECT, b"100-continue"),
            te_trailers: listed(http::header::TE, b"trailers"),
            fields: Mapped::new(request.headers()),
        }
    }
}

/// Where a request comes from and where it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestHop<'a> {
    /// The client's address, if it has one.
    pub client: Option<IpAddr>,
    /// Whether the client's connection is encrypted.
    pub https: bool,
    /// The authority of the next hop, for Host where the client's is not kept or there is none.
    pub upstream: &'a [u8],
    /// Whether the next hop is a proxy, which is sent the target in absolute-form (RFC 9112 section 3.2.2).
    pub to_proxy: bool,
    /// Whether the connection to the next hop ends with this request.
    pub close: bool,
    /// The protocol to ask for, if the caller will tunnel it (RFC 9110 section 7.8; see [`upgrade_offer`]).
    pub upgrade: Option<&'a [u8]>,
    /// Whether the next hop is asked by its own name, whatever the policy says.
    pub own_name: bool,
    /// Whether the request came before the client's handshake was over, and may be somebody's replay (RFC 8470 section
    /// 5.1).
    pub early: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It was written.
    Forward,
    /// Max-Forwards is used up: nothing was written, and the proxy answers as the final recipient (RFC 9110 section
    /// 7.6.2).
    Answer,
    /// The request has been here before: nothing was written, and it is refused with 508.
    Loop,
}

/// What kind of connection fields are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 or HTTP/3, which have no connection-specific fields, Host in `:authority` and framing of their own (RFC
    /// 9113 section 8.2.2).
    Multiplexed,
}

/// Appends the request to `out` as a proxy sends it on to an HTTP/1.1 server.
pub fn forward_request<F: Fields>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    out: &mut Vec<u8>,
) -> Outcome {
    let outcome = outcome(head, policy);
    if outcome != Outcome::Forward {
        return outcome;
    }
    // What we add is some 300 bytes; whoever has more of it pays for another allocation.
    out.reserve(
        head.method.len() + head.path.len() + 2 * head.authority.len() + head.fields.size() + 384,
    );
    out.extend_from_slice(head.method);
    out.push(b' ');
    target(head, hop, policy, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    emit(head, hop, policy, Wire::Http1, &mut Lines(out));
    out.extend_from_slice(b"\r\n");
    Outcome::Forward
}

/// Writes the fields of the request to `sink` as a proxy sends them on. For [`Wire::Multiplexed`] the caller writes
/// the pseudo-fields.
pub fn request_fields<F: Fields, S: Sink>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    wire: Wire,
    sink: &mut S,
) -> Outcome {
    let outcome = outcome(head, policy);
    if outcome == Outcome::Forward {
        emit(head, hop, policy, wire, sink);
    }
    outcome
}

/// The protocol to which a client offers to change, if it is one that a proxy can tunnel without knowing it: the first
/// in its list. HTTP/2 is not, because its requests would pass the proxy unseen.
pub fn upgrade_offer<F: Fields>(fields: &F) -> Option<&[u8]> {
    let upgrade = fields.iter().find(|field| field.known == Known::Upgrade)?;
    let first = token::elements(upgrade.value).next()?;
    let name = first.split(|&byte| byte == b'/').next().unwrap_or_default();
    let well_formed = first.split(|&byte| byte == b'/').all(token::is_token);
    let is_http = [&b"h2c"[..], b"h2", b"h3", b"http"]
        .iter()
        .any(|http| name.eq_ignore_ascii_case(http));
    (well_formed && !is_http).then_some(first)
}

/// What becomes of a request.
pub(crate) fn outcome<F: Fields>(head: &RequestHead<'_, F>, policy: &ForwardPolicy) -> Outcome {
    if policy.instance.is_some() && head.fields.has(Known::Via) {
        let mut via = head.fields.iter().filter(|field| field.known == Known::Via);
        if via.any(|field| token::elements(field.value).any(|element| policy.is_ours(element))) {
            return Outcome::Loop;
        }
    }
    if counts_forwards(head.method) && head.fields.has(Known::MaxForwards) {
        let mut limits = head
            .fields
            .iter()
            .filter(|field| field.known == Known::MaxForwards);
        if limits.any(|field| token::digits(field.value) == Some(0)) {
            return Outcome::Answer;
        }
    }
    Outcome::Forward
}

/// Max-Forwards has a meaning for these only (RFC 9110 section 7.6.2).
fn counts_forwards(method: &[u8]) -> bool {
    matches!(method, b"TRACE" | b"OPTIONS")
}

/// RFC 9112 section 3.2: origin-form towards an origin, absolute-form towards a proxy.
pub(crate) fn target<F: Fields>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    out: &mut Vec<u8>,
) {
    if head.form == TargetForm::Authority {
        out.extend_from_slice(head.authority);
        return;
    }
    let path = if head.form == TargetForm::Asterisk {
        &b""[..]
    } else {
        head.path
    };
    if hop.to_proxy && !head.authority.is_empty() {
        out.extend_from_slice(if hop.https { b"https://" } else { b"http://" });
        out.extend_from_slice(head.authority);
        put_path(path, policy, out);
        return;
    }
    if path.is_empty() {
        // Section 3.2.4: OPTIONS without a path is about the server as a whole.
        out.push(if head.method == b"OPTIONS" {
            b'*'
        } else {
            b'/'
        });
    } else if path[0] != b'/' && path[0] != b'*' {
        out.push(b'/');
    }
    put_path(path, policy, out);
}

fn put_path(path: &[u8], policy: &ForwardPolicy, out: &mut Vec<u8>) {
    if policy.normalise_path {
        normalise::path(path, out);
    } else {
        out.extend_from_slice(path);
    }
}

fn emit<F: Fields, S: Sink>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    wire: Wire,
    sink: &mut S,
) {
    if wire == Wire::Http1 {
        // First, as RFC 9110 section 7.2 would have it.
        sink.put(Known::Host, host(head, hop, policy));
    }
    let counts_forwards = counts_forwards(head.method);
    head.fields.pass_on(sink, |known| match known {
        _ if known.is_hop_by_hop() => false,
        // Written anew.
        Known::ContentLength | Known::Host => false,
        Known::Trailer => head.framing == Framing::Chunked,
        Known::Expect => head.expect_continue,
        Known::ProxyAuthorization => policy.pass_proxy_auth,
        Known::XForwardedFor => policy.x_forwarded == Forwarding::Keep,
        Known::XForwardedHost | Known::XForwardedProto => {
            matches!(policy.x_forwarded, Forwarding::Keep | Forwarding::Append)
        }
        Known::Forwarded => policy.forwarded == Forwarding::Keep,
        Known::MaxForwards => !counts_forwards,
        _ => true,
    });
    if counts_forwards && head.fields.has(Known::MaxForwards) {
        let fields = head.fields.iter();
        for field in fields.filter(|field| field.known == Known::MaxForwards) {
            if let Some(left) = token::digits(field.value) {
                put_number(Known::MaxForwards, left.saturating_sub(1), sink);
            }
        }
    }
    match head.framing {
        Framing::Length(length) => put_number(Known::ContentLength, length, sink),
        Framing::Chunked if wire == Wire::Http1 => sink.put(Known::TransferEncoding, b"chunked"),
        _ => {}
    }
    if head.te_trailers {
        sink.put(Known::Te, b"trailers");
    }
    if hop.early && !head.fields.has(Known::EarlyData) {
        sink.put(Known::EarlyData, b"1");
    }
    if wire == Wire::Http1 {
        connection(head.te_trailers, hop, sink);
    }
    via(head.received, policy, sink);
    x_forwarded(head, hop, policy, sink);
    forwarded(head, hop, policy, sink);
}

/// The authority that the next hop is asked for.
pub(crate) fn host<'a, F: Fields>(
    head: &RequestHead<'a, F>,
    hop: &RequestHop<'a>,
    policy: &ForwardPolicy,
) -> &'a [u8] {
    // CONNECT is about its target alone (RFC 9110 section 9.3.6).
    let keeps = head.form == TargetForm::Authority
        || hop.to_proxy
        || (policy.preserve_host && !hop.own_name)
        || hop.upstream.is_empty();
    // A request may come without a Host (HTTP/1.0), but none leaves without one.
    if keeps && !(head.authority.is_empty() && head.received == Received::Http10) {
        head.authority
    } else {
        hop.upstream
    }
}

fn connection<S: Sink>(te: bool, hop: &RequestHop<'_>, sink: &mut S) {
    let options = [
        (te, &b"TE"[..]),
        (hop.upgrade.is_some(), b"upgrade"),
        (hop.close && hop.upgrade.is_none(), b"close"),
    ];
    if options.iter().all(|(set, _)| !set) {
        return;
    }
    sink.open(Known::Connection);
    let mut first = true;
    for (_, option) in options.iter().filter(|(set, _)| *set) {
        if !first {
            sink.push(b", ");
        }
        first = false;
        sink.push(option);
    }
    sink.close();
    if let Some(protocol) = hop.upgrade {
        sink.put(Known::Upgrade, protocol);
    }
}

/// Via as a line of its own, which means the same as appending to the last one (RFC 9110 section 5.3).
pub(super) fn via<S: Sink>(received: Received, policy: &ForwardPolicy, sink: &mut S) {
    if let Some(name) = policy.received_by() {
        sink.open(Known::Via);
        sink.push(received.via());
        for part in name {
            sink.push(part);
        }
        sink.close();
    }
}

fn x_forwarded<F: Fields, S: Sink>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    sink: &mut S,
) {
    if !matches!(policy.x_forwarded, Forwarding::Append | Forwarding::Replace) {
        return;
    }
    let appends = policy.x_forwarded == Forwarding::Append;
    let client = hop
        .client
        .map(|client| AddressText::from(client.to_canonical()));
    // One line: origins commonly read only one of several.
    let mut list = List::new(Known::XForwardedFor, sink);
    if appends {
        list.add_all(&head.fields);
    }
    if let Some(client) = &client {
        list.add(client.as_bytes());
    }
    list.end();
    if !(appends && head.fields.has(Known::XForwardedProto)) {
        sink.put(Known::XForwardedProto, scheme(hop));
    }
    if !(head.authority.is_empty() || (appends && head.fields.has(Known::XForwardedHost))) {
        sink.put(Known::XForwardedHost, head.authority);
    }
}

/// RFC 7239 section 4.
fn forwarded<F: Fields, S: Sink>(
    head: &RequestHead<'_, F>,
    hop: &RequestHop<'_>,
    policy: &ForwardPolicy,
    sink: &mut S,
) {
    if !matches!(policy.forwarded, Forwarding::Append | Forwarding::Replace) {
        return;
    }
    let mut list = List::new(Known::Forwarded, sink);
    if policy.forwarded == Forwarding::Append {
        list.add_all(&head.fields);
    }
    let client = hop.client.map(|client| client.to_canonical());
    match client.map(|client| (client, AddressText::from(client))) {
        Some((IpAddr::V4(_), text)) => {
            list.add(b"for=");
            list.more(text.as_bytes());
        }
        Some((IpAddr::V6(_), text)) => {
            list.add(b"for=\"[");
            list.more(text.as_bytes());
            list.more(b"]\"");
        }
        None => list.add(b"for=unknown"),
    }
    // An authority has neither quotes nor backslashes if it came from the parser; one that a hook made is looked at.
    if !head.authority.is_empty()
        && !head
            .authority
            .iter()
            .any(|byte| matches!(byte, b'"' | b'\\'))
    {
        let quotes = !token::is_token(head.authority);
        list.more(if quotes { b";host=\"" } else { b";host=" });
        list.more(head.authority);
        list.more(if quotes { b"\"" } else { b"" });
    }
    list.more(b";proto=");
    list.more(scheme(hop));
    list.end();
}

fn scheme(hop: &RequestHop<'_>) -> &'static [u8] {
    if hop.https { b"https" } else { b"http" }
}

/// A field with a list for its value, written only if it has an element.
struct List<'a, S> {
    name: Known,
    sink: &'a mut S,
    empty: bool,
}

impl<'a, S: Sink> List<'a, S> {
    fn new(name: Known, sink: &'a mut S) -> Self {
        Self {
            name,
            sink,
            empty: true,
        }
    }

    fn add_all<F: Fields>(&mut self, fields: &F) {
        if !fields.has(self.name) {
            return;
        }
        let name = self.name;
        for field in fields.iter().filter(|field| field.known == name) {
            let value = token::trim(field.value);
            if !value.is_empty() {
                self.add(value);
            }
        }
    }

    fn add(&mut self, element: &[u8]) {
        if self.empty {
            self.sink.open(self.name);
        } else {
            self.sink.push(b", ");
        }
        self.empty = false;
        self.sink.push(element);
    }

    fn more(&mut self, part: &[u8]) {
        self.sink.push(part);
    }

    fn end(self) {
        if !self.empty {
            self.sink.close();
        }
    }
}

pub(super) fn put_number<S: Sink>(name: Known, number: u64, sink: &mut S) {
    let mut digits = [0; write::MAX_DECIMAL];
    sink.put(name, write::decimal_in(number, &mut digits));
}

#[cfg(test)]
mod tests;
