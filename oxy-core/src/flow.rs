//! A flow: what came in, what is known of it, and what it carries.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::carrier::{Carrier, DatagramIo, StreamIo};
use crate::meter::Meter;
use crate::sniff::ClientHello;
use crate::target::Target;
use crate::tls::TlsFacts;
use crate::{BoxFuture, Result};

/// How deep flows may nest (TLS in CONNECT in TLS ...): deeper than any honest stack, and a bound on what one client can
/// make the proxy build.
pub const MAX_DEPTH: u8 = 16;

/// A flow's number, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

impl FlowId {
    fn next() -> Self {
        // Each thread draws numbers from a block of its own, so that workers do not share a counter.
        const BLOCK: u64 = 1 << 16;
        static BLOCKS: AtomicU64 = AtomicU64::new(0);
        thread_local!(static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
        let id = NEXT.get();
        let id = if id.is_multiple_of(BLOCK) {
            BLOCKS.fetch_add(1, Relaxed) * BLOCK + 1
        } else {
            id
        };
        NEXT.set(id + 1);
        Self(id)
    }

    /// The bare number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Which protocol a flow's carrier speaks, as far as it has been lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// A TCP connection.
    Tcp,
    /// A Unix stream socket.
    Unix,
    /// A UDP session.
    Udp,
    /// A stream inside an HTTP CONNECT request (RFC 9110 section 9.3.6).
    Connect,
    /// A stream after an HTTP upgrade (RFC 9110 section 7.8).
    Upgrade,
    /// Plaintext inside TLS.
    Tls,
    /// Requests and responses.
    Http,
    /// Something that an application named.
    Other(&'static str),
}

impl Layer {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::Connect => "connect",
            Self::Upgrade => "upgrade",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the framework has learned of a flow: plain data, each group written at most once.
#[derive(Debug, Default)]
pub struct Facts {
    /// What a TLS client said first.
    pub client_hello: OnceLock<Box<ClientHello>>,
    /// What a TLS handshake has settled.
    pub tls: OnceLock<Box<TlsFacts>>,
}

/// What is known of a flow, shared by all who need it; it outlives the carrier.
#[derive(Debug)]
pub struct FlowInfo {
    /// The flow's number.
    pub id: FlowId,
    /// The flow that this one came out of.
    pub parent: Option<Arc<FlowInfo>>,
    /// How many flows lie beneath it.
    pub depth: u8,
    /// What the carrier speaks.
    pub layer: Layer,
    /// The name of the listener that it came in by, as its settings give it.
    pub listener: Arc<str>,
    /// Who sent it.
    pub peer: Option<SocketAddr>,
    /// The address of ours that it came to.
    pub local: Option<SocketAddr>,
    /// What has been learned on the way.
    pub facts: Facts,
    /// When it began.
    pub started: Instant,
    meter: Arc<Meter>,
    target: OnceLock<Target>,
    extensions: OnceLock<Box<Extensions>>,
}

impl FlowInfo {
    /// What stands for a flow where the program goes out of its own accord, to check an endpoint's health for one: nobody
    /// has sent it. `listener` is what logs call it.
    pub fn of_our_own(layer: Layer, listener: impl Into<Arc<str>>) -> Self {
        Self {
            id: FlowId::next(),
            parent: None,
            depth: 0,
            layer,
            listener: listener.into(),
            peer: None,
            local: None,
            facts: Facts::default(),
            started: Instant::now(),
            meter: Arc::default(),
            target: OnceLock::new(),
            extensions: OnceLock::new(),
        }
    }

    /// Bytes that crossed the carrier so far.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Where the flow was sent, once that is decided.
    pub fn target(&self) -> Option<&Target> {
        self.target.get()
    }

    pub(crate) fn routed(&self, target: Target) {
        let _ = self.target.set(target);
    }

    /// What the TLS handshake nearest to this flow has settled: its own, or that of the TLS that it lies in.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.stack()
            .find_map(|info| info.facts.tls.get())
            .map(|facts| &**facts)
    }

    /// What the TLS client nearest to this flow said first, if somebody has looked.
    pub fn client_hello(&self) -> Option<&ClientHello> {
        self.stack()
            .find_map(|info| info.facts.client_hello.get())
            .map(|hello| &**hello)
    }

    /// What third parties have attached.
    pub fn extensions(&self) -> &Extensions {
        self.extensions.get_or_init(Box::default)
    }

    /// This flow and those beneath it, outermost layer last: its protocol stack.
    pub fn stack(&self) -> impl Iterator<Item = &FlowInfo> {
        std::iter::successors(Some(self), |info| info.parent.as_deref())
    }
}

/// Values that third parties attach to a flow, one of a type.
#[derive(Default)]
pub struct Extensions(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Extensions {
    /// Attaches `value`, in place of an earlier one of its type.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of this type, if one was attached.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&TypeId::of::<T>())
            .cloned();
        value.and_then(|value| value.downcast().ok())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Extensions")
    }
}

/// Something that a flow holds until it ends, such as its place under a connection limit.
pub type Permit = Box<dyn Any + Send + Sync>;

/// What is done to a flow before the application sees it: it gives the flow as it is to be seen. An error ends it, and is
/// logged.
pub type Prelude = Box<dyn FnOnce(Flow) -> BoxFuture<'static, Result<Flow>> + Send + Sync>;

/// The far side of a flow, opened towards its target.
#[derive(Debug)]
pub struct Far {
    /// What carries the bytes there.
    pub carrier: Carrier,
    /// What was asked for.
    pub target: Target,
    /// What was reached.
    pub peer: Option<SocketAddr>,
    /// What was learned on the way: the protocol that TLS settled on, for one.
    pub facts: Facts,
}

/// A flow on its way through the engine. Not `Clone`: it owns what it carries.
pub struct Flow {
    /// What is known of it.
    pub info: Arc<FlowInfo>,
    /// What it carries.
    pub carrier: Carrier,
    /// Where it is to go, if that is known.
    pub target: Option<Target>,
    /// The far side, if it is open already.
    pub far: Option<Far>,
    pub(crate) permit: Option<Permit>,
    pub(crate) prelude: Option<Prelude>,
}

/// Where a flow came from, for [`Flow::new`].
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name of the listener.
    pub listener: Arc<str>,
    /// Who sent it.
    pub peer: Option<SocketAddr>,
    /// The address of ours that it came to.
    pub local: Option<SocketAddr>,
}

impl Flow {
    /// A flow that has come in from outside.
    pub fn new(layer: Layer, carrier: Carrier, origin: Origin) -> Self {
        let Origin {
            listener,
            peer,
            local,
        } = origin;
        Self::make(layer, carrier, None, listener, peer, local)
    }

