//! Which addresses may be dialled: [`EgressPolicy`], and the [`Cidr`] blocks that it is written in.
//!
//! A proxy that dials what its clients name is a way into every network that it can reach. So it is not the name
//! that is judged but each address that it resolved to, and the address that was judged is the one that is dialled:
//! a name that resolves to something else a moment later (DNS rebinding) gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Retry};
use crate::target::UnixPath;

/// Which addresses may be dialled.
///
/// The default is meant for targets that clients name: only globally reachable addresses, and no mail. For targets
/// that the operator has written down there is [`EgressPolicy::open`].
///
/// An address is judged in this order: [`deny`](Self::deny) and [`deny_ports`](Self::deny_ports) refuse,
/// [`allow`](Self::allow) then permits, and for what is left the special-purpose registries decide (RFC 6890 and
/// its successors). An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, Teredo) must pass with both.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct EgressPolicy {
    /// Permit addresses of private networks: 10/8, 172.16/12 and 192.168/16 (RFC 1918), 100.64/10 (RFC 6598) and
    /// `fc00::/7` (RFC 4193). Metadata services of clouds stay refused. Default: false.
    pub allow_private: bool,
    /// Permit 127/8 and `::1`. Default: false.
    pub allow_loopback: bool,
    /// Permit Unix sockets, which are where daemons take their orders. Default: false.
    pub allow_unix: bool,
    /// Blocks to permit although the registries, not [`deny`](Self::deny), speak against it. Default: none.
    pub allow: Vec<Cidr>,
    /// Blocks to refuse, whatever else is said. Default: none.
    pub deny: Vec<Cidr>,
    /// Ports to refuse. Default: 25, as unsolicited mail is the first thing that an open proxy is used for.
    pub deny_ports: Vec<u16>,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self {
            allow_private: false,
            allow_loopback: false,
            allow_unix: false,
            allow: Vec::new(),
            deny: Vec::new(),
            deny_ports: vec![25],
        }
    }
}

impl EgressPolicy {
    /// Everything is permitted. For targets that the operator has written down, never for those of clients.
    pub fn open() -> Self {
        Self {
            allow_private: true,
            allow_loopback: true,
            allow_unix: true,
            allow: vec![Cidr::V4_ALL, Cidr::V6_ALL],
            deny: Vec::new(),
            deny_ports: Vec::new(),
        }
    }

    /// Whether `addr` may be dialled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] with the reason as its context. Nothing was sent, so it is [`Retry::Safe`].
    pub fn check(&self, addr: SocketAddr) -> Result<(), Error> {
        self.judge(addr).map_err(denied)
    }

    /// Whether a Unix socket may be dialled.
    ///
    /// # Errors
    ///
    /// As [`EgressPolicy::check`].
    pub fn check_unix(&self, _path: &UnixPath) -> Result<(), Error> {
        if self.allow_unix {
            Ok(())
        } else {
            Err(denied("a Unix socket"))
        }
    }

    /// [`EgressPolicy::check`] without the boxed error, for going through many addresses.
    pub(crate) fn judge(&self, addr: SocketAddr) -> Result<(), &'static str> {
        if addr.port() == 0 {
            return Err("port 0");
        }
        if self.deny_ports.contains(&addr.port()) {
            return Err("a denied port");
        }
        // What the kernel would do with a mapped address is to dial the IPv4 one.
        let ip = addr.ip().to_canonical();
        self.judge_ip(ip)?;
        match ip {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(ip) => embedded(ip)
                .into_iter()
                .flatten()
                .try_for_each(|ip| self.judge_ip(ip.into())),
        }
    }

    fn judge_ip(&self, ip: IpAddr) -> Result<(), &'static str> {
        if self.deny.iter().any(|block| block.contains(ip)) {
            return Err("a denied block");
        }
        if self.allow.iter().any(|block| block.contains(ip)) {
            return Ok(());
        }
        match special(ip) {
            None => Ok(()),
            Some((Class::Private, _)) if self.allow_private => Ok(()),
            Some((Class::Loopback, _)) if self.allow_loopback => Ok(()),
            Some((_, name)) => Err(name),
        }
    }
}

