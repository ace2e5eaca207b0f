//! UDP listeners: sessions by client address.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

use super::limit::{Counts, Limit};
use super::{AnyOnramp, Bind, Bound, ListenAddr, Onramp, Seed, Site};
use crate::buffer::Buffer;
use crate::carrier::{Carrier, DatagramIo, DatagramPort, Segment, receive, send};
use crate::flow::{Flow, Layer, Origin};
use crate::meter::Meter;
use crate::sys::{self, BATCH, Path, Received};
use crate::{Error, ErrorKind, Result, Side};

/// How a UDP listener treats its sessions. When a session ends is for the relay to say
/// ([`crate::relay::RelayOptions::datagram_idle`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct UdpOptions {
    /// Sessions that the listener holds at once; 0 is no limit. Datagrams of further clients are dropped. Default: 16384:
    /// source addresses are easily forged, and each session may hold a socket towards its target.
    pub max_sessions: usize,
    /// Sessions that one source address (one /64 of IPv6) holds at once; 0 is no limit. Default: 0, as one address may be
    /// a carrier's NAT with thousands behind it.
    pub max_per_source: usize,
    /// Bytes that may wait in a session for whoever reads it; what comes beyond that is dropped and counted
    /// ([`Meter::dropped`]). Default: 128 KiB, 11 ms at 100 Mbit/s: a queue for bursts, which adds little delay.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Size"))]
    pub queue: usize,
    /// The socket's receive buffer in bytes (`SO_RCVBUF`); none is the system's default. Default: 2 MiB, as one socket
    /// takes the bursts of all clients; the system may give less (`net.core.rmem_max`).
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSize"))]
    pub recv_buffer: Option<usize>,
    /// The socket's send buffer in bytes (`SO_SNDBUF`); none is the system's default. Default: 2 MiB, for the same reason.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSize"))]
    pub send_buffer: Option<usize>,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            max_sessions: 16_384,
            max_per_source: 0,
            queue: 128 * 1024,
            recv_buffer: Some(2 * 1024 * 1024),
            send_buffer: Some(2 * 1024 * 1024),
        }
    }
}

/// A UDP address to listen on, with options.
#[derive(Debug)]
pub(crate) struct UdpBind {
    pub(crate) address: SocketAddr,
    pub(crate) options: UdpOptions,
}

impl Bind for UdpBind {
    fn bind(&self, site: &mut Site<'_>) -> Result<Bound> {
        let kept = if self.address.port() == 0 {
            None
        } else {
            site.claim::<Sockets>(&ListenAddr::Udp(self.address))?
        };
        let kept = kept.filter(|kept| kept.shares.len() == site.workers);
        let counts = kept.as_ref().map(|kept| kept.counts.clone());
        let limit = Limit::new(
            self.options.max_sessions,
            self.options.max_per_source,
            counts.unwrap_or_default(),
        );
        let (kept, mut fresh) = match kept {
            Some(kept) => (kept, Vec::new()),
            None => self.open(site.workers, &limit).map_err(|e| {
                let told = io::Error::new(e.kind(), format!("udp:{}: {e}", self.address));
                Error::io(Side::Local, told).context("listening")
            })?,
        };
        fresh.reverse();
        let seeds = kept.shares.iter().map(|share| {
            let (share, socket) = (share.clone(), fresh.pop());
            let (name, limit) = (site.name.clone(), limit.clone());
            let (local, options) = (kept.local, self.options.clone());
            let seed: Seed = Box::new(move |_| {
                let taken_over = socket.is_none();
                if let Some(socket) = socket {
                    let _ = share.set(Listener::new(socket, local)?);
                }
                let Some(listener) = share.get() else {
                    return Err(
                        Error::local(ErrorKind::Internal).context("a listener without a socket")
                    );
                };
                let onramp = UdpOnramp::new(listener.clone(), name, limit, options, taken_over);
                Ok(AnyOnramp::new(onramp))
            });
            seed
        });
        Ok(Bound {
            seeds: seeds.collect(),
            address: ListenAddr::Udp(kept.local),
            kept: Some(kept),
        })
    }
}

