//! System calls that no safe wrapper offers. The only `unsafe` of this crate lives here.
#![expect(
    unsafe_code,
    reason = "socket options and batches of datagrams, which rustix and socket2 do not have, and the event loop's part of what
        holds a descriptor"
)]

use std::io::{self, IoSliceMut};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `socket` with the event loop that runs here.
pub(crate) fn register(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, the same one, and nobody else's, for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

/// A socket that the event loop is told of when it matters.
pub(crate) struct LateSocket {
    /// Declared, and so dropped, before the socket.
    registered: OnceLock<AsyncFd<Number>>,
    socket: OwnedFd,
}

/// A descriptor's number.
pub(crate) struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl LateSocket {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            registered: OnceLock::new(),
            socket,
        }
    }

    /// What the event loop knows, if it has been told.
    pub(crate) fn registered(&self) -> Option<&AsyncFd<Number>> {
        self.registered.get()
    }

    /// Tells the event loop that runs here, if nobody has. It then says first of all what the socket is ready for already.
    pub(crate) fn register(&self) -> io::Result<&AsyncFd<Number>> {
        if let Some(registered) = self.registered.get() {
            return Ok(registered);
        }
        let number = Number(self.socket.as_raw_fd());
        // SAFETY: `socket` is never replaced, and closed only after `registered`, out of which nothing is moved, is dropped.
        let registered = unsafe { AsyncFd::register(number) }?;
        Ok(self.registered.get_or_init(|| registered))
    }
}

impl AsFd for LateSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

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

/// How many messages one call receives: as many 64 KiB buffers as a buffer for bulk has room for.
pub(crate) const BATCH: usize = 8;

/// What came with a received message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// The size of each datagram in it, if several were put together.
    pub(crate) stride: Option<usize>,
    /// The two ECN bits (RFC 3168 section 5).
    pub(crate) ecn: u8,
    /// It did not fit the buffer.
    pub(crate) truncated: bool,
    /// Who sent it.
    pub(crate) peer: Option<SocketAddr>,
    /// The address of ours that it was sent to.
    pub(crate) local: Option<IpAddr>,
}

/// Prepares a UDP socket for [`receive`]: datagrams of a run in one buffer (`UDP_GRO`), ECN bits, and with `local` the
/// address that each was sent to. What the kernel does not know it does not do.
pub(crate) fn prepare_udp(socket: impl AsFd, local: bool) {
    let socket = socket.as_fd();
    let mut options = vec![
        (libc::SOL_UDP, libc::UDP_GRO),
        (libc::IPPROTO_IP, libc::IP_RECVTOS),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    ];
    if local {
        options.push((libc::IPPROTO_IP, libc::IP_PKTINFO));
        options.push((libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO));
    }
    for (level, name) in options {
        // IPv6's options fail on an IPv4 socket, and UDP_GRO before Linux 5.0.
        let _ = set_int(socket, level, name, 1);
    }
}

/// Room for what the options of [`prepare_udp`] make the kernel add, 128 bytes at most, aligned as it needs to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 128]);

