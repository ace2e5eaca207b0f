//! What runs on a worker's thread: its proxies, and whoever changes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::drain::{Drain, Guard, Stage};
use crate::onramp::Seed;
use crate::proxy::{Begin, Service};
use crate::worker::Worker;
use crate::{Error, Result, Side, clock};

/// A proxy's number in its process.
pub(super) type Number = u64;

/// One worker's share of a proxy that arrives.
pub(super) struct Share {
    pub(super) number: Number,
    pub(super) service: Arc<dyn Service>,
    pub(super) seeds: Vec<Seed>,
}

/// What a worker is told to do. It answers each once it is done.
pub(super) enum Command {
    /// Make ready, so that nothing can fail any more.
    Prepare(Vec<Share>, Sender<Result<()>>),
    /// Begin what was prepared and drain those that leave. The answer comes when their sockets are let go of.
    Switch(Arc<[Number]>, Sender<Result<()>>),
    /// Forget what was prepared.
    Discard(Sender<Result<()>>),
}

/// A worker thread's life.
pub(super) fn work(
    worker: &Worker,
    mut commands: UnboundedReceiver<Command>,
    drain_timeout: Duration,
    ready: &Sender<Result<()>>,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let _ = ready.send(Ok(()));
        let drain = worker.drain();
        let mut local = Local {
            worker,
            drain_timeout,
            prepared: Vec::new(),
            services: HashMap::new(),
        };
        loop {
            tokio::select! {
                biased;
                () = drain.reached(Stage::Draining) => break,
                Some(command) = commands.recv() => local.obey(command).await,
            }
        }
        // Whoever waits for an answer learns that there is none.
        drop(commands);
        drop(local);
        tokio::select! {
            () = drain.drained() => {}
            () = drain.reached(Stage::Aborting) => {
                // The rest is cut with the runtime.
                goodbyes(worker).await;
            }
        }
    });
    runtime.shutdown_background();
}

/// How many sockets a worker learns of at a time. What these have to say is dealt with before others are asked: a thousand
/// at a time take each other's memory out of the cache between any two steps of theirs, which costs a busy worker with
/// thousands of connections a quarter of its time.
const EVENTS: usize = 64;

/// How many turns tasks have before sockets are asked again, unless nothing is left to do before: a few for each of
/// [`EVENTS`], so that these are through with what they can do.
const TURNS: u32 = 256;

/// A worker's own event loop.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS)
        .event_interval(TURNS)
        .build()
        .map_err(|e| Error::io(Side::Local, e).context("making a runtime"))
}

/// A worker's proxies.
struct Local<'a> {
    worker: &'a Worker,
    drain_timeout: Duration,
    prepared: Vec<Prepared>,
    services: HashMap<Number, Serving>,
}

/// A proxy that can begin.
struct Prepared {
    number: Number,
    /// Above the branch's node: who waits on it learns of an end after all that is below.
    drain: Drain,
    branch: Worker,
    begin: Begin,
}

/// A proxy in service.
struct Serving {
    drain: Drain,
    accepting: Vec<JoinHandle<()>>,
}

impl Local<'_> {
    async fn obey(&mut self, command: Command) {
        match command {
            Command::Prepare(shares, done) => {
                let prepared = shares.into_iter().try_for_each(|share| self.prepare(share));
                let _ = done.send(prepared);
            }
            Command::Switch(leaving, done) => {
                let closing = self.switch(&leaving);
                for accepting in closing {
                    let _ = accepting.await;
                }
                let _ = done.send(Ok(()));
            }
            Command::Discard(done) => {
                self.prepared.clear();
                let _ = done.send(Ok(()));
            }
        }
    }

    fn prepare(&mut self, share: Share) -> Result<()> {
        let above = self.worker.branch();
        let branch = above.branch();
        let begin = share.service.prepare(&branch, share.seeds)?;
        self.prepared.push(Prepared {
            number: share.number,
            drain: above.drain().clone(),
            branch,
            begin,
        });
        Ok(())
    }

    /// In one turn of the event loop, so that nothing comes in between.
    fn switch(&mut self, leaving: &[Number]) -> Vec<JoinHandle<()>> {
        for prepared in self.prepared.drain(..) {
            let drain = prepared.drain;
            tokio::spawn(attend(
                drain.clone(),
                prepared.branch,
                self.worker.clone(),
                self.worker.drain().guard(),
                self.drain_timeout,
            ));
            let accepting = (prepared.begin)();
            let serving = Serving { drain, accepting };
            self.services.insert(prepared.number, serving);
        }
        let mut closing = Vec::new();
        for number in leaving {
            if let Some(serving) = self.services.remove(number) {
                serving.drain.start();
                closing.extend(serving.accepting);
            }
        }
        closing
    }
}

/// Sees a proxy out: wakes what is idle when it drains, and cuts what is left when its time is over.
///
/// `_guard` keeps the worker until then.
async fn attend(drain: Drain, branch: Worker, worker: Worker, _guard: Guard, limit: Duration) {
    drain.reached(Stage::Draining).await;
    // Where the whole process goes away, its own time holds.
    let alone = worker.drain().is_serving();
    // Idle connections look at the drain when they are woken.
    clock::wake_all();
    tokio::select! {
        () = branch.drain().drained() => return,
        () = drain.reached(Stage::Aborting) => {}
        () = tokio::time::sleep(limit), if alone => {
            tracing::info!("cutting what is left of a listener that is gone");
            drain.abort();
        }
    }
    goodbyes(&branch).await;
    branch.cut();
    branch.drain().drained().await;
}

/// A turn for each flow that says goodbye when it is cut. They have been woken.
async fn goodbyes(worker: &Worker) {
    clock::wake_all();
    // In one turn of its loop the runtime polls 61 tasks, if so many wait; some are polled twice.
    let turns = 2 + worker.open_flows() / 16;
    for _ in 0..turns {
        tokio::task::yield_now().await;
        if worker.open_flows() == 0 {
            break;
        }
    }
}
