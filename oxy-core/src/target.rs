//! Where a flow is to go: [`Target`], and the [`Host`] in it.
//!
//! A [`HostName`] cannot be made from bytes that are not a host name, so whatever holds one need not look again: it
//! is lower case, has no trailing dot, and can go into a log, a DNS query, a URI or a certificate check as it is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// Where a flow is to go.
///
/// It is 32 bytes and cheap to clone, and is compared and hashed by what it says (a name is not resolved), so that
/// it can be the key of a connection pool.
///
/// As text it is `host:port` (TCP), `udp://host:port`, or `unix:/path` (`unix:@name` in the abstract namespace);
/// `tcp://host:port` is read as well.
///
/// ```
/// use oxy_core::target::Target;
///
/// let target: Target = "Example.com.:443".parse()?;
/// assert_eq!(target.to_string(), "example.com:443");
/// assert_eq!(Target::tcp([127, 0, 0, 1], 80), "127.0.0.1:80".parse()?);
/// # Ok::<(), oxy_core::target::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A TCP port.
    Tcp {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
    /// A UDP port.
    Udp {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(UnixPath),
}

/// A host: a name that is still to be resolved, or an address.
///
/// As text an IPv6 address stands in brackets, as in a URI (RFC 3986 section 3.2.2); it is read without them too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name.
    Name(HostName),
    /// An address.
    Ip(IpAddr),
}

/// A valid host name in ASCII: lower case, without the trailing dot.
///
/// Labels are of 1 to 63 letters, digits, `-` and `_`, the whole of at most 253 bytes (RFC 1035 section 2.3.4).
/// Internationalised names are given as A-labels (RFC 5890). A name whose last label is a number is refused: no
/// such top-level domain exists, and `getaddrinfo` would read `127.1`, `0x7f.1` or `2130706433` as an address that
/// no check has seen.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// The place of a Unix socket: an absolute path, or `@` and a name in Linux's abstract namespace.
///
/// A relative path is refused, as what it means changes with the working directory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixPath(Arc<Path>);

/// Why a text is not a [`Target`], [`Host`], [`HostName`] or [`UnixPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no host where one must be.
    #[error("the host is empty")]
    Empty,
    /// The name or one of its labels is too long.
    #[error("a host name has at most 253 bytes, and each label 1 to 63")]
    Length,
    /// The name holds a byte that no host name has.
    #[error("a host name has only letters, digits, '-', '_' and '.'")]
    Byte,
    /// The name ends like an IPv4 address without being one.
    #[error("the name ends in a number but is no IPv4 address in dotted decimal")]
    Number,
    /// What stands in brackets is no IPv6 address, or an IPv6 address does not stand in brackets.
    #[error("not an IPv6 address in brackets")]
    Ipv6,
    /// The port is missing, or not a number from 1 to 65535.
    #[error("a port from 1 to 65535 is needed")]
    Port,
    /// The path is not absolute, contains a NUL byte, or is too long for a socket address.
    #[error("a socket's path is absolute, has no NUL byte and at most 107 bytes")]
    Path,
}

impl From<TargetError> for Error {
    /// A malformed target is the client's, who named it; call [`Error::on`] where it is not.
    fn from(error: TargetError) -> Self {
        Self::down(ErrorKind::Malformed)
            .context("reading a target")
            .because(error)
    }
}

impl Target {
    /// A TCP port of `host`. No name is resolved; port 0 is refused only when it is dialled.
    pub fn tcp(host: impl Into<Host>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// A UDP port of `host`. No name is resolved; port 0 is refused only when it is dialled.
    pub fn udp(host: impl Into<Host>, port: u16) -> Self {
        Self::Udp {
            host: host.into(),
            port,
        }
    }

    /// A Unix stream socket, by its absolute path or `@` and an abstract name.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, TargetError> {
        UnixPath::new(path).map(Self::Unix)
    }

    /// The TCP port that an authority of a request names (RFC 3986 section 3.2, without userinfo).
    ///
    /// What a client wrote goes through here and not through [`FromStr`], which would let it name a Unix socket.
    pub fn authority(text: &str) -> Result<Self, TargetError> {
        let (host, port) = host_port(text)?;
        Ok(Self::Tcp { host, port })
    }

