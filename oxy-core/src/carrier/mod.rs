//! What a flow carries.

mod datagram;
mod stream;

pub use datagram::{DatagramIo, DatagramPort, Segment};
pub use stream::{ByteIo, Link, StreamIo};

/// One of the things that a [`crate::Flow`] can carry.
#[derive(Debug)]
#[non_exhaustive]
pub enum Carrier {
    /// Ordered bytes both ways.
    Stream(StreamIo),
    /// Bounded messages to and from one peer.
    Datagrams(DatagramIo),
}
