//! The one loop that every flow goes through.
//!
//! A flow enters, the application's hook gives its verdict, and the verdict is carried out: lifted, routed, served, refused
//! or handed over. What comes out of a flow (a tunnel, a plaintext) enters here again as its child.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::carrier::Carrier;
use crate::cluster::{self, Balancer};
use crate::drain::{Guard, Stage};
use crate::flow::{Far, Flow, FlowInfo, Layer, MAX_DEPTH, Permit, Prelude};
use crate::hooks::FlowHooks;
use crate::lift::AnyLift;
use crate::offramp::AnyOfframp;
use crate::relay::{self, RelayOptions};
use crate::summary::{Ended, Summary};
use crate::target::Target;
use crate::verdict::Verdict;
use crate::worker::{Entry, Worker};
use crate::{BoxFuture, Error, ErrorKind, Result, pinned};

/// A protocol that ends flows of a layer: it serves what they carry. HTTP is one.
pub trait Terminal<A: FlowHooks>: Send + Sync {
    /// The layer that [`Verdict::Decapsulate`] names it by.
    fn layer(&self) -> Layer;

    /// Serves `flow` to its end. What comes out of it enters `engine` with `open` as its parent.
    fn serve(
        self: Arc<Self>,
        engine: Engine<A>,
        open: Arc<Open<A>>,
        flow: Flow,
    ) -> BoxFuture<'static, Result<()>>;
}

/// The loop, with the application's hooks and one worker's means. Clones are the same engine.
pub struct Engine<A: FlowHooks>(Arc<Shared<A>>);

struct Shared<A: FlowHooks> {
    hooks: Arc<A>,
    worker: Worker,
    means: Means,
    lifts: Vec<AnyLift>,
    terminals: Vec<Arc<dyn Terminal<A>>>,
}

/// What an engine routes with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The way out.
    pub offramp: AnyOfframp,
    /// How streams and datagrams are relayed.
    pub relay: RelayOptions,
    /// Where flows go that nobody routes.
    pub balancer: Option<Balancer>,
}

/// A flow that is open: its state and its books. When the last reference is dropped, [`FlowHooks::on_close`] is called.
pub struct Open<A: FlowHooks> {
    /// The application's state.
    pub conn: A::Conn,
    /// What is known of the flow.
    pub info: Arc<FlowInfo>,
    hooks: Arc<A>,
    ended: Mutex<Ended>,
    /// Children close before their parents.
    _parent: Option<Arc<Open<A>>>,
    _place: Place,
    /// Held until the flow ends.
    permit: Option<Permit>,
}

/// A flow's place in its worker.
struct Place {
    entry: Entry,
    /// The worker waits for it when it drains.
    #[expect(dead_code, reason = "it is held")]
    guard: Guard,
}

impl<A: FlowHooks> Engine<A> {
    /// An engine for `worker`.
    pub fn new(hooks: Arc<A>, worker: Worker, means: Means) -> Self {
        Self(Arc::new(Shared {
            hooks,
            worker,
            means,
            lifts: Vec::new(),
            terminals: Vec::new(),
        }))
    }

    /// Adds protocols that serve flows. The first one is what [`Verdict::Continue`] means for a flow that has no target.
    #[must_use]
    pub fn with_terminals(self, terminals: Vec<Arc<dyn Terminal<A>>>) -> Self {
        Self(Arc::new(Shared {
            terminals,
            ..self.parts()
        }))
    }

    /// Adds what lifts flows. The first one is what [`Verdict::Continue`] means for a stream that has just come in from
    /// outside and has no target.
    #[must_use]
    pub fn with_lifts(self, lifts: Vec<AnyLift>) -> Self {
        Self(Arc::new(Shared {
            lifts,
            ..self.parts()
        }))
    }

    fn parts(&self) -> Shared<A> {
        let Shared {
            hooks,
            worker,
            means,
            lifts,
            terminals,
        } = &*self.0;
        Shared {
            hooks: hooks.clone(),
            worker: worker.clone(),
            means: means.clone(),
            lifts: lifts.clone(),
            terminals: terminals.clone(),
        }
    }

    /// The worker that it runs on.
    pub fn worker(&self) -> &Worker {
        &self.0.worker
    }

    /// The way out.
    pub fn offramp(&self) -> &AnyOfframp {
        &self.0.means.offramp
    }

    /// The application's hooks.
    pub fn hooks(&self) -> &A {
        &self.0.hooks
    }

