//! Datagrams over a UDP socket that is connected to its peer.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{DatagramPort, Segment};
use crate::sys::{self, BATCH, Path, Received};

/// How many datagrams the kernel cuts one message into (`UDP_MAX_SEGMENTS`; 128 since Linux 6.9).
const MAX_SEGMENTS: usize = 64;

/// The most bytes that one message can have: a UDP datagram's over IPv4, headers taken off.
const MAX_BYTES: usize = 65_507;

/// A connected UDP socket as a [`DatagramPort`]. It receives up to eight messages a system call, and runs of datagrams of a
/// size in one buffer; buffers of less than 64 KiB lose what does not fit.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    v4: bool,
}

impl UdpPort {
    /// Exchanges datagrams with the peer that `socket` is connected to.
    pub fn new(socket: UdpSocket) -> Self {
        sys::prepare_udp(&socket, false);
        let v4 = socket
            .peer_addr()
            .is_ok_and(|peer| peer.ip().to_canonical().is_ipv4());
        Self { socket, v4 }
    }
}

impl DatagramPort for UdpPort {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [Segment],
    ) -> Poll<io::Result<usize>> {
        let room = bufs.len().min(meta.len());
        let bufs = &mut bufs[..room];
        let mut received = [Received::default(); BATCH];
        loop {
            let n = match receive(&self.socket, bufs, &mut received) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_recv_ready(cx))?;
                    continue;
                }
                Err(e) => return Poll::Ready(Err(e)),
            };
            let mut kept = 0;
            for (i, one) in received.iter().take(n).enumerate() {
                if one.truncated {
                    continue;
                }
                if kept < i {
                    let (to, from) = bufs.split_at_mut(i);
                    to[kept][..one.len].copy_from_slice(&from[0][..one.len]);
                }
                meta[kept] = Segment {
                    len: one.len,
                    stride: one.stride.unwrap_or(one.len),
                    ecn: one.ecn,
                };
                kept += 1;
            }
            if kept > 0 {
                return Poll::Ready(Ok(kept));
            }
        }
    }

    fn try_send(&self, data: &[u8], stride: Option<usize>, ecn: u8) -> io::Result<()> {
        send(&self.socket, data, stride, ecn, self.v4, None)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }
}

/// Receives what is there. `WouldBlock` where nothing is; fewer messages than buffers have emptied the socket.
pub(crate) fn receive(
    socket: &UdpSocket,
    bufs: &mut [IoSliceMut<'_>],
    meta: &mut [Received; BATCH],
) -> io::Result<usize> {
    let mut got = None;
    let outcome = socket.try_io(Interest::READABLE, || {
        let n = sys::receive(socket.as_fd(), bufs, meta)?;
        got = Some(n);
        // The runtime then waits for the next event without another system call.
        if n < bufs.len().min(BATCH) {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    });
    match got {
        Some(n) => Ok(n),
        None => outcome.map(|()| 0),
    }
}

/// Sends `data` in as few messages as the kernel allows. `WouldBlock` says that nothing was sent; where that happens after
/// a part was sent, the rest is lost, as datagrams are.
pub(crate) fn send(
    socket: &UdpSocket,
    data: &[u8],
    stride: Option<usize>,
    ecn: u8,
    v4: bool,
    path: Option<&Path>,
) -> io::Result<()> {
    let stride = stride.filter(|stride| (1..data.len()).contains(stride));
    let mut sent = false;
    let outcome = socket.try_io(Interest::WRITABLE, || {
        let fd = socket.as_fd();
        let Some(stride) = stride else {
            return sys::send(fd, data, None, ecn, v4, path);
        };
        let run = stride * MAX_SEGMENTS.min(MAX_BYTES / stride.min(MAX_BYTES));
        for run in data.chunks(run) {
            send_run(fd, run, stride, ecn, v4, path, &mut sent)?;
        }
        Ok(())
    });
    match outcome {
        Err(e) if sent && e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        done => done,
    }
}

fn send_run(
    socket: BorrowedFd<'_>,
    run: &[u8],
    stride: usize,
    ecn: u8,
    v4: bool,
    path: Option<&Path>,
    sent: &mut bool,
) -> io::Result<()> {
    let segment = u16::try_from(stride).ok().filter(|_| run.len() > stride);
    match sys::send(socket, run, segment, ecn, v4, path) {
        // What the kernel, the device or the path's MTU does not let be cut is sent one by one.
        Err(e)
            if segment.is_some()
                && matches!(
                    e.raw_os_error(),
                    Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP)
                ) =>
        {
            for one in run.chunks(stride) {
                sys::send(socket, one, None, ecn, v4, path)?;
                *sent = true;
            }
            Ok(())
        }
        done => {
            *sent |= done.is_ok();
            done
        }
    }
}
