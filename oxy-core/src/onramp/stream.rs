//! TCP and Unix stream listeners.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use super::limit::{Limit, Place};
use super::{AnyOnramp, Bind, Bound, ListenAddr, Onramp, Seed};
use crate::carrier::{Carrier, StreamIo};
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
            mode: 0o660,
        }
    }
}

/// A TCP address or Unix path to listen on, with options.
#[derive(Debug)]
pub(crate) struct StreamBind {
    pub(crate) address: ListenAddr,
    pub(crate) options: StreamOptions,
}

impl Bind for StreamBind {
    fn bind(&self, name: &Arc<str>, workers: usize) -> Result<Bound> {
        let failed = |e: io::Error| {
            Error::io(
                Side::Local,
                io::Error::new(e.kind(), format!("{}: {e}", self.address)),
            )
            .context("listening")
        };
        let limit = Limit::new(self.options.max_connections, self.options.max_per_source);
        let (address, sockets) = match &self.address {
            ListenAddr::Unix(path) => {
                let (socket, file) = unix(path, &self.options).map_err(failed)?;
                let file = Arc::new(file);
                let sockets: io::Result<Vec<_>> = (0..workers)
                    .map(|_| Ok((socket.try_clone()?, Some(file.clone()))))
                    .collect();
                (self.address.clone(), sockets.map_err(failed)?)
            }
            ListenAddr::Tcp(address) | ListenAddr::Udp(address) => {
                let first = tcp(*address, &self.options).map_err(failed)?;
                // Where port 0 was asked for, all workers share the one that the first was given.
                let address = first
                    .local_addr()
                    .map_err(failed)?
                    .as_socket()
                    .unwrap_or(*address);
                let mut sockets = vec![(first, None)];
                for _ in 1..workers {
                    sockets.push((tcp(address, &self.options).map_err(failed)?, None));
                }
                (ListenAddr::Tcp(address), sockets)
            }
        };
        let seeds = sockets.into_iter().map(|(socket, file)| {
            let (name, limit, address) = (name.clone(), limit.clone(), address.clone());
            let seed: Seed = Box::new(move |_| {
                let listener = match &address {
                    ListenAddr::Unix(_) => {
                        UnixListener::from_std(socket.into()).map(Listener::Unix)
                    }
                    _ => TcpListener::from_std(socket.into()).map(Listener::Tcp),
                };
                let listener =
                    listener.map_err(|e| Error::io(Side::Local, e).context("listening"))?;
                let local = address.socket_addr();
                Ok(AnyOnramp::new(StreamOnramp {
                    listener,
                    name,
                    local,
                    limit,
                    _file: file,
                }))
            });
            seed
        });
        Ok(Bound {
            seeds: seeds.collect(),
            address,
        })
    }
}

/// One worker's share of a TCP or Unix listener.
#[derive(Debug)]
pub struct StreamOnramp {
    listener: Listener,
    name: Arc<str>,
    local: Option<SocketAddr>,
    limit: Arc<Limit>,
    _file: Option<Arc<SocketFile>>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How long a listener rests when the process is out of descriptors or memory: long enough not to spin, short enough that
/// a freed descriptor is soon used. What is open goes on meanwhile.
const REST: Duration = Duration::from_millis(50);

impl Onramp for StreamOnramp {
    async fn accept(&mut self) -> Result<Flow> {
        loop {
            let accepted = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(socket, peer)| {
                    let local = self.local.filter(|local| !local.ip().is_unspecified());
                    let local = local.or_else(|| socket.local_addr().ok());
                    (Layer::Tcp, StreamIo::from(socket), Some(peer), local)
                }),
                Listener::Unix(listener) => listener
                    .accept()
                    .await
                    .map(|(socket, _)| (Layer::Unix, StreamIo::from(socket), None, None)),
            };
            match accepted {
                Ok((layer, stream, peer, local)) => {
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

impl StreamOnramp {
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
    if let Some(idle) = options.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(idle / 4))?;
    }
    socket.bind(&address.into())?;
    if options.fastopen > 0 {
        crate::sys::set_fastopen(&socket, options.fastopen)?;
    }
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
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
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(options.mode))?;
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
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
