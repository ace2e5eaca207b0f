//! Datagrams, both ways in one task.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::task::{Context, Poll, ready};

use super::RelayOptions;
use crate::buffer::{BULK_SIZE, Buffer};
use crate::carrier::{DatagramIo, Segment};
use crate::clock::Alarm;
use crate::{Error, Result, Side};

/// Room for one message in bytes: whatever UDP can carry, or a run of datagrams (GRO) as large.
const ROOM: usize = 64 * 1024;

/// Messages received at once.
const BATCH: usize = BULK_SIZE / ROOM;

/// How many batches one direction moves before the other has its turn, and other tasks theirs.
const ROUNDS: usize = 4;

/// Relays both ways until a side ends or nothing has come either way for [`RelayOptions::datagram_idle`], which is the
/// ordinary end and no error.
///
/// What ICMP reports (nobody listens on the port, no route) does not end it, as with Envoy: a peer that restarts is back
/// a moment later, and what it means for one datagram is that it was dropped, which is counted ([`crate::meter::Meter`]).
/// A side whose send buffer is full is waited for, with one batch held; meanwhile the other side's kernel queues, and drops.
pub async fn datagrams(near: DatagramIo, far: DatagramIo, options: &RelayOptions) -> Result<()> {
    let mut relay = Relay {
        up: Way::new(Side::Down, Side::Up),
        down: Way::new(Side::Up, Side::Down),
        near,
        far,
        alarm: Alarm::new(),
    };
    relay.alarm.set(options.datagram_idle);
    poll_fn(|cx| relay.poll(cx, options)).await
}

struct Relay {
    near: DatagramIo,
    far: DatagramIo,
    up: Way,
    down: Way,
    alarm: Alarm,
}

/// One of the two directions.
struct Way {
    from: Side,
    to: Side,
    held: Option<Batch>,
    moved: bool,
}

/// Messages that have been received and not all sent.
struct Batch {
    buffer: Buffer,
    segments: [Segment; BATCH],
    count: usize,
    sent: usize,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>, options: &RelayOptions) -> Poll<Result<()>> {
        let up = self.up.poll(cx, &self.near, &self.far)?;
        let down = self.down.poll(cx, &self.far, &self.near)?;
        if up.is_ready() || down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.up.moved || self.down.moved {
            (self.up.moved, self.down.moved) = (false, false);
            self.alarm.set(options.datagram_idle);
        }
        self.alarm.poll_expired(cx).map(Ok)
    }
}

impl Way {
    fn new(from: Side, to: Side) -> Self {
        Self {
            from,
            to,
            held: None,
            moved: false,
        }
    }

    /// Ready when `from` has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &DatagramIo,
        to: &DatagramIo,
    ) -> Poll<Result<()>> {
        for _ in 0..ROUNDS {
            if let Some(batch) = &mut self.held {
                ready!(batch.poll_send(cx, from, to))
                    .map_err(|e| Error::io(self.to, e).context("sending a datagram"))?;
                self.held = None;
            }
            match ready!(Batch::poll_recv(cx, from)) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(batch) => self.held = batch,
                Err(e) if passes(&e) => {}
                Err(e) => {
                    let error = Error::io(self.from, e).context("receiving a datagram");
                    return Poll::Ready(Err(error));
                }
            }
            self.moved |= self.held.is_some();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Batch {
    fn poll_recv(cx: &mut Context<'_>, from: &DatagramIo) -> Poll<io::Result<Option<Self>>> {
        let mut buffer = Buffer::bulk();
        let mut segments = [Segment::default(); BATCH];
        let mut rest = buffer.spare();
        let mut bufs = [const { None }; BATCH];
        for buf in &mut bufs {
            let (room, more) = rest.split_at_mut(ROOM.min(rest.len()));
            *buf = Some(room);
            rest = more;
        }
        let mut bufs = bufs.map(|buf| IoSliceMut::new(buf.unwrap_or_default()));
        let count = ready!(from.poll_recv(cx, &mut bufs, &mut segments))?;
        if count == 0 {
            return Poll::Ready(Ok(None));
        }
        buffer.advance(BULK_SIZE);
        Poll::Ready(Ok(Some(Self {
            buffer,
            segments,
            count,
            sent: 0,
        })))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &DatagramIo,
        to: &DatagramIo,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.count {
            let Segment { len, stride, ecn } = self.segments[self.sent];
            let start = self.sent * ROOM;
            let data = &self.buffer.filled()[start..start + len];
            let stride = Some(stride).filter(|stride| *stride > 0 && *stride < len);
            match to.try_send(data, stride, ecn) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(to.poll_writable(cx))?;
                    continue;
                }
                // A report on an earlier datagram, or one that does not fit the path.
                Err(e) if passes(&e) => {
                    let lost = stride.map_or(1, |stride| len.div_ceil(stride));
                    from.meter().add_dropped(lost);
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
            self.sent += 1;
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether an error is about a datagram and not about the socket: what ICMP reports, a datagram larger than the path's
/// MTU, a firewall's no, or a queue that is full.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EMSGSIZE
                | libc::EPERM
                | libc::EACCES
                | libc::ENOBUFS
        )
    )
}
