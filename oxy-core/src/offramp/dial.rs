//! Opening sockets towards a target: [`Dialer`], and [`DialOptions`] that say how.

use std::ffi::OsString;
use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};
use tokio::time::timeout;

use super::policy::{EgressPolicy, denied};
use crate::congestion;
use crate::error::{Error, ErrorKind, Result, Retry, Side};
use crate::resolve::happy::{Memory, Pace, race};
use crate::resolve::{Family, Resolver, no_address};
use crate::target::{Host, HostName, UnixPath};

/// How sockets towards a target are opened. What is not set is left to the kernel, and costs no system call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct DialOptions {
    /// How long all of it may take, resolving included. Default: 10 seconds, in which the kernel sends a SYN four
    /// times (after 0, 1, 3 and 7 seconds).
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub connect_timeout: Duration,
    /// The times of the race between a name's addresses (RFC 8305).
    pub pace: Pace,
    /// The address that connections over IPv4 come from. Default: that of the route.
    pub source_v4: Option<Ipv4Addr>,
    /// The address that connections over IPv6 come from. Default: that of the route.
    pub source_v6: Option<Ipv6Addr>,
    /// The network device to go through (`SO_BINDTODEVICE`), a VRF for example. Default: that of the route.
    pub device: Option<String>,
    /// The mark for policy routing and firewalls (`SO_MARK`; needs `CAP_NET_ADMIN`). Default: none.
    pub mark: Option<u32>,
    /// Whether what is written is sent at once (`TCP_NODELAY`) and does not wait for the acknowledgement of what was
    /// sent before. Default: true, as a proxy writes whole messages.
    pub nodelay: bool,
    /// After how long a silence TCP asks whether the peer is still there (`TCP_KEEPIDLE`), in whole seconds.
    /// Default: never, as idle connections are closed by time limits of their own.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSpan"))]
    pub keepalive: Option<Duration>,
    /// How long sent data may stay unacknowledged until the connection is given up (`TCP_USER_TIMEOUT`, RFC 5482), in
    /// milliseconds. Default: the kernel's, about 15 minutes.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSpan"))]
    pub user_timeout: Option<Duration>,
    /// TCP Fast Open (RFC 7413), for targets that are given by their address: the connection seems open at once, and
    /// the first bytes go with the SYN. What would have been an error of connecting is then one of the first write
    /// or read, and those bytes may arrive twice. Default: false.
    pub fastopen: bool,
    /// What connections go by to send no faster than the path takes (`TCP_CONGESTION`), by the kernel's name for it: `cubic`, `bbr`,
    /// ... Default: the system's; but where that is BBR, `reno` towards loopback addresses, where nothing is ever congested and
    /// BBR's timers cost as much again as the transfer.
    pub congestion: Option<String>,
    /// The send buffer, in bytes (`SO_SNDBUF`). Default: the kernel's, which grows with what the path can carry; one
    /// that is set here does not.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSize"))]
    pub send_buffer: Option<usize>,
    /// The receive buffer, in bytes (`SO_RCVBUF`). Default: as for [`send_buffer`](Self::send_buffer).
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSize"))]
    pub recv_buffer: Option<usize>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            pace: Pace::default(),
            source_v4: None,
            source_v6: None,
            device: None,
            mark: None,
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            fastopen: false,
            congestion: None,
            send_buffer: None,
            recv_buffer: None,
        }
    }
}

/// Opens sockets towards targets that the [`EgressPolicy`] permits.
///
/// A clone is another handle to the same dialer. Like the [`Resolver`] in it, one is made per worker.
///
/// All its errors are [`Retry::Safe`], as nothing was sent: [`ErrorKind::Denied`] when the policy permits none of
/// the addresses, [`ErrorKind::Dns`] when there are none, [`ErrorKind::Timeout`], [`ErrorKind::Connect`], and
/// [`ErrorKind::Overloaded`] on [`Side::Local`] when this machine has run out of descriptors or memory. All its
/// methods are cancel safe: dropped, they close what they have opened.
#[derive(Clone, Debug)]
pub struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    resolver: Resolver,
    policy: EgressPolicy,
    options: DialOptions,
    memory: Memory,
}

