//! All the connections of one load, by slot.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Load;
use super::client::{Client, Progress, Request};
use crate::poller::Poller;

/// Read size: a whole receive queue, as far as loopback fills one.
const SCRATCH: usize = 512 << 10;

/// Loopback addresses that connections come from, in turn, so that one address's
/// 28,000 ports do not run out while closed connections are in `TIME_WAIT`.
const SOURCES: u64 = 200;

/// So many failures end the run: there is nothing left to measure.
const MAX_ERRORS: u64 = 1000;

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
    poller: Poller,
    slots: Vec<Slot>,
    scratch: Vec<u8>,
    opened: u64,
    wrong: u64,
    errors: u64,
}

impl Fleet {
    /// The slots of `load`, none connected.
    pub(crate) fn new(load: &Load) -> Result<Self, Box<dyn Error>> {
        let slots = (0..load.connections)
            .map(|slot| {
                let request = Request::new(load.method, load.size, slot, load.target)?;
                Some(Slot {
                    request,
                    client: None,
                })
            })
            .collect::<Option<_>>()
            .ok_or("the body is longer than the pattern")?;
        Ok(Self {
            target: load.target,
            poller: Poller::new()?,
            slots,
            scratch: vec![0; SCRATCH],
            opened: 0,
            wrong: 0,
            errors: 0,
        })
    }

    /// Answers that were not as expected.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Connections that failed.
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    /// Sends the slot's next request, connecting first if need be.
    pub(crate) fn launch(&mut self, slot: usize) -> Result<(), Box<dyn Error>> {
        loop {
            let Slot { request, client } = &mut self.slots[slot];
            let started = match client {
                Some(client) => {
                    client.started = std::time::Instant::now();
                    client.start(request)
                }
                None => match connect(&self.poller, &mut self.opened, self.target, slot) {
                    Ok(fresh) => client.insert(fresh).start(request),
                    Err(_) => Progress::Broken,
                },
            };
            if started != Progress::Broken {
                return Ok(());
            }
            *client = None;
            self.failed()?;
        }
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
        let was_busy = client.busy;
        match client.advance(ready, request, &mut self.scratch) {
            Progress::Pending => Ok(None),
            Progress::Done { right, closes } => {
                let latency = client.started.elapsed();
                self.wrong += u64::from(!right);
                if closes {
                    *place = None;
                }
                if self.wrong > MAX_ERRORS {
                    return Err("the answers are wrong".into());
                }
                Ok(Some(Done {
                    slot: ready.key,
                    latency: Some(latency),
                }))
            }
            Progress::Broken => {
                *place = None;
                self.failed()?;
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
        self.slots[slot].client = None;
    }

    fn failed(&mut self) -> Result<(), Box<dyn Error>> {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            return Err("too many connections failed".into());
        }
        Ok(())
    }
}

/// A new connection, already watched.
fn connect(
    poller: &Poller,
    opened: &mut u64,
    target: SocketAddr,
    slot: usize,
) -> io::Result<Client> {
    *opened += 1;
    let last = u8::try_from(2 + *opened % SOURCES).unwrap_or(2);
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    let client = Client::connect(source, target, *opened)?;
    poller.add(&client.socket, slot)?;
    Ok(client)
}
