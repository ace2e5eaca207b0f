//! HTTP/2 with prior knowledge or by ALPN: many streams on few connections, each
//! followed by the next when its answer is whole.
//!
//! A client of its own, because it has to cost less than the proxy: requests are
//! encoded once, answers are compared as they come, and what one event brings is
//! answered with one write.

mod block;
mod connection;
mod frame;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::ClientConfig;

use self::connection::{Connection, Request};
use super::tally::Tally;
use super::wire::{Broken, Buffers};
use super::{Load, Sample, Window, request, tls};
use crate::poller::Poller;

/// Offers the load and measures.
pub(super) fn closed(load: &Load, streams: usize) -> Result<Sample, Box<dyn Error>> {
    let mut pool = Pool::new(load)?;
    let mut buffers = Buffers::new();
    let mut tally = Tally::default();
    let mut window = Window::new(load);
    let mut done = Vec::new();
    let host = request::host(load.target, pool.tls.is_some());
    for connection in 0..load.connections {
        let slots = connection * streams..(connection + 1) * streams;
        let requests = slots
            .map(|slot| Request::new(load.size, slot, &host, pool.tls.is_some()))
            .collect::<Option<_>>()
            .ok_or("the body is longer than the pattern")?;
        pool.open(connection, requests)?;
    }
    loop {
        for index in 0..pool.poller.wait(Duration::from_millis(10))? {
            let ready = pool.poller.event(index);
            let advanced = pool.connections[ready.key]
                .as_mut()
                .map_or(Ok(()), |connection| {
                    connection.advance(ready, &mut buffers, &mut done)
                });
            for done in done.drain(..) {
                match done.latency {
                    Some(latency) => {
                        tally.answered(done.right)?;
                        window.record(latency);
                    }
                    None => tally.failed()?,
                }
            }
            if advanced == Err(Broken)
                && let Some(connection) = pool.connections[ready.key].take()
            {
                tally.failed()?;
                pool.open(ready.key, connection.into_requests())?;
            }
        }
        if window.tick(Instant::now())? {
            return window.finish(tally);
        }
    }
}

/// The connections.
#[derive(Debug)]
struct Pool {
    target: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    opened: u64,
}

impl Pool {
    fn new(load: &Load) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            target: load.target,
            tls: load
                .tls
                .map(|group| tls::config(group, b"h2"))
                .transpose()?,
            poller: Poller::new()?,
            connections: (0..load.connections).map(|_| None).collect(),
            opened: 0,
        })
    }

    fn open(&mut self, index: usize, requests: Vec<Request>) -> std::io::Result<()> {
        self.opened += 1;
        let connection = Connection::open(self.opened, self.target, self.tls.as_ref(), requests)?;
        self.poller.add(connection.socket(), index)?;
        self.connections[index] = Some(connection);
        Ok(())
    }
}
