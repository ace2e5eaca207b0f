//! System calls that no safe wrapper offers. The only `unsafe` of this crate lives here.
#![expect(
    unsafe_code,
    reason = "socket options that rustix and socket2 do not have"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `TCP_FASTOPEN`: how many Fast Open requests (RFC 7413) may be pending on a listener.
pub(crate) fn set_fastopen(socket: impl AsFd, queue: u32) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)
}

/// `SO_RCVLOWAT`: how many bytes make a socket readable.
pub(crate) fn set_low_water(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

/// `TCP_FASTOPEN_CONNECT`: lets `connect` return at once and send its SYN with the first data (RFC 7413).
pub(crate) fn set_fastopen_connect(socket: impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)
}

/// `IP_BIND_ADDRESS_NO_PORT`: lets a socket that is bound to an address get its port only when it is connected, so that
/// ports need to differ per destination only (ip(7)). Without it a source address has 28,000 connections in all.
pub(crate) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set_int(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
    let value: libc::c_int = value.try_into().unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the option's value is one c_int that outlives the
    // call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