#[cold]
pub(crate) fn denied(why: &'static str) -> Error {
    Error::up(ErrorKind::Denied).context(why).retry(Retry::Safe)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Loopback,
    Private,
    /// Only by an explicit block in [`EgressPolicy::allow`].
    Never,
}

/// The first block that holds `ip` and is not plain global unicast.
fn special(ip: IpAddr) -> Option<(Class, &'static str)> {
    if TEREDO.contains(ip) {
        return None;
    }
    let table = if ip.is_ipv4() { V4 } else { V6 };
    if let Some((_, class, name)) = table.iter().find(|(block, ..)| block.contains(ip)) {
        return Some((*class, name));
    }
    match ip {
        IpAddr::V6(ip) if !GLOBAL.contains(ip.into()) && !NAT64.contains(ip.into()) => {
            Some((Class::Never, "outside of global unicast (RFC 4291)"))
        }
        _ => None,
    }
}

/// The IPv4 addresses that a packet to `ip` may end up at.
fn embedded(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let octets = ip.octets();
    let at = |from: usize| {
        Ipv4Addr::new(
            octets[from],
            octets[from + 1],
            octets[from + 2],
            octets[from + 3],
        )
    };
    if NAT64.contains(ip.into()) {
        [Some(at(12)), None] // RFC 6052 section 2.2, with a prefix of 96 bits
    } else if SIX_TO_FOUR.contains(ip.into()) {
        [Some(at(2)), None] // RFC 3056 section 2
    } else if TEREDO.contains(ip.into()) {
        [Some(at(4)), Some((!at(12).to_bits()).into())] // RFC 4380 section 4: the server, and the client inverted
    } else {
        [None, None]
    }
}

/// RFC 4291 section 2.4: all that has been given out for global unicast so far lies here.
const GLOBAL: Cidr = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// RFC 6052 section 2.1.
const NAT64: Cidr = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// RFC 3056 section 2.
const SIX_TO_FOUR: Cidr = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// RFC 4380 section 2.6.
const TEREDO: Cidr = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

/// The IANA registry of special-purpose IPv4 addresses (RFC 6890), and what clouds have added to it. The first
/// match counts. Blocks that the registry calls globally reachable (AS112, AMT) are not here.
const V4: &[(Cidr, Class, &str)] = {
    use Class::{Loopback, Never, Private};
    &[
        // Metadata services give out credentials to whoever asks from the inside. All but Azure's lie within
        // blocks that are listed below; they come first so that `allow_private` does not open them.
        (v4([169, 254, 169, 254], 32), Never, "a metadata service"),
        (v4([100, 100, 100, 200], 32), Never, "a metadata service"), // Alibaba
        (v4([192, 0, 0, 192], 32), Never, "a metadata service"),     // Oracle
        (v4([168, 63, 129, 16], 32), Never, "a metadata service"), // Azure's wire server, in public space
        (v4([0, 0, 0, 0], 8), Never, "this network (RFC 1122)"),   // Linux dials itself for 0.0.0.0
        (v4([10, 0, 0, 0], 8), Private, "private use (RFC 1918)"),
        (
            v4([100, 64, 0, 0], 10),
            Private,
            "shared address space (RFC 6598)",
        ),
        (v4([127, 0, 0, 0], 8), Loopback, "loopback (RFC 1122)"),
        (v4([169, 254, 0, 0], 16), Never, "link local (RFC 3927)"),
        (v4([172, 16, 0, 0], 12), Private, "private use (RFC 1918)"),
        (
            v4([192, 0, 0, 0], 24),
            Never,
            "protocol assignments (RFC 6890)",
        ),
        (v4([192, 0, 2, 0], 24), Never, "documentation (RFC 5737)"),
        (
            v4([192, 88, 99, 0], 24),
            Never,
            "6to4 relay anycast (RFC 7526)",
        ),
        (v4([192, 168, 0, 0], 16), Private, "private use (RFC 1918)"),
        (v4([198, 18, 0, 0], 15), Never, "benchmarking (RFC 2544)"),
        (v4([198, 51, 100, 0], 24), Never, "documentation (RFC 5737)"),
        (v4([203, 0, 113, 0], 24), Never, "documentation (RFC 5737)"),
        (v4([224, 0, 0, 0], 4), Never, "multicast (RFC 5771)"),
        (
            v4([255, 255, 255, 255], 32),
            Never,
            "limited broadcast (RFC 919)",
        ),
        (v4([240, 0, 0, 0], 4), Never, "reserved (RFC 1112)"),
    ]
};