impl UdpBind {
    /// Sockets, and where to keep them.
    fn open(&self, workers: usize, limit: &Limit) -> io::Result<(Arc<Sockets>, Vec<Socket>)> {
        let first = udp(self.address, &self.options)?;
        // Where port 0 was asked for, all workers share the one that the first was given.
        let local = first.local_addr()?.as_socket().unwrap_or(self.address);
        let mut sockets = vec![first];
        for _ in 1..workers {
            sockets.push(udp(local, &self.options)?);
        }
        let kept = Sockets {
            local,
            shares: sockets.iter().map(|_| Arc::default()).collect(),
            counts: limit.counts().clone(),
        };
        Ok((Arc::new(kept), sockets))
    }
}

/// The sockets of a UDP listener with their sessions, for the on-ramps that have them one after the other.
struct Sockets {
    local: SocketAddr,
    /// One a worker, set on its own thread, whose event loop it belongs to.
    shares: Vec<Arc<OnceLock<Arc<Listener>>>>,
    counts: Arc<Counts>,
}

/// New sessions that may wait to be taken in. Datagrams of further clients are dropped meanwhile; the flows are taken in
/// the same turn of the event loop, or the next.
const BACKLOG: usize = 128;

/// One worker's share of a UDP listener: each client address (with the address of ours that it sends to) is a flow.
///
/// Sessions that are open go on when it is dropped, or when another on-ramp takes its socket over.
#[derive(Debug)]
pub struct UdpOnramp {
    listener: Arc<Listener>,
    holder: Arc<Holder>,
    flows: mpsc::Receiver<Flow>,
    begun: bool,
    /// What the socket is to be told, where it was another's before.
    changed: Option<Box<UdpOptions>>,
}

/// Whom new sessions go to.
#[derive(Debug)]
struct Holder {
    name: Arc<str>,
    limit: Limit,
    queue: usize,
    flows: mpsc::Sender<Flow>,
}

impl UdpOnramp {
    fn new(
        listener: Arc<Listener>,
        name: Arc<str>,
        limit: Limit,
        options: UdpOptions,
        taken_over: bool,
    ) -> Self {
        let (sender, flows) = mpsc::channel(BACKLOG);
        let holder = Holder {
            name,
            limit,
            queue: options.queue,
            flows: sender,
        };
        Self {
            listener,
            holder: Arc::new(holder),
            flows,
            begun: false,
            changed: taken_over.then(|| Box::new(options)),
        }
    }
}

impl Onramp for UdpOnramp {
    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        if let Some(options) = self.changed.take()
            && let Err(error) = set_buffers(&SockRef::from(&self.listener.socket), &options)
        {
            tracing::warn!("changing a listener's options: {error}");
        }
        *self.listener.holder() = Some(self.holder.clone());
        if !self.listener.distributing.swap(true, Relaxed) {
            tokio::spawn(distribute(self.listener.clone()));
        }
    }

    async fn accept(&mut self) -> Result<Flow> {
        self.begin();
        let flow = self.flows.recv().await;
        flow.ok_or_else(|| {
            Error::local(ErrorKind::Internal).context("the UDP listener has stopped")
        })
    }
}

impl Drop for UdpOnramp {
    fn drop(&mut self) {
        let mut holder = self.listener.holder();
        if holder
            .as_ref()
            .is_some_and(|holder| Arc::ptr_eq(holder, &self.holder))
        {
            *holder = None;
            self.listener.changed.notify_one();
        }
    }
}

struct Listener {
    socket: UdpSocket,
    local: SocketAddr,
    sessions: Mutex<HashMap<Key, Weak<Session>>>,
    /// None when no new sessions are taken in. Only its own worker takes this lock, and that of `sessions`.
    holder: Mutex<Option<Arc<Holder>>>,
    distributing: AtomicBool,
    /// The holder has gone, or a session has ended.
    changed: Notify,
}