impl Dialer {
    /// A dialer that resolves with `resolver` and dials what `policy` permits.
    pub fn new(resolver: Resolver, policy: EgressPolicy, options: DialOptions) -> Self {
        Self(Arc::new(Inner {
            resolver,
            policy,
            options,
            memory: Memory::default(),
        }))
    }

    /// What resolves the names.
    pub fn resolver(&self) -> &Resolver {
        &self.0.resolver
    }

    /// What says which addresses may be dialled.
    pub fn policy(&self) -> &EgressPolicy {
        &self.0.policy
    }

    /// How sockets are opened.
    pub fn options(&self) -> &DialOptions {
        &self.0.options
    }

    /// A TCP connection to `port` of `host`. An address costs neither a box nor a look at the cache, and five system
    /// calls: `socket`, `TCP_NODELAY`, `connect`, `epoll_ctl`, `SO_ERROR`.
    pub async fn tcp(&self, host: &Host, port: u16) -> Result<TcpStream> {
        self.tcp_peer(host, port).await.map(|(stream, _)| stream)
    }

    /// [`Dialer::tcp`], and the address that it has reached, which asking the socket for takes a system call.
    pub async fn tcp_peer(&self, host: &Host, port: u16) -> Result<(TcpStream, SocketAddr)> {
        let inner = &*self.0;
        match host {
            Host::Ip(ip) => {
                let addr = SocketAddr::new(ip.to_canonical(), port);
                inner.policy.check(addr)?;
                let connecting = inner.options.tcp(addr, inner.options.fastopen);
                match timeout(inner.options.connect_timeout, connecting).await {
                    Ok(Ok(stream)) => Ok((stream, addr)),
                    Ok(Err(error)) => Err(failed(error)),
                    Err(_) => Err(late()),
                }
            }
            Host::Name(name) => inner.tcp_name(name, port).await,
        }
    }

    /// A UDP socket that is connected to `port` of `host`, so that it receives from there only.
    ///
    /// That somebody is there is not known until an answer comes: of a name's addresses the first one is taken that
    /// there is a route to.
    pub async fn udp(&self, host: &Host, port: u16) -> Result<UdpSocket> {
        let inner = &*self.0;
        match host {
            Host::Ip(ip) => {
                let addr = SocketAddr::new(ip.to_canonical(), port);
                inner.policy.check(addr)?;
                inner.options.udp(addr).map_err(failed)
            }
            Host::Name(name) => {
                let connect = |addr| ready(inner.options.udp(addr));
                inner
                    .named(name, port, connect)
                    .await
                    .map(|(socket, _)| socket)
            }
        }
    }

    /// A connection to a Unix stream socket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] also when nobody listens or its queue is full.
    pub async fn unix(&self, path: &UnixPath) -> Result<UnixStream> {
        self.0.policy.check_unix(path)?;
        let connecting = async {
            match path.abstract_name() {
                None => UnixStream::connect(path.as_path()).await,
                Some(name) => {
                    let mut place = vec![0];
                    place.extend_from_slice(name);
                    UnixStream::connect(OsString::from_vec(place)).await
                }
            }
        };
        match timeout(self.0.options.connect_timeout, connecting).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(late()),
        }
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Inner {
    /// Boxed, so that dialling an address does not carry the space for a race.
    fn tcp_name<'a>(
        &'a self,
        name: &'a HostName,
        port: u16,
    ) -> BoxFuture<'a, Result<(TcpStream, SocketAddr)>> {
        Box::pin(self.named(name, port, |addr| self.options.tcp(addr, false)))
    }

    async fn named<T, F>(
        &self,
        name: &HostName,
        port: u16,
        connect: impl Fn(SocketAddr) -> F + Send,
    ) -> Result<(T, SocketAddr)>
    where
        T: Send,
        F: Future<Output = io::Result<T>> + Send,
    {
        let (mut six, mut four) = (Note::default(), Note::default());
        let run = race(
            self.candidates(name, port, Family::V6, &mut six),
            self.candidates(name, port, Family::V4, &mut four),
            self.options.pace,
            &self.memory,
            connect,
        );
        match timeout(self.options.connect_timeout, run).await {
            Ok(Ok(won)) => Ok(won),
            Ok(Err(Some(error))) => Err(failed(error)),
            Ok(Err(None)) => Err(match six.denied.or(four.denied) {
                Some(why) => denied(why),
                None => four.failed.or(six.failed).unwrap_or_else(no_address),
            }),
            Err(_) => Err(late()),
        }
    }

    /// The addresses of `name` that may be dialled.
    async fn candidates(
        &self,
        name: &HostName,
        port: u16,
        family: Family,
        note: &mut Note,
    ) -> Vec<SocketAddr> {
        let answer = match self.resolver.lookup(name, family).await {
            Ok(answer) => answer,
            Err(error) => {
                note.failed = Some(error);
                return Vec::new();
            }
        };
        let mut addrs = Vec::with_capacity(answer.addrs.len());
        for ip in &answer.addrs {
            let addr = SocketAddr::new(ip.to_canonical(), port);
            match self.policy.judge(addr) {
                Ok(()) => addrs.push(addr),
                Err(why) => note.denied = Some(why),
            }
        }
        addrs
    }
}

