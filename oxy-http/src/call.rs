//! One request to an origin and the heads that come back, whatever version the origin speaks.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use oxy_core::buffer::Buffer;
use oxy_core::clock::{self, Alarm};
use oxy_core::{Error, ErrorKind, Result, Retry, Side};

use crate::attended::gone;
use crate::body::Body;
use crate::client::Client;
use crate::h1;
use crate::h1::index::ResponseIndex;
use crate::h2;
use crate::message::Res;
use crate::options::HttpOptions;
use crate::outgoing::Outgoing;
use crate::scratch::Spared;

/// How many interim responses (RFC 9110 section 15.2) an origin may send before its final one: more than any honest one
/// has a use for.
pub(crate) const MAX_INTERIM: u32 = 32;

/// How long a client that waits for 100 (Continue) is kept waiting by an origin that does not say it: what curl waits
/// before it goes on by itself.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// From when on a client that has a connection to itself is watched while it waits: most answers are there before, and what
/// is spared is all that the event loop would have had to know of a connection with one request.
const LATE: Duration = clock::TICK;

/// An exchange with an origin, under way.
pub(crate) struct Call<'a> {
    pub(crate) wire: Wire,
    alarm: &'a Alarm,
    options: &'a HttpOptions,
    /// The request's body on its way, with its head where that goes along.
    upload: Option<Box<dyn Outgoing>>,
    /// The body as it was, once it has been sent, if it is known.
    sent: Option<Body>,
    /// Why the request could not be sent to its end; the origin may still have answered.
    upload_failed: Option<Error>,
    interim: u32,
    waits_to_continue: bool,
    /// Whether the answer takes so long that a look at the client is worth its while; where its body is sent, it is looked
    /// at for that.
    is_late: bool,
}

/// Where the answer comes from.
pub(crate) enum Wire {
    Http1(h1::client::Wire),
    Http2(Box<h2::client::Wire>),
}

/// A response's head, interim ones too, and what the rest of it is read from.
pub(crate) enum Answer {
    Http1 {
        buffer: Buffer,
        index: Spared<Box<ResponseIndex>>,
    },
    Http2(Box<http::Response<Option<::h2::RecvStream>>>),
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Http1 { index, .. } => index.status,
            Self::Http2(response) => response.status().as_u16(),
        }
    }

    /// What a gRPC origin says went wrong, where it says so at once (a response of trailers only).
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        let Self::Http2(response) = self else {
            return None;
        };
        let status = response.headers().get("grpc-status")?;
        status.to_str().ok()?.parse().ok()
    }

    /// The head alone.
    pub(crate) fn into_head(self) -> Res {
        match self {
            Self::Http1 { mut buffer, index } => {
                buffer.truncate(index.head_len);
                Res::raw(buffer, index, Body::empty())
            }
            Self::Http2(response) => Res::from(response.map(|_| Body::empty())),
        }
    }
}

impl<'a> Call<'a> {
    /// Awaits an answer on `wire`, and sends `upload` meanwhile.
    pub(crate) fn new(
        wire: Wire,
        mut upload: Option<Box<dyn Outgoing>>,
        alarm: &'a Alarm,
        options: &'a HttpOptions,
    ) -> Self {
        let mut waits_to_continue = false;
        let is_late = upload.is_some() || options.timeouts.first_byte <= LATE;
        if let Some(upload) = &mut upload {
            waits_to_continue = upload.body().is_expecting();
            upload.hold(waits_to_continue);
        }
        let call = Self {
            wire,
            alarm,
            options,
            upload,
            sent: None,
            upload_failed: None,
            interim: 0,
            is_late,
            waits_to_continue,
        };
        call.wait_on();
        call
    }

    /// Whether a byte of a response has come.
    pub(crate) fn touched(&self) -> bool {
        match &self.wire {
            Wire::Http1(wire) => wire.touched(),
            Wire::Http2(_) => self.interim > 0,
        }
    }

