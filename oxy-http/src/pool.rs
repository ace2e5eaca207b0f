//! Connections to origins that wait to be used again, per worker.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use oxy_core::{Link, Target};

use crate::h1::incoming::{Rest, Source};
use crate::h1::pump::Pump;
use crate::options::PoolOptions;

/// One worker's idle connections. Its locks are its worker's own: nobody waits for them.
#[derive(Debug)]
pub(crate) struct Pool {
    options: PoolOptions,
    endpoints: Mutex<HashMap<Target, Arc<Endpoint>>>,
    idle: AtomicUsize,
}

/// The idle connections to one target.
pub(crate) struct Endpoint {
    pub(crate) target: Target,
    /// The target as a Host field has it.
    pub(crate) authority: Box<[u8]>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    link: Arc<Link>,
    requests: u64,
    since: Instant,
}

/// How often dead and old connections are looked for. Those that die in between are found when they are taken.
const SWEEP: Duration = Duration::from_secs(2);

/// Endpoints without connections that are remembered: a forward proxy meets many hosts once.
const REMEMBERED: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool with a task that sweeps it for as long as it lives. Needs a tokio runtime.
    pub(crate) fn new(options: PoolOptions) -> Arc<Self> {
        let pool = Arc::new(Self {
            options,
            endpoints: Mutex::default(),
            idle: AtomicUsize::new(0),
        });
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        pool
    }

    /// Where connections to `target` are kept.
    pub(crate) fn endpoint(&self, target: &Target) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.endpoints);
        if let Some(endpoint) = endpoints.get(target) {
            return endpoint.clone();
        }
        if endpoints.len() >= REMEMBERED {
            endpoints.retain(|_, endpoint| {
                Arc::strong_count(endpoint) > 1 || !lock(&endpoint.idle).is_empty()
            });
        }
        let endpoint = Arc::new(Endpoint::new(target.clone()));
        endpoints.insert(target.clone(), endpoint.clone());
        endpoint
    }

    /// The connection to `endpoint` that was used last, if one is still good.
    pub(crate) fn take(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> Option<(Arc<Link>, Lease)> {
        let mut idle = lock(&endpoint.idle);
        while let Some(Idle {
            link,
            requests,
            since,
        }) = idle.pop()
        {
            self.idle.fetch_sub(1, Relaxed);
            if since.elapsed() < self.options.idle && link.is_quiet() {
                let lease = Lease::new(self, endpoint, requests + 1, true);
                return Some((link, lease));
            }
        }
        None
    }

    /// What gives a new connection to `endpoint` back to the pool.
    pub(crate) fn lease(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> Lease {
        Lease::new(self, endpoint, 1, false)
    }

    /// Closes an idle connection, if there is one, because its descriptor is needed.
    pub(crate) fn evict(&self) -> bool {
        let victim = lock(&self.endpoints)
            .values()
            .find_map(|endpoint| lock(&endpoint.idle).pop());
        if victim.is_some() {
            self.idle.fetch_sub(1, Relaxed);
        }
        victim.is_some()
    }

    fn put(&self, endpoint: &Endpoint, link: Arc<Link>, requests: u64) {
        if self.options.max_requests != 0 && requests >= self.options.max_requests {
            return;
        }
        let mut idle = lock(&endpoint.idle);
        if idle.len() < self.options.max_idle
            && self.idle.load(Relaxed) < self.options.max_idle_total
        {
            self.idle.fetch_add(1, Relaxed);
            idle.push(Idle {
                link,
                requests,
                since: Instant::now(),
            });
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let endpoints: Vec<_> = lock(&pool.endpoints).values().cloned().collect();
        for endpoint in endpoints {
            let mut idle = lock(&endpoint.idle);
            let before = idle.len();
            idle.retain(|idle| idle.since.elapsed() < pool.options.idle && idle.link.is_quiet());
            pool.idle.fetch_sub(before - idle.len(), Relaxed);
            if idle.is_empty() {
                idle.shrink_to_fit();
            }
        }
    }
}

impl Endpoint {
    fn new(target: Target) -> Self {
        let authority = match &target {
            Target::Tcp { host, port: 80 } => host_text(host),
            Target::Tcp { host, port } => format!("{}:{port}", host_text(host)),
            _ => "localhost".into(),
        };
        Self {
            target,
            authority: authority.into_bytes().into(),
            idle: Mutex::default(),
        }
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
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
    requests: u64,
    /// Whether the connection came from the pool.
    pub(crate) reused: bool,
    /// Whether the origin lets the connection live.
    pub(crate) keep_alive: bool,
    /// The rest of the request, still on its way up while the response is on its way down.
    pub(crate) upload: Option<Box<Pump>>,
}

impl Lease {
    fn new(pool: &Arc<Pool>, endpoint: &Arc<Endpoint>, requests: u64, reused: bool) -> Self {
        Self {
            pool: pool.clone(),
            endpoint: endpoint.clone(),
            requests,
            reused,
            keep_alive: false,
            upload: None,
        }
    }

    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                // The response may still be good; the connection is not.
                Poll::Ready(Err(_)) => self.keep_alive = false,
            }
            self.upload = None;
        }
        Poll::Ready(())
    }

    /// The response has been read, or nobody wants the rest of it.
    pub(crate) fn come_home(self: Box<Self>, source: Source) {
        let clean =
            matches!(source.rest, Rest::Done) && source.ahead.is_none() && self.upload.is_none();
        if clean && self.keep_alive {
            self.pool.put(&self.endpoint, source.link, self.requests);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.endpoint)
    }
}
