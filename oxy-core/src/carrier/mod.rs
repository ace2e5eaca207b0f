//! What a flow carries.

mod accepted;
mod datagram;
mod stream;
mod udp;

pub use datagram::{DatagramIo, DatagramPort, Segment};
pub use stream::{ByteIo, Link, Readiness, StreamIo};
pub use udp::UdpPort;
pub(crate) use udp::{receive, send};

/// One of the things that a [`crate::Flow`] can carry.
#[derive(Debug)]
#[non_exhaustive]
pub enum Carrier {
    /// Ordered bytes both ways.
    Stream(StreamIo),
    /// Bounded messages to and from one peer.
    Datagrams(DatagramIo),
}
