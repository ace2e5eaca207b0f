//! Straight out: the system's own sockets.

use super::{Dialer, Offramp};
use crate::carrier::Carrier;
use crate::flow::{Far, FlowInfo};
use crate::target::Target;
use crate::{Error, ErrorKind, Result};

/// Opens a socket to the target itself, after the name has been resolved and every address checked.
#[derive(Clone, Debug)]
pub struct Direct {
    dialer: Dialer,
}

impl Direct {
    /// Dials as `dialer` does.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }
}

impl Offramp for Direct {
    async fn open(&self, target: &Target, _of: &FlowInfo) -> Result<Far> {
        let (carrier, peer) = match target {
            Target::Tcp { host, port } => {
                let socket = self.dialer.tcp(host, *port).await?;
                let peer = socket.peer_addr().ok();
                (Carrier::Stream(socket.into()), peer)
            }
            Target::Unix(path) => (Carrier::Stream(self.dialer.unix(path).await?.into()), None),
            _ => return Err(Error::local(ErrorKind::Unsupported)),
        };
        Ok(Far {
            carrier,
            target: target.clone(),
            peer,
        })
    }
}
