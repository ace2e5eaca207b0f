//! What TCP connections go by to send no faster than the path takes (`TCP_CONGESTION`, RFC 5681).
//!
//! The loopback device has no bottleneck, and what is sent there is received within the call that sends it. An algorithm that
//! paces its sender, as BBR does and CUBIC (RFC 9438) does not, then lets a timer go off for every few segments: carrying bulk
//! between two connections of the loopback device costs twice the processor time with it. So where the system's algorithm is
//! such a one, connections that do not leave the machine go by [`PLAIN`]. An operator who names one gets what was named.

use std::io;
use std::net::IpAddr;
use std::sync::OnceLock;

use socket2::{Domain, Protocol, Socket, Type};

/// What every kernel has and lets everybody use.
const PLAIN: &str = "reno";

/// Has the connections of `socket` go by what was `asked` for, or by what is best for an end at `ip`. To be called before they
/// are established: BBR's pacing stays with a socket that had it.
///
/// # Errors
///
/// That of the kernel where it does not have, or not give, what was asked for.
pub(crate) fn choose(socket: &Socket, ip: IpAddr, asked: Option<&str>) -> io::Result<()> {
    match asked {
        // The kernel's words for one that it does not have are "no such file".
        Some(name) => socket.set_tcp_congestion(name.as_bytes()).map_err(|e| {
            let told = format!("congestion control {name:?}: {e}");
            io::Error::new(e.kind(), told)
        }),
        None if prefers_plain(ip) => {
            // Without it all works as well, if slower.
            let _ = socket.set_tcp_congestion(PLAIN.as_bytes());
            Ok(())
        }
        None => Ok(()),
    }
}

/// The same for a socket that may have been told something else before.
pub(crate) fn choose_anew(socket: &Socket, ip: IpAddr, asked: Option<&str>) -> io::Result<()> {
    if asked.is_none() && !prefers_plain(ip) && !system().is_empty() {
        return socket.set_tcp_congestion(system());
    }
    choose(socket, ip, asked)
}

fn prefers_plain(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback() && paces(system())
}

/// Whether the algorithm of this name paces its sender.
fn paces(name: &[u8]) -> bool {
    name.starts_with(b"bbr")
}

/// What sockets go by that are told nothing, as of the first look: empty if the system does not say.
fn system() -> &'static [u8] {
    static SYSTEM: OnceLock<Vec<u8>> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
        let name = socket.and_then(|socket| socket.tcp_congestion());
        name.map(trimmed).unwrap_or_default()
    })
}

/// A name as the kernel gives it, without what fills it up.
fn trimmed(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0);
    name.truncate(end.unwrap_or(name.len()));
    name
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn socket() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap()
    }

    fn of(socket: &Socket) -> Vec<u8> {
        trimmed(socket.tcp_congestion().unwrap())
    }

    #[test]
    fn what_was_named_is_what_is_used() {
        for ip in [HERE, ELSEWHERE] {
            let socket = socket();
            choose(&socket, ip, Some("reno")).unwrap();
            assert_eq!(of(&socket), b"reno");
            assert!(choose(&socket, ip, Some("no such")).is_err());
            choose_anew(&socket, ELSEWHERE, None).unwrap();
            assert_eq!(of(&socket), system());
        }
    }

    #[test]
    fn nothing_paces_its_sender_on_the_loopback_device() {
        assert!(paces(b"bbr") && paces(b"bbr2") && !paces(b"cubic") && !paces(b""));
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        for ip in [HERE, Ipv6Addr::LOCALHOST.into(), mapped] {
            let socket = socket();
            choose(&socket, ip, None).unwrap();
            assert!(!paces(&of(&socket)));
            assert!(of(&socket) == system() || paces(system()));
        }
        let socket = socket();
        choose(&socket, ELSEWHERE, None).unwrap();
        assert_eq!(of(&socket), system());
    }
}
