//! Proxies that run, and how they are changed while they do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::changes::Changes;
use super::thread::{Command, Number, Share, runtime};
use crate::drain::{Drain, Stage};
use crate::hooks::FlowHooks;
use crate::onramp::{Bound, Kept, ListenAddr, Places};
use crate::proxy::{Proxy, Service};
use crate::worker::Worker;
use crate::{Error, ErrorKind, Result};

/// Proxies that run.
pub struct Running {
    pub(super) workers: Vec<Worker>,
    pub(super) drain: Drain,
    pub(super) drain_timeout: Duration,
    pub(super) threads: Vec<JoinHandle<()>>,
    /// One a worker. Not bounded, as at most one command is under way at a time.
    pub(super) commands: Vec<UnboundedSender<Command>>,
    /// Held by whoever changes the proxies.
    pub(super) changing: Mutex<()>,
    /// Held for a moment only: a worker may ask, too.
    pub(super) services: Mutex<Vec<Active>>,
    pub(super) next: AtomicU64,
}

/// A proxy in service.
pub(super) struct Active {
    number: Number,
    name: Arc<str>,
    listening: Vec<(ListenAddr, Option<Kept>)>,
}

impl Running {
    /// Where it listens, by the names of the proxies, in the order in which they were added.
    pub fn addresses(&self) -> Vec<(Arc<str>, ListenAddr)> {
        let services = self.services();
        let listening = services.iter().flat_map(|active| {
            let addresses = active.listening.iter().map(|(address, _)| address);
            addresses.map(|address| (active.name.clone(), address.clone()))
        });
        listening.collect()
    }

    /// Its workers.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The root of its drain tree.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Adds a proxy: [`Running::apply`] with one change.
    pub fn add<A: FlowHooks>(&self, proxy: Proxy<A>) -> Result<()> {
        self.apply(Changes::new().add(proxy))
    }

    /// Puts a proxy in the place of the one that has its name: [`Running::apply`] with one change.
    pub fn replace<A: FlowHooks>(&self, proxy: Proxy<A>) -> Result<()> {
        self.apply(Changes::new().replace(proxy))
    }

