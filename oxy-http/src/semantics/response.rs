//! What a proxy changes in a response.

use super::Received;
use super::fields::{Fields, Indexed, Lines, Mapped, Sink};
use super::policy::ForwardPolicy;
use super::request::{Wire, put_number, via};
use crate::body::Body;
use crate::h1::index::{Framing, ResponseIndex};
use crate::h1::known::Known;
use crate::h1::token;

/// A response as it was received.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a, F> {
    /// The status code.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: &'a [u8],
    /// How the body is delimited.
    pub framing: Framing,
    /// What Content-Length says where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// In which version it came.
    pub received: Received,
    /// The fields.
    pub fields: F,
}

impl<'a> ResponseHead<'a, Indexed<'a>> {
    /// The response in `head`, which is what was indexed.
    pub fn indexed(index: &'a ResponseIndex, head: &'a [u8]) -> Self {
        Self {
            status: index.status,
            reason: index.reason.of(head),
            framing: index.framing,
            content_length: index.content_length,
            received: Received::of_minor(index.minor),
            fields: Indexed::response(index, head),
        }
    }
}

impl<'a> ResponseHead<'a, Mapped<'a>> {
    /// A response in the types of the `http` crate with `body` behind it. Where there is none (HEAD, 304), what the fields
    /// say about its length is what is said, unless there is a body after all that tells better.
    pub fn of_body<B>(response: &'a http::Response<B>, body: &Body) -> Self {
        let length = body.length();
        let framing = match length {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let declared = response
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| token::digits(value.as_bytes()));
        let tells = length.filter(|length| *length > 0);
        Self::of_response(response, framing, tells.or(declared).or(length))
    }

    /// A response in the types of the `http` crate, whose body is delimited by `framing`. What the fields say about
    /// its length is ignored; `content_length` is what is said where no body follows.
    pub fn of_response<B>(
        response: &'a http::Response<B>,
        framing: Framing,
        content_length: Option<u64>,
    ) -> Self {
        Self {
            status: response.status().as_u16(),
            reason: response
                .status()
                .canonical_reason()
                .unwrap_or_default()
                .as_bytes(),
            framing,
            content_length,
            received: Received::of(response.version()),
            fields: Mapped::new(response.headers()),
        }
    }
}

/// Where a response goes.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHop<'a> {
    /// The minor version of the client's request, 0 or 1.
    pub minor: u8,
    /// Whether the request was HEAD.
    pub head: bool,
    /// Whether the client's connection may stay open after this response.
    pub keep_alive: bool,
    /// The time, as Date has it (RFC 9110 section 6.6.1): added where an origin sent none. Nothing is added if empty.
    pub date: &'a [u8],
    /// The protocol to which the connection changes, with a status of 101.
    pub upgrade: Option<&'a [u8]>,
}

/// How a response was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// How its body has to be delimited.
    pub framing: Framing,
    /// Whether the client was told that the connection stays open.
    pub keep_alive: bool,
}

/// Appends the response to `out` as a proxy sends it on to an HTTP/1.1 or HTTP/1.0 client. For an HTTP/1.0 client the
/// caller drops heads with a status of 1xx (RFC 9110 section 15.2).
pub fn forward_response<F: Fields>(
    head: &ResponseHead<'_, F>,
    hop: &ResponseHop<'_>,
    policy: &ForwardPolicy,
    out: &mut Vec<u8>,
) -> Framed {
    // What we add is some 200 bytes.
    out.reserve(head.reason.len() + head.fields.size() + 256);
    // The version is our own, whatever the client's (RFC 9110 section 6.2).
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = head.status.clamp(100, 999);
    out.extend_from_slice(&[
        b'0' + (status / 100) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
        b' ',
    ]);
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    let framed = response_fields(head, hop, policy, Wire::Http1, &mut Lines(out));
    out.extend_from_slice(b"\r\n");
    framed
}

/// Writes the fields of the response to `sink` as a proxy sends them on. For [`Wire::Multiplexed`] the caller writes
/// `:status` and delimits the body in its own way.
pub fn response_fields<F: Fields, S: Sink>(
    head: &ResponseHead<'_, F>,
    hop: &ResponseHop<'_>,
    policy: &ForwardPolicy,
    wire: Wire,
    sink: &mut S,
) -> Framed {
    let framed = framed(head, hop, wire);
    head.fields.pass_on(sink, |known| match known {
        _ if known.is_hop_by_hop() => false,
        // Written anew.
        Known::ContentLength => false,
        Known::Trailer => matches!(framed.framing, Framing::Chunked),
        // For one hop; the last has no business in a response, and is not for others to see either.
        Known::ProxyAuthenticate | Known::ProxyAuthenticationInfo | Known::ProxyAuthorization => {
            policy.pass_proxy_auth
        }
        _ => true,
    });
    let has_no_length = head.status < 200 || head.status == 204;
    match framed.framing {
        Framing::Length(length) => put_number(Known::ContentLength, length, sink),
        Framing::Chunked if wire == Wire::Http1 => sink.put(Known::TransferEncoding, b"chunked"),
        // With HEAD and 304 it tells how long the body would be (RFC 9110 section 8.6).
        Framing::None if !has_no_length => {
            let length = match head.framing {
                Framing::Length(length) => head.content_length.or(Some(length)),
                _ => head.content_length,
            };
            if let Some(length) = length {
                put_number(Known::ContentLength, length, sink);
            }
        }
        _ => {}
    }
    if head.status >= 200 && !hop.date.is_empty() && !head.fields.has(Known::Date) {
        sink.put(Known::Date, hop.date);
    }
    via(head.received, policy, sink);
    if wire == Wire::Http1 {
        match hop.upgrade {
            Some(protocol) if head.status == 101 => {
                sink.put(Known::Connection, b"upgrade");
                sink.put(Known::Upgrade, protocol);
            }
            _ if head.status < 200 => {}
            _ if !framed.keep_alive => sink.put(Known::Connection, b"close"),
            _ if hop.minor == 0 => sink.put(Known::Connection, b"keep-alive"),
            _ => {}
        }
    }
    framed
}

/// RFC 9112 section 6.3 from the sender's side.
fn framed<F: Fields>(head: &ResponseHead<'_, F>, hop: &ResponseHop<'_>, wire: Wire) -> Framed {
    let bodiless = hop.head || head.status < 200 || matches!(head.status, 204 | 304);
    let framing = match head.framing {
        _ if bodiless => Framing::None,
        Framing::Chunked | Framing::UntilClose if wire == Wire::Http1 && hop.minor == 0 => {
            Framing::UntilClose
        }
        Framing::Chunked | Framing::UntilClose => Framing::Chunked,
        // The origin was asked with another method than the client used, and gave no body to what has one here.
        Framing::None => Framing::Length(0),
        Framing::Length(length) => Framing::Length(length),
    };
    Framed {
        framing,
        keep_alive: hop.keep_alive && framing != Framing::UntilClose,
    }
}

#[cfg(test)]
mod tests;