    /// The request's body as it was, for another try, if it is known.
    pub(crate) fn take_back(&mut self) -> Option<Body> {
        match &mut self.upload {
            Some(upload) => upload.take_back(),
            None => self.sent.take(),
        }
    }

    /// Where the answer came from, and what is left to send.
    pub(crate) fn into_parts(mut self) -> (Wire, Option<Box<dyn Outgoing>>) {
        if let Some(upload) = &mut self.upload {
            upload.settle();
        }
        (self.wire, self.upload)
    }

    /// The next response head, interim ones too; the request is sent meanwhile, and `client` is watched once it has sent
    /// all and waited for a moment. Cancel safe.
    pub(crate) async fn answer(&mut self, client: &Client) -> Result<Answer> {
        poll_fn(|cx| {
            if let Wire::Http1(wire) = &mut self.wire
                && wire.makes_way(cx)
            {
                return Poll::Pending;
            }
            let answer = self.poll_answer(cx);
            if answer.is_pending()
                && self.upload.is_none()
                && (self.is_late || client.is_multiplexed())
                && client.poll_gone(cx).is_ready()
            {
                return Poll::Ready(Err(gone()));
            }
            answer
        })
        .await
    }

    /// The client has been told to go on.
    pub(crate) fn go_on(&mut self) {
        if let Some(upload) = &mut self.upload {
            upload.body().informed();
            upload.hold(false);
        }
        self.waits_to_continue = false;
        self.wait_on();
    }

    /// Something else has had the alarm meanwhile.
    pub(crate) fn wait_on(&self) {
        self.alarm.set(if self.waits_to_continue {
            CONTINUE_WAIT
        } else if self.is_late {
            self.options.timeouts.first_byte
        } else {
            LATE
        });
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        self.poll_upload(cx)?;
        let head = match &mut self.wire {
            Wire::Http1(wire) => wire.poll_head(cx, &self.options.head),
            Wire::Http2(wire) => wire.poll_head(cx),
        };
        if let Poll::Ready(answer) = head {
            return Poll::Ready(self.judge(answer));
        }
        if self.alarm.poll_expired(cx).is_ready() {
            if !self.is_late {
                self.is_late = true;
                let rest = self.options.timeouts.first_byte.saturating_sub(LATE);
                self.alarm.set(rest);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.waits_to_continue {
                // The origin is in no hurry to say so: the body's first read tells the client itself.
                self.waits_to_continue = false;
                if let Some(upload) = &mut self.upload {
                    upload.hold(false);
                }
                self.alarm.set(self.options.timeouts.first_byte);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let side = self
                .upload
                .as_ref()
                .map_or(Side::Up, |upload| upload.waits_for());
            return Poll::Ready(Err(
                Error::new(ErrorKind::Timeout, side).context("waiting for a response")
            ));
        }
        Poll::Pending
    }

    fn judge(&mut self, answer: Result<Answer>) -> Result<Answer> {
        let answer = answer.map_err(|error| {
            // Where the connection has failed, what failed first is what the matter is, unless the origin says that it has
            // not looked at the request.
            match error.kind() {
                _ if error.retryable() == Retry::Safe => error,
                ErrorKind::Closed | ErrorKind::Io => self.upload_failed.take().unwrap_or(error),
                _ => error,
            }
        })?;
        if (100..200).contains(&answer.status()) && answer.status() != 101 {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Error::up(ErrorKind::Malformed).context("too many interim responses"));
            }
        }
        Ok(answer)
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if let Wire::Http1(wire) = &mut self.wire
            && let Some(failed) = wire.poll_send(cx)
        {
            self.upload_failed = Some(failed);
        }
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        match upload.poll_timed(cx, self.alarm, self.options) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.sent = upload.take_back();
                self.upload = None;
                self.alarm.set(self.options.timeouts.first_byte);
            }
            // The client's fault ends the exchange. The origin's may come with an answer that says why.
            Poll::Ready(Err(error)) if error.side() == Side::Up => {
                self.sent = upload.take_back();
                self.upload = None;
                self.upload_failed = Some(error);
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(())
    }
}
