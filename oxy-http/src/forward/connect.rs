//! Connections for requests: one that is at hand, or a new one.

use std::sync::Arc;

use oxy_core::cluster::{self, Pick};
use oxy_core::{
    BoxFuture, Carrier, Error, ErrorKind, Far, Link, Result, Side, StreamIo, clock, pinned,
};

use super::{Course, Trip};
use crate::call::{Call, Wire};
use crate::errand::{Between, Errand};
use crate::h1;
use crate::h1::index::Framing;
use crate::h1::pump::Pump;
use crate::h2;
use crate::h2::fault::fault;
use crate::h2::sender::Sender;
use crate::h2::session::{Handle, Place, Ticket};
use crate::outgoing::Outgoing;
use crate::pool::{Endpoint, Lease, Protocol, Speaks};
use crate::scratch::Out;

/// A connection that can take a request.
pub(super) enum Connection {
    Http1(Arc<Link>, Lease),
    Http2(Ticket, Handle),
}

impl Connection {
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(_, lease) => lease.reused,
            Self::Http2(ticket, _) => ticket.reused,
        }
    }
}

/// A connection that is open and free, if there is one.
/// Those that are shared are left out unless it `shares`; those that are not, if it is to be `fresh`.
pub(super) fn at_hand(endpoint: &Arc<Endpoint>, fresh: bool, shares: bool) -> Option<Connection> {
    if endpoint.speaks() == Speaks::Http1 {
        let (link, lease) = if fresh { None } else { endpoint.take() }?;
        return Some(Connection::Http1(link, lease));
    }
    if !shares {
        return None;
    }
    loop {
        let ticket = endpoint.sessions.ticket()?;
        // One that the origin has said goodbye on is left out from then on, and nobody has been asked anything.
        if let Ok(send) = ticket.handle() {
            return Some(Connection::Http2(ticket, send));
        }
    }
}

/// A connection that has just been opened.
struct Opened {
    stream: StreamIo,
    http2: bool,
    place: Option<cluster::Connection>,
}

impl Opened {
    fn lease(self, endpoint: &Arc<Endpoint>) -> Connection {
        Connection::Http1(self.stream.into_parts().0, endpoint.lease(self.place))
    }
}

