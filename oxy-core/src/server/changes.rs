//! What is to become of the proxies that run.

use std::sync::Arc;

use crate::hooks::FlowHooks;
use crate::proxy::{Proxy, Service};

/// A set of changes to the proxies of a server, for [`Running::apply`](super::Running::apply).
#[derive(Default)]
#[must_use]
pub struct Changes {
    pub(super) arriving: Vec<Arriving>,
    /// The names of those that go.
    pub(super) leaving: Vec<Arc<str>>,
}

pub(super) struct Arriving {
    pub(super) service: Box<dyn Service>,
    /// Those of its name go, and there must be one.
    pub(super) replaces: bool,
}

impl Changes {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a proxy, under a name that no other has. Its own number of workers counts for nothing here.
    #[expect(clippy::should_implement_trait, reason = "it names what is done")]
    pub fn add<A: FlowHooks>(self, proxy: Proxy<A>) -> Self {
        self.arrives(proxy, false)
    }

    /// Puts a proxy in the place of the one that has its name.
    pub fn replace<A: FlowHooks>(self, proxy: Proxy<A>) -> Self {
        self.arrives(proxy, true)
    }

    /// Takes away the proxy `name`.
    pub fn remove(mut self, name: &str) -> Self {
        self.leaving.push(name.into());
        self
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.arriving.is_empty() && self.leaving.is_empty()
    }

    fn arrives<A: FlowHooks>(mut self, proxy: Proxy<A>, replaces: bool) -> Self {
        let service = Box::new(proxy);
        self.arriving.push(Arriving { service, replaces });
        self
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arriving = self.arriving.iter().map(|arriving| arriving.service.name());
        f.debug_struct("Changes")
            .field("arriving", &arriving.collect::<Vec<_>>())
            .field("leaving", &self.leaving)
            .finish()
    }
}
