//! Exchanges, and the means to answer them, whatever version they came by.

use std::task::{Context, Poll};

use oxy_core::{Result, StreamIo};

use crate::client::Client;
use crate::h1;
use crate::h2;
use crate::message::{Req, Res};

/// A request with the means to answer it.
pub(crate) struct Exchange {
    pub(crate) req: Req,
    pub(crate) reply: Reply,
}

/// The means to answer one request. Dropped without an answer, it makes the client see an error.
pub(crate) enum Reply {
    Http1(h1::server::Reply),
    Http2(h2::reply::Reply),
}

/// What opens a tunnel.
pub(crate) enum Opening {
    /// A successful answer to CONNECT (RFC 9110 section 9.3.6).
    Connect,
    /// An answer of 101 (Switching Protocols), and the protocol that was changed to.
    Switched(Res, Vec<u8>),
}

/// A response on its way.
pub(crate) enum Sending {
    Http1(h1::server::Sending),
    Http2(h2::reply::Sending),
}

impl Reply {
    /// Who is answered.
    pub(crate) fn client(&self) -> Client {
        match self {
            Self::Http1(reply) => Client::Http1(reply.conn().clone()),
            Self::Http2(reply) => Client::Http2(reply.stream().clone()),
        }
    }

    /// Passes an interim response on (RFC 9110 section 15.2), unless the client would not understand it.
    pub(crate) async fn inform(&mut self, res: Res) -> Result<()> {
        match self {
            Self::Http1(reply) => reply.inform(res).await,
            Self::Http2(reply) => reply.inform(res),
        }
    }

    /// Answers. The body is written as it comes, and the request's goes on meanwhile.
    pub(crate) fn send(self, res: Res) -> Sending {
        match self {
            Self::Http1(reply) => Sending::Http1(reply.send(res)),
            Self::Http2(reply) => Sending::Http2(reply.send(res)),
        }
    }

    /// Answers with what opens a tunnel, and gives the tunnel's near end.
    pub(crate) async fn tunnel(self, opening: Opening) -> Result<StreamIo> {
        match self {
            Self::Http1(reply) => reply.tunnel(opening).await,
            Self::Http2(reply) => reply.tunnel(opening),
        }
    }
}

impl Sending {
    /// Bytes of payload that have gone out.
    pub(crate) fn payload(&self) -> u64 {
        match self {
            Self::Http1(sending) => sending.payload(),
            Self::Http2(sending) => sending.payload(),
        }
    }

    /// Writes on; ready at the end, whichever it is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            Self::Http1(sending) => sending.poll(cx),
            Self::Http2(sending) => sending.poll(cx),
        }
    }
}