/// The IANA registry of special-purpose IPv6 addresses (RFC 6890). What lies outside of `2000::/3` and has no line of
/// its own is refused all the same.
const V6: &[(Cidr, Class, &str)] = {
    use Class::{Loopback, Never, Private};
    &[
        (
            v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
            Never,
            "a metadata service",
        ), // Amazon
        (
            v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
            Never,
            "a metadata service",
        ), // Google
        (
            v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
            Loopback,
            "loopback (RFC 4291)",
        ),
        (
            v6([0, 0, 0, 0, 0, 0, 0, 0], 128),
            Never,
            "unspecified (RFC 4291)",
        ),
        (
            v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
            Never,
            "IPv4-compatible (RFC 4291)",
        ),
        (
            v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
            Private,
            "local NAT64 (RFC 8215)",
        ),
        (
            v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
            Never,
            "discard only (RFC 6666)",
        ),
        // Teredo, the block's first /32, is judged by what it carries and let through by `special`.
        (
            v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
            Never,
            "protocol assignments (RFC 2928)",
        ),
        (
            v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
            Never,
            "documentation (RFC 3849)",
        ),
        (
            v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
            Never,
            "documentation (RFC 9637)",
        ),
        (
            v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
            Never,
            "segment routing (RFC 9602)",
        ),
        (
            v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
            Private,
            "unique local (RFC 4193)",
        ),
        (
            v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
            Never,
            "link local (RFC 4291)",
        ),
        (
            v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
            Never,
            "site local (RFC 3879)",
        ),
        (
            v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
            Never,
            "multicast (RFC 4291)",
        ),
    ]
};

const fn v4([a, b, c, d]: [u8; 4], len: u8) -> Cidr {
    Cidr {
        addr: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        len,
    }
}

const fn v6(groups: [u16; 8], len: u8) -> Cidr {
    let (mut bits, mut at) = (0, 0);
    while at < groups.len() {
        bits = bits << 16 | groups[at] as u128; // `u128::from` and iterators are not const
        at += 1;
    }
    Cidr {
        addr: IpAddr::V6(Ipv6Addr::from_bits(bits)),
        len,
    }
}

/// A block of addresses (RFC 4632 section 3.1, RFC 4291 section 2.3): `10.0.0.0/8`, `2001:db8::/32`, or a single
/// address.
///
/// Bits after the prefix must be zero: `10.1.0.0/8` is more often a mistake in the length than in the address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

/// Why a text or a pair is not a [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// The address is none.
    #[error("not an IP address")]
    Addr,
    /// The prefix length is no number, or more than 32 or 128.
    #[error("the prefix length must be from 0 to 32 (IPv4) or 128 (IPv6)")]
    Len,
    /// There are bits after the prefix.
    #[error("the address has bits after the prefix")]
    Bits,
}

impl Cidr {
    /// All of IPv4.
    pub const V4_ALL: Self = v4([0; 4], 0);
    /// All of IPv6.
    pub const V6_ALL: Self = v6([0; 8], 0);

