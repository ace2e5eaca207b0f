//! SIGTERM, SIGINT and SIGHUP.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::Running;
use crate::{Error, Result, Side};

/// Signals that have come since this was made: none is lost between the start of what they are to stop and the wait for
/// them.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Begins to catch SIGTERM and SIGINT; from now on they do not end the process by themselves.
    pub fn catch() -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        drop(inside);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            hangup: None,
        })
    }

    /// Begins to catch SIGHUP too, which then asks for a reload ([`Signals::serve_with`]) instead of ending the process.
    pub fn with_hangup(mut self) -> Result<Self> {
        let inside = self.runtime.enter();
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        drop(inside);
        self.hangup = Some(hangup);
        Ok(self)
    }

    /// Waits for a signal, then stops `running` ([`Running::stop`]). A SIGINT during that cuts what is left; a second
    /// SIGTERM changes nothing, as service managers send it again.
    pub fn serve_until(self, running: Running) -> Result<()> {
        self.serve_with(running, |_| {})
    }

    /// As [`Signals::serve_until`], and calls `reload` for each SIGHUP, if [`Signals::with_hangup`] was called: on a thread
    /// that may block, one call at a time. SIGHUPs that come during a call are one call after it; a signal to stop waits
    /// for its end. A panic in it is logged and changes nothing.
    pub fn serve_with(
        self,
        running: Running,
        reload: impl FnMut(&Running) + Send + 'static,
    ) -> Result<()> {
        let Self {
            runtime,
            mut terminate,
            mut interrupt,
            mut hangup,
        } = self;
        let drain = running.drain().clone();
        let running = Arc::new(running);
        let reload = Arc::new(Mutex::new(reload));
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    () = received(&mut hangup) => {}
                }
                let (running, reload) = (running.clone(), reload.clone());
                let reloading = tokio::task::spawn_blocking(move || {
                    let mut reload = reload.lock().unwrap_or_else(PoisonError::into_inner);
                    reload(&running);
                });
                if let Err(error) = reloading.await {
                    tracing::error!("reloading: {error}");
                }
            }
            tracing::info!("draining");
            let mut stopping =
                tokio::task::spawn_blocking(move || match Arc::try_unwrap(running) {
                    Ok(running) => running.stop(),
                    Err(_) => Err(Error::app("a reload is still under way")),
                });
            loop {
                tokio::select! {
                    stopped = &mut stopping => {
                        return stopped.unwrap_or_else(|e| Err(Error::app(e)));
                    }
                    _ = interrupt.recv() => drain.abort(),
                }
            }
        })
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io(Side::Local, error).context("catching signals")
}

/// Waits for a signal, for good where it is not caught.
async fn received(signal: &mut Option<Signal>) {
    let Some(signal) = signal else {
        return std::future::pending().await;
    };
    signal.recv().await;
}
