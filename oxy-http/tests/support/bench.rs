//! A proxy under test.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxy_core::offramp::{DialOptions, EgressPolicy};
use oxy_core::resolve::ResolveOptions;
use oxy_core::{Proxy, Running, Worker};
use oxy_http::{Http, HttpHooks, HttpProxy};

use super::books::{Books, Exchanges, Flows};
use super::{Finished, Origin, Peer, eventually};

/// One test at a time: they count the sockets of the process.
static TURN: Mutex<()> = Mutex::new(());

/// A proxy between a client and an origin.
pub struct Bench {
    running: Option<Running>,
    address: SocketAddr,
    books: Arc<Books>,
    origin: Option<Origin>,
    /// How many sockets there were before the proxy and the origin came, and how many of them the proxy listens with.
    before: usize,
    listening: usize,
    /// How many descriptors of any kind there were.
    descriptors: usize,
    _turn: MutexGuard<'static, ()>,
}

/// The ways in which a proxy can be made.
pub struct Setup {
    origin: Option<Origin>,
    before: usize,
    descriptors: usize,
    turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// A proxy in front of an origin, as it is by default.
    pub fn new(origin: impl FnOnce() -> Origin) -> Self {
        Self::before(origin).proxy((), |proxy| proxy, |http| http)
    }

    /// A proxy in front of an origin, to be made.
    pub fn before(origin: impl FnOnce() -> Origin) -> Setup {
        let mut setup = Self::alone();
        setup.origin = Some(origin());
        setup
    }

    /// A proxy to be made that has no origin.
    pub fn alone() -> Setup {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The first runtime of a process makes a pair of sockets for signals, which stays.
        drop(
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build(),
        );
        Setup {
            origin: None,
            before: sockets(),
            descriptors: open(""),
            turn,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn client(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// One request on a connection of its own, and the response.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> super::Message {
        let mut client = self.client();
        client.send(request);
        client.response()
    }

    /// How many connections the origin has had.
    pub fn accepted(&self) -> usize {
        self.origin.as_ref().unwrap().accepted()
    }

    pub fn flows(&self) -> usize {
        let workers = self.running().workers();
        workers.iter().map(Worker::open_flows).sum()
    }

    /// How many requests the application has seen.
    pub fn seen(&self) -> usize {
        self.books.seen.load(SeqCst)
    }

    /// Waits until `n` requests are finished.
    pub fn finished(&self, n: usize) -> Vec<Finished> {
        let done = || self.books.finished.lock().unwrap().len() >= n;
        assert!(eventually(done), "{n} requests: {:?}", self.books.finished);
        self.books.finished.lock().unwrap().clone()
    }

    /// The kinds and sides of the flows that are over.
    pub fn closed(&self) -> Vec<(oxy_core::Layer, oxy_core::Ended)> {
        self.books.closed.lock().unwrap().clone()
    }

    /// All that was opened has been closed: flows, requests and, while the proxy still runs, sockets. Call it when the
    /// test's own ends are gone.
    pub fn finish(mut self) -> Vec<Finished> {
        self.settle();
        if let Some(origin) = self.origin.take() {
            origin.finish();
        }
        // Connections to origins that have closed leave the pool when it is swept.
        let expected = self.before + self.listening;
        assert!(
            eventually(|| sockets() == expected),
            "{} sockets, and not {expected}",
            sockets()
        );
        self.stop()
    }

    /// [`Bench::finish`] for tests that leave idle connections in the pool: counts the sockets without the proxy.
    pub fn finish_with_pool(self) -> Vec<Finished> {
        self.settle();
        self.stop()
    }

    /// [`Bench::finish`] for origins whose scripts wait until the proxy closes.
    pub fn finish_when_origin_closes(mut self) -> Vec<Finished> {
        if let Some(origin) = self.origin.take() {
            origin.join();
        }
        self.finish()
    }

    fn settle(&self) {
        let idle = eventually(|| self.flows() == 0);
        assert!(idle, "{} flows are open", self.flows());
    }

    /// [`Bench::finish`] for tests that have stopped the proxy themselves.
    pub fn stopped(self) -> Vec<Finished> {
        self.stop()
    }

    fn stop(mut self) -> Vec<Finished> {
        if let Some(running) = self.running.take() {
            running.stop().unwrap();
        }
        if let Some(origin) = self.origin.take() {
            origin.finish();
        }
        let gone = eventually(|| open("") == self.descriptors);
        assert!(
            gone,
            "{} descriptors, and not {}",
            open(""),
            self.descriptors
        );
        let finished = self.books.finished.lock().unwrap().clone();
        let seen = self.books.seen.load(SeqCst);
        assert_eq!(finished.len(), seen, "once each: {finished:?}");
        let closed = self.books.closed.lock().unwrap().len();
        assert_eq!(closed, self.books.opened.load(SeqCst));
        finished
    }

    /// The proxy, to be stopped by the test itself.
    pub fn take_running(&mut self) -> Running {
        self.running.take().unwrap()
    }
}

impl Setup {
    /// Where the origin is.
    pub fn origin(&self) -> SocketAddr {
        self.origin.as_ref().unwrap().address()
    }

    /// The proxy with these hooks, changed as the test needs it.
    pub fn proxy<H: HttpHooks>(
        self,
        hooks: H,
        proxy: impl FnOnce(Proxy<Flows>) -> Proxy<Flows>,
        http: impl FnOnce(Http<Exchanges<H>>) -> Http<Exchanges<H>>,
    ) -> Bench {
        self.make(hooks, proxy, http, true)
    }

    fn make<H: HttpHooks>(
        self,
        hooks: H,
        proxy: impl FnOnce(Proxy<Flows>) -> Proxy<Flows>,
        http: impl FnOnce(Http<Exchanges<H>>) -> Http<Exchanges<H>>,
        routed: bool,
    ) -> Bench {
        let books = Arc::new(Books::default());
        let mut served = Http::new(Exchanges {
            books: books.clone(),
            inner: hooks,
        });
        if let Some(origin) = self.origin.as_ref().filter(|_| routed) {
            served = served.to(origin.address());
        }
        let before_proxy = sockets();
        let listening = Proxy::new(Flows(books.clone()))
            .listen("127.0.0.1:0")
            .workers(1);
        let running = proxy(listening).http(http(served)).start().unwrap();
        Bench {
            address: running.addresses()[0].1.socket_addr().unwrap(),
            listening: sockets() - before_proxy,
            running: Some(running),
            books,
            origin: self.origin,
            before: self.before,
            descriptors: self.descriptors,
            _turn: self.turn,
        }
    }

    /// The proxy with these hooks.
    pub fn hooks<H: HttpHooks>(self, hooks: H) -> Bench {
        self.proxy(hooks, |proxy| proxy, |http| http)
    }

    /// The proxy with these options.
    pub fn options(self, change: impl FnOnce(&mut oxy_http::HttpOptions)) -> Bench {
        let mut options = oxy_http::HttpOptions::default();
        change(&mut options);
        self.proxy((), |proxy| proxy, |http| http.options(options))
    }

    /// A forward proxy with these rules about where it may go.
    pub fn forward(self, policy: EgressPolicy) -> Bench {
        let egress = |proxy: Proxy<Flows>| {
            proxy.egress(policy, DialOptions::default(), ResolveOptions::default())
        };
        self.make((), egress, Http::forward, false)
    }
}

fn sockets() -> usize {
    open("socket:")
}

/// How many descriptors of `kind` this process has open, as proc(5) names them.
fn open(kind: &str) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with(kind))
        .count()
}
