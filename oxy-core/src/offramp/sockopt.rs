//! Socket options that neither tokio, socket2 nor rustix have.
#![expect(unsafe_code, reason = "setsockopt(2) is a foreign function; it is called here and nowhere else")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Lets `connect` return at once and send its SYN with the first data (TCP Fast Open, RFC 7413).
pub(super) fn set_fastopen_connect(socket: impl AsFd) -> io::Result<()> {
    enable(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
}

/// Lets a socket that is bound to an address get its port only when it is connected, so that ports need to differ
/// per destination only (ip(7)). Without it a source address has 28,000 connections in all.
pub(super) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    enable(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

fn enable(socket: impl AsFd, level: c_int, name: c_int) -> io::Result<()> {
    let value: c_int = 1;
    let len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and `value` is a live int of `len` bytes, which
    // the kernel only reads.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
