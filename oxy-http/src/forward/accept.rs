//! From an answer's head to a response whose body is tied to its connection.

use std::sync::Arc;

use ::h2::RecvStream;
use http::{Response, StatusCode, header};
use oxy_core::buffer::Buffer;
use oxy_core::{Error, ErrorKind, Link, Result, StreamIo};

use super::Called;
use crate::body::Body;
use crate::call::{Answer, Wire};
use crate::errand::Errand;
use crate::h1::incoming::{Home, Incoming, Rest, Source};
use crate::h1::index::ResponseIndex;
use crate::h2;
use crate::h2::request::content_length;
use crate::h2::tunnel::Tunnel;
use crate::message::Res;
use crate::options::HttpOptions;
use crate::outgoing::Outgoing;
use crate::pool::Lease;
use crate::scratch::Spared;
use crate::websocket;

/// A final head, and what the rest of the response comes from.
pub(super) struct Arrived {
    pub(super) answer: Answer,
    pub(super) wire: Wire,
    pub(super) lease: Option<Lease>,
    pub(super) upload: Option<Box<dyn Outgoing>>,
}

impl Arrived {
    /// Makes a response of it, and ties the connection's fate to its body.
    pub(super) fn accept(self, options: &HttpOptions, errand: &Errand) -> Result<Called> {
        let Self {
            answer,
            wire,
            lease,
            upload,
        } = self;
        match (answer, wire, lease) {
            (Answer::Http1 { buffer, index }, Wire::Http1(wire), Some(lease)) => {
                let link = wire.into_parts().0;
                accept_http1((buffer, index), link, (lease, upload), options, errand)
            }
            (Answer::Http2(response), Wire::Http2(wire), _) => {
                accept_http2(*response, *wire, upload, errand)
            }
            _ => Err(Error::local(ErrorKind::Internal).context("an answer from another wire")),
        }
    }
}

fn accept_http1(
    (mut buffer, index): (Buffer, Spared<Box<ResponseIndex>>),
    link: Arc<Link>,
    (mut lease, upload): (Lease, Option<Box<dyn Outgoing>>),
    options: &HttpOptions,
    errand: &Errand,
) -> Result<Called> {
    if index.status == 101 {
        // Only a protocol that was offered can be changed to (RFC 9110 section 7.8).
        let Some(protocol) = errand.upgrade.clone().filter(|_| index.upgrade) else {
            return Err(Error::up(ErrorKind::Malformed).context("an upgrade that nobody asked for"));
        };
        let mut stream = StreamIo::from_link(link);
        stream.unread(&buffer.filled()[index.head_len..]);
        buffer.truncate(index.head_len);
        let head = Res::raw(buffer, index, Body::empty());
        return Ok(Called::Switched(head, protocol, stream));
    }
    lease.keep_alive = index.keep_alive;
    lease.upload = upload;
    let rest = Rest::from(index.framing);
    let body = if matches!(rest, Rest::Done) {
        // Bytes behind a response that has no body are nobody's.
        if buffer.len() == index.head_len {
            lease.come_home(Source::new(link, rest));
        }
        buffer.truncate(index.head_len);
        Body::empty()
    } else {
        let source = Source::new(link, rest);
        let home = Home::Upstream(lease);
        Body::incoming(Incoming::new(source, home, options.chunk.clone()))
    };
    Ok(Called::Response(Res::raw(buffer, index, body)))
}

fn accept_http2(
    response: Response<Option<RecvStream>>,
    wire: h2::client::Wire,
    upload: Option<Box<dyn Outgoing>>,
    errand: &Errand,
) -> Result<Called> {
    let (mut parts, recv) = response.into_parts();
    let Some(recv) = recv else {
        return Err(Error::local(ErrorKind::Internal).context("an interim head for a final one"));
    };
    if let (Some(protocol), Some(send)) = (errand.upgrade.clone(), wire.send)
        && parts.status.is_success()
    {
        // RFC 8441 section 5: what 101 is to HTTP/1.1, where the handshake is proved.
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.headers.remove(header::CONTENT_LENGTH);
        if let Some(key) = errand.websocket_key() {
            let accept = websocket::accept(key.as_bytes());
            parts.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let stream = StreamIo::new(Tunnel::new(send, recv, Some(wire.ticket)));
        let head = Res::from(Response::from_parts(parts, Body::empty()));
        return Ok(Called::Switched(head, protocol, stream));
    }
    let body = if recv.is_end_stream() {
        Body::empty()
    } else {
        let length = content_length(&parts.headers);
        let home = h2::incoming::Home::Upstream {
            _ticket: wire.ticket,
            upload,
        };
        Body::stream(h2::incoming::Incoming::new(recv, length, home))
    };
    Ok(Called::Response(Res::from(Response::from_parts(
        parts, body,
    ))))
}
