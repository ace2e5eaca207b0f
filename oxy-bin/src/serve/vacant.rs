//! Whether an address is free.

use std::net::{SocketAddr, UdpSocket};

use oxy_core::onramp::ListenAddr;
use oxy_core::{Error, Result, Side};

/// Whether nobody listens at `address`.
///
/// Each worker has a socket of its own on one port (`SO_REUSEPORT`), for which the kernel lets a second process of the
/// same user in as well, and then shares the connections out. Without that option it says that the port is taken.
pub(super) fn check(address: &ListenAddr) -> Result<()> {
    let bound = match address {
        ListenAddr::Tcp(at) if at.port() != 0 => tcp(*at),
        ListenAddr::Udp(at) if at.port() != 0 => UdpSocket::bind(at).map(drop),
        _ => return Ok(()),
    };
    bound.map_err(|e| {
        let named = std::io::Error::new(e.kind(), format!("{address}: {e}"));
        Error::io(Side::Local, named).context("listening")
    })
}

fn tcp(address: SocketAddr) -> std::io::Result<()> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // What is left of connections of an earlier process is not in the way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}
