//! What bodies do while a piece of work is polled: who keeps it waiting, and how much came.
//!
//! An application's hook may read a body, ask somebody else, or both. Only the first has a time-out of ours, so it has to be
//! told from the second; the body that the hook polls notes it here, for whoever polls the hook.

use std::cell::Cell;

use oxy_core::Side;

/// What happened during one poll.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    /// Whose bytes are waited for, if a body had none.
    pub(crate) on: Option<Side>,
    /// Bytes of payload that came.
    pub(crate) came: u64,
}

thread_local!(static WAITS: Cell<Waits> = const { Cell::new(Waits { on: None, came: 0 }) });

/// Runs `poll`, and says what bodies did meanwhile.
pub(crate) fn during<T>(poll: impl FnOnce() -> T) -> (T, Waits) {
    WAITS.set(Waits::default());
    let done = poll();
    (done, WAITS.take())
}

/// A body has nothing to give until `side` sends more.
pub(crate) fn waiting(side: Side) {
    WAITS.set(Waits {
        on: Some(side),
        ..WAITS.get()
    });
}

/// A body has read `n` bytes of payload.
pub(crate) fn came(n: u64) {
    let waits = WAITS.get();
    WAITS.set(Waits {
        came: waits.came + n,
        ..waits
    });
}
