//! Why a message is refused.

use oxy_core::{Error, ErrorKind};

/// Why a message is refused. It is small and owns nothing: refusing garbage must stay cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What is wrong, as a status sees it.
    pub kind: ErrorKind,
    /// What is wrong, in a few words for a log.
    pub why: &'static str,
}

impl Reject {
    pub(crate) const fn new(kind: ErrorKind, why: &'static str) -> Self {
        Self { kind, why }
    }

    pub(crate) const fn malformed(why: &'static str) -> Self {
        Self::new(ErrorKind::Malformed, why)
    }

    /// The error for a message that came from the client.
    pub fn down(self) -> Error {
        Error::down(self.kind).context(self.why)
    }

    /// The error for a message that came from an origin.
    pub fn up(self) -> Error {
        Error::up(self.kind).context(self.why)
    }
}
