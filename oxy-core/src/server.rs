//! Running proxies: worker threads, signals, and going away.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock;
use crate::drain::{Drain, Stage};
use crate::hooks::FlowHooks;
use crate::onramp::{ListenAddr, Seed};
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

/// Proxies that run.
pub struct Running {
    addresses: Vec<(Arc<str>, ListenAddr)>,
    workers: Vec<Worker>,
    drain: Drain,
    threads: Vec<JoinHandle<()>>,
    drain_timeout: Duration,
}

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

    /// Binds everything and starts the workers; returns once all of them listen.
    pub fn start(mut self) -> Result<Running> {
        let count = self
            .workers
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1)
            .max(1);
        let drain = Drain::new();
        let workers: Vec<_> = (0..count)
            .map(|index| Worker::new(index, drain.child()))
            .collect();

        let mut addresses = Vec::new();
        // For each worker, for each service, its share of the on-ramps.
        let mut shares: Vec<Vec<Vec<Seed>>> = (0..count)
            .map(|_| self.services.iter().map(|_| Vec::new()).collect())
            .collect();
        for (number, service) in self.services.iter_mut().enumerate() {
            for (name, bound) in service.bind(count)? {
                addresses.push((name, bound.address));
                for (share, seed) in shares.iter_mut().zip(bound.seeds) {
                    share[number].push(seed);
                }
            }
        }

        let services: Arc<[_]> = self.services.into();
        let (ready, started) = mpsc::channel();
        let mut threads = Vec::new();
        for (worker, share) in workers.iter().cloned().zip(shares) {
            let (services, ready) = (services.clone(), ready.clone());
            let thread = std::thread::Builder::new()
                .name(format!("oxy-worker-{}", worker.index()))
                .spawn(move || work(&worker, &services, share, &ready))
                .map_err(|e| Error::io(Side::Local, e).context("starting a worker"))?;
            threads.push(thread);
        }
        drop(ready);
        let running = Running {
            addresses,
            workers,
            drain,
            threads,
            drain_timeout: self.drain_timeout,
        };
        for _ in 0..count {
            match started.recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(Error::local(ErrorKind::Internal).context("a worker died"));
                }
            }
        }
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

impl Running {
    /// Where it listens, by the names of the proxies, in the order in which they were added.
    pub fn addresses(&self) -> &[(Arc<str>, ListenAddr)] {
        &self.addresses
    }

    /// Its workers.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The root of its drain tree.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Stops taking flows in, waits until those that are open have ended, and cuts what is left after the drain's time: an
    /// error of kind `Draining` says that it did. Blocks.
    pub fn stop(mut self) -> Result<()> {
        self.drain.start();
        let (drain, limit) = (self.drain.clone(), self.drain_timeout);
        let done = Drain::new();
        let watch = std::thread::spawn({
            let done = done.clone();
            move || {
                let Ok(runtime) = runtime() else { return };
                runtime.block_on(async {
                    tokio::select! {
                        () = tokio::time::sleep(limit) => drain.abort(),
                        () = done.reached(Stage::Draining) => {}
                    }
                });
            }
        });
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        done.start();
        let _ = watch.join();
        if self.drain.stage() == Stage::Aborting {
            return Err(Error::local(ErrorKind::Draining).context("flows were cut"));
        }
        Ok(())
    }
}

impl Drop for Running {
    /// Cuts everything: an orderly end is [`Running::stop`].
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.drain.abort();
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({:?})", self.addresses)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io(Side::Local, e).context("making a runtime"))
}

/// A worker thread's life.
fn work(
    worker: &Worker,
    services: &[Box<dyn Service>],
    shares: Vec<Vec<Seed>>,
    ready: &mpsc::Sender<Result<()>>,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let started = services
            .iter()
            .zip(shares)
            .try_for_each(|(service, seeds)| service.serve(worker, seeds));
        let failed = started.is_err();
        let _ = ready.send(started);
        if failed {
            return;
        }
        let drain = worker.drain();
        drain.reached(Stage::Draining).await;
        // Idle connections look at the drain when they are woken.
        clock::wake_all();
        tokio::select! {
            () = drain.drained() => {}
            () = drain.reached(Stage::Aborting) => {
                // One turn for those that say goodbye; the rest is cut with the runtime.
                clock::wake_all();
                tokio::task::yield_now().await;
            }
        }
    });
    runtime.shutdown_background();
}
