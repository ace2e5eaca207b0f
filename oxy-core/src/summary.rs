//! What is said of a flow when it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::flow::FlowInfo;
use crate::{Error, ErrorKind, Side};

/// A flow's last word, made exactly once, whatever ended it.
#[derive(Debug)]
pub struct Summary {
    /// The flow.
    pub info: Arc<FlowInfo>,
    /// How long it lived.
    pub lived: Duration,
    /// Bytes that came from the peer.
    pub received: u64,
    /// Bytes that went to the peer.
    pub sent: u64,
    /// How it ended.
    pub ended: Ended,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// In good order.
    Done,
    /// By an error.
    Failed(ErrorKind, Side),
    /// Its task was dropped: the process is going away, or the code that drove it.
    Cut,
}

impl Ended {
    pub(crate) fn of(result: &Result<(), Error>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(e) => Self::Failed(e.kind(), e.side()),
        }
    }

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(kind, _) => kind.name(),
            Self::Cut => "cut",
        }
    }
}