    /// The block of all addresses that share the first `len` bits of `addr`.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, CidrError> {
        let width = if addr.is_ipv4() { 32 } else { 128 };
        if len > width {
            return Err(CidrError::Len);
        }
        let block = Self { addr, len };
        let rest = match addr {
            IpAddr::V4(ip) => u128::from(ip.to_bits() & !mask4(len)),
            IpAddr::V6(ip) => ip.to_bits() & !mask6(len),
        };
        if rest == 0 {
            Ok(block)
        } else {
            Err(CidrError::Bits)
        }
    }

    /// The first address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The prefix length, in bits.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Whether `ip` lies in it. No IPv4 address lies in an IPv6 block, nor the other way round, mapped or not.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr, ip) {
            (IpAddr::V4(addr), IpAddr::V4(ip)) => {
                (addr.to_bits() ^ ip.to_bits()) & mask4(self.len) == 0
            }
            (IpAddr::V6(addr), IpAddr::V6(ip)) => {
                (addr.to_bits() ^ ip.to_bits()) & mask6(self.len) == 0
            }
            _ => false,
        }
    }
}

/// The first `len` bits set. A shift by the whole width, which a length of 0 would be, overflows.
const fn mask4(len: u8) -> u32 {
    if len == 0 { 0 } else { u32::MAX << (32 - len) }
}

/// As [`mask4`].
const fn mask6(len: u8) -> u128 {
    if len == 0 {
        0
    } else {
        u128::MAX << (128 - len)
    }
}

impl From<IpAddr> for Cidr {
    /// The block of this one address.
    fn from(addr: IpAddr) -> Self {
        Self {
            addr,
            len: if addr.is_ipv4() { 32 } else { 128 },
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let Some((addr, len)) = text.split_once('/') else {
            return text
                .parse()
                .map(|addr: IpAddr| addr.into())
                .map_err(|_| CidrError::Addr);
        };
        let addr = addr.parse().map_err(|_| CidrError::Addr)?;
        // `u8::from_str` reads "+8".
        if len.len() > 3 || !len.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CidrError::Len);
        }
        Self::new(addr, len.parse().map_err(|_| CidrError::Len)?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permits(policy: &EgressPolicy, ip: &str) -> bool {
        policy
            .check(SocketAddr::new(ip.parse().unwrap(), 443))
            .is_ok()
    }

    /// First and last address of each block of the registries, and the neighbours of some.
    const REFUSED: &[&str] = &[
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.192",
        "192.0.0.255",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.255",
        "203.0.113.0",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:0:1::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001:0:7f00:1::f7f7:f7f7",
        "2001:0:808:808::80ff:fffe",
        "2001:2::1",
        "2001:20::1",
        "2001:1ff:ffff::",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
    ];

    const PERMITTED: &[&str] = &[
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.31.196.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2001:0:808:808::f7f7:f7f7",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2002:808:808::1",
        "2606:4700:4700::1111",
        "2a00::1",
    ];

    #[test]
    fn the_registries_decide_by_default() {
        let policy = EgressPolicy::default();
        for ip in REFUSED {
            assert!(!permits(&policy, ip), "{ip}");
        }
        for ip in PERMITTED {
            assert!(permits(&policy, ip), "{ip}");
        }
        for ip in REFUSED.iter().chain(PERMITTED) {
            assert!(permits(&EgressPolicy::open(), ip), "{ip}");
        }
    }

    #[test]
    fn a_refusal_says_why_and_that_nothing_was_sent() {
        let error = EgressPolicy::default()
            .check("127.0.0.1:80".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.retryable()),
            (ErrorKind::Denied, Retry::Safe)
        );
        assert_eq!(error.to_string(), "upstream: denied: loopback (RFC 1122)");
    }

