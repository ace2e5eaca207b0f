//! Connections to origins that wait to be used again, per worker.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use oxy_core::cluster::Connection;
use oxy_core::offramp::AnyOfframp;
use oxy_core::{HostName, Link, Result, Side, Target};

use crate::h1::incoming::{Rest, Source};
use crate::h2::session::Sessions;
use crate::options::PoolOptions;
use crate::outgoing::Outgoing;

/// One worker's idle connections. Its locks are its worker's own: nobody waits for them.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoints: Mutex<HashMap<Place, Arc<Endpoint>>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PoolOptions,
    way: Way,
    /// Idle connections to all endpoints.
    idle: AtomicUsize,
    /// How often the pool has been swept: its clock.
    sweeps: AtomicU64,
    /// Whether nobody takes connections from it any more.
    closed: AtomicBool,
    /// After how many sweeps an idle connection is too old.
    max_sweeps: u64,
}

/// How an upstream's endpoints are reached, and what they speak.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) offramp: AnyOfframp,
    pub(crate) protocol: Protocol,
    /// Whether connections are encrypted, for the scheme.
    pub(crate) secure: bool,
}

#[cfg(any(test, feature = "bench"))]
impl Way {
    /// To nobody, for pools that are given their connections.
    pub(crate) fn nowhere() -> Self {
        struct Nowhere;

        impl oxy_core::offramp::Offramp for Nowhere {
            async fn open(&self, _: &Target, _: &oxy_core::FlowInfo) -> Result<oxy_core::Far> {
                Err(oxy_core::Error::local(oxy_core::ErrorKind::NoRoute))
            }
        }

        Self {
            offramp: AnyOfframp::new(Nowhere),
            protocol: Protocol::Auto,
            secure: false,
        }
    }
}

/// Which version of HTTP an origin is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// What was agreed upon when the connection was opened (ALPN, RFC 7301), or else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without asking (prior knowledge, RFC 9113 section 3.3).
    Http2,
}

/// What is known of the version that an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Speaks {
    Unknown,
    Http1,
    Http2,
}

impl Speaks {
    fn at_first(way: &Way) -> Self {
        match way.protocol {
            Protocol::Http2 => Self::Http2,
            // Only an encrypted connection has a way to agree upon anything else.
            Protocol::Auto if way.secure => Self::Unknown,
            Protocol::Auto | Protocol::Http1 => Self::Http1,
        }
    }
}

/// A target, and the name that it was found under, if it is an address from DNS. What has proved to be one name's is not
/// another's, though both be at the same address.
type Place = (Target, Option<HostName>);

/// The connections to one target.
pub(crate) struct Endpoint {
    pub(crate) target: Target,
    /// What it was found under.
    pub(crate) name: Option<HostName>,
    /// What it is called in a Host field.
    pub(crate) authority: Box<[u8]>,
    idle: Mutex<Resting>,
    /// Connections that carry many exchanges at a time.
    pub(crate) sessions: Arc<Sessions>,
    /// What the endpoint has last been found to speak.
    speaks: AtomicU8,
    /// How many of its last responses in a row had a body that went by `splice(2)`.
    spliced: AtomicU8,
    shared: Arc<Shared>,
}

/// The idle connections to one target: the one that was used last is taken first.
#[derive(Default)]
struct Resting {
    stack: Vec<Idle>,
    /// How many there were when they were fewest since the last sweep: so many at the bottom nobody has needed.
    fewest: usize,
}

impl Resting {
    fn pop(&mut self) -> Option<Idle> {
        let idle = self.stack.pop();
        self.fewest = self.fewest.min(self.stack.len());
        idle
    }

    /// Drops those that nobody has needed since the last sweep, but for [`SPARE`].
    fn trim(&mut self) {
        self.stack.drain(..self.fewest.saturating_sub(SPARE));
        self.fewest = self.stack.len();
    }
}

struct Idle {
    link: Arc<Link>,
    requests: u64,
    place: Option<Connection>,
    /// [`Shared::sweeps`] when it became idle.
    since: u64,
}

/// How often dead and old connections are looked for. Those that die in between are found when they are taken.
const SWEEP: Duration = Duration::from_secs(2);

/// How many connections are kept for which there was no need between two sweeps, for as long as they may be idle. Those that
/// a burst has left beyond that go with the next sweep but one, as each has a descriptor that clients may want.
const SPARE: usize = 1024;

/// After how many spliced bodies in a row another is expected: one that is expected and does not come takes a read and a
/// write more.
const HABIT: u8 = 3;

