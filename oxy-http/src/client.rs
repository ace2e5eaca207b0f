//! Who is served: the near side of an exchange, whatever version it speaks.

use std::sync::Arc;
use std::task::{Context, Poll};

use oxy_core::clock::Alarm;

use crate::h1;
use crate::h2;
use crate::options::HttpOptions;

/// The client's end of an exchange: of its connection over HTTP/1, of its stream over HTTP/2.
#[derive(Clone)]
pub(crate) enum Client {
    Http1(Arc<h1::server::Conn>),
    Http2(Arc<h2::server::Stream>),
}

impl Client {
    /// What the exchange's waits are bounded by; one step of it at a time.
    pub(crate) fn alarm(&self) -> &Alarm {
        match self {
            Self::Http1(conn) => &conn.alarm,
            Self::Http2(stream) => &stream.alarm,
        }
    }

    pub(crate) fn options(&self) -> &Arc<HttpOptions> {
        match self {
            Self::Http1(conn) => &conn.options,
            Self::Http2(stream) => stream.options(),
        }
    }

    /// Whether other exchanges share its connection.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Ready once the client has given the exchange up. Nothing is consumed. Cancel safe.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(conn) => conn.link.poll_reset(cx),
            Self::Http2(stream) => stream.poll_gone(cx),
        }
    }

    /// Bytes of the request's body that have come in.
    pub(crate) fn received(&self) -> u64 {
        match self {
            Self::Http1(conn) => conn.received(),
            Self::Http2(stream) => stream.received(),
        }
    }
}