    /// Takes away the proxy `name`: [`Running::apply`] with one change.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.apply(Changes::new().remove(name))
    }

    /// Makes all of `changes`, or none: everything is bound and made ready on every worker first, and an error of that
    /// leaves all as it was. Then each worker switches in one turn of its event loop.
    ///
    /// Proxies that arrive keep the listening sockets of those that leave, by their addresses, whatever the names: no
    /// connection is lost that waits to be accepted, and the limits on connections go on counting. Sockets that nobody
    /// takes over are closed after what waits in their queues has been taken in; that has happened when this returns.
    /// Proxies that leave drain: what is open may end, what is idle is closed in the way of its protocol, and what is left
    /// after the drain's time is cut. That goes on after this has returned.
    ///
    /// Blocks until it is done, and must not be called on a worker's thread, which is an error of kind `Internal`.
    pub fn apply(&self, changes: Changes) -> Result<()> {
        let here = std::thread::current().id();
        if self.threads.iter().any(|t| t.thread().id() == here) {
            return Err(Error::local(ErrorKind::Internal)
                .context("proxies cannot be changed on a worker's thread"));
        }
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let leaving = leaving(&self.services(), &changes)?;
        let arriving = changes.arriving.into_iter().map(|one| one.service);
        self.switch(arriving.collect(), &leaving)
    }

    /// Puts `arriving` into service, and takes `leaving` out of it.
    pub(super) fn switch(
        &self,
        arriving: Vec<Box<dyn Service>>,
        leaving: &Arc<[Number]>,
    ) -> Result<()> {
        let arriving = self.bind(arriving, leaving)?;
        if !arriving.is_empty()
            && let Err(error) = self.prepare(&arriving)
        {
            // What has been made ready holds sockets, perhaps new ones.
            let _ = self.tell(|_, done| Command::Discard(done));
            return Err(error);
        }
        // Sockets that nobody has taken over are the workers' alone from here on: the last of them closes them.
        let mut services = self.services();
        services.retain(|active| !leaving.contains(&active.number));
        services.extend(arriving.into_iter().map(|arriving| arriving.active));
        drop(services);
        self.tell(|_, done| Command::Switch(leaving.clone(), done))
    }

    /// Stops taking flows in, waits until those that are open have ended, and cuts what is left after the drain's time: an
    /// error of kind `Draining` says that it did. Blocks.
    pub fn stop(mut self) -> Result<()> {
        self.drain.start();
        self.let_go();
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

    fn services(&self) -> MutexGuard<'_, Vec<Active>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the sockets, so that the workers close them when they are done with them.
    fn let_go(&mut self) {
        self.services
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn bind(&self, arriving: Vec<Box<dyn Service>>, leaving: &[Number]) -> Result<Vec<Ready>> {
        let mut places = Places::default();
        for active in &*self.services() {
            for (address, kept) in &active.listening {
                if leaving.contains(&active.number) {
                    places.free(address.clone(), kept.clone());
                } else {
                    places.taken(address.clone(), active.name.clone());
                }
            }
        }
        let bind = |mut service: Box<dyn Service>| {
            let bound = service.bind(self.workers.len(), &mut places)?;
            Ok(Ready::new(
                self.next.fetch_add(1, Relaxed),
                service,
                bound,
                self.workers.len(),
            ))
        };
        arriving.into_iter().map(bind).collect()
    }

    fn prepare(&self, arriving: &[Ready]) -> Result<()> {
        self.tell(|worker, done| {
            let shares = arriving.iter().map(|ready| ready.share(worker));
            Command::Prepare(shares.collect(), done)
        })
    }

    /// Tells every worker to do something and waits until all have.
    fn tell(&self, command: impl Fn(usize, mpsc::Sender<Result<()>>) -> Command) -> Result<()> {
        let (done, answers) = mpsc::channel();
        for (worker, commands) in self.commands.iter().enumerate() {
            // One that is gone, with what it was told, does not answer.
            let _ = commands.send(command(worker, done.clone()));
        }
        drop(done);
        let mut outcome = Ok(());
        for _ in &self.commands {
            let answer = answers.recv().unwrap_or_else(|_| Err(self.unanswered()));
            outcome = outcome.and(answer);
        }
        outcome
    }

    /// Why a worker does not answer.
    fn unanswered(&self) -> Error {
        if self.drain.is_serving() {
            Error::local(ErrorKind::Internal).context("a worker died")
        } else {
            Error::local(ErrorKind::Draining).context("the server is going away")
        }
    }
}

/// A proxy that is bound.
struct Ready {
    active: Active,
    service: Arc<dyn Service>,
    /// For each worker its share of the on-ramps.
    seeds: Vec<Mutex<Vec<crate::onramp::Seed>>>,
}

impl Ready {
    fn new(number: Number, service: Box<dyn Service>, bound: Vec<Bound>, workers: usize) -> Self {
        let mut seeds: Vec<_> = (0..workers).map(|_| Mutex::default()).collect();
        let mut listening = Vec::new();
        for bound in bound {
            listening.push((bound.address, bound.kept));
            for (share, seed) in seeds.iter_mut().zip(bound.seeds) {
                let share: &mut Vec<_> = share.get_mut().unwrap_or_else(PoisonError::into_inner);
                share.push(seed);
            }
        }
        Self {
            active: Active {
                number,
                name: service.name().clone(),
                listening,
            },
            service: service.into(),
            seeds,
        }
    }

    /// What `worker` gets; its seeds are there once.
    fn share(&self, worker: usize) -> Share {
        let mut seeds = self.seeds[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Share {
            number: self.active.number,
            service: self.service.clone(),
            seeds: std::mem::take(&mut *seeds),
        }
    }
}

/// Whom `changes` take out of service. An error of kind `Malformed` if a name is not there, or there twice.
fn leaving(services: &[Active], changes: &Changes) -> Result<Arc<[Number]>> {
    let wrong = |name: &str, what: &str| {
        Err(Error::local(ErrorKind::Malformed)
            .context("changing proxies")
            .because(format!("{name:?} {what}")))
    };
    let there = |name: &Arc<str>| services.iter().any(|active| active.name == *name);
    let replaced = changes.arriving.iter().filter(|arriving| arriving.replaces);
    let replaced = replaced.map(|arriving| arriving.service.name());
    let names: Vec<_> = changes.leaving.iter().chain(replaced).collect();
    for (i, name) in names.iter().enumerate() {
        if !there(name) {
            return wrong(name, "does not run");
        }
        if names[..i].contains(name) {
            return wrong(name, "cannot be taken away twice");
        }
    }
    let mut arriving: Vec<&Arc<str>> = Vec::new();
    for name in changes.arriving.iter().map(|one| one.service.name()) {
        if arriving.contains(&name) || (there(name) && !names.contains(&name)) {
            return wrong(name, "runs already");
        }
        arriving.push(name);
    }
    let gone = services
        .iter()
        .filter(|active| names.contains(&&active.name));
    Ok(gone.map(|active| active.number).collect())
}

impl Drop for Running {
    /// Cuts everything: an orderly end is [`Running::stop`].
    fn drop(&mut self) {
        self.let_go();
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
        write!(f, "Running({:?})", self.addresses())
    }
}