/// Endpoints without connections that are remembered: a forward proxy meets many hosts once.
const REMEMBERED: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool with a task that sweeps it for as long as it lives. Needs a tokio runtime.
    pub(crate) fn new(mut options: PoolOptions, way: Way) -> Arc<Self> {
        if way.offramp.is_per_client() {
            // Its connections say whom they are for: the next client's request must not go by one.
            options.max_requests = 1;
        }
        let every = SWEEP.min(options.idle / 4).max(Duration::from_millis(10));
        let pool = Arc::new(Self {
            endpoints: Mutex::default(),
            shared: Arc::new(Shared {
                max_sweeps: (options.idle.as_millis() / every.as_millis()) as u64,
                options,
                way,
                idle: AtomicUsize::new(0),
                sweeps: AtomicU64::new(0),
                closed: AtomicBool::new(false),
            }),
        });
        tokio::spawn(sweep(Arc::downgrade(&pool), every));
        pool
    }

    /// Where connections to `target` are kept, which was found under `name`.
    pub(crate) fn endpoint(&self, target: &Target, name: Option<&HostName>) -> Arc<Endpoint> {
        let place = (target.clone(), name.cloned());
        let mut endpoints = lock(&self.endpoints);
        if let Some(endpoint) = endpoints.get(&place) {
            return endpoint.clone();
        }
        if endpoints.len() >= REMEMBERED {
            endpoints.retain(|_, endpoint| {
                Arc::strong_count(endpoint) > 1
                    || !lock(&endpoint.idle).stack.is_empty()
                    || !endpoint.sessions.is_empty()
            });
        }
        let endpoint = Arc::new(Endpoint::new(place.clone(), self.shared.clone()));
        endpoints.insert(place, endpoint.clone());
        endpoint
    }

    /// Closes an idle connection, if there is one, because its descriptor is needed.
    pub(crate) fn evict(&self) -> bool {
        let victim = lock(&self.endpoints)
            .values()
            .find_map(|endpoint| lock(&endpoint.idle).pop());
        if victim.is_some() {
            self.shared.idle.fetch_sub(1, Relaxed);
        }
        victim.is_some()
    }

    fn sweep(&self) {
        self.shared.sweeps.fetch_add(1, Relaxed);
        let endpoints: Vec<_> = lock(&self.endpoints).values().cloned().collect();
        for endpoint in endpoints {
            endpoint.sweep();
        }
    }
}

impl Drop for Pool {
    /// A connection has its place at an endpoint of a cluster, and that has what is kept of its connections: they would keep
    /// each other.
    fn drop(&mut self) {
        self.shared.closed.store(true, Relaxed);
        for endpoint in lock(&self.endpoints).values() {
            lock(&endpoint.idle).stack.clear();
        }
    }
}

async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep();
    }
}

impl Shared {
    fn is_fresh(&self, idle: &Idle) -> bool {
        self.sweeps.load(Relaxed) - idle.since <= self.max_sweeps
    }
}

impl Endpoint {
    fn new((target, name): Place, shared: Arc<Shared>) -> Self {
        let authority = authority(&target, name.as_ref(), shared.way.secure);
        Self {
            target,
            name,
            authority: authority.into_bytes().into(),
            idle: Mutex::default(),
            sessions: Sessions::new(shared.way.offramp.is_per_client()),
            speaks: AtomicU8::new(Speaks::at_first(&shared.way) as u8),
            spliced: AtomicU8::new(0),
            shared,
        }
    }

    /// How it is reached.
    pub(crate) fn way(&self) -> &Way {
        &self.shared.way
    }

