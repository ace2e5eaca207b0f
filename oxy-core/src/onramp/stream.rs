//! TCP and Unix stream listeners.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with, getsockname};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::limit::{Counts, Limit, Place};
use super::{AnyOnramp, Bind, Bound, ListenAddr, Onramp, Seed, Site};
use crate::carrier::{Carrier, StreamIo};
use crate::congestion;
use crate::flow::{Flow, Layer, Origin};
use crate::{Error, ErrorKind, Result, Side};

/// How a stream listener treats its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct StreamOptions {
    /// Connections that wait to be accepted. Default: 4096, the kernel's own bound on most systems.
    pub backlog: u32,
    /// Connections that the listener holds at once; 0 is no limit. Default: 0, as the descriptor limit bounds them anyway,
    /// and running into it is dealt with.
    pub max_connections: usize,
    /// Connections that one source address (one /64 of IPv6) holds at once; 0 is no limit. Default: 0, as one address may
    /// be a load balancer in front of everybody.
    pub max_per_source: usize,
    /// Idle time after which the kernel probes whether the peer is still there; none is never. Default: 60 s, which finds
    /// peers that vanished long before an idle time-out of hours would.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSpan"))]
    pub keepalive: Option<Duration>,
    /// Length of the queue of TCP Fast Open requests (RFC 7413); 0 is off. Default: 0, as replayed first bytes are then
    /// possible.
    pub fastopen: u32,
    /// What connections go by to send no faster than the path takes (`TCP_CONGESTION`), by the kernel's name for it: `cubic`, `bbr`,
    /// ... Default: the system's; but where that is BBR, `reno` for a listener on a loopback address, where nothing is ever
    /// congested and BBR's timers cost as much again as the transfer.
    pub congestion: Option<String>,
    /// Permissions of a Unix socket's file. Default: 0o660, owner and group.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Mode"))]
    pub mode: u32,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            max_connections: 0,
            max_per_source: 0,
            keepalive: Some(Duration::from_secs(60)),
            fastopen: 0,
            congestion: None,
            mode: 0o660,
        }
    }
}

/// A TCP address or Unix path to listen on, with options.
#[derive(Clone, Debug)]
pub struct StreamBind {
    address: ListenAddr,
    options: StreamOptions,
}

impl StreamBind {
    /// Listens on `address`, which is none of UDP's.
    pub fn new(address: ListenAddr, options: StreamOptions) -> Self {
        Self { address, options }
    }
}

impl Bind for StreamBind {
    fn bind(&self, site: &mut Site<'_>) -> Result<Bound> {
        let kept = match &self.address {
            // Another port each time.
            ListenAddr::Tcp(address) if address.port() == 0 => None,
            address => site.claim::<Sockets>(address)?,
        };
        let kept = kept.filter(|kept| kept.shares.len() == site.workers);
        let counts = kept.as_ref().map(|kept| kept.counts.clone());
        let limit = Limit::new(
            self.options.max_connections,
            self.options.max_per_source,
            counts.unwrap_or_default(),
        );
        let (kept, mut fresh) = match kept {
            Some(kept) => (kept, Vec::new()),
            None => self.open(site.workers, &limit).map_err(|e| {
                let told = io::Error::new(e.kind(), format!("{}: {e}", self.address));
                Error::io(Side::Local, told).context("listening")
            })?,
        };
        fresh.reverse();
        let seeds = kept.shares.iter().map(|share| {
            let onramp = Arriving {
                share: share.clone(),
                fresh: fresh.pop(),
                name: site.name.clone(),
                local: kept.address.socket_addr(),
                limit: limit.clone(),
                options: self.options.clone(),
            };
            let seed: Seed = Box::new(move |_| Ok(AnyOnramp::new(onramp.arrive()?)));
            seed
        });
        Ok(Bound {
            seeds: seeds.collect(),
            address: kept.address.clone(),
            kept: Some(kept),
        })
    }
}