/// Why a family had no candidates, or fewer.
#[derive(Default)]
struct Note {
    failed: Option<Error>,
    denied: Option<&'static str>,
}

impl DialOptions {
    async fn tcp(&self, addr: SocketAddr, fastopen: bool) -> io::Result<TcpStream> {
        // Non-blocking and close-on-exec from the start.
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if self.nodelay {
            // Before it connects, so that it holds for the first write.
            socket.set_nodelay(true)?;
        }
        if fastopen {
            crate::sys::set_fastopen_connect(&socket)?;
        }
        let options = SockRef::from(&socket);
        if let Some(after) = self.keepalive {
            options.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
        }
        if let Some(after) = self.user_timeout {
            options.set_tcp_user_timeout(Some(after))?;
        }
        congestion::choose(&options, addr.ip(), self.congestion.as_deref())?;
        self.prepare(&options, addr)?;
        socket.connect(addr).await
    }

    fn udp(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(addr),
            Type::DGRAM.nonblocking(),
            Some(Protocol::UDP),
        )?;
        self.prepare(&socket, addr)?;
        // Connecting also binds, to the address of the route.
        socket.connect(&addr.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// What TCP and UDP have in common.
    fn prepare(&self, socket: &Socket, to: SocketAddr) -> io::Result<()> {
        // Buffers come before the handshake, which announces the window's scale.
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        if let Some(size) = self.recv_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        let source = match to {
            SocketAddr::V4(_) => self.source_v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.source_v6.map(IpAddr::V6),
        };
        if let Some(source) = source {
            crate::sys::set_bind_address_no_port(socket)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(())
    }
}

#[cold]
fn failed(error: io::Error) -> Error {
    let kind = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            return Error::io(Side::Local, error)
                .context("opening a socket")
                .retry(Retry::Safe);
        }
        Some(libc::ETIMEDOUT) => ErrorKind::Timeout,
        _ => ErrorKind::Connect,
    };
    Error::up(kind)
        .context("connecting")
        .because(error)
        .retry(Retry::Safe)
}