    #[test]
    fn private_is_neither_loopback_nor_metadata() {
        let policy = EgressPolicy {
            allow_private: true,
            ..EgressPolicy::default()
        };
        for ip in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "fd00::1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(permits(&policy, ip), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "100.100.100.200",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
        ] {
            assert!(!permits(&policy, ip), "{ip}");
        }
        let policy = EgressPolicy {
            allow_loopback: true,
            ..EgressPolicy::default()
        };
        assert!(permits(&policy, "127.0.0.2") && permits(&policy, "::1"));
        assert!(
            !permits(&policy, "10.0.0.1")
                && !permits(&policy, "0.0.0.0")
                && !permits(&policy, "::")
        );
    }

    #[test]
    fn deny_beats_allow_which_beats_the_registries() {
        let policy = EgressPolicy {
            allow: vec![
                "10.0.0.0/8".parse().unwrap(),
                "169.254.169.254".parse().unwrap(),
            ],
            deny: vec!["10.1.0.0/16".parse().unwrap(), "8.8.8.8".parse().unwrap()],
            ..EgressPolicy::default()
        };
        for ip in [
            "10.0.0.1",
            "169.254.169.254",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "1.1.1.1",
        ] {
            assert!(permits(&policy, ip), "{ip}");
        }
        for ip in [
            "10.1.0.1",
            "::ffff:10.1.0.1",
            "64:ff9b::10.1.0.1",
            "8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::",
        ] {
            assert!(!permits(&policy, ip), "{ip}");
        }
    }

    #[test]
    fn ports_are_judged() {
        let policy = EgressPolicy::default();
        assert!(policy.check("1.1.1.1:25".parse().unwrap()).is_err());
        assert!(policy.check("1.1.1.1:0".parse().unwrap()).is_err());
        assert!(
            EgressPolicy::open()
                .check("1.1.1.1:25".parse().unwrap())
                .is_ok()
        );
        assert!(
            EgressPolicy::open()
                .check("1.1.1.1:0".parse().unwrap())
                .is_err()
        );
    }

    #[test]
    fn what_is_not_a_block_is_refused() {
        let cases = [
            ("", CidrError::Addr),
            ("/8", CidrError::Addr),
            ("10/8", CidrError::Addr),
            ("10.0.0.0/", CidrError::Len),
            ("10.0.0.0/33", CidrError::Len),
            ("10.0.0.0/+8", CidrError::Len),
            ("10.0.0.0/8/8", CidrError::Len),
            ("::/129", CidrError::Len),
            ("10.0.0.1/8", CidrError::Bits),
            ("0.0.0.1/0", CidrError::Bits),
            ("2001:db8::1/32", CidrError::Bits),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text:?}");
        }
        assert_eq!(
            "10.0.0.1".parse::<Cidr>().unwrap().to_string(),
            "10.0.0.1/32"
        );
    }

    #[test]
    fn the_tables_are_well_formed() {
        for (block, ..) in V4.iter().chain(V6) {
            assert_eq!(Cidr::new(block.addr, block.len), Ok(*block));
        }
    }

    proptest! {
        #[test]
        fn a_block_is_written_and_read_again(addr: IpAddr, len in 0..=128u8) {
            let len = if addr.is_ipv4() { len % 33 } else { len };
            let addr = match addr {
                IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & mask4(len)).into()),
                IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & mask6(len)).into()),
            };
            let block = Cidr::new(addr, len).unwrap();
            prop_assert!(block.contains(addr));
            prop_assert_eq!(block.to_string().parse::<Cidr>(), Ok(block));
        }

        #[test]
        fn an_embedded_address_is_never_freer_than_itself(bits: u32) {
            let policy = EgressPolicy::default();
            let inner = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = inner.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            if !permits(&policy, &inner.to_string()) {
                for outer in [
                    inner.to_ipv6_mapped(),
                    inner.to_ipv6_compatible(),
                    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                    Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                    Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0xf7f7, 0xf7f7),
                    Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
                ] {
                    prop_assert!(!permits(&policy, &outer.to_string()), "{}", outer);
                }
            }
        }
    }
}