impl<'a> Trip<'a> {
    /// A connection that is new, or has room on it soon. Boxed, as it is rare and large.
    pub(super) fn connect<'b>(
        self,
        between: Between<'b>,
        upgrades: bool,
        course: &'b Course,
    ) -> BoxFuture<'b, Result<Connection>>
    where
        'a: 'b,
    {
        pinned(move || self.connect_anew(between, upgrades, course))
    }

    async fn connect_anew(
        self,
        between: Between<'_>,
        upgrades: bool,
        course: &Course,
    ) -> Result<Connection> {
        let endpoint = between.endpoint;
        let options = self.going.options();
        let (ticket, send) = loop {
            if endpoint.speaks() == Speaks::Http1 {
                let opened = self.open(between, course).await?;
                if !opened.http2 {
                    return Ok(opened.lease(endpoint));
                }
                // It has learned something since.
                let opening = endpoint.sessions.opening();
                break opening.greet(opened.stream, opened.place, options).await?;
            }
            let place = if course.is_last_call() {
                Some(Place::Open(endpoint.sessions.opening()))
            } else {
                endpoint.sessions.place(&options.http2)
            };
            match place {
                Some(Place::Ticket(ticket)) => {
                    if let Ok(send) = ticket.handle() {
                        break (ticket, send);
                    }
                }
                Some(Place::Open(opening)) => {
                    let opened = self.open(between, course).await?;
                    if !opened.http2 {
                        return Ok(opened.lease(endpoint));
                    }
                    break opening.greet(opened.stream, opened.place, options).await?;
                }
                // Others are about to find out what it speaks, or have taken all the room there is.
                None => {
                    clock::within(
                        options.timeouts.first_byte,
                        Side::Up,
                        "waiting for room on an HTTP/2 connection",
                        endpoint.sessions.room(&options.http2),
                    )
                    .await?;
                }
            }
        };
        if upgrades && !ticket.takes_extended_connect().await {
            return Err(
                Error::up(ErrorKind::Unsupported).context("the origin takes no extended CONNECT")
            );
        }
        Ok(Connection::Http2(ticket, send))
    }

    /// A new connection.
    async fn open(self, between: Between<'_>, course: &Course) -> Result<Opened> {
        let endpoint = between.endpoint;
        let way = endpoint.way();
        let _pending = match &self.going.backend {
            Some(backend) => Some(backend.balancer.pending()?),
            None => None,
        };
        let place = course.pick.as_ref().map(Pick::connection).transpose()?;
        loop {
            let (target, name) = (&endpoint.target, endpoint.name.as_ref());
            match way.offramp.open_as(target, name, between.client).await {
                Ok(Far {
                    carrier: Carrier::Stream(stream),
                    facts,
                    ..
                }) => {
                    let agreed = facts.tls.get().and_then(|tls| tls.alpn.as_deref());
                    let http2 = match way.protocol {
                        Protocol::Auto => agreed == Some(b"h2"),
                        protocol => protocol == Protocol::Http2,
                    };
                    endpoint.found(http2);
                    return Ok(Opened {
                        stream,
                        http2,
                        place,
                    });
                }
                Ok(_) => {
                    return Err(Error::local(ErrorKind::Unsupported).context("HTTP needs a stream"));
                }
                // An idle connection's descriptor serves better here.
                Err(error) if error.kind() == ErrorKind::Overloaded && self.going.desk.evict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the request by `connection`.
    pub(super) fn over(
        self,
        connection: Connection,
        errand: &mut Errand,
        between: Between<'_>,
    ) -> Result<(Call<'a>, Option<Lease>)> {
        match connection {
            Connection::Http1(link, lease) => {
                Ok((self.over_http1(errand, between, link), Some(lease)))
            }
            Connection::Http2(ticket, send) => {
                Ok((self.over_http2(errand, between, ticket, send)?, None))
            }
        }
    }

    fn over_http1(self, errand: &mut Errand, between: Between<'_>, link: Arc<Link>) -> Call<'a> {
        let options = self.going.options();
        let head = errand.write(between);
        let upload = (!errand.framing.is_empty()).then(|| {
            let mut copy = Out::take();
            copy.extend_from_slice(&head);
            let body = errand.give_body();
            let pump = Pump::new(link.clone(), Side::Up, copy, body, errand.framing);
            Box::new(pump.low_water(options.low_water)) as Box<dyn Outgoing>
        });
        let wire = h1::client::Wire::new(link, errand.method, head)
            .sent_by(upload.is_some())
            .before_bulk(between.endpoint.splices());
        Call::new(Wire::Http1(wire), upload, self.client.alarm(), options)
    }

    fn over_http2(
        self,
        errand: &mut Errand,
        between: Between<'_>,
        ticket: Ticket,
        mut handle: Handle,
    ) -> Result<Call<'a>> {
        let request = errand.request(between)?;
        let tunnels = errand.upgrade.is_some();
        let ends = errand.framing.is_empty() && !tunnels;
        let (response, send) = handle
            .send_request(request, ends)
            .map_err(|e| fault(e, Side::Up))?;
        let length = match errand.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let (mut upload, mut tunnel) = (None, None);
        if tunnels {
            tunnel = Some(send);
        } else if !ends {
            let sender = Sender::new(send, Side::Up, errand.give_body(), length);
            upload = Some(Box::new(sender) as Box<dyn Outgoing>);
        }
        let wire = h2::client::Wire::new(response, tunnel, ticket);
        let wire = Wire::Http2(Box::new(wire));
        let options = self.going.options();
        Ok(Call::new(wire, upload, self.client.alarm(), options))
    }
}
