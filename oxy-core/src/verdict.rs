//! What a hook decides about a flow.

use std::fmt;

use crate::flow::{Flow, Layer};
use crate::target::Target;
use crate::{BoxFuture, Error, Result};

/// The rest of a flow's life, in the application's hands.
pub type Drive = Box<dyn FnOnce(Flow) -> BoxFuture<'static, Result<()>> + Send>;

/// What is to become of a flow.
#[non_exhaustive]
pub enum Verdict {
    /// What the configuration says: relay a flow whose target is known; lift a stream that has just come in from outside,
    /// where a lift (TLS) is configured; serve it with the first protocol that is configured otherwise.
    Continue,
    /// Lift it to `Layer`: what lies inside is a flow again, and the hook is asked about that, too; or serve it with the
    /// protocol of that layer.
    Decapsulate(Layer),
    /// Send it there as it is.
    Route(Target),
    /// End it.
    Refuse(Error),
    /// The application drives it.
    Taken(Drive),
}

impl Verdict {
    /// [`Verdict::Taken`] from a closure.
    pub fn taken<D, F>(drive: D) -> Self
    where
        D: FnOnce(Flow) -> F + Send + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self::Taken(Box::new(move |flow| Box::pin(drive(flow))))
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Decapsulate(layer) => write!(f, "Decapsulate({layer})"),
            Self::Route(target) => write!(f, "Route({target})"),
            Self::Refuse(error) => write!(f, "Refuse({error:?})"),
            Self::Taken(_) => f.write_str("Taken"),
        }
    }
}
