//! Composing a proxy: where flows come in, who decides, where they go out.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinHandle;

use crate::cluster::{Cluster, ClusterSpec, EndpointSpec, Tending};
use crate::drain::Stage;
use crate::engine::{Engine, Means, Terminal};
use crate::flow::Flow;
use crate::hooks::FlowHooks;
use crate::lift::{AnyLift, Decapsulate};
use crate::offramp::{AnyOfframp, DialOptions, Dialer, Direct, EgressPolicy};
use crate::onramp::{
    AnyOnramp, Bind, Bound, ListenAddr, Places, Seed, Site, StreamBind, StreamOptions, UdpBind,
    UdpOptions,
};
use crate::relay::RelayOptions;
use crate::resolve::{ResolveOptions, Resolver};
use crate::server::{Running, Server};
use crate::target::Target;
use crate::worker::Worker;
use crate::{Error, ErrorKind, Result};

/// Makes a protocol that serves flows, once on each worker's thread.
pub type TerminalFactory<A> =
    Box<dyn Fn(&Worker, &AnyOfframp) -> Result<Arc<dyn Terminal<A>>> + Send + Sync>;

type OfframpFactory = Box<dyn Fn(&Worker) -> Result<AnyOfframp> + Send + Sync>;

/// A proxy to be: on-ramps, an application, off-ramps.
///
/// Mistakes in what it is given (an address that does not parse) are reported by [`Proxy::run`] or
/// [`Proxy::start`].
pub struct Proxy<A: FlowHooks = ()> {
    name: Arc<str>,
    hooks: Arc<A>,
    listen: Vec<Result<Box<dyn Bind>>>,
    stream_options: StreamOptions,
    udp_options: UdpOptions,
    targets: Vec<Result<Target>>,
    cluster: Option<Arc<Cluster>>,
    tending: Option<Tending>,
    relay: RelayOptions,
    offramp: OfframpFactory,
    lifts: Vec<AnyLift>,
    terminals: Vec<TerminalFactory<A>>,
    workers: Option<usize>,
}

/// Something that names a place to listen on.
pub trait IntoListen {
    /// The place.
    fn into_listen(self) -> Result<ListenAddr>;
}

impl IntoListen for ListenAddr {
    fn into_listen(self) -> Result<ListenAddr> {
        Ok(self)
    }
}

impl IntoListen for &str {
    fn into_listen(self) -> Result<ListenAddr> {
        self.parse()
    }
}

impl IntoListen for SocketAddr {
    fn into_listen(self) -> Result<ListenAddr> {
        Ok(ListenAddr::Tcp(self))
    }
}

/// Something that names a place to go to.
pub trait IntoTarget {
    /// The place.
    fn into_target(self) -> Result<Target>;
}

impl IntoTarget for Target {
    fn into_target(self) -> Result<Target> {
        Ok(self)
    }
}

impl IntoTarget for &str {
    fn into_target(self) -> Result<Target> {
        Ok(self.parse::<Target>()?)
    }
}

impl IntoTarget for SocketAddr {
    fn into_target(self) -> Result<Target> {
        Ok(self.into())
    }
}

impl<A: FlowHooks> Proxy<A> {
    /// A proxy whose flows `hooks` decides about; `()` for no say.
    ///
    /// Its way out dials the system's sockets, and may dial any address: it goes where the application sends it. Give it
    /// [`Proxy::egress`] where clients choose.
    pub fn new(hooks: A) -> Self {
        Self {
            name: "main".into(),
            hooks: Arc::new(hooks),
            listen: Vec::new(),
            stream_options: StreamOptions::default(),
            udp_options: UdpOptions::default(),
            targets: Vec::new(),
            cluster: None,
            tending: None,
            relay: RelayOptions::default(),
            offramp: direct(
                EgressPolicy::open(),
                DialOptions::default(),
                ResolveOptions::default(),
            ),
            lifts: Vec::new(),
            terminals: Vec::new(),
            workers: None,
        }
    }

    /// The name that its listeners go by in logs and metrics. Default: `main`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Takes flows in at `address`, for example `"127.0.0.1:8080"`, `"unix:/run/oxy.sock"` or `"udp:127.0.0.1:53"`, with
    /// the stream or UDP options that are in force when this is called.
    #[must_use]
    pub fn listen(mut self, address: impl IntoListen) -> Self {
        let bind = address.into_listen().map(|address| -> Box<dyn Bind> {
            match address {
                ListenAddr::Udp(address) => Box::new(UdpBind {
                    address,
                    options: self.udp_options.clone(),
                }),
                address => Box::new(StreamBind::new(address, self.stream_options.clone())),
            }
        });
        self.listen.push(bind);
        self
    }