/// The client, and the address of ours that it sends to where there may be several.
type Key = (SocketAddr, Option<IpAddr>);

/// How many batches are taken in before other tasks have their turn.
const ROUNDS: usize = 4;

/// Hands what comes in to its sessions until the on-ramp and all its sessions are gone.
async fn distribute(listener: Arc<Listener>) {
    loop {
        tokio::select! {
            ready = listener.socket.readable() => if ready.is_err() {
                break;
            },
            () = listener.changed.notified() => {}
        }
        if listener.holder().is_none() && listener.sessions().is_empty() {
            break;
        }
        for _ in 0..ROUNDS {
            if !listener.take_in() {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    listener.distributing.store(false, Relaxed);
}

impl Listener {
    fn new(socket: Socket, local: SocketAddr) -> Result<Arc<Self>> {
        let socket = UdpSocket::from_std(socket.into())
            .map_err(|e| Error::io(Side::Local, e).context("listening"))?;
        Ok(Arc::new(Self {
            socket,
            local,
            sessions: Mutex::default(),
            holder: Mutex::default(),
            distributing: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Weak<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holder(&self) -> MutexGuard<'_, Option<Arc<Holder>>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch in; false where there was none.
    fn take_in(self: &Arc<Self>) -> bool {
        let holder = self.holder().clone();
        let mut buffer = Buffer::bulk();
        let room = buffer.spare().len() / BATCH;
        let mut rooms = buffer.spare().chunks_exact_mut(room);
        let mut bufs: [_; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        let mut received = [Received::default(); BATCH];
        // An error is what ICMP reports on some session's datagram; it does not say whose.
        let Ok(n) = receive(&self.socket, &mut bufs, &mut received) else {
            return false;
        };
        for (buf, one) in bufs.iter().zip(&received).take(n) {
            if let Some(peer) = one.peer
                && !one.truncated
                && let Some(session) = self.session((peer, one.local), holder.as_deref())
            {
                session.push(&buf[..one.len], one);
            }
        }
        true
    }

    /// The session of `key`, a new one if there is room for it.
    fn session(self: &Arc<Self>, key: Key, holder: Option<&Holder>) -> Option<Arc<Session>> {
        if let Some(session) = self.sessions().get(&key).and_then(Weak::upgrade) {
            return Some(session);
        }
        let holder = holder?;
        let (peer, local) = key;
        let slot = holder.flows.try_reserve().ok()?;
        let Some(place) = holder.limit.place(Some(peer.ip())) else {
            tracing::debug!(listener = %holder.name, %peer, "no room for another UDP session");
            return None;
        };
        let session = Arc::new(Session {
            listener: self.clone(),
            key,
            path: Path { peer, local },
            queue: holder.queue,
            inbox: Mutex::default(),
            writable: Mutex::new(None),
            meter: Arc::default(),
        });
        self.sessions().insert(key, Arc::downgrade(&session));
        let port = SessionPort(session.clone());
        let carrier = Carrier::Datagrams(DatagramIo::with_meter(port, session.meter.clone()));
        let local = SocketAddr::new(local.unwrap_or(self.local.ip()), self.local.port());
        let origin = Origin {
            listener: holder.name.clone(),
            peer: Some(peer),
            local: Some(local),
        };
        slot.send(Flow::new(Layer::Udp, carrier, origin).holding(Box::new(place)));
        Some(session)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener(udp:{})", self.local)
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// One client's datagrams.
struct Session {
    listener: Arc<Listener>,
    key: Key,
    path: Path,
    /// Bytes that may wait in the inbox.
    queue: usize,
    inbox: Mutex<Inbox>,
    /// A wait for the socket that all sessions share: the runtime's `poll_*` methods know one waiter only.
    writable: Mutex<Option<Writable>>,
    meter: Arc<Meter>,
}

/// What has come and was not read yet, in one run of bytes.
#[derive(Default)]
struct Inbox {
    bytes: Option<Buffer>,
    segments: std::collections::VecDeque<Segment>,
    waker: Option<Waker>,
}

impl Session {
    fn push(&self, data: &[u8], one: &Received) {
        let limit = self.queue;
        let stride = one.stride.unwrap_or(data.len());
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = inbox.bytes.as_ref().map_or(0, Buffer::len);
        // An entry costs memory, too, where datagrams are tiny or empty.
        if queued + data.len() > limit || inbox.segments.len() >= limit / 64 {
            self.meter
                .add_dropped(data.len().div_ceil(stride.max(1)).max(1));
            return;
        }
        inbox.bytes.get_or_insert_default().put(data);
        inbox.segments.push_back(Segment {
            len: data.len(),
            stride,
            ecn: one.ecn,
        });
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

impl Inbox {
    /// Copies entries out, one a buffer; what is larger than a buffer is taken in parts, or lost if a part is.
    fn pop(&mut self, bufs: &mut [IoSliceMut<'_>], meta: &mut [Segment], meter: &Meter) -> usize {
        let mut count = 0;
        let room = bufs.len().min(meta.len());
        while count < room
            && let Some(bytes) = &mut self.bytes
            && let Some(first) = self.segments.front_mut()
        {
            let (buf, stride) = (&mut bufs[count], first.stride.max(1));
            let take = if first.len <= buf.len() {
                first.len
            } else {
                buf.len() / stride * stride
            };
            if take == 0 && first.len > 0 {
                let lost = stride.min(first.len);
                meter.add_dropped(1);
                bytes.consume(lost);
                first.len -= lost;
            } else {
                buf[..take].copy_from_slice(&bytes.filled()[..take]);
                meta[count] = Segment {
                    len: take,
                    ..*first
                };
                count += 1;
                bytes.consume(take);
                first.len -= take;
            }
            if first.len == 0 {
                self.segments.pop_front();
            }
        }
        if self.segments.is_empty() {
            // Nothing is held while waiting.
            self.bytes = None;
        }
        count
    }
}

/// The side of a session that its flow holds; the session ends with it.
struct SessionPort(Arc<Session>);

impl DatagramPort for SessionPort {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [Segment],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.0.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        match inbox.pop(bufs, meta, &self.0.meter) {
            0 => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            n => Poll::Ready(Ok(n)),
        }
    }

    fn try_send(&self, data: &[u8], stride: Option<usize>, ecn: u8) -> io::Result<()> {
        let Path { peer, local } = self.0.path;
        let v4 = peer.ip().to_canonical().is_ipv4();
        let path = Path { peer, local };
        send(&self.0.listener.socket, data, stride, ecn, v4, Some(&path))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writable = self
            .0
            .writable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wait = writable.get_or_insert_with(|| {
            let listener = self.0.listener.clone();
            Box::pin(async move { listener.socket.writable().await })
        });
        let done = ready!(wait.as_mut().poll(cx));
        *writable = None;
        Poll::Ready(done)
    }
}

impl Drop for SessionPort {
    fn drop(&mut self) {
        let listener = &self.0.listener;
        listener.sessions().remove(&self.0.key);
        listener.changed.notify_one();
        // A wait holds the listener, which nothing must outlive its sessions for.
        *self
            .0
            .writable
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for SessionPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionPort({})", self.0.key.0)
    }
}

fn udp(address: SocketAddr, options: &UdpOptions) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    let any = address.ip().is_unspecified();
    if address.is_ipv6() && any {
        socket.set_only_v6(false)?;
    }
    // Each worker has a socket of its own, and the kernel gives all that a client sends to the same one.
    socket.set_reuse_port(true)?;
    set_buffers(&socket, options)?;
    // Answers must come from the address that was asked, which only each datagram tells.
    sys::prepare_udp(&socket, any);
    socket.bind(&address.into())?;
    Ok(socket)
}

fn set_buffers(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    if let Some(size) = options.recv_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    Ok(())
}
