//! Answering a request of HTTP/2.

use std::sync::Arc;
use std::task::{Context, Poll};

use ::h2::{Reason, RecvStream};
use http::{HeaderMap, Response, StatusCode, header};
use oxy_core::{Error, ErrorKind, Result, Side, StreamIo};

use super::fault::fault;
use super::sender::Sender;
use super::server::Stream;
use super::tunnel::Tunnel;
use crate::attended::gone;
use crate::body::Body;
use crate::date;
use crate::h1::index::Framing;
use crate::message::{Head, Res};
use crate::outgoing::Outgoing;
use crate::reply::Opening;
use crate::scratch::Spared;
use crate::semantics::{self, MapSink, ResponseHead, ResponseHop, Wire};

/// The means to answer one request.
pub(crate) struct Reply {
    stream: Arc<Stream>,
    is_head: bool,
    /// What a tunnel would be read from.
    recv: Option<RecvStream>,
    answered: bool,
}

impl Reply {
    pub(crate) fn new(stream: Arc<Stream>, is_head: bool, recv: Option<RecvStream>) -> Self {
        Self {
            stream,
            is_head,
            recv,
            answered: false,
        }
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Passes an interim response on.
    pub(crate) fn inform(&self, res: Res) -> Result<()> {
        let (response, _, _) = self.head(res, b"");
        match &mut *self.stream.respond() {
            Some(respond) => respond
                .send_informational(response)
                .map_err(|e| fault(e, Side::Down)),
            None => Ok(()),
        }
    }

    /// Answers. The body is written as it comes, and the request's goes on meanwhile.
    pub(crate) fn send(mut self, res: Res) -> Sending {
        self.answered = true;
        let (response, body, framing) = date::with(|date| self.head(res, date));
        let length = match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let state = match self.respond(response, framing.is_empty()) {
            Ok(_) if framing.is_empty() => State::Done,
            Ok(stream) => State::Body(Sender::new(stream, Side::Down, body, length)),
            Err(error) => State::Failed(Some(error)),
        };
        self.stream.alarm.set(self.stream.options().timeouts.body);
        Sending {
            stream: self.stream.clone(),
            state,
        }
    }

    /// Answers with what opens a tunnel, and gives the tunnel's near end.
    pub(crate) fn tunnel(mut self, opening: Opening) -> Result<StreamIo> {
        self.answered = true;
        let mut response = match opening {
            Opening::Connect => Response::new(()),
            Opening::Switched(res, _) => self.head(res, b"").0,
        };
        // RFC 8441 section 5: what 101 is to HTTP/1.1, with nothing to prove.
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        let Some(recv) = self.recv.take() else {
            return Err(Error::local(ErrorKind::Internal).context("no tunnel was asked for"));
        };
        let send = self.respond(response, false)?;
        Ok(StreamIo::new(Tunnel::new(send, recv, None)))
    }

    fn respond(
        &self,
        response: Response<()>,
        end: bool,
    ) -> Result<::h2::SendStream<crate::body::Piece>> {
        let Some(mut respond) = self.stream.respond().take() else {
            return Err(gone());
        };
        respond
            .send_response(response, end)
            .map_err(|e| fault(e, Side::Down))
    }

    /// The head that goes out, the body, and how it is delimited.
    fn head(&self, res: Res, date: &[u8]) -> (Response<()>, Body, Framing) {
        let policy = &self.stream.options().forward;
        let hop = ResponseHop {
            minor: 1,
            head: self.is_head,
            keep_alive: true,
            date,
            upgrade: None,
        };
        let mut response = Response::new(());
        let (head, mut body) = res.into_parts();
        let (status, framed) = match head {
            Head::Raw(mut raw) => {
                let bytes = raw.buffer.filled();
                let head = ResponseHead::indexed(&raw.index, bytes);
                *response.headers_mut() = map(raw.index.fields.len() + 2);
                let bytes = bytes.get(..raw.index.head_len).unwrap_or_default();
                let mut sink = MapSink::of_head(response.headers_mut(), bytes);
                let framed =
                    semantics::response_fields(&head, &hop, policy, Wire::Multiplexed, &mut sink);
                let status = raw.index.status;
                raw.buffer.consume(raw.index.head_len);
                if let Some(incoming) = body.as_incoming()
                    && !raw.buffer.is_empty()
                {
                    incoming.give(raw.buffer);
                }
                (status, framed)
            }
            Head::Built(built) => {
                let head = ResponseHead::of_body(&built, &body);
                *response.headers_mut() = map(built.headers().len() + 2);
                let mut sink = MapSink::new(response.headers_mut());
                let framed =
                    semantics::response_fields(&head, &hop, policy, Wire::Multiplexed, &mut sink);
                (built.status().as_u16(), framed)
            }
        };
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (response, body, framed.framing)
    }
}

/// A map with room for `fields`.
fn map(fields: usize) -> HeaderMap {
    let mut map = Spared::<HeaderMap>::take().into_inner();
    map.reserve(fields);
    map
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered
            && let Some(respond) = &mut *self.stream.respond()
        {
            // Nobody answered: the client must not take the silence for a response.
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// A response on its way.
pub(crate) struct Sending {
    stream: Arc<Stream>,
    state: State,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a box would be one more allocation per response"
)]
enum State {
    Body(Sender),
    /// There is none.
    Done,
    Failed(Option<Error>),
}

impl Sending {
    /// Bytes of payload that have gone out.
    pub(crate) fn payload(&self) -> u64 {
        match &self.state {
            State::Body(sender) => sender.payload(),
            _ => 0,
        }
    }

    /// Writes on; ready at the end, whichever it is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { stream, state } = self;
        match state {
            State::Body(sender) => sender.poll_response(cx, &stream.alarm, stream.options()),
            State::Done => Poll::Ready(Ok(())),
            State::Failed(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
        }
    }
}