/// `recvmmsg(2)`: what is there now, at most [`BATCH`] messages and one a buffer. Returns how many there were.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bufs: &mut [IoSliceMut<'_>],
    meta: &mut [Received; BATCH],
) -> io::Result<usize> {
    let count = bufs.len().min(BATCH);
    let mut controls = [Control([0; 128]); BATCH];
    // SAFETY: all of these are plain C structures of integers and pointers, for which zeros are valid.
    let (mut names, mut messages): ([libc::sockaddr_storage; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    for (i, buf) in bufs.iter_mut().take(count).enumerate() {
        let header = &mut messages[i].msg_hdr;
        header.msg_name = (&raw mut names[i]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // IoSliceMut is guaranteed to have the layout of an iovec.
        header.msg_iov = ptr_of(buf);
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[i]).cast();
        header.msg_controllen = size_of::<Control>() as _;
    }
    // SAFETY: the first `count` headers point at names, buffers and control blocks that live until the call returns, with
    // their true lengths, and nothing else refers to them meanwhile.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let Ok(received) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    for (i, message) in messages.iter().take(received).enumerate() {
        let mut one = Received {
            len: message.msg_len as usize,
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            peer: address(&names[i]),
            ..Received::default()
        };
        read_control(&message.msg_hdr, &mut one);
        meta[i] = one;
    }
    Ok(received)
}

fn ptr_of(buf: &mut IoSliceMut<'_>) -> *mut libc::iovec {
    (&raw mut *buf).cast()
}

fn read_control(header: &libc::msghdr, into: &mut Received) {
    // SAFETY: the kernel has filled the control block that `header` points at and set its length; the CMSG functions stay
    // within it, and each payload is read, without regard to alignment, as the type that its level and type stand for.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = next.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let stride = data.cast::<libc::c_int>().read_unaligned();
                    into.stride = usize::try_from(stride).ok().filter(|stride| *stride > 0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => into.ecn = data.read() & 3,
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let class = data.cast::<libc::c_int>().read_unaligned();
                    into.ecn = class.to_le_bytes()[0] & 3;
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let ip = u32::from_be(info.ipi_addr.s_addr);
                    into.local = Some(Ipv4Addr::from_bits(ip).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    into.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical());
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, control);
        }
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let name = &raw const *name;
    match i32::from(
        // SAFETY: `name` was a reference a line before.
        unsafe { (*name).ss_family },
    ) {
        libc::AF_INET => {
            // SAFETY: the storage is large enough and aligned for either kind, and the family says that it is this one.
            let name = unsafe { *name.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
            Some((ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { *name.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            // Link-local peers are told apart by their scope; the flow label is none of the address.
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Where a message goes, when the socket is not connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// To whom.
    pub(crate) peer: SocketAddr,
    /// From which address of ours, where the socket is bound to all.
    pub(crate) local: Option<IpAddr>,
}

/// `sendmsg(2)`: `data` as one datagram, or cut by the kernel into one per `stride` bytes (`UDP_SEGMENT`), with the two
/// ECN bits. `path` is none on a connected socket; `v4` says which family the packets are of.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    data: &[u8],
    stride: Option<u16>,
    ecn: u8,
    v4: bool,
    path: Option<&Path>,
) -> io::Result<()> {
    let name = path.map(|path| socket2::SockAddr::from(path.peer));
    let mut control = Control([0; 128]);
    let mut buffer = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: a plain C structure of integers and pointers, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    if let Some(name) = &name {
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
    }
    header.msg_iov = &raw mut buffer;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let mut used = 0;
    {
        let mut writer = Writer {
            control: &mut control,
            used: &mut used,
        };
        if let Some(stride) = stride {
            writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, stride);
        }
        if ecn & 3 != 0 {
            let (level, name) = if v4 {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            writer.put(level, name, libc::c_int::from(ecn & 3));
        }
        match path.and_then(|path| path.local) {
            Some(IpAddr::V4(ip)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: ip.to_bits().to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                writer.put(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Some(IpAddr::V6(ip)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                writer.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            None => {}
        }
    }
    header.msg_controllen = used as _;
    if used == 0 {
        header.msg_control = std::ptr::null_mut();
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the header points at a name, a buffer and a control block that live until the call returns, with their
        // true lengths; the kernel reads them only.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Appends control messages to a block.
struct Writer<'a> {
    control: &'a mut Control,
    used: &'a mut usize,
}

impl Writer<'_> {
    fn put<T: Copy>(&mut self, level: libc::c_int, name: libc::c_int, value: T) {
        let size = size_of::<T>() as libc::c_uint;
        // SAFETY: pure arithmetic.
        let (space, len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
        if *self.used + space > self.control.0.len() {
            return;
        }
        let header = libc::cmsghdr {
            cmsg_len: len as _,
            cmsg_level: level,
            cmsg_type: name,
        };
        let place = &raw mut self.control.0[*self.used];
        // SAFETY: `space` bytes from `place` on lie within the block, as has been checked; they hold a header and, at the
        // offset that CMSG_LEN(0) is, the value.
        unsafe {
            place.cast::<libc::cmsghdr>().write_unaligned(header);
            let data = place.add(libc::CMSG_LEN(0) as usize);
            data.cast::<T>().write_unaligned(value);
        }
        *self.used += space;
    }
}