    /// The host, unless it is a Unix socket.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Self::Tcp { host, .. } | Self::Udp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// The port, unless it is a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } | Self::Udp { port, .. } => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// The address and port, if the host is given by its address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp {
                host: Host::Ip(ip),
                port,
            }
            | Self::Udp {
                host: Host::Ip(ip),
                port,
            } => Some(SocketAddr::new(*ip, *port)),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Target {
    /// A TCP port. The flow label and scope of an IPv6 address are dropped.
    fn from(addr: SocketAddr) -> Self {
        Self::tcp(addr.ip(), addr.port())
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        // A path begins with '/' or '@', which no port does: `unix:80` is port 80 of a host called unix.
        if let Some(path) = text.strip_prefix("unix:")
            && path.starts_with(['/', '@'])
        {
            return Self::unix(path);
        }
        if let Some(rest) = text.strip_prefix("udp://") {
            let (host, port) = host_port(rest)?;
            return Ok(Self::Udp { host, port });
        }
        let (host, port) = host_port(text.strip_prefix("tcp://").unwrap_or(text))?;
        Ok(Self::Tcp { host, port })
    }
}

fn host_port(text: &str) -> Result<(Host, u16), TargetError> {
    let (host, port) = text.rsplit_once(':').ok_or(TargetError::Port)?;
    // Without brackets one cannot tell where an IPv6 address ends: `::1:80` is an address, too.
    if host.contains(':') && !host.starts_with('[') {
        return Err(TargetError::Ipv6);
    }
    // `u16::from_str` reads "+80" and any number of zeros.
    if port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TargetError::Port);
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(TargetError::Port),
        Ok(port) => Ok((host.parse()?, port)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Udp { host, port } => write!(f, "udp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Host {
    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }
}

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(TargetError::Ipv6)?;
            // Neither zones (RFC 6874) nor IPvFuture: a zone means something on one machine only.
            return inner
                .parse()
                .map(|ip| Self::Ip(IpAddr::V6(ip)))
                .map_err(|_| TargetError::Ipv6);
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        if text.contains(':') {
            return Err(TargetError::Ipv6);
        }
        text.parse().map(Self::Name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.pad(name.as_str()),
            Self::Ip(IpAddr::V4(ip)) => fmt::Display::fmt(ip, f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        Self::Name(name)
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Ip(ip.into())
    }
}

impl From<Ipv6Addr> for Host {
    fn from(ip: Ipv6Addr) -> Self {
        Self::Ip(ip.into())
    }
}

impl From<[u8; 4]> for Host {
    fn from(octets: [u8; 4]) -> Self {
        Self::Ip(octets.into())
    }
}

/// The longest name, without its trailing dot: 255 bytes on the wire (RFC 1035 section 2.3.4) less the first
/// length byte and the root's.
const NAME_MAX: usize = 253;
/// The longest label: its length has six bits (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;

impl HostName {
    /// The name: lower case, no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `localhost` or below it, which is always this machine (RFC 6761 section 6.3).
    pub fn is_localhost(&self) -> bool {
        self.0
            .strip_suffix("localhost")
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        // A trailing dot says that the name is absolute (RFC 1034 section 3.1), which every name is here.
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(TargetError::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(TargetError::Length);
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        {
            return Err(TargetError::Byte);
        }
        let mut last = "";
        for label in name.split('.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return Err(TargetError::Length);
            }
            last = label;
        }
        // The test of the URL standard for "ends in a number".
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|byte| byte.is_ascii_digit())
            || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(TargetError::Number);
        }
        Ok(Self(
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                name.to_ascii_lowercase().into()
            } else {
                name.into()
            },
        ))
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A [`HostName`] hashes and compares as its text, so that a map of names can be asked with a `&str`.
impl std::borrow::Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The longest path: `sun_path` has 108 bytes on Linux, of which one is for the NUL.
const UNIX_MAX: usize = 107;

impl UnixPath {
    /// The place at `path`: absolute, or `@` and a name.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, TargetError> {
        let path = path.into();
        let bytes = path.as_os_str().as_encoded_bytes();
        let rooted = matches!(bytes.first(), Some(b'/' | b'@')) && bytes.len() > 1;
        if !rooted || bytes.len() > UNIX_MAX || bytes.contains(&0) {
            return Err(TargetError::Path);
        }
        Ok(Self(path.into()))
    }

    /// The path, or `@` and the abstract name.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The name in the abstract namespace (without the `@`), if it lies there.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        self.0.as_os_str().as_encoded_bytes().strip_prefix(b"@")
    }
}

impl FromStr for UnixPath {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::new(text)
    }
}

