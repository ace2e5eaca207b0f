//! SIGTERM and SIGINT.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::Running;
use crate::{Error, Result, Side};

/// SIGTERMs and SIGINTs that have come since this was made: none is lost between the start of what they are to stop and
/// the wait for them.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to catch them; from now on they do not end the process by themselves.
    pub fn catch() -> Result<Self> {
        let failed = |e| Error::io(Side::Local, e).context("catching signals");
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
        })
    }

    /// Waits for a signal, then stops `running` ([`Running::stop`]). A SIGINT during that cuts what is left; a second
    /// SIGTERM changes nothing, as service managers send it again.
    pub fn serve_until(self, running: Running) -> Result<()> {
        let Self {
            runtime,
            mut terminate,
            mut interrupt,
        } = self;
        let drain = running.drain().clone();
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("draining");
            let mut stopping = tokio::task::spawn_blocking(move || running.stop());
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