    /// Whether connections to it are encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.shared.way.secure
    }

    /// What it is expected to speak.
    pub(crate) fn speaks(&self) -> Speaks {
        match self.speaks.load(Relaxed) {
            0 => Speaks::Unknown,
            1 => Speaks::Http1,
            _ => Speaks::Http2,
        }
    }

    /// What a new connection to it has turned out to speak.
    pub(crate) fn found(&self, http2: bool) {
        let speaks = if http2 { Speaks::Http2 } else { Speaks::Http1 };
        self.speaks.store(speaks as u8, Relaxed);
    }

    /// Whether the bodies of its last responses went by `splice(2)`, so that the next one's may be expected to.
    pub(crate) fn splices(&self) -> bool {
        self.spliced.load(Relaxed) >= HABIT
    }

    /// Notes how the body of a response has come.
    fn came(&self, spliced: bool) {
        // On a runtime with several threads one may be forgotten, which is no harm.
        let so_far = self.spliced.load(Relaxed);
        let now = if spliced { so_far.saturating_add(1) } else { 0 };
        if now != so_far {
            self.spliced.store(now, Relaxed);
        }
    }

    /// The connection that was used last, if one is still good.
    pub(crate) fn take(self: &Arc<Self>) -> Option<(Arc<Link>, Lease)> {
        let mut list = lock(&self.idle);
        while let Some(idle) = list.pop() {
            self.shared.idle.fetch_sub(1, Relaxed);
            if self.shared.is_fresh(&idle) && idle.link.is_quiet() {
                let lease = Lease::new(self, idle.requests + 1, true, idle.place);
                return Some((idle.link, lease));
            }
        }
        None
    }

    /// What gives a new connection to the pool; `place` is its place among the cluster's connections.
    pub(crate) fn lease(self: &Arc<Self>, place: Option<Connection>) -> Lease {
        Lease::new(self, 1, false, place)
    }

    fn put(&self, link: Arc<Link>, requests: u64, place: Option<Connection>) {
        let Shared {
            options,
            idle,
            sweeps,
            closed,
            ..
        } = &*self.shared;
        if closed.load(Relaxed) || options.max_requests != 0 && requests >= options.max_requests {
            return;
        }
        let list = &mut lock(&self.idle).stack;
        if list.len() < options.max_idle && idle.load(Relaxed) < options.max_idle_total {
            idle.fetch_add(1, Relaxed);
            list.push(Idle {
                link,
                requests,
                place,
                since: sweeps.load(Relaxed),
            });
        }
    }

    fn sweep(&self) {
        self.sessions.sweep(self.shared.options.idle);
        let mut list = lock(&self.idle);
        let before = list.stack.len();
        list.trim();
        list.stack
            .retain(|idle| self.shared.is_fresh(idle) && idle.link.is_quiet());
        let after = list.stack.len();
        self.shared.idle.fetch_sub(before - after, Relaxed);
        list.fewest = after;
        if after == 0 {
            list.stack.shrink_to_fit();
        }
    }
}

/// What `target`, which was found under `name`, is called in a Host field.
pub(crate) fn authority(target: &Target, name: Option<&HostName>, secure: bool) -> String {
    let default = if secure { 443 } else { 80 };
    let Target::Tcp { host, port } = target else {
        return "localhost".into();
    };
    let host = name.map_or_else(|| host_text(host), ToString::to_string);
    if *port == default {
        host
    } else {
        format!("{host}:{port}")
    }
}

fn host_text(host: &oxy_core::Host) -> String {
    match host.ip() {
        Some(std::net::IpAddr::V6(v6)) => format!("[{v6}]"),
        _ => host.to_string(),
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.target)
    }
}

/// A connection's way back to the pool, once the response has been read.
pub(crate) struct Lease {
    endpoint: Arc<Endpoint>,
    requests: u64,
    place: Option<Connection>,
    /// Whether the connection came from the pool.
    pub(crate) reused: bool,
    /// Whether the origin lets the connection live.
    pub(crate) keep_alive: bool,
    /// The rest of the request, still on its way up while the response is on its way down.
    pub(crate) upload: Option<Box<dyn Outgoing>>,
}

impl Lease {
    fn new(
        endpoint: &Arc<Endpoint>,
        requests: u64,
        reused: bool,
        place: Option<Connection>,
    ) -> Self {
        Self {
            endpoint: endpoint.clone(),
            requests,
            place,
            reused,
            keep_alive: false,
            upload: None,
        }
    }

