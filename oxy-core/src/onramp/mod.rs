//! Where flows come in.

mod limit;
mod site;
mod stream;
mod udp;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

pub(crate) use site::Places;
pub use site::{Kept, Site};
pub use stream::{StreamBind, StreamOnramp, StreamOptions};
pub(crate) use udp::UdpBind;
pub use udp::{UdpOnramp, UdpOptions};

use crate::flow::Flow;
use crate::worker::Worker;
use crate::{BoxFuture, Error, ErrorKind, Result};

/// A source of flows.
pub trait Onramp: Send + 'static {
    /// Called once, before the first [`Onramp::accept`], and not before the whole change that the on-ramp is a part of is
    /// sure to happen: from now on flows are to come here. One that was given another's sockets takes them over now.
    fn begin(&mut self) {}

    /// Waits for the next flow. An error is for the log: the on-ramp has dealt with it (by waiting, where the process is
    /// out of descriptors), and the next call may succeed. Cancel safe.
    fn accept(&mut self) -> impl Future<Output = Result<Flow>> + Send;
}

trait Erased: Send {
    fn begin(&mut self);
    fn accept(&mut self) -> BoxFuture<'_, Result<Flow>>;
}

impl<T: Onramp> Erased for T {
    fn begin(&mut self) {
        Onramp::begin(self);
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<Flow>> {
        Box::pin(Onramp::accept(self))
    }
}

/// Any [`Onramp`].
pub struct AnyOnramp(Box<dyn Erased>);

impl AnyOnramp {
    /// Hides which on-ramp it is.
    pub fn new(onramp: impl Onramp) -> Self {
        Self(Box::new(onramp))
    }

    /// See [`Onramp::begin`].
    pub fn begin(&mut self) {
        self.0.begin();
    }

    /// See [`Onramp::accept`].
    pub fn accept(&mut self) -> BoxFuture<'_, Result<Flow>> {
        self.0.accept()
    }
}

impl fmt::Debug for AnyOnramp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyOnramp")
    }
}

/// Makes one worker's share of an on-ramp, on that worker's thread.
pub type Seed = Box<dyn FnOnce(&Worker) -> Result<AnyOnramp> + Send>;

/// Something that can be listened on: it is bound once, with a share for each worker, before any of them takes flows in.
pub trait Bind: Send + Sync + fmt::Debug {
    /// Binds for the workers of `site`, with the sockets that are kept there for its address ([`Site::claim`]), if any.
    /// Whoever has them now goes on using them until [`Onramp::begin`], and for good if that is never called.
    fn bind(&self, site: &mut Site<'_>) -> Result<Bound>;
}

/// An on-ramp that has its address.
pub struct Bound {
    /// The address, for logs: with the port that the system chose where 0 was asked for.
    pub address: ListenAddr,
    /// A share for each worker.
    pub seeds: Vec<Seed>,
    /// What the next on-ramp at this address gets ([`Site::claim`]). Without it, that one has to bind anew, and what waits
    /// in the queues of this one's sockets when it goes is taken in before they are closed.
    pub kept: Option<Kept>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bound({})", self.address)
    }
}

/// Where something listens.
///
/// As text: `127.0.0.1:8080`, `[::1]:8080`, `:8080` (all addresses), `unix:/run/oxy.sock`, `udp:127.0.0.1:5300`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddr {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A UDP port.
    Udp(SocketAddr),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

impl ListenAddr {
    /// The IP address and port, unless it is a Unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for ListenAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::local(ErrorKind::Malformed)
                .context("an address to listen on")
                .because(format!(
                    "{text:?} is neither IP:PORT, :PORT, unix:PATH nor udp:IP:PORT"
                ))
        };
        let socket = |text: &str| match text.strip_prefix(':') {
            Some(port) => Ok(SocketAddr::from((
                [0; 16],
                port.parse().map_err(|_| bad())?,
            ))),
            None => text
                .replacen("localhost:", "127.0.0.1:", 1)
                .parse()
                .map_err(|_| bad()),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(bad())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        match text.strip_prefix("udp:") {
            Some(text) => socket(text).map(Self::Udp),
            None => socket(text.strip_prefix("tcp:").unwrap_or(text)).map(Self::Tcp),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Udp(addr) => write!(f, "udp:{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_read_back_as_written() {
        for text in ["127.0.0.1:80", "[::1]:0", "udp:127.0.0.1:53", "unix:/tmp/x"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        assert_eq!(":80".parse::<ListenAddr>().unwrap().to_string(), "[::]:80");
        for bad in [
            "",
            "80",
            "unix:",
            "example.com:80",
            "127.0.0.1:99999",
            "udp:x",
        ] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad}");
        }
    }
}
