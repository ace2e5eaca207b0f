//! Where flows go out.

pub mod dial;
mod direct;
pub mod policy;

use std::fmt;
use std::sync::Arc;

pub use dial::{DialOptions, Dialer};
pub use direct::Direct;
pub use policy::{Cidr, EgressPolicy};

use crate::flow::{Far, FlowInfo};
use crate::target::{HostName, Target};
use crate::{BoxFuture, Result, pinned};

/// A way out: it opens the carrier that fits a target.
pub trait Offramp: Send + Sync + 'static {
    /// Opens the far side towards `target` on behalf of the flow `of`. Errors are on side `Up` and retryable as long as
    /// nothing was sent. Cancel safe: what was half open is closed.
    fn open(&self, target: &Target, of: &FlowInfo) -> impl Future<Output = Result<Far>> + Send;

    /// Opens the far side at `target`, which was found under `name`: DNS has said that the name's machine is at this address.
    /// The address is what is dialled; the name is what the far side is called, and what it must prove to be (TLS).
    /// [`Offramp::open`] is the same without a name, where the target says all there is to say.
    ///
    /// An off-ramp that goes out by another one passes the name on. Where names mean nothing, it need not be there: by
    /// default the name is dropped, after which TLS asks for a certificate of the address, so that nobody is believed too
    /// much. Errors and cancel safety are those of [`Offramp::open`].
    fn open_as(
        &self,
        target: &Target,
        name: Option<&HostName>,
        of: &FlowInfo,
    ) -> impl Future<Output = Result<Far>> + Send {
        let _ = name;
        self.open(target, of)
    }

    /// Whether what is opened says whom it is for, so that it must not be used again for another flow: no pool may keep it.
    fn is_per_client(&self) -> bool {
        false
    }
}

trait Erased: Send + Sync {
    fn open<'a>(&'a self, target: &'a Target, of: &'a FlowInfo) -> BoxFuture<'a, Result<Far>>;
    fn open_as<'a>(
        &'a self,
        target: &'a Target,
        name: Option<&'a HostName>,
        of: &'a FlowInfo,
    ) -> BoxFuture<'a, Result<Far>>;
    fn is_per_client(&self) -> bool;
}

impl<T: Offramp> Erased for T {
    fn open<'a>(&'a self, target: &'a Target, of: &'a FlowInfo) -> BoxFuture<'a, Result<Far>> {
        pinned(|| Offramp::open(self, target, of))
    }

    fn open_as<'a>(
        &'a self,
        target: &'a Target,
        name: Option<&'a HostName>,
        of: &'a FlowInfo,
    ) -> BoxFuture<'a, Result<Far>> {
        pinned(|| Offramp::open_as(self, target, name, of))
    }

    fn is_per_client(&self) -> bool {
        Offramp::is_per_client(self)
    }
}

/// Any [`Offramp`]. Clones are the same one.
#[derive(Clone)]
pub struct AnyOfframp(Arc<dyn Erased>);

impl AnyOfframp {
    /// Hides which off-ramp it is.
    pub fn new(offramp: impl Offramp) -> Self {
        Self(Arc::new(offramp))
    }

    /// See [`Offramp::open`].
    pub fn open<'a>(&'a self, target: &'a Target, of: &'a FlowInfo) -> BoxFuture<'a, Result<Far>> {
        self.0.open(target, of)
    }

    /// See [`Offramp::open_as`].
    pub fn open_as<'a>(
        &'a self,
        target: &'a Target,
        name: Option<&'a HostName>,
        of: &'a FlowInfo,
    ) -> BoxFuture<'a, Result<Far>> {
        self.0.open_as(target, name, of)
    }

    /// See [`Offramp::is_per_client`].
    pub fn is_per_client(&self) -> bool {
        self.0.is_per_client()
    }
}

impl fmt::Debug for AnyOfframp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyOfframp")
    }
}