    /// Goes on with the upload. An error says that the client will not send the rest of it: the origin, which may wait for
    /// that before it ends its response, must learn so.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(upload) = &mut self.upload else {
            return Poll::Ready(Ok(()));
        };
        let done = ready!(upload.poll(cx));
        self.upload = None;
        match done {
            // The response may still be good; the connection is not.
            Err(error) if error.side() == Side::Up => self.keep_alive = false,
            done => return Poll::Ready(done),
        }
        Poll::Ready(Ok(()))
    }

    /// The response has been read, or nobody wants the rest of it.
    pub(crate) fn come_home(self, source: Source) {
        self.endpoint.came(source.spliced);
        let clean =
            matches!(source.rest, Rest::Done) && source.ahead.is_none() && self.upload.is_none();
        if clean && self.keep_alive {
            self.endpoint.put(source.link, self.requests, self.place);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use oxy_core::StreamIo;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pool(max_idle: usize) -> (Arc<Pool>, Arc<Endpoint>) {
        let options = PoolOptions {
            max_idle,
            ..PoolOptions::default()
        };
        let pool = Pool::new(options, Way::nowhere());
        let endpoint = pool.endpoint(&"127.0.0.1:80".parse().unwrap(), None);
        (pool, endpoint)
    }

    fn give_back(lease: Lease, link: Arc<Link>, rest: Rest) {
        let lease = Lease {
            keep_alive: true,
            ..lease
        };
        lease.come_home(Source::new(link, rest));
    }

    #[tokio::test]
    async fn what_is_one_names_is_not_anothers() {
        let pool = Pool::new(PoolOptions::default(), Way::nowhere());
        let target: Target = "127.0.0.1:8080".parse().unwrap();
        let names: [HostName; 2] = ["a.test", "b.test"].map(|name| name.parse().unwrap());
        let [a, b] = [0, 1].map(|at| pool.endpoint(&target, Some(&names[at])));
        let nameless = pool.endpoint(&target, None);
        let link = StreamIo::pair(64).0.link().clone();
        give_back(a.lease(None), link, Rest::Done);
        assert!(b.take().is_none() && nameless.take().is_none());
        assert!(Arc::ptr_eq(&a, &pool.endpoint(&target, Some(&names[0]))));
        let called = [a, b, nameless].map(|it| String::from_utf8(it.authority.to_vec()).unwrap());
        assert_eq!(called, ["a.test:8080", "b.test:8080", "127.0.0.1:8080"]);
    }

    #[tokio::test]
    async fn the_last_one_in_is_the_first_one_out() {
        let (_pool, endpoint) = pool(2);
        let ends: Vec<_> = (0..3).map(|_| StreamIo::pair(64)).collect();
        for (near, _) in &ends {
            give_back(endpoint.lease(None), near.link().clone(), Rest::Done);
        }
        // The third found no room.
        let (link, lease) = endpoint.take().unwrap();
        assert!(Arc::ptr_eq(&link, ends[1].0.link()));
        assert!(lease.reused);
        assert!(Arc::ptr_eq(&endpoint.take().unwrap().0, ends[0].0.link()));
        assert!(endpoint.take().is_none());
    }

    #[tokio::test]
    async fn a_habit_takes_a_few_responses_to_form_and_one_to_go() {
        let (_pool, endpoint) = pool(1);
        let answers = |spliced| {
            let source = Source {
                spliced,
                ..Source::new(StreamIo::pair(64).0.link().clone(), Rest::Done)
            };
            endpoint.lease(None).come_home(source);
            endpoint.splices()
        };
        assert_eq!([true; 3].map(answers), [false, false, true]);
        assert_eq!([true, false, true].map(answers), [true, false, false]);
    }

    #[tokio::test]
    async fn what_is_closed_unclean_or_talks_is_not_used_again() {
        let (_pool, endpoint) = pool(8);
        let (near, far) = StreamIo::pair(64);
        give_back(endpoint.lease(None), near.link().clone(), Rest::Done);
        drop(far);
        assert!(endpoint.take().is_none(), "closed");

        let (near, mut far) = StreamIo::pair(64);
        give_back(endpoint.lease(None), near.link().clone(), Rest::Done);
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(endpoint.take().is_none(), "says something unasked");

        let (near, _far) = StreamIo::pair(64);
        give_back(endpoint.lease(None), near.link().clone(), Rest::Length(1));
        assert!(endpoint.take().is_none(), "not read to the end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_been_idle_for_long_is_closed() {
        let (pool, endpoint) = pool(8);
        let (near, far) = StreamIo::pair(64);
        give_back(endpoint.lease(None), near.into_parts().0, Rest::Done);
        tokio::time::sleep(PoolOptions::default().idle / 2).await;
        assert!(far.link().is_quiet());
        tokio::time::sleep(PoolOptions::default().idle).await;
        assert!(!far.link().is_quiet(), "closed");
        assert!(endpoint.take().is_none());
        assert!(!pool.evict());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_burst_has_left_goes_soon() {
        let (_pool, endpoint) = pool(2 * SPARE);
        let origin: Vec<_> = (0..SPARE + 10)
            .map(|_| {
                let (near, far) = StreamIo::pair(64);
                give_back(endpoint.lease(None), near.into_parts().0, Rest::Done);
                far
            })
            .collect();
        let idle = || lock(&endpoint.idle).stack.len();
        // It counts from the first sweep on, before which nobody can tell what is needed.
        tokio::time::sleep(SWEEP * 3 / 2).await;
        assert_eq!(idle(), SPARE + 10);
        // Of these eight are needed at a time.
        let busy: Vec<_> = (0..8).map(|_| endpoint.take().unwrap()).collect();
        for (link, lease) in busy {
            give_back(lease, link, Rest::Done);
        }
        tokio::time::sleep(SWEEP).await;
        assert_eq!(idle(), SPARE + 8);
        tokio::time::sleep(SWEEP).await;
        assert_eq!(idle(), SPARE);
        tokio::time::sleep(SWEEP).await;
        assert_eq!(idle(), SPARE);
        assert!(!origin[0].link().is_quiet(), "the oldest go first");
        assert!(origin[SPARE + 9].link().is_quiet());
    }
}
