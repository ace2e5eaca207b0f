//! What lifts a flow to the layer that its bytes speak: TLS to its plaintext, for one.

use std::fmt;
use std::sync::Arc;

use crate::flow::{Flow, Layer};
use crate::{BoxFuture, Result, pinned};

/// Makes of a flow the one that lies inside it.
///
/// Unlike a [`crate::Terminal`] it does not end the flow: what it gives enters the engine as a child, and everything that
/// can become of a flow can become of that.
pub trait Decapsulate: Send + Sync + 'static {
    /// The layer of what it gives, which is what [`crate::Verdict::Decapsulate`] names it by.
    fn layer(&self) -> Layer;

    /// Lifts `flow`: gives a child of it ([`Flow::child`]). It bounds the time that this takes. An error ends the flow.
    /// Dropping the future cuts it.
    fn lift(&self, flow: Flow) -> impl Future<Output = Result<Flow>> + Send;
}

trait Erased: Send + Sync {
    fn layer(&self) -> Layer;
    fn lift(self: Arc<Self>, flow: Flow) -> BoxFuture<'static, Result<Flow>>;
}

impl<T: Decapsulate> Erased for T {
    fn layer(&self) -> Layer {
        Decapsulate::layer(self)
    }

    fn lift(self: Arc<Self>, flow: Flow) -> BoxFuture<'static, Result<Flow>> {
        pinned(move || async move { Decapsulate::lift(&*self, flow).await })
    }
}

/// Any [`Decapsulate`]. Clones are the same one.
#[derive(Clone)]
pub struct AnyLift(Arc<dyn Erased>);

impl AnyLift {
    /// Hides which one it is.
    pub fn new(lift: impl Decapsulate) -> Self {
        Self(Arc::new(lift))
    }

    /// See [`Decapsulate::layer`].
    pub fn layer(&self) -> Layer {
        self.0.layer()
    }

    /// See [`Decapsulate::lift`].
    pub fn lift(&self, flow: Flow) -> BoxFuture<'static, Result<Flow>> {
        self.0.clone().lift(flow)
    }
}

impl fmt::Debug for AnyLift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyLift({})", self.layer())
    }
}