    /// Takes flows in by an on-ramp of the caller's own.
    #[must_use]
    pub fn listen_on(mut self, onramp: impl Bind + 'static) -> Self {
        self.listen.push(Ok(Box::new(onramp)));
        self
    }

    /// How the stream listeners that follow treat their connections.
    #[must_use]
    pub fn stream_options(mut self, options: StreamOptions) -> Self {
        self.stream_options = options;
        self
    }

    /// How the UDP listeners that follow treat their sessions.
    #[must_use]
    pub fn udp_options(mut self, options: UdpOptions) -> Self {
        self.udp_options = options;
        self
    }

    /// Where flows go that no hook routes; by turns where it is called more than once, as a [`Cluster`] with the default
    /// settings does it. A target that is given several times has as many turns.
    #[must_use]
    pub fn to(mut self, target: impl IntoTarget) -> Self {
        self.targets.push(target.into_target());
        self
    }

    /// The cluster to whose endpoints flows go that no hook routes, instead of [`Proxy::to`]. The address of a flow's client
    /// is the key of balancing by key. Where connecting to an endpoint fails, up to two others are tried.
    ///
    /// While the proxy runs, it tends the cluster with [`Proxy::tending`].
    #[must_use]
    pub fn cluster(mut self, cluster: Arc<Cluster>) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// What the cluster is tended with. Default: the system's sockets and resolver, which may dial any address, as
    /// endpoints are the operator's own.
    #[must_use]
    pub fn tending(mut self, means: Tending) -> Self {
        self.tending = Some(means);
        self
    }

    /// How streams and datagrams are relayed.
    #[must_use]
    pub fn relay(mut self, options: RelayOptions) -> Self {
        self.relay = options;
        self
    }

    /// The way out through the system's sockets, under `policy`.
    #[must_use]
    pub fn egress(
        mut self,
        policy: EgressPolicy,
        dial: DialOptions,
        resolve: ResolveOptions,
    ) -> Self {
        self.offramp = direct(policy, dial, resolve);
        self
    }

    /// A way out of the caller's own, made once for each worker.
    #[must_use]
    pub fn offramp(
        mut self,
        make: impl Fn(&Worker) -> Result<AnyOfframp> + Send + Sync + 'static,
    ) -> Self {
        self.offramp = Box::new(make);
        self
    }

    /// What lifts flows to another layer, TLS for one; all workers share it. The first one added lifts every stream that
    /// comes in, unless a hook decides otherwise; the others lift where [`crate::Verdict::Decapsulate`] says so.
    #[must_use]
    pub fn lift(mut self, lift: impl Decapsulate) -> Self {
        self.lifts.push(AnyLift::new(lift));
        self
    }

    /// A protocol that serves flows. The first one added serves those that nobody routes.
    #[must_use]
    pub fn terminal(mut self, make: TerminalFactory<A>) -> Self {
        self.terminals.push(make);
        self
    }

    /// How many workers [`Proxy::run`] and [`Proxy::start`] make. Default: one for each core that the process may run on.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Runs until SIGTERM or SIGINT, then drains. See [`Server::run`].
    pub fn run(self) -> Result<()> {
        self.server().run()
    }

    /// Starts, and returns once it listens. See [`Server::start`].
    pub fn start(self) -> Result<Running> {
        self.server().start()
    }

    fn server(self) -> Server {
        let workers = self.workers;
        let server = Server::new().with(self);
        match workers {
            Some(workers) => server.workers(workers),
            None => server,
        }
    }
}

impl<A: FlowHooks> fmt::Debug for Proxy<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.name)
    }
}

fn direct(policy: EgressPolicy, dial: DialOptions, resolve: ResolveOptions) -> OfframpFactory {
    Box::new(move |_| {
        let resolver = Resolver::new(resolve.clone())?;
        Ok(AnyOfframp::new(Direct::new(Dialer::new(
            resolver,
            policy.clone(),
            dial.clone(),
        ))))
    })
}

/// The cluster of `targets` that takes turns.
fn turns(name: &str, targets: Vec<Target>) -> Result<Arc<Cluster>> {
    let mut endpoints: Vec<EndpointSpec> = Vec::new();
    for target in targets.into_iter().map(EndpointSpec::new) {
        let mut known = endpoints.iter_mut();
        match known.find(|known| known.address == target.address) {
            Some(known) => known.weight += 1,
            None => endpoints.push(target),
        }
    }
    Cluster::new(ClusterSpec::new(name, endpoints))
}