impl StreamBind {
    /// Sockets that listen, and where to keep them.
    fn open(&self, workers: usize, limit: &Limit) -> io::Result<(Arc<Sockets>, Vec<Socket>)> {
        let (address, sockets, file) = match &self.address {
            ListenAddr::Unix(path) => {
                let (socket, file) = unix(path, &self.options)?;
                let sockets: io::Result<Vec<_>> =
                    (0..workers).map(|_| socket.try_clone()).collect();
                (self.address.clone(), sockets?, Some(Arc::new(file)))
            }
            ListenAddr::Udp(_) => {
                let what = "a stream listener cannot have an address of UDP";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            ListenAddr::Tcp(address) => {
                let first = tcp(*address, &self.options)?;
                // Where port 0 was asked for, all workers share the one that the first was given.
                let address = first.local_addr()?.as_socket().unwrap_or(*address);
                let mut sockets = vec![first];
                for _ in 1..workers {
                    sockets.push(tcp(address, &self.options)?);
                }
                (ListenAddr::Tcp(address), sockets, None)
            }
        };
        let shares = sockets.iter().map(|_| {
            Arc::new(Share {
                listener: OnceLock::new(),
                holder: AtomicU64::new(0),
                file: file.clone(),
            })
        });
        let kept = Sockets {
            shares: shares.collect(),
            address,
            counts: limit.counts().clone(),
        };
        Ok((Arc::new(kept), sockets))
    }
}

/// The sockets of a stream listener, for the on-ramps that have them one after the other.
struct Sockets {
    address: ListenAddr,
    /// One a worker.
    shares: Vec<Arc<Share>>,
    counts: Arc<Counts>,
}

/// A worker's listening socket.
#[derive(Debug)]
struct Share {
    /// Set on the worker's own thread, whose event loop it belongs to.
    listener: OnceLock<AsyncFd<OwnedFd>>,
    /// Which on-ramp, by its turn, accepts from it.
    holder: AtomicU64,
    file: Option<Arc<SocketFile>>,
}

/// An on-ramp on its way to its worker.
struct Arriving {
    share: Arc<Share>,
    /// The socket, where it is a new one.
    fresh: Option<Socket>,
    name: Arc<str>,
    local: Option<SocketAddr>,
    limit: Limit,
    options: StreamOptions,
}

impl Arriving {
    fn arrive(self) -> Result<StreamOnramp> {
        let taken_over = self.fresh.is_none();
        if let Some(socket) = self.fresh {
            let listener = crate::sys::register(socket.into(), Interest::READABLE)
                .map_err(|e| Error::io(Side::Local, e).context("listening"))?;
            let _ = self.share.listener.set(listener);
        }
        Ok(StreamOnramp {
            share: self.share,
            turn: None,
            changed: taken_over.then(|| Box::new(self.options)),
            name: self.name,
            local: self.local,
            limit: self.limit,
        })
    }
}

/// One worker's share of a TCP or Unix listener.
#[derive(Debug)]
pub struct StreamOnramp {
    share: Arc<Share>,
    /// Which of those who have had the socket this one is, once it has begun.
    turn: Option<u64>,
    /// What the socket is to be told, where it was another's before.
    changed: Option<Box<StreamOptions>>,
    name: Arc<str>,
    local: Option<SocketAddr>,
    limit: Limit,
}

/// How long a listener rests when the process is out of descriptors or memory: long enough not to spin, short enough that
/// a freed descriptor is soon used. What is open goes on meanwhile.
const REST: Duration = Duration::from_millis(50);

impl Onramp for StreamOnramp {
    fn begin(&mut self) {
        if self.turn.is_none() {
            self.turn = Some(self.share.holder.fetch_add(1, Relaxed) + 1);
            if let Some(options) = self.changed.take() {
                self.share.change(&options, self.local);
            }
        }
    }