impl fmt::Display for UnixPath {
    /// Bytes that are not UTF-8 are replaced.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.display(), f)
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> Result<Target, TargetError> {
        text.parse()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(target("127.0.0.1:80"), Ok(Target::tcp([127, 0, 0, 1], 80)));
        assert_eq!(target("[::1]:80"), Ok(Target::tcp(Ipv6Addr::LOCALHOST, 80)));
        assert_eq!(
            target("tcp://[::1]:80"),
            Ok(Target::tcp(Ipv6Addr::LOCALHOST, 80))
        );
        assert_eq!(
            target("udp://8.8.8.8:53"),
            Ok(Target::udp([8, 8, 8, 8], 53))
        );
        assert_eq!(target("unix:/run/a.sock"), Target::unix("/run/a.sock"));
        assert_eq!(target("unix:@oxy"), Target::unix("@oxy"));
        assert_eq!(target("unix:80").unwrap().to_string(), "unix:80");
        assert_eq!(
            target("EXAMPLE.com.:80").unwrap(),
            target("example.com:80").unwrap()
        );
        assert_eq!(
            target("_srv.a-b.example:8")
                .unwrap()
                .host()
                .unwrap()
                .to_string(),
            "_srv.a-b.example"
        );
    }

    #[test]
    fn what_is_not_a_target_is_refused() {
        let cases = [
            ("", TargetError::Port),
            ("example.com", TargetError::Port),
            ("example.com:", TargetError::Port),
            ("example.com:0", TargetError::Port),
            ("example.com:+80", TargetError::Port),
            ("example.com:65536", TargetError::Port),
            ("example.com:000080", TargetError::Port),
            (":80", TargetError::Empty),
            (".:80", TargetError::Empty),
            ("::1:80", TargetError::Ipv6),
            ("[::1:80", TargetError::Ipv6),
            ("[::1]x:80", TargetError::Ipv6),
            ("[fe80::1%eth0]:80", TargetError::Ipv6),
            ("[127.0.0.1]:80", TargetError::Ipv6),
            ("a..b:80", TargetError::Length),
            (".a:80", TargetError::Length),
            ("a..:80", TargetError::Length),
            ("a b:80", TargetError::Byte),
            ("a\r\n:80", TargetError::Byte),
            ("a\0:80", TargetError::Byte),
            ("user@a:80", TargetError::Byte),
            ("b\u{fc}cher.example:80", TargetError::Byte),
            ("127.1:80", TargetError::Number),
            ("0x7f.1:80", TargetError::Number),
            ("0x7f000001:80", TargetError::Number),
            ("2130706433:80", TargetError::Number),
            ("127.0.0.1.:80", TargetError::Number),
            ("127.0.0.01:80", TargetError::Number),
            ("a.0x:80", TargetError::Number),
            ("unix:/", TargetError::Path),
            ("unix:/a\0b", TargetError::Path),
        ];
        for (text, error) in cases {
            assert_eq!(target(text), Err(error), "{text:?}");
        }
        assert_eq!(
            Target::authority("unix:/run/docker.sock"),
            Err(TargetError::Port)
        );
        assert!(Target::authority("udp://8.8.8.8:53").is_err());
        assert_eq!(Target::unix("run/a.sock"), Err(TargetError::Path));
        assert_eq!(
            Target::unix(format!("/{}", "a".repeat(UNIX_MAX))),
            Err(TargetError::Path)
        );
    }

    #[test]
    fn lengths_are_bounded() {
        let label = "a".repeat(LABEL_MAX);
        assert!(label.parse::<HostName>().is_ok());
        assert_eq!(
            format!("{label}a").parse::<HostName>(),
            Err(TargetError::Length)
        );
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), NAME_MAX);
        assert!(format!("{longest}.").parse::<HostName>().is_ok());
        assert_eq!(
            format!("{longest}a").parse::<HostName>(),
            Err(TargetError::Length)
        );
    }

    #[test]
    fn localhost_is_known() {
        for (name, is) in [
            ("localhost", true),
            ("a.LocalHost.", true),
            ("notlocalhost", false),
            ("localhost.a", false),
        ] {
            assert_eq!(
                name.parse::<HostName>().unwrap().is_localhost(),
                is,
                "{name}"
            );
        }
    }

    #[test]
    fn it_stays_small() {
        assert!(size_of::<Target>() <= 32);
    }

    fn any_host() -> impl Strategy<Value = Host> {
        prop_oneof![
            any::<IpAddr>().prop_map(Host::Ip),
            "[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,3}\\.[a-z_-][a-z0-9_-]{0,10}"
                .prop_map(|name| Host::Name(name.parse().unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(host in any_host(), port in 1..=u16::MAX, path in "[/@][ -~]{1,90}") {
            for target in [Target::tcp(host.clone(), port), Target::udp(host, port), Target::unix(path).unwrap()] {
                prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            }
        }

        #[test]
        fn no_text_is_too_odd(text in any::<String>(), tail in "[\\[\\]:.@/0-9a-fx]{0,30}") {
            for text in [text, tail] {
                if let Ok(target) = text.parse::<Target>() {
                    prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
                }
            }
        }
    }
}
