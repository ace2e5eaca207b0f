//! Running proxies: worker threads, signals, and going away.

mod changes;
mod running;
mod thread;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

pub use changes::Changes;
pub use running::Running;

use crate::drain::Drain;
use crate::hooks::FlowHooks;
use crate::proxy::{Proxy, Service};
use crate::signals::Signals;
use crate::worker::Worker;
use crate::{Error, ErrorKind, Result, Side};

/// One or more [`Proxy`]s in a process, each on every worker.
pub struct Server {
    services: Vec<Box<dyn Service>>,
    workers: Option<usize>,
    drain_timeout: Duration,
}

/// How long a drain may take before what is left is cut. Long enough for most downloads, within the 90 s that service
/// managers commonly wait.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

impl Server {
    /// No proxy yet, one worker for each core that the process may run on.
    pub fn new() -> Self {
        Self {
            services: Vec::new(),
            workers: None,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }

    /// Adds a proxy. Its own number of workers counts for nothing here.
    #[must_use]
    pub fn with<A: FlowHooks>(mut self, proxy: Proxy<A>) -> Self {
        self.services.push(Box::new(proxy));
        self
    }

    /// How many worker threads there are. Default: one for each core that the process may run on.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How long flows may take to end once the server goes away, before they are cut. Default: 60 s.
    #[must_use]
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// Starts the workers and binds everything; returns once all of them listen. Two proxies may have the same name only
    /// here: [`Running::apply`] then knows them as one.
    pub fn start(self) -> Result<Running> {
        let count = self
            .workers
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1)
            .max(1);
        let drain = Drain::new();
        let mut running = Running {
            workers: (0..count)
                .map(|index| Worker::new(index, drain.child()))
                .collect(),
            drain,
            drain_timeout: self.drain_timeout,
            threads: Vec::new(),
            commands: Vec::new(),
            changing: Mutex::default(),
            services: Mutex::default(),
            next: AtomicU64::new(0),
        };
        let (ready, started) = mpsc::channel();
        for worker in running.workers.clone() {
            let (sender, commands) = unbounded_channel();
            let (ready, limit) = (ready.clone(), self.drain_timeout);
            let thread = std::thread::Builder::new()
                .name(format!("oxy-worker-{}", worker.index()))
                .spawn(move || thread::work(&worker, commands, limit, &ready))
                .map_err(|e| Error::io(Side::Local, e).context("starting a worker"))?;
            running.threads.push(thread);
            running.commands.push(sender);
        }
        drop(ready);
        for _ in 0..count {
            let died = || Error::local(ErrorKind::Internal).context("a worker died");
            started.recv().unwrap_or_else(|_| Err(died()))?;
        }
        running.switch(self.services, &Arc::default())?;
        Ok(running)
    }

    /// Runs until SIGTERM or SIGINT, then drains. A SIGINT during that, or the end of the drain's time, cuts what is left:
    /// an error of kind `Draining` says so.
    pub fn run(self) -> Result<()> {
        let signals = Signals::catch()?;
        signals.serve_until(self.start()?)
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} proxies)", self.services.len())
    }
}