    async fn accept(&mut self) -> Result<Flow> {
        self.begin();
        let Some(listener) = self.share.listener.get() else {
            return Err(Error::local(ErrorKind::Internal).context("a listener without a socket"));
        };
        loop {
            if self.turn != Some(self.share.holder.load(Relaxed)) {
                // What waits in the queue is its successor's.
                return std::future::pending().await;
            }
            let accepted = poll_fn(|cx| poll_accept(listener, cx)).await;
            match accepted {
                Ok((socket, peer)) => {
                    let (layer, stream, peer, local) = self.arrived(socket, peer);
                    let Some(place) = self.limit.place(peer.map(|peer| peer.ip())) else {
                        // No polite answer: whoever runs into this limit would make us write many of them.
                        stream.link().abort(0);
                        continue;
                    };
                    return Ok(self.flow(layer, stream, peer, local, place));
                }
                Err(e) => {
                    let error = Error::io(Side::Local, e).context("accepting");
                    if error.kind() == ErrorKind::Overloaded {
                        tokio::time::sleep(REST).await;
                        return Err(error);
                    }
                    // The others (ECONNABORTED, EPROTO, ...) are the connection's own, which is gone.
                }
            }
        }
    }
}

/// The next connection that waits, as a socket that does not block. Cancel safe.
fn poll_accept(
    listener: &AsyncFd<OwnedFd>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(OwnedFd, Option<SocketAddrAny>)>> {
    loop {
        let mut ready = ready!(listener.poll_read_ready(cx))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(accepted) = ready.try_io(|socket| Ok(acceptfrom_with(socket.get_ref(), flags)?)) {
            return Poll::Ready(accepted);
        }
    }
}

impl StreamOnramp {
    /// What `socket` is, which has come from `peer`: of which layer, the stream, and its two addresses.
    fn arrived(
        &self,
        socket: OwnedFd,
        peer: Option<SocketAddrAny>,
    ) -> (Layer, StreamIo, Option<SocketAddr>, Option<SocketAddr>) {
        let Some(listening) = self.local else {
            return (Layer::Unix, StreamIo::accepted_unix(socket), None, None);
        };
        let local = if listening.ip().is_unspecified() {
            let local = getsockname(&socket).ok();
            local.and_then(|local| local.try_into().ok())
        } else {
            Some(listening)
        };
        let peer = peer.and_then(|peer| peer.try_into().ok());
        (Layer::Tcp, StreamIo::accepted_tcp(socket), peer, local)
    }

    fn flow(
        &self,
        layer: Layer,
        stream: StreamIo,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
        place: Place,
    ) -> Flow {
        let origin = Origin {
            listener: self.name.clone(),
            peer,
            local,
        };
        Flow::new(layer, Carrier::Stream(stream), origin).holding(Box::new(place))
    }
}

impl Share {
    /// Gives the socket the options of whoever takes it over. What the kernel refuses stays as it was.
    fn change(&self, options: &StreamOptions, local: Option<SocketAddr>) {
        let Some(socket) = self.listener.get().map(SockRef::from) else {
            return;
        };
        let mut changed = match &self.file {
            Some(file) => vec![set_mode(&file.0, options)],
            None => vec![
                keepalive(&socket, options),
                crate::sys::set_fastopen(&*socket, options.fastopen),
            ],
        };
        if let Some(local) = local {
            let asked = options.congestion.as_deref();
            changed.push(congestion::choose_anew(&socket, local.ip(), asked));
        }
        changed.push(listen(&socket, options));
        for error in changed.into_iter().filter_map(io::Result::err) {
            tracing::warn!("changing a listener's options: {error}");
        }
    }
}

fn keepalive(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
    match options.keepalive {
        Some(idle) => {
            let probes = TcpKeepalive::new().with_time(idle).with_interval(idle / 4);
            socket.set_tcp_keepalive(&probes)
        }
        None => socket.set_keepalive(false),
    }
}

fn listen(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))
}

fn set_mode(path: &Path, options: &StreamOptions) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(options.mode))
}

fn tcp(address: SocketAddr, options: &StreamOptions) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // ":80" is for everybody, whatever the system's default for mapped addresses is.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Each worker has a listener of its own, and the kernel spreads connections over them.
    socket.set_reuse_port(true)?;
    // Accepted connections inherit these from the listener: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    keepalive(&socket, options)?;
    congestion::choose(&socket, address.ip(), options.congestion.as_deref())?;
    socket.bind(&address.into())?;
    if options.fastopen > 0 {
        crate::sys::set_fastopen(&socket, options.fastopen)?;
    }
    listen(&socket, options)?;
    Ok(socket)
}

fn unix(path: &Path, options: &StreamOptions) -> io::Result<(Socket, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let address = SockAddr::unix(path)?;
    if let Err(e) = socket.bind(&address) {
        // A socket that nobody listens on any more was left behind by a process that died.
        let stale = e.kind() == io::ErrorKind::AddrInUse
            && std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
            && Socket::new(Domain::UNIX, Type::STREAM, None)?
                .connect(&address)
                .is_err();
        if !stale {
            return Err(e);
        }
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    set_mode(path, options)?;
    listen(&socket, options)?;
    Ok((socket, SocketFile(path.into())))
}

/// Removes a Unix socket's file when its last listener is gone.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
