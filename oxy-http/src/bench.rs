//! Internals for the micro benches. No promise is made about them.

use std::fmt;
use std::sync::Arc;

use oxy_core::{Link, Target};

use crate::h1::incoming::{Rest, Source};
use crate::options::PoolOptions;
use crate::pool::{Endpoint, Lease, Pool, Way};

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
    lease.come_home(Source {
        link,
        ahead: None,
        rest: Rest::Done,
    });
}

impl fmt::Debug for PooledEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PooledEndpoint({:?})", self.endpoint)
    }
}
