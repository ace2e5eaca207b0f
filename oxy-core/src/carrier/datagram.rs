//! Bounded messages to and from one peer.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::meter::Meter;

/// What was received into one buffer: one datagram, or several of the same size back to back (GRO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Bytes in the buffer.
    pub len: usize,
    /// The size of each datagram in it but the last, which may be shorter. At least 1 where `len` is.
    pub stride: usize,
    /// The two ECN bits (RFC 3168 section 5).
    pub ecn: u8,
}

/// A source and sink of datagrams, exchanged with one peer. Driven by one task at a time.
pub trait DatagramPort: Send + Sync + fmt::Debug + 'static {
    /// Receives a batch: fills the first buffers, and as many entries of `meta`. `Ok(0)` says that no datagram will come
    /// any more. Cancel safe.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [Segment],
    ) -> Poll<io::Result<usize>>;

    /// Sends `data`: one datagram, or one per `stride` bytes. `WouldBlock` says that nothing was sent.
    fn try_send(&self, data: &[u8], stride: Option<usize>, ecn: u8) -> io::Result<()>;

    /// Ready when [`DatagramPort::try_send`] is worth another try. Cancel safe.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Datagrams both ways, counted.
#[derive(Clone, Debug)]
pub struct DatagramIo {
    port: Arc<dyn DatagramPort>,
    meter: Arc<Meter>,
}

impl DatagramIo {
    /// Carries what `port` exchanges.
    pub fn new(port: impl DatagramPort) -> Self {
        Self {
            port: Arc::new(port),
            meter: Arc::default(),
        }
    }

    /// Carries what `port` exchanges, counting in `meter`, where the port counts what it drops.
    pub fn with_meter(port: impl DatagramPort, meter: Arc<Meter>) -> Self {
        Self {
            port: Arc::new(port),
            meter,
        }
    }

    /// The bytes that crossed so far.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// See [`DatagramPort::poll_recv`].
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [Segment],
    ) -> Poll<io::Result<usize>> {
        let received = std::task::ready!(self.port.poll_recv(cx, bufs, meta))?;
        let bytes = meta.iter().take(received).map(|segment| segment.len).sum();
        self.meter.add_received(bytes);
        Poll::Ready(Ok(received))
    }

    /// See [`DatagramPort::try_send`].
    pub fn try_send(&self, data: &[u8], stride: Option<usize>, ecn: u8) -> io::Result<()> {
        self.port.try_send(data, stride, ecn)?;
        self.meter.add_sent(data.len());
        Ok(())
    }

    /// See [`DatagramPort::poll_writable`].
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.port.poll_writable(cx)
    }
}
