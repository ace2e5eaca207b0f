//! A client's socket, with TLS on it or without.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::client::ClientConfig;
use socket2::{Domain, Socket, Type};

use super::tls::{SEALED, Session};
use crate::poller::Ready;

/// Read size: a whole receive queue, as far as loopback fills one.
const SCRATCH: usize = 512 << 10;

/// Loopback addresses that connections come from, in turn, so that one address's
/// 28,000 ports do not run out while closed connections are in `TIME_WAIT`.
const SOURCES: u64 = 200;

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) read: Vec<u8>,
    sealed: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            read: vec![0; SCRATCH],
            sealed: vec![0; SEALED],
        }
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: Socket,
    tls: Option<Box<Session>>,
}

impl Wire {
    /// Begins to connect, as the load's connection `number`.
    pub(super) fn connect(
        number: u64,
        target: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let last = u8::try_from(2 + number % SOURCES).unwrap_or(2);
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&source.into())?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let tls = tls
            .map(|config| Session::new(config).map(Box::new))
            .transpose()
            .map_err(io::Error::other)?;
        Ok(Self { socket, tls })
    }

    /// Whether there is TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The protocol that was agreed on, once the handshake is over.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.protocol()
    }

    /// Sends of `parts` what there is room for, and returns how much that is; nothing
    /// before the connection and its handshake are through.
    pub(super) fn send(
        &mut self,
        parts: [&[u8]; 2],
        buffers: &mut Buffers,
    ) -> Result<usize, Broken> {
        let Some(tls) = &mut self.tls else {
            let parts = parts.map(IoSlice::new);
            return room(rustix::io::writev(&self.socket, &parts));
        };
        flush(&self.socket, &mut tls.unsent)?;
        if !tls.open || !tls.unsent.is_empty() {
            return Ok(0);
        }
        let (taken, length) = tls.seal(parts, &mut buffers.sealed)?;
        let sealed = &buffers.sealed[..length];
        let sent = room(rustix::io::write(&self.socket, sealed))?;
        tls.unsent.extend_from_slice(&sealed[sent..]);
        Ok(taken)
    }

    /// Reads what has come and hands it out; goes on with the handshake.
    pub(super) fn receive(
        &mut self,
        ready: Ready,
        buffers: &mut Buffers,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Broken> {
        if let Some(tls) = &mut self.tls
            && ready.writable
        {
            flush(&self.socket, &mut tls.unsent)?;
        }
        if !ready.readable {
            return Ok(());
        }
        loop {
            let kept = self.tls.as_ref().map_or(0, |tls| tls.partial.len());
            if let Some(tls) = &mut self.tls {
                buffers.read[..kept].copy_from_slice(&tls.partial);
                tls.partial.clear();
            }
            let place = &mut buffers.read[kept..];
            let want = place.len();
            let got = match recv(&self.socket, place, RecvFlags::empty()) {
                Ok((_, got)) if got > 0 => got,
                Err(Errno::AGAIN) => 0,
                _ => return Err(Broken),
            };
            let arrived = &mut buffers.read[..kept + got];
            match &mut self.tls {
                None if got > 0 => deliver(arrived),
                None => {}
                Some(tls) => {
                    let used = tls.opened(arrived, deliver)?;
                    tls.partial.extend_from_slice(&arrived[used..]);
                    flush(&self.socket, &mut tls.unsent)?;
                }
            }
            // After a short read the next arrival is a new edge.
            if got == 0 || (got < want && !ready.closing) {
                return Ok(());
            }
        }
    }

    /// Says that nothing more will come, as a client does that closes in order.
    pub(super) fn farewell(&mut self) {
        if let Some(tls) = &mut self.tls {
            let mut notice = [0; 64];
            let length = tls.farewell(&mut notice);
            // Nobody waits for an answer to it.
            let _ = rustix::io::write(&self.socket, &notice[..length]);
        }
    }
}

/// Sends of `unsent` what there is room for.
fn flush(socket: &Socket, unsent: &mut Vec<u8>) -> Result<(), Broken> {
    if unsent.is_empty() {
        return Ok(());
    }
    let sent = room(rustix::io::write(socket, unsent))?;
    unsent.drain(..sent);
    Ok(())
}

/// A full socket, or one that is still connecting, takes nothing.
fn room(sent: Result<usize, Errno>) -> Result<usize, Broken> {
    match sent {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN) => Ok(0),
        Err(_) => Err(Broken),
    }
}