/// A [`Proxy`], whoever its application is.
pub(crate) trait Service: Send + Sync {
    /// The name that it goes by.
    fn name(&self) -> &Arc<str>;
    /// Binds the on-ramps; called once, before [`Service::prepare`].
    fn bind(&mut self, workers: usize, places: &mut Places) -> Result<Vec<Bound>>;
    /// Makes ready to serve on a worker's thread, inside its runtime. Nothing is to be seen of it before it begins.
    fn prepare(&self, worker: &Worker, seeds: Vec<Seed>) -> Result<Begin>;
}

/// Begins to take flows in, and gives the tasks that do.
pub(crate) type Begin = Box<dyn FnOnce() -> Vec<JoinHandle<()>>>;

impl<A: FlowHooks> Service for Proxy<A> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn bind(&mut self, workers: usize, places: &mut Places) -> Result<Vec<Bound>> {
        let targets = self.targets.drain(..).collect::<Result<Vec<_>>>()?;
        if self.cluster.is_none() && !targets.is_empty() {
            self.cluster = Some(turns(&self.name, targets)?);
        } else if !targets.is_empty() {
            return Err(Error::local(ErrorKind::Malformed)
                .context("a proxy has either targets or a cluster"));
        } else if self.cluster.is_some() && self.tending.is_none() {
            let resolver = Resolver::new(ResolveOptions::default())?;
            let (policy, options) = (EgressPolicy::open(), DialOptions::default());
            self.tending = Some(Tending::new(Dialer::new(resolver, policy, options)));
        }
        let mut site = Site {
            name: &self.name,
            workers,
            places,
        };
        let listen = self.listen.drain(..);
        listen.map(|bind| bind?.bind(&mut site)).collect()
    }

    fn prepare(&self, worker: &Worker, seeds: Vec<Seed>) -> Result<Begin> {
        let offramp = (self.offramp)(worker)?;
        let terminals = self
            .terminals
            .iter()
            .map(|make| make(worker, &offramp))
            .collect::<Result<Vec<_>>>()?;
        let cluster = self.cluster.as_ref();
        if let (Some(cluster), Some(means)) = (cluster, &self.tending) {
            // One of the workers does the work.
            tokio::spawn(cluster.clone().tend(means.clone()));
        }
        let means = Means {
            offramp,
            relay: self.relay.clone(),
            balancer: cluster.map(|cluster| cluster.balancer(worker.index())),
        };
        let engine = Engine::new(self.hooks.clone(), worker.clone(), means)
            .with_lifts(self.lifts.clone())
            .with_terminals(terminals);
        let onramps: Vec<_> = seeds
            .into_iter()
            .map(|seed| seed(worker))
            .collect::<Result<_>>()?;
        Ok(Box::new(move || {
            let accepting = onramps.into_iter().map(|mut onramp| {
                onramp.begin();
                tokio::spawn(accept(onramp, engine.clone()))
            });
            accepting.collect()
        }))
    }
}

/// Takes flows in until its branch of the worker drains.
async fn accept<A: FlowHooks>(mut onramp: AnyOnramp, engine: Engine<A>) {
    let drain = engine.worker().drain().clone();
    // Listeners count as work: a drain is not over before they have taken what was waiting in their queues.
    let _guard = drain.guard();
    let mut draining = std::pin::pin!(drain.reached(Stage::Draining));
    let take = |accepted: Result<Flow>| match accepted {
        Ok(flow) => engine.spawn(flow),
        Err(error) => tracing::warn!("{error:?}"),
    };
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = onramp.accept() => take(accepted),
        }
    }
    // Whoever waits in a queue when its socket is closed is lost.
    for _ in 0..LAST_LOOKS {
        // Until the event loop has looked again, what came in since is not known.
        tokio::task::yield_now().await;
        let mut any = false;
        while let Some(accepted) = at_once(onramp.accept()).await {
            take(accepted);
            any = true;
        }
        if !any {
            break;
        }
    }
}

/// How often a queue is looked at again before its socket is closed because something was in it: a flood of new
/// connections must not keep a listener open that is to go.
const LAST_LOOKS: usize = 100;

/// What `work` gives without waiting.
async fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(tokio::task::coop::unconstrained(work));
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