    /// A flow that comes out of the one described by `parent`.
    pub fn child(parent: &Arc<FlowInfo>, layer: Layer, carrier: Carrier) -> Self {
        Self::make(
            layer,
            carrier,
            Some(parent.clone()),
            parent.listener.clone(),
            parent.peer,
            parent.local,
        )
    }

    fn make(
        layer: Layer,
        carrier: Carrier,
        parent: Option<Arc<FlowInfo>>,
        listener: Arc<str>,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> Self {
        let meter = match &carrier {
            Carrier::Stream(stream) => stream.link().meter().clone(),
            Carrier::Datagrams(datagrams) => datagrams.meter().clone(),
        };
        let info = FlowInfo {
            id: FlowId::next(),
            depth: parent
                .as_ref()
                .map_or(0, |parent| parent.depth.saturating_add(1)),
            parent,
            layer,
            listener,
            peer,
            local,
            facts: Facts::default(),
            started: Instant::now(),
            meter,
            target: OnceLock::new(),
            extensions: OnceLock::new(),
        };
        Self {
            info: Arc::new(info),
            carrier,
            target: None,
            far: None,
            permit: None,
            prelude: None,
        }
    }

    /// Says where the flow is to go.
    #[must_use]
    pub fn to(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Gives the flow its far side, opened already.
    #[must_use]
    pub fn joined(mut self, far: Far) -> Self {
        self.target = Some(far.target.clone());
        self.far = Some(far);
        self
    }

    /// Whether it is a stream as an on-ramp gives it, of which nothing is decided yet.
    pub(crate) fn is_from_outside(&self) -> bool {
        self.target.is_none()
            && self.info.parent.is_none()
            && matches!(self.info.layer, Layer::Tcp | Layer::Unix)
    }

    /// Holds `permit` until the flow ends.
    #[must_use]
    pub fn holding(mut self, permit: Permit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// Has `prelude` done first of all, on the flow's own task: for on-ramps whose clients have something to say before
    /// the flow proper begins. Neither other flows nor the listener wait for it. It bounds its time itself.
    #[must_use]
    pub fn after<P, F>(mut self, prelude: P) -> Self
    where
        P: FnOnce(Self) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Self>> + Send + 'static,
    {
        self.prelude = Some(Box::new(move |flow| Box::pin(prelude(flow))));
        self
    }

    /// The flow as one that comes from `peer` and is for `local`, where another has only passed it on. It is the same flow,
    /// with the same number; facts and extensions start anew. For a [`Prelude`]: once the application has seen a flow, what
    /// is known of it does not change any more.
    #[must_use]
    pub fn on_behalf_of(mut self, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        let old = &*self.info;
        self.info = Arc::new(FlowInfo {
            id: old.id,
            parent: old.parent.clone(),
            depth: old.depth,
            layer: old.layer,
            listener: old.listener.clone(),
            peer,
            local,
            facts: Facts::default(),
            started: old.started,
            meter: old.meter.clone(),
            target: OnceLock::new(),
            extensions: OnceLock::new(),
        });
        self
    }

    /// The stream, if that is what it carries.
    pub fn stream(&mut self) -> Option<&mut StreamIo> {
        match &mut self.carrier {
            Carrier::Stream(stream) => Some(stream),
            Carrier::Datagrams(_) => None,
        }
    }

    /// The datagrams, if that is what it carries.
    pub fn datagrams(&mut self) -> Option<&mut DatagramIo> {
        match &mut self.carrier {
            Carrier::Datagrams(datagrams) => Some(datagrams),
            Carrier::Stream(_) => None,
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Flow({:?} {} depth {})",
            self.info.id, self.info.layer, self.info.depth
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            listener: "test".into(),
            peer: None,
            local: None,
        }
    }

    #[test]
    fn a_flows_ancestry_is_its_protocol_stack() {
        let outer = Flow::new(Layer::Tcp, Carrier::Stream(StreamIo::pair(1).0), origin());
        let inner = Flow::child(
            &outer.info,
            Layer::Connect,
            Carrier::Stream(StreamIo::pair(1).0),
        );
        let layers: Vec<_> = inner.info.stack().map(|info| info.layer).collect();
        assert_eq!(layers, [Layer::Connect, Layer::Tcp]);
        assert_eq!(inner.info.depth, 1);
        assert_ne!(inner.info.id, outer.info.id);
    }

    #[test]
    fn extensions_hold_one_of_a_type() {
        let flow = Flow::new(Layer::Tcp, Carrier::Stream(StreamIo::pair(1).0), origin());
        flow.info.extensions().insert(7u32);
        flow.info.extensions().insert(8u32);
        assert_eq!(flow.info.extensions().get::<u32>().as_deref(), Some(&8));
        assert!(flow.info.extensions().get::<String>().is_none());
    }
}
