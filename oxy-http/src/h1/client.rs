//! One request and its response on a connection to an origin (RFC 9112 section 9).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use oxy_core::buffer::Buffer;
use oxy_core::clock::Alarm;
use oxy_core::{Error, ErrorKind, Link, Result, Side};

use super::index::{Framing, ResponseIndex};
use super::parse::{self, MethodKind, Parse};
use super::pump::Pump;
use crate::attended::gone;
use crate::body::Body;
use crate::options::HttpOptions;
use crate::scratch::{Out, Spared};

/// How many interim responses (RFC 9110 section 15.2) an origin may send before its final one: more than any honest one
/// has a use for.
const MAX_INTERIM: u32 = 32;

/// How long a client that waits for 100 (Continue) is kept waiting by an origin that does not say it: what curl waits
/// before it goes on by itself.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// An exchange with an origin, under way.
pub(crate) struct Call<'a> {
    link: Arc<Link>,
    method: MethodKind,
    alarm: &'a Alarm,
    options: &'a HttpOptions,
    /// The request's head, kept for another try.
    head: Out,
    /// How much of it has been written, and whether it has gone; where a body follows, it goes with that.
    written: usize,
    sent: bool,
    /// The head again and its body, if it has one.
    upload: Option<Box<Pump>>,
    /// Part of a head.
    partial: Option<Buffer>,
    /// Whether a byte has come back.
    touched: bool,
    /// Why the request could not be sent to its end; the origin may still have answered.
    upload_failed: Option<Error>,
    interim: u32,
    waits_to_continue: bool,
}

/// A response's head, and what was read along with it.
pub(crate) struct Answer {
    pub(crate) buffer: Buffer,
    pub(crate) index: Spared<Box<ResponseIndex>>,
}

impl<'a> Call<'a> {
    /// Begins to send `head` and `body` on `link`.
    pub(crate) fn new(
        link: Arc<Link>,
        method: MethodKind,
        (head, body, framing): (Out, Body, Framing),
        alarm: &'a Alarm,
        options: &'a HttpOptions,
    ) -> Self {
        let mut waits_to_continue = false;
        let upload = (!framing.is_empty()).then(|| {
            let mut copy = Out::take();
            copy.extend_from_slice(&head);
            let pump = Pump::new(link.clone(), Side::Up, copy, body, framing);
            let mut pump = pump.low_water(options.low_water);
            waits_to_continue = pump
                .body()
                .as_incoming()
                .is_some_and(|incoming| incoming.is_expecting());
            pump.hold(waits_to_continue);
            Box::new(pump)
        });
        alarm.set(if waits_to_continue {
            CONTINUE_WAIT
        } else {
            options.timeouts.first_byte
        });
        Self {
            link,
            method,
            alarm,
            options,
            head,
            written: 0,
            sent: upload.is_some(),
            upload,
            partial: None,
            touched: false,
            upload_failed: None,
            interim: 0,
            waits_to_continue,
        }
    }

    /// Whether a byte of a response has come.
    pub(crate) fn touched(&self) -> bool {
        self.touched
    }

    /// What is left to send.
    pub(crate) fn into_upload(self) -> Option<Box<Pump>> {
        self.upload
    }

    /// The request's head, to be sent again.
    pub(crate) fn into_head(self) -> Out {
        self.head
    }

    /// The next response head, interim ones too; the request is sent meanwhile, and `client` is watched once it has sent
    /// all. Cancel safe.
    pub(crate) async fn answer(&mut self, client: &Link) -> Result<Answer> {
        poll_fn(|cx| {
            let answer = self.poll_answer(cx);
            if answer.is_pending() && self.upload.is_none() && client.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(gone()));
            }
            answer
        })
        .await
    }

    /// The client has been told to go on.
    pub(crate) fn go_on(&mut self) {
        if let Some(upload) = &mut self.upload {
            if let Some(incoming) = upload.body().as_incoming() {
                incoming.informed();
            }
            upload.hold(false);
        }
        self.waits_to_continue = false;
        self.wait_on();
    }

    /// Something else has had the alarm meanwhile.
    pub(crate) fn wait_on(&self) {
        self.alarm.set(if self.waits_to_continue {
            CONTINUE_WAIT
        } else {
            self.options.timeouts.first_byte
        });
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        self.poll_upload(cx)?;
        if let Poll::Ready(answer) = self.poll_head(cx) {
            return Poll::Ready(answer);
        }
        if self.alarm.poll_expired(cx).is_ready() {
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

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if !self.sent {
            let head = self.link.poll_write_all(cx, &self.head, &mut self.written);
            self.sent = head.is_ready();
            if let Poll::Ready(Err(e)) = head {
                self.upload_failed = Some(Error::io(Side::Up, e).context("writing"));
            }
            return Ok(());
        }
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        match upload.poll_timed(cx, self.alarm, self.options) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.upload = None;
                self.alarm.set(self.options.timeouts.first_byte);
            }
            // The client's fault ends the exchange. The origin's may come with an answer that says why.
            Poll::Ready(Err(error)) if error.side() == Side::Up => {
                self.upload = None;
                self.upload_failed = Some(error);
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        loop {
            // What followed an interim head is looked at before more is read.
            if let Some(buffer) = self.partial.take_if(|buffer| !buffer.is_empty()) {
                let mut index = Spared::<Box<ResponseIndex>>::take();
                match parse::response(buffer.filled(), &self.options.head, self.method, &mut index)
                {
                    Ok(Parse::Complete) => {
                        if (100..200).contains(&index.status) && index.status != 101 {
                            self.interim += 1;
                            if self.interim > MAX_INTERIM {
                                let error = Error::up(ErrorKind::Malformed);
                                return Poll::Ready(Err(
                                    error.context("too many interim responses")
                                ));
                            }
                            let mut rest = Buffer::new();
                            rest.put(&buffer.filled()[index.head_len..]);
                            self.partial = Some(rest);
                        }
                        return Poll::Ready(Ok(Answer { buffer, index }));
                    }
                    Ok(Parse::Partial) => self.partial = Some(buffer),
                    Err(reject) => return Poll::Ready(Err(reject.up())),
                }
            }
            if self.partial.is_none() {
                ready!(self.link.poll_readable(cx)).map_err(|e| self.failed(e))?;
            }
            let mut buffer = self.partial.take().unwrap_or_default();
            buffer.reserve(1);
            let n = match self.link.poll_read(cx, buffer.spare()) {
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(self.failed(e))),
                Poll::Pending => {
                    if !buffer.is_empty() {
                        self.partial = Some(buffer);
                    }
                    return Poll::Pending;
                }
            };
            if n == 0 {
                return Poll::Ready(Err(self.failed(std::io::ErrorKind::UnexpectedEof.into())));
            }
            self.touched = true;
            buffer.advance(n);
            self.partial = Some(buffer);
        }
    }

    fn failed(&mut self, e: std::io::Error) -> Error {
        self.upload_failed
            .take()
            .unwrap_or_else(|| Error::io(Side::Up, e).context("reading a response"))
    }
}