    /// Takes a flow through its life. The future is lazy; dropping it cuts the flow, and its books are closed all the
    /// same. The error, if any, has been accounted for: callers may ignore it.
    pub fn enter(
        &self,
        flow: Flow,
        parent: Option<Arc<Open<A>>>,
    ) -> BoxFuture<'static, Result<()>> {
        let place = self.place(&flow.info);
        self.begin(flow, parent, place)
    }

    fn begin(
        &self,
        mut flow: Flow,
        parent: Option<Arc<Open<A>>>,
        place: Place,
    ) -> BoxFuture<'static, Result<()>> {
        match flow.prelude.take() {
            None => self.live(Open::new(self, &flow, parent, place), flow),
            Some(prelude) => self.clone().preceded(prelude, flow, parent, place),
        }
    }

    /// Does first what comes before the application.
    fn preceded(
        self,
        prelude: Prelude,
        flow: Flow,
        parent: Option<Arc<Open<A>>>,
        place: Place,
    ) -> BoxFuture<'static, Result<()>> {
        let info = flow.info.clone();
        let preluding = prelude(flow);
        pinned(move || async move {
            let preluded = preluding.await;
            let work = match preluded {
                Ok(flow) => {
                    place.entry.is_now(&flow.info);
                    self.live(Open::new(&self, &flow, parent, place), flow)
                }
                Err(error) => {
                    let mut result = Err(error);
                    log(&info, &mut result);
                    return result;
                }
            };
            drop((self, info));
            work.await
        })
    }

    fn place(&self, info: &Arc<FlowInfo>) -> Place {
        Place {
            entry: self.0.worker.enter(info.clone()),
            guard: self.0.worker.drain().guard(),
        }
    }

    fn live(&self, opening: Open<A>, flow: Flow) -> BoxFuture<'static, Result<()>> {
        // What it takes to decide is freed before the work begins: an idle connection should not hold it.
        let deciding = pinned(|| self.clone().decide(opening, flow));
        pinned(move || async move {
            let (open, work) = deciding.await;
            let mut result = work.await;
            open.end(Ended::of(&result));
            log(&open.info, &mut result);
            result
        })
    }

    /// Asks the application what is to become of `flow`, and gives what carries that out.
    async fn decide(
        self,
        mut opening: Open<A>,
        mut flow: Flow,
    ) -> (Arc<Open<A>>, BoxFuture<'static, Result<()>>) {
        opening.permit = flow.permit.take();
        let verdict = if flow.info.depth > MAX_DEPTH {
            Err(Error::down(ErrorKind::Loop).context("flows nested too deep"))
        } else {
            self.0.hooks.on_flow(&mut opening.conn, &mut flow).await
        };
        let open = Arc::new(opening);
        let work = match verdict {
            Ok(verdict) => self.carry_out(verdict, flow, &open),
            Err(error) => failed(error),
        };
        (open, work)
    }

    /// [`Engine::enter`] on a task of its own, which is dropped where the engine's branch of the drain tree is aborted.
    pub fn spawn(&self, flow: Flow) {
        let place = self.place(&flow.info);
        let (line, info) = (place.entry.index(), flow.info.clone());
        let task = tokio::spawn(self.begin(flow, None, place)).abort_handle();
        self.0.worker.driven(line, &info, task);
    }

    fn carry_out(
        &self,
        verdict: Verdict,
        flow: Flow,
        open: &Arc<Open<A>>,
    ) -> BoxFuture<'static, Result<()>> {
        match verdict {
            Verdict::Continue if flow.target.is_some() => self.route(flow),
            Verdict::Continue if flow.is_from_outside() && !self.0.lifts.is_empty() => {
                self.lift(&self.0.lifts[0], flow, open)
            }
            Verdict::Continue => match self.0.terminals.first() {
                Some(terminal) => terminal.clone().serve(self.clone(), open.clone(), flow),
                None => self.route(flow),
            },
            Verdict::Decapsulate(layer) => {
                let Shared {
                    lifts, terminals, ..
                } = &*self.0;
                if let Some(lift) = lifts.iter().find(|lift| lift.layer() == layer) {
                    self.lift(lift, flow, open)
                } else if let Some(terminal) = terminals.iter().find(|it| it.layer() == layer) {
                    terminal.clone().serve(self.clone(), open.clone(), flow)
                } else {
                    failed(
                        Error::local(ErrorKind::Unsupported).context("no such layer is configured"),
                    )
                }
            }
            Verdict::Route(target) => {
                let far = flow.far.filter(|far| far.target == target);
                self.route(Flow {
                    target: Some(target),
                    far,
                    ..flow
                })
            }
            Verdict::Refuse(error) => failed(error),
            Verdict::Taken(drive) => drive(flow),
        }
    }

    /// Lifts `flow`, and ends with what becomes of its child.
    fn lift(
        &self,
        lift: &AnyLift,
        flow: Flow,
        open: &Arc<Open<A>>,
    ) -> BoxFuture<'static, Result<()>> {
        let (engine, parent, lifting) = (self.clone(), open.clone(), lift.lift(flow));
        pinned(move || async move {
            // The handshake's state is gone before the child's life begins, and so is all that is not needed for that.
            let child = lifting.await?;
            let work = engine.enter(child, Some(parent));
            drop(engine);
            work.await
        })
    }

    fn route(&self, mut flow: Flow) -> BoxFuture<'static, Result<()>> {
        let Some(target) = flow.target.take() else {
            if let Some(balancer) = self.0.means.balancer.clone() {
                return run_balanced(balancer, self.0.means.clone(), self.0.worker.clone(), flow);
            }
            return failed(
                Error::local(ErrorKind::NoRoute).context("no hook and no setting says where to"),
            );
        };
        // A bare "host:port" reads as TCP's; what a flow of datagrams goes to is UDP's.
        let target = match (target, &flow.carrier) {
            (Target::Tcp { host, port }, Carrier::Datagrams(_)) => Target::Udp { host, port },
            (target, _) => target,
        };
        flow.info.routed(target.clone());
        run_relay(self.0.means.clone(), self.0.worker.clone(), flow, target)
    }
}

