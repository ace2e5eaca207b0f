//! The PROXY protocol of `HAProxy`, versions 1 (a line of text) and 2 (binary): the first bytes of a connection say whom
//! another proxy has passed it on for. The specification is `doc/proxy-protocol.txt` of `HAProxy`.
//!
//! * In: [`ProxyProtocolBind`] takes the header off the connections of a listener, and the flow is from then on one that
//!   comes from the client that the header names.
//! * Out: [`SendProxyProtocol`] puts one in front of each connection that an off-ramp opens.
//! * [`Header`] with [`parse`] and [`Header::write`] are the format itself, without input and output.

mod accept;
mod parse;
mod send;
mod tlv;
mod write;

use std::net::{IpAddr, SocketAddr};

pub use accept::{Passed, ProxyProtocolBind, ProxyProtocolOptions, Untrusted};
use oxy_core::{Error, ErrorKind};
pub use parse::{Parsed, parse};
pub use send::{SendProxyProtocol, SendProxyProtocolOptions};
pub use tlv::{Ssl, Tlvs, kind};

/// What stands in front of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The form that it has.
    pub version: Version,
    /// The connection is the sending proxy's own, a health check for one: it is for nobody, and what else the header says is
    /// neither written nor read. Version 2 only.
    pub local: bool,
    /// Whom the connection is for, and what they had connected to.
    pub addresses: Addresses,
    /// What else is said. Version 2 only.
    pub tlvs: Tlvs,
    /// Whether there is a checksum; one that was wrong is never seen here. Version 2 only.
    pub checksum: bool,
}

/// The versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "lowercase")
)]
pub enum Version {
    /// A line of text, which everybody can read who speaks the protocol at all.
    V1,
    /// Binary, with room for more than addresses.
    V2,
}

/// The two ends of the connection that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Not told.
    Unknown,
    /// IP addresses and ports. In version 1 it is always a stream.
    Ip {
        /// What lies on IP.
        transport: Transport,
        /// The client.
        source: SocketAddr,
        /// What it had connected to. Of the same family as `source`.
        destination: SocketAddr,
    },
    /// Unix sockets, by their names as they are in a socket address: 108 bytes, from the first NUL on unused, or abstract.
    /// Version 2 only.
    Unix {
        /// Whether it is a stream.
        transport: Transport,
        /// The client's.
        source: Box<[u8; 108]>,
        /// What it had connected to.
        destination: Box<[u8; 108]>,
    },
}

/// What a connection transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, or a Unix stream socket.
    Stream,
    /// UDP, or a Unix datagram socket.
    Datagram,
}

/// Why bytes are no header, or a header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A line of version 1 that is not as the grammar says.
    #[error("the line is malformed")]
    Line,
    /// Another version than 1 and 2.
    #[error("the version is unknown")]
    Version,
    /// Another command than LOCAL and PROXY.
    #[error("the command is unknown")]
    Command,
    /// A combination of address family and transport that is none.
    #[error("the address family is unknown")]
    Family,
    /// Shorter than what it must hold.
    #[error("the header is too short for its addresses")]
    Short,
    /// Longer than what is allowed.
    #[error("the header is too long")]
    Long,
    /// A type-length-value that does not fit, or whose value is not what its type says.
    #[error("a TLV is malformed")]
    Tlv,
    /// The checksum is wrong: the header was changed on its way.
    #[error("the checksum is wrong")]
    Checksum,
    /// Version 1 says nothing but addresses.
    #[error("version 1 has no TLVs")]
    NoTlvs,
}

impl From<HeaderError> for Error {
    /// The fault of who sent it; call [`Error::on`] where that is not the client's side.
    fn from(error: HeaderError) -> Self {
        Self::down(ErrorKind::Malformed)
            .context("a PROXY protocol header")
            .because(error)
    }
}

impl Header {
    /// A header that says that the connection is for `addresses`, and nothing else.
    pub fn new(version: Version, addresses: Addresses) -> Self {
        Self {
            version,
            local: false,
            addresses,
            tlvs: Tlvs::default(),
            checksum: false,
        }
    }

    /// A header that says that the connection is for nobody (version 2), or not for whom (version 1, which cannot say the
    /// former).
    pub fn local(version: Version) -> Self {
        Self {
            local: version == Version::V2,
            ..Self::new(version, Addresses::Unknown)
        }
    }
}

impl Addresses {
    /// A stream from `source` to `destination`. IPv4 addresses that are written as IPv6 ones become what they are, and where
    /// the families still differ, that of IPv4 is written as an IPv6 one: both must be of one family.
    pub fn stream(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let (source, destination) = (canonical(source), canonical(destination));
        let (source, destination) = if source.is_ipv4() == destination.is_ipv4() {
            (source, destination)
        } else {
            (mapped(source), mapped(destination))
        };
        Self::Ip {
            transport: Transport::Stream,
            source,
            destination,
        }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

/// What version 2 begins with: bytes that no other protocol begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";

/// The longest line of version 1, with its CRLF: the specification's own bound.
const MAX_LINE: usize = 107;

/// Version 2's bytes before the addresses: signature, version and command, family and transport, length.
const FIXED: usize = 16;
