//! Internals for the micro benches. No promise is made about them.

use std::fmt;
use std::sync::Arc;

use oxy_core::engine::Means;
use oxy_core::offramp::AnyOfframp;
use oxy_core::{Drain, Engine, Link, Result, Target, Worker};

use crate::h1::incoming::{Rest, Source};
use crate::options::PoolOptions;
use crate::pool::{Endpoint, Lease, Pool, Way};
use crate::proxy::{self, Http};

/// What a worker of its own would serve `http` with, for flows that the caller enters. Needs a tokio runtime.
pub fn engine(http: Http<()>, offramp: AnyOfframp) -> Result<Engine<()>> {
    let worker = Worker::new(0, Drain::new());
    let terminal = proxy::factory(http)(&worker, &offramp)?;
    let means = Means {
        offramp,
        relay: oxy_core::relay::RelayOptions::default(),
        balancer: None,
    };
    let engine = Engine::new(Arc::new(()), worker, means);
    Ok(engine.with_terminals(vec![terminal]))
}

/// A pool with one endpoint.
pub struct PooledEndpoint {
    endpoint: Arc<Endpoint>,
    _pool: Arc<Pool>,
}

impl PooledEndpoint {
    /// A pool that holds `links`, all to `target`. Needs a tokio runtime.
    pub fn new(target: &Target, links: impl IntoIterator<Item = Arc<Link>>) -> Self {
        let pool = Pool::new(PoolOptions::default(), Way::nowhere());
        let endpoint = pool.endpoint(target, None);
        for link in links {
            give_back(endpoint.lease(None), link);
        }
        Self {
            endpoint,
            _pool: pool,
        }
    }

    /// Takes a connection out and gives it back; false if there was none.
    pub fn turn(&self) -> bool {
        let Some((link, lease)) = self.endpoint.take() else {
            return false;
        };
        give_back(lease, link);
        true
    }
}

fn give_back(mut lease: Lease, link: Arc<Link>) {
    lease.keep_alive = true;
    lease.come_home(Source::new(link, Rest::Done));
}

impl fmt::Debug for PooledEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PooledEndpoint({:?})", self.endpoint)
    }
}