#[cold]
fn late() -> Error {
    Error::up(ErrorKind::Timeout)
        .context("connecting")
        .retry(Retry::Safe)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;
    use crate::resolve::{Found, Lookup, ResolveOptions};

    struct Never(Arc<AtomicUsize>);

    impl Lookup for Never {
        async fn lookup(&self, _: &HostName, _: Family) -> Result<Found> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Found {
                addrs: Vec::new(),
                ttl: None,
            })
        }
    }

    fn resolver(hosts: &[(&str, &[&str])]) -> Resolver {
        let addrs = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let hosts: HashMap<_, _> = hosts
            .iter()
            .map(|(name, ips)| (name.parse().unwrap(), addrs(ips)))
            .collect();
        let options = ResolveOptions {
            hosts,
            hosts_file: false,
            ..ResolveOptions::default()
        };
        Resolver::with_lookup(options, Never(Arc::default()))
    }

    fn dialer(hosts: &[(&str, &[&str])], policy: EgressPolicy) -> Dialer {
        Dialer::new(resolver(hosts), policy, DialOptions::default())
    }

    fn loopback() -> EgressPolicy {
        EgressPolicy {
            allow_loopback: true,
            ..EgressPolicy::default()
        }
    }

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_is_dialled_as_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for text in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let (stream, peer) = dialer(&[], loopback())
                .tcp_peer(&host(text), addr.port())
                .await
                .unwrap();
            assert_eq!((peer, stream.peer_addr().unwrap()), (addr, addr));
            assert!(stream.nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn a_name_goes_to_the_address_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nobody listens at the other two.
        let dialer = dialer(
            &[("a.test", &["127.0.0.2", "127.0.0.1", "::1"])],
            loopback(),
        );
        let (_, peer) = dialer.tcp_peer(&host("a.test"), port).await.unwrap();
        assert_eq!(peer, listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn only_what_is_permitted_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hosts: &[(&str, &[&str])] = &[
            ("mixed.test", &["10.0.0.1", "::", "127.0.0.1"]),
            ("bad.test", &["10.0.0.1", "fd00::1"]),
        ];
        let dialer = dialer(hosts, loopback());
        let (_, peer) = dialer.tcp_peer(&host("mixed.test"), port).await.unwrap();
        assert_eq!(peer.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        for text in [
            "bad.test",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "64:ff9b::a00:1",
        ] {
            for error in [
                dialer.tcp(&host(text), port).await.unwrap_err(),
                dialer.udp(&host(text), port).await.unwrap_err(),
            ] {
                assert_eq!(
                    (error.kind(), error.retryable()),
                    (ErrorKind::Denied, Retry::Safe),
                    "{text}"
                );
            }
        }
    }

    #[tokio::test]
    async fn localhost_is_refused_by_default() {
        let dialer = dialer(&[], EgressPolicy::default());
        for text in ["localhost", "a.localhost", "127.0.0.1", "::1"] {
            assert_eq!(
                dialer.tcp(&host(text), 80).await.unwrap_err().kind(),
                ErrorKind::Denied,
                "{text}"
            );
        }
        let path = UnixPath::new("/run/docker.sock").unwrap();
        assert_eq!(
            dialer.unix(&path).await.unwrap_err().kind(),
            ErrorKind::Denied
        );
    }

    #[tokio::test]
    async fn errors_say_what_happened_and_that_nothing_was_sent() {
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let dialer = dialer(&[("a.test", &["127.0.0.1"])], loopback());
        for (text, kind) in [
            ("127.0.0.1", ErrorKind::Connect),
            ("a.test", ErrorKind::Connect),
            ("none.test", ErrorKind::Dns),
        ] {
            let error = dialer.tcp(&host(text), port).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.side(), error.retryable()),
                (kind, Side::Up, Retry::Safe),
                "{text}"
            );
        }
        let error = failed(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(
            (error.kind(), error.side()),
            (ErrorKind::Overloaded, Side::Local)
        );
        assert_eq!(
            failed(io::Error::from_raw_os_error(libc::ETIMEDOUT)).kind(),
            ErrorKind::Timeout
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_limit_includes_resolving() {
        struct Hangs;
        impl Lookup for Hangs {
            async fn lookup(&self, _: &HostName, _: Family) -> Result<Found> {
                std::future::pending().await
            }
        }
        let options = DialOptions {
            connect_timeout: Duration::from_secs(3),
            ..DialOptions::default()
        };
        let resolver = Resolver::with_lookup(ResolveOptions::default(), Hangs);
        let began = tokio::time::Instant::now();
        let dialer = Dialer::new(resolver, EgressPolicy::default(), options);
        let error = dialer.tcp(&host("a.test"), 80).await.unwrap_err();
        assert_eq!(
            (error.kind(), began.elapsed()),
            (ErrorKind::Timeout, Duration::from_secs(3))
        );
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let asked = Arc::new(AtomicUsize::new(0));
        let resolver = Resolver::with_lookup(ResolveOptions::default(), Never(Arc::clone(&asked)));
        let dialer = Dialer::new(resolver, loopback(), DialOptions::default());
        dialer.udp(&host("127.0.0.1"), 9).await.unwrap();
        dialer.tcp(&host("127.0.0.1"), 9).await.ok();
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        // It lies within the future of whoever dials, for as long as that lives.
        let size = size_of_val(&dialer.tcp(&host("127.0.0.1"), 9));
        assert!(size <= 768, "{size}");
    }

    #[tokio::test]
    async fn options_reach_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = DialOptions {
            nodelay: false,
            source_v4: Some(Ipv4Addr::new(127, 0, 0, 5)),
            keepalive: Some(Duration::from_secs(33)),
            user_timeout: Some(Duration::from_secs(7)),
            recv_buffer: Some(20_000),
            send_buffer: Some(30_000),
            ..DialOptions::default()
        };
        let dialer = Dialer::new(resolver(&[]), loopback(), options);
        let stream = dialer.tcp(&host("127.0.0.1"), port).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(!stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(33)
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            stream.local_addr().unwrap().ip(),
            Ipv4Addr::new(127, 0, 0, 5)
        );
        // The kernel doubles what it is told, for its own needs (socket(7)).
        assert_eq!(socket.recv_buffer_size().unwrap(), 40_000);
        assert_eq!(socket.send_buffer_size().unwrap(), 60_000);
        let socket = dialer.udp(&host("127.0.0.1"), port).await.unwrap();
        assert_eq!(
            socket.local_addr().unwrap().ip(),
            Ipv4Addr::new(127, 0, 0, 5)
        );
    }

    #[tokio::test]
    async fn fast_open_connects_with_the_first_write() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = DialOptions {
            fastopen: true,
            ..DialOptions::default()
        };
        let dialer = Dialer::new(resolver(&[]), loopback(), options);
        let mut stream = dialer.tcp(&host("127.0.0.1"), port).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        let mut buf = [0; 5];
        accepted.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
    }

    #[tokio::test]
    async fn connections_go_by_the_congestion_control_that_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial = async |name: Option<&str>| {
            let options = DialOptions {
                congestion: name.map(str::to_owned),
                ..DialOptions::default()
            };
            let dialer = Dialer::new(resolver(&[]), loopback(), options);
            let stream = dialer.tcp(&host("127.0.0.1"), port).await?;
            Ok::<_, Error>(SockRef::from(&stream).tcp_congestion().unwrap())
        };
        assert!(dial(Some("reno")).await.unwrap().starts_with(b"reno"));
        assert!(!dial(None).await.unwrap().starts_with(b"bbr"));
        let unknown = dial(Some("none")).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Connect);
    }

    #[tokio::test]
    async fn datagrams_go_to_the_peer() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let dialer = dialer(&[("a.test", &["127.0.0.1"])], loopback());
        for text in ["127.0.0.1", "a.test"] {
            let socket = dialer.udp(&host(text), port).await.unwrap();
            socket.send(b"ping").await.unwrap();
            let mut buf = [0; 16];
            let (len, peer) = server.recv_from(&mut buf).await.unwrap();
            assert_eq!(
                (&buf[..len], peer),
                (&b"ping"[..], socket.local_addr().unwrap())
            );
        }
    }

    #[tokio::test]
    async fn unix_sockets_are_dialled_by_path_and_by_abstract_name() {
        use std::os::linux::net::SocketAddrExt;

        let dialer = dialer(&[], EgressPolicy::open());
        let place = std::env::temp_dir().join(format!("oxy-dial-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&place).unwrap();
        dialer.unix(&UnixPath::new(&place).unwrap()).await.unwrap();
        listener.accept().await.unwrap();
        std::fs::remove_file(&place).unwrap();
        assert_eq!(
            dialer
                .unix(&UnixPath::new(&place).unwrap())
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Connect
        );

        let name = format!("oxy-dial-{}", std::process::id());
        let addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&addr).unwrap();
        dialer
            .unix(&UnixPath::new(format!("@{name}")).unwrap())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_dialled_may_be_moved_to_another_thread() {
        fn is_send<T: Send>(_: &T) {}
        let dialer = dialer(&[], EgressPolicy::default());
        let (host, path) = (host("a.test"), UnixPath::new("/x").unwrap());
        is_send(&dialer.tcp(&host, 1));
        is_send(&dialer.udp(&host, 1));
        is_send(&dialer.unix(&path));
        is_send(&dialer.resolver().resolve("a.test"));
    }
}