fn failed(error: Error) -> BoxFuture<'static, Result<()>> {
    Box::pin(async { Err(error) })
}

/// Relays `flow` to `target`: not generic, so that it is compiled once.
fn run_relay(
    means: Means,
    worker: Worker,
    mut flow: Flow,
    target: Target,
) -> BoxFuture<'static, Result<()>> {
    pinned(move || async move {
        let far = match flow.far.take() {
            Some(far) => far,
            None => means.offramp.open(&target, &flow.info).await?,
        };
        relay_between(&means, &worker, flow, far).await
    })
}

/// Relays `flow` to an endpoint that `balancer` picks.
fn run_balanced(
    balancer: Balancer,
    means: Means,
    worker: Worker,
    flow: Flow,
) -> BoxFuture<'static, Result<()>> {
    pinned(move || async move {
        // What it takes to find one is freed before the relay begins.
        let opening = pinned(|| cluster::open(&balancer, &means.offramp, &flow));
        let (far, _held) = opening.await?;
        relay_between(&means, &worker, flow, far).await
    })
}

async fn relay_between(means: &Means, worker: &Worker, flow: Flow, far: Far) -> Result<()> {
    let work = async {
        match (flow.carrier, far.carrier) {
            (Carrier::Stream(near), Carrier::Stream(far)) => {
                relay::stream(near, far, &means.relay).await
            }
            (Carrier::Datagrams(near), Carrier::Datagrams(far)) => {
                relay::datagrams(near, far, &means.relay).await
            }
            _ => Err(Error::local(ErrorKind::Unsupported)
                .context("the target's carrier is another than the flow's")),
        }
    };
    tokio::select! {
        result = work => result,
        () = worker.drain().reached(Stage::Aborting) => Err(Error::local(ErrorKind::Draining)),
    }
}

/// Once for each error: a parent ends with the error of its child, which has told of it.
fn log(info: &FlowInfo, result: &mut Result<()>) {
    if let Err(error) = result {
        if error.told() {
            return;
        }
        if error.is_loud() {
            tracing::warn!(flow = %info.id, layer = %info.layer, listener = %info.listener, "{error:?}");
        } else {
            tracing::debug!(flow = %info.id, layer = %info.layer, listener = %info.listener, "{error:?}");
        }
    }
}

impl<A: FlowHooks> Clone for Engine<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: FlowHooks> fmt::Debug for Engine<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({:?})", self.0.worker)
    }
}

impl<A: FlowHooks> Open<A> {
    fn new(engine: &Engine<A>, flow: &Flow, parent: Option<Arc<Self>>, place: Place) -> Self {
        let info = flow.info.clone();
        let hooks = engine.0.hooks.clone();
        Self {
            conn: hooks.conn(&info, parent.as_deref().map(|parent| &parent.conn)),
            hooks,
            ended: Mutex::new(Ended::Cut),
            _parent: parent,
            _place: place,
            permit: None,
            info,
        }
    }

    fn end(&self, ended: Ended) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }
}

impl<A: FlowHooks> Drop for Open<A> {
    fn drop(&mut self) {
        let summary = Summary {
            lived: Instant::now().saturating_duration_since(self.info.started),
            received: self.info.meter().received(),
            sent: self.info.meter().sent(),
            ended: *self.ended.get_mut().unwrap_or_else(PoisonError::into_inner),
            info: self.info.clone(),
        };
        self.hooks.on_close(&self.conn, &summary);
    }
}

impl<A: FlowHooks> fmt::Debug for Open<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({:?})", self.info.id)
    }
}
