//! One request and its response on a stream to an origin (RFC 9113 section 8).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::SendStream;
use ::h2::client::ResponseFuture;
use http::StatusCode;
use oxy_core::{Error, ErrorKind, Result, Side};

use super::fault::fault;
use super::session::Ticket;
use crate::body::Piece;
use crate::call::Answer;

/// A stream on which a response is awaited.
pub(crate) struct Wire {
    response: ResponseFuture,
    /// Where a tunnel would be written to.
    pub(crate) send: Option<SendStream<Piece>>,
    pub(crate) ticket: Ticket,
}

impl Wire {
    pub(crate) fn new(
        response: ResponseFuture,
        send: Option<SendStream<Piece>>,
        ticket: Ticket,
    ) -> Self {
        Self {
            response,
            send,
            ticket,
        }
    }

    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        if let Poll::Ready(interim) = self.response.poll_informational(cx)
            && let Some(interim) = interim
        {
            let interim = interim.map_err(|e| self.failed(e))?;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                // RFC 9113 section 8.6: there is no such thing.
                let error = Error::up(ErrorKind::Malformed);
                return Poll::Ready(Err(error.context("101 over HTTP/2")));
            }
            return Poll::Ready(Ok(Answer::Http2(Box::new(interim.map(|()| None)))));
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|e| self.failed(e))?;
        Poll::Ready(Ok(Answer::Http2(Box::new(response.map(Some)))))
    }

    fn failed(&self, error: ::h2::Error) -> Error {
        if error.is_go_away() || error.is_io() {
            self.ticket.retire();
        }
        fault(error, Side::Up)
    }
}
