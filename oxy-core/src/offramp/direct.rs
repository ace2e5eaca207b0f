//! Straight out: the system's own sockets.

use super::{Dialer, Offramp};
use crate::Result;
use crate::carrier::{Carrier, DatagramIo, UdpPort};
use crate::flow::{Facts, Far, FlowInfo};
use crate::target::Target;

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
                let (socket, peer) = self.dialer.tcp_peer(host, *port).await?;
                (Carrier::Stream(socket.into()), Some(peer))
            }
            Target::Unix(path) => (Carrier::Stream(self.dialer.unix(path).await?.into()), None),
            Target::Udp { host, port } => {
                let socket = self.dialer.udp(host, *port).await?;
                let peer = socket.peer_addr().ok();
                let port = UdpPort::new(socket);
                (Carrier::Datagrams(DatagramIo::new(port)), peer)
            }
        };
        Ok(Far {
            carrier,
            target: target.clone(),
            peer,
            facts: Facts::default(),
        })
    }
}
