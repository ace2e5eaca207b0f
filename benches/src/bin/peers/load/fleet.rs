//! All the HTTP/1.1 connections of one load, by slot.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::ClientConfig;

use super::Load;
use super::client::{Client, Progress};
use super::request::{self, Request};
use super::tally::Tally;
use super::tls;
use super::wire::Buffers;
use crate::poller::Poller;

/// New connections that may be in progress at a time, below any listener's backlog.
pub(super) const OPENING: usize = 64;

/// How long the proxy may take to serve all connections once.
const SETTLING: Duration = Duration::from_secs(30);

/// A slot's exchange is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) slot: usize,
    /// From the request (or the connect) to the last byte, if all came.
    pub(crate) latency: Option<Duration>,
}

/// One place for a connection.
#[derive(Debug)]
struct Slot {
    request: Request,
    client: Option<Client>,
}

/// Connections, and what has become of their exchanges.
#[derive(Debug)]
pub(crate) struct Fleet {
    target: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    poller: Poller,
    slots: Vec<Slot>,
    buffers: Buffers,
    opened: u64,
    pub(crate) tally: Tally,
}

impl Fleet {
    /// The slots of `load`, none connected.
    pub(crate) fn new(load: &Load) -> Result<Self, Box<dyn Error>> {
        let tls = load
            .tls
            .map(|group| tls::config(group, b"http/1.1"))
            .transpose()?;
        let host = request::host(load.target, tls.is_some());
        let slots = (0..load.connections)
            .map(|slot| {
                let request = Request::new(load, slot, &host)?;
                Some(Slot {
                    request,
                    client: None,
                })
            })
            .collect::<Option<_>>()
            .ok_or("the body is longer than the pattern")?;
        Ok(Self {
            target: load.target,
            tls,
            poller: Poller::new()?,
            slots,
            buffers: Buffers::new(),
            opened: 0,
            tally: Tally::default(),
        })
    }

    /// Sends the slot's next request, connecting first if need be.
    pub(crate) fn launch(&mut self, slot: usize) -> Result<(), Box<dyn Error>> {
        loop {
            let fresh = match self.slots[slot].client {
                Some(_) => None,
                None => self.connect(slot).ok(),
            };
            let Slot { request, client } = &mut self.slots[slot];
            let started = match (client.as_mut(), fresh) {
                (Some(client), _) => {
                    client.started = Instant::now();
                    client.start(request, &mut self.buffers)
                }
                (None, Some(fresh)) => client.insert(fresh).start(request, &mut self.buffers),
                (None, None) => Progress::Broken,
            };
            if started != Progress::Broken {
                return Ok(());
            }
            *client = None;
            self.tally.failed()?;
        }
    }

    /// Opens every slot's connection and has each make one request, few at a time.
    pub(crate) fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        let (mut launched, mut served) = (0, 0);
        while served < self.slots.len() {
            if begun.elapsed() > SETTLING {
                let limit = SETTLING.as_secs();
                return Err(format!("only {served} connections were served in {limit} s").into());
            }
            while launched < self.slots.len() && launched - served < OPENING {
                self.launch(launched)?;
                launched += 1;
            }
            for index in 0..self.wait(Duration::from_millis(10))? {
                if let Some(done) = self.turn(index)? {
                    if done.latency.is_none() {
                        return Err(format!("a connection broke after {served} were served").into());
                    }
                    served += 1;
                }
            }
        }
        Ok(())
    }

    /// Looks after connections that rest, and counts those that have broken; whether there was anything.
    pub(crate) fn look(&mut self, timeout: Duration) -> Result<bool, Box<dyn Error>> {
        let events = self.wait(timeout)?;
        for index in 0..events {
            self.turn(index)?;
        }
        Ok(events > 0)
    }

    /// Waits and returns how many events there are for [`turn`](Self::turn).
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        self.poller.wait(timeout)
    }

    /// Lets the slot of one event go on; returns it when its exchange is over.
    pub(crate) fn turn(&mut self, index: usize) -> Result<Option<Done>, Box<dyn Error>> {
        let ready = self.poller.event(index);
        let Slot {
            request,
            client: place,
        } = &mut self.slots[ready.key];
        let Some(client) = place else { return Ok(None) };
        let was_busy = client.busy();
        match client.advance(ready, request, &mut self.buffers) {
            Progress::Pending => Ok(None),
            Progress::Done { right, closes } => {
                let latency = client.started.elapsed();
                if closes {
                    *place = None;
                }
                self.tally.answered(right)?;
                Ok(Some(Done {
                    slot: ready.key,
                    latency: Some(latency),
                }))
            }
            Progress::Broken => {
                *place = None;
                self.tally.failed()?;
                // A resting connection has nobody waiting for it.
                Ok(was_busy.then_some(Done {
                    slot: ready.key,
                    latency: None,
                }))
            }
        }
    }

    /// Closes the slot's connection.
    pub(crate) fn close(&mut self, slot: usize) {
        if let Some(client) = self.slots[slot].client.take() {
            client.close();
        }
    }

    /// A new connection, already watched.
    fn connect(&mut self, slot: usize) -> io::Result<Client> {
        self.opened += 1;
        let client = Client::connect(self.opened, self.target, self.tls.as_ref())?;
        self.poller.add(client.socket(), slot)?;
        Ok(client)
    }
}
