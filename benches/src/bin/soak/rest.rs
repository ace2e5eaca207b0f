//! What is left of the load once its clients are gone.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::proxy::Proxy;
use crate::tally::Tally;

/// How long flows may take to end after their clients.
const FLOWS: Duration = Duration::from_secs(5);

/// How long an allocator may take to give memory back, and descriptors to be closed.
const MEMORY: Duration = Duration::from_secs(15);

/// Resident memory that has not changed by more than a few pages for so long is what stays.
const STILL: Duration = Duration::from_secs(2);

/// Changes that do not count.
const FLICKER: u64 = 64 << 10;

/// The proxy at rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    pub(crate) flows: u64,
    pub(crate) rss: u64,
    /// Descriptors besides connections to the origin, which wait in pools to be used again.
    pub(crate) files: u64,
}

/// Waits until the proxy has come to rest, and to as much memory as is `enough` as far as it does.
pub(crate) async fn rest(proxy: &mut Proxy, tally: &Tally, enough: u64) -> Result<Rest, String> {
    let begun = Instant::now();
    let mut flows = proxy.flows().await?;
    while flows > 0 && begun.elapsed() < FLOWS {
        sleep(Duration::from_millis(50)).await;
        flows = proxy.flows().await?;
    }
    let begun = Instant::now();
    let (mut rss, mut since) = (proxy.rss()?, Instant::now());
    while (since.elapsed() < STILL || rss > enough) && begun.elapsed() < MEMORY {
        sleep(Duration::from_millis(100)).await;
        let now = proxy.rss()?;
        if now.abs_diff(rss) > FLICKER {
            (rss, since) = (now, Instant::now());
        }
    }
    proxy.alive()?;
    Ok(Rest {
        flows,
        rss: proxy.rss()?,
        files: proxy.files()?.saturating_sub(tally.origin_open.now()),
    })
}
