//! Reloads: that one is asked for, and what has come of it.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::watch;

/// How long an answer is waited for: another reload may be under way, but each takes milliseconds. A process that goes away
/// reloads no more.
const PATIENCE: Duration = Duration::from_secs(30);

/// How reloads have gone.
#[derive(Debug)]
pub(crate) struct Reloads(watch::Sender<State>);

#[derive(Clone, Debug)]
struct State {
    begun: u64,
    ended: u64,
    succeeded: u64,
    /// Of the last one.
    outcome: Result<String, String>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self(watch::Sender::new(State {
            begun: 0,
            ended: 0,
            succeeded: 0,
            outcome: Ok(String::new()),
        }))
    }
}

impl Reloads {
    /// How many have succeeded, and how many have failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.0.borrow();
        (state.succeeded, state.ended - state.succeeded)
    }

    /// Does one by `reload`; one at a time.
    pub(super) fn one(&self, reload: impl FnOnce() -> Result<String, String>) {
        self.0.send_modify(|state| state.begun += 1);
        let outcome = reload();
        self.0.send_modify(|state| {
            state.ended = state.begun;
            state.succeeded += u64::from(outcome.is_ok());
            state.outcome = outcome;
        });
    }

    /// Asks for one, as SIGHUP does, and gives what has come of it: of one that began after this. None if nobody says so.
    pub(crate) async fn ask(&self) -> Option<Result<String, String>> {
        let mut receiver = self.0.subscribe();
        let before = receiver.borrow().begun;
        kill_process(getpid(), Signal::HUP).ok()?;
        let ended = receiver.wait_for(|state| state.ended > before);
        let ended = tokio::time::timeout(PATIENCE, ended).await.ok()?.ok()?;
        Some(ended.outcome.clone())
    }
}
