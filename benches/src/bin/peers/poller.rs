//! Edge-triggered epoll without a runtime: the origin and the load generator
//! share one core and have to cost less than the proxy that they measure.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Events taken per wake.
const BATCH: usize = 256;

/// What happened to a registered descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// The key it was registered under.
    pub(crate) key: usize,
    /// There is something to read, an end or an error included.
    pub(crate) readable: bool,
    /// There is room to write.
    pub(crate) writable: bool,
    /// The peer has closed, or the connection broke: read on after a short read.
    pub(crate) closing: bool,
}

/// An epoll instance and the events of its last wait.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// A new instance.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Watches `fd` for everything, once and until it is closed.
    pub(crate) fn add(&self, fd: impl AsFd, key: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(key as u64),
            flags,
        )?)
    }

    /// Watches a listener, level-triggered.
    pub(crate) fn add_listener(&self, fd: impl AsFd, key: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    /// Waits and returns how many events there are to [`take`](Self::event).
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        self.events.clear();
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error.into()),
        }
    }

    /// One event of the last wait.
    pub(crate) fn event(&self, index: usize) -> Ready {
        let epoll::Event { data, flags, .. } = self.events[index];
        let closing = flags
            .intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        Ready {
            key: data.u64() as usize,
            readable: closing || flags.contains(epoll::EventFlags::IN),
            writable: flags.contains(epoll::EventFlags::OUT),
            closing,
        }
    }
}
