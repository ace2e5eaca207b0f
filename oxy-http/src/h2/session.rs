//! Connections to origins that carry many exchanges at a time, per worker and endpoint.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::h2::client::SendRequest;
use ::h2::{Ping, PingPong};
use oxy_core::clock::Alarm;
use oxy_core::{Error, ErrorKind, Result, Side, StreamIo, cluster};
use tokio::sync::Notify;

use super::dialled::Dialled;
use super::fault::fault;
use crate::body::Piece;
use crate::linger::linger;
use crate::options::{Http2Options, HttpOptions, Timeouts};

/// The sessions with one endpoint.
#[derive(Debug)]
pub(crate) struct Sessions {
    list: Mutex<List>,
    /// Told when there may be room for one more exchange.
    room: Notify,
    /// Whether each exchange has a connection of its own.
    exclusive: bool,
}

#[derive(Debug, Default)]
struct List {
    open: Vec<Arc<Session>>,
    /// How many are being opened.
    opening: usize,
}

/// One connection.
pub(crate) struct Session {
    send: Mutex<SendRequest<Piece>>,
    streams: AtomicUsize,
    /// Whether it may take exchanges: not once the origin has said goodbye, or the connection is gone.
    fit: AtomicBool,
    /// For asking the origin to show that it is there; none once that has been done.
    pings: tokio::sync::Mutex<Option<PingPong>>,
    /// How many exchanges it has carried.
    carried: AtomicUsize,
    /// When the last exchange ended, on the pool's clock.
    since: Mutex<Instant>,
    max: usize,
    home: Weak<Sessions>,
}

/// What a request is sent with.
pub(crate) type Handle = SendRequest<Piece>;

/// An exchange's place on a session.
pub(crate) struct Ticket {
    session: Arc<Session>,
    /// Whether the session has carried others before.
    pub(crate) reused: bool,
}

/// What an exchange gets that looks for a place.
pub(crate) enum Place {
    Ticket(Ticket),
    /// It may open a connection.
    Open(Opening),
}

/// The right to open one connection. Dropped, it goes to whoever waits.
pub(crate) struct Opening(Arc<Sessions>);

impl Sessions {
    /// `exclusive` if connections say whom they are for, so that no other client's exchange may go by one.
    pub(crate) fn new(exclusive: bool) -> Arc<Self> {
        Arc::new(Self {
            list: Mutex::default(),
            room: Notify::new(),
            exclusive,
        })
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be a place. Cancel safe.
    pub(crate) async fn room(self: &Arc<Self>, options: &Http2Options) -> Result<()> {
        let room = self.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        // What has come free in between is left to whoever asks for it.
        if self.place(options).is_none() {
            room.await;
        }
        Ok(())
    }

    /// The right to open a connection, whatever there is already.
    pub(crate) fn opening(self: &Arc<Self>) -> Opening {
        self.list().opening += 1;
        Opening(self.clone())
    }

    /// A place on a session that is open, if there is room.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        let mut list = self.list();
        list.open.retain(|session| session.fit.load(Relaxed));
        list.least().map(Session::ticket)
    }

    /// A place, or the right to make one; none where both are taken.
    pub(crate) fn place(self: &Arc<Self>, options: &Http2Options) -> Option<Place> {
        if self.exclusive {
            return Some(Place::Open(self.opening()));
        }
        let mut list = self.list();
        list.open.retain(|session| session.fit.load(Relaxed));
        if let Some(session) = list.least() {
            return Some(Place::Ticket(session.ticket()));
        }
        if list.open.len() + list.opening < options.max_connections.max(1) {
            // While one is on its way, others may soon have room on it.
            if list.opening == 0 || !list.open.is_empty() {
                list.opening += 1;
                return Some(Place::Open(Opening(self.clone())));
            }
        }
        None
    }

    /// Closes what has been idle since before `before`.
    pub(crate) fn sweep(&self, idle: Duration) {
        let mut list = self.list();
        list.open.retain(|session| {
            session.fit.load(Relaxed)
                && (session.streams.load(Relaxed) > 0 || session.idle_for() < idle)
        });
        if list.open.is_empty() {
            list.open.shrink_to_fit();
        }
    }

    /// Whether none is open or being opened.
    pub(crate) fn is_empty(&self) -> bool {
        let list = self.list();
        list.open.is_empty() && list.opening == 0
    }
}

impl List {
    /// The session with the fewest exchanges, if there is room on it.
    fn least(&self) -> Option<&Arc<Session>> {
        self.open
            .iter()
            .filter(|session| session.has_room())
            .min_by_key(|session| session.streams.load(Relaxed))
    }
}

impl Opening {
    /// Makes a session of a stream to the origin, with a first place on it, and what to send by it.
    /// `place` is the connection's place among those of its cluster.
    pub(crate) async fn greet(
        self,
        stream: StreamIo,
        place: Option<cluster::Connection>,
        options: &HttpOptions,
    ) -> Result<(Ticket, Handle)> {
        let http2 = &options.http2;
        let mut builder = ::h2::client::Builder::new();
        builder
            .initial_window_size(http2.stream_window)
            .initial_connection_window_size(window(http2))
            .max_send_buffer_size(http2.send_buffer)
            .max_header_list_size(u32::try_from(options.head.max_head).unwrap_or(u32::MAX))
            .enable_push(false);
        let (send, mut connection) = Dialled::greet(stream, options, &builder).await?;
        let pings = tokio::sync::Mutex::new(connection.pings());
        let session = Arc::new(Session {
            send: Mutex::new(send),
            streams: AtomicUsize::new(0),
            fit: AtomicBool::new(true),
            pings,
            carried: AtomicUsize::new(0),
            since: Mutex::new(Instant::now()),
            max: http2.max_streams.max(1) as usize,
            home: Arc::downgrade(&self.0),
        });
        tokio::spawn(drive(
            connection,
            Arc::downgrade(&session),
            options.timeouts.clone(),
            place,
        ));
        let ticket = session.ticket();
        let handle = ticket.handle()?;
        if !self.0.exclusive {
            self.0.list().open.push(session);
        }
        Ok((ticket, handle))
    }
}

/// What all streams may have together, so that those which are not read take nothing from the others.
fn window(options: &Http2Options) -> u32 {
    let all = options.max_streams.saturating_mul(options.stream_window);
    // RFC 9113 section 6.9.1.
    all.clamp(options.stream_window, i32::MAX as u32)
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.list().opening -= 1;
        self.0.room.notify_waiters();
    }
}

impl Session {
    fn has_room(&self) -> bool {
        let most = self.send().current_max_send_streams().min(self.max);
        self.fit.load(Relaxed) && self.streams.load(Relaxed) < most
    }

    fn send(&self) -> MutexGuard<'_, SendRequest<Piece>> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(self: &Arc<Self>) -> Ticket {
        self.streams.fetch_add(1, Relaxed);
        let reused = self.carried.fetch_add(1, Relaxed) > 0;
        Ticket {
            session: self.clone(),
            reused,
        }
    }

    fn idle_for(&self) -> Duration {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.elapsed()
    }

    /// It takes no more exchanges; those that are under way go on.
    fn retire(&self) {
        self.fit.store(false, Relaxed);
        if let Some(home) = self.home.upgrade() {
            home.room.notify_waiters();
        }
    }
}

impl Ticket {
    /// A handle to send one request with. An error if the session takes no more, in which case nothing was sent.
    pub(crate) fn handle(&self) -> Result<Handle> {
        let mut send = self.session.send().clone();
        // There is room for what has a ticket: it never has to wait.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(e)) = send.poll_ready(&mut cx) {
            self.session.retire();
            return Err(fault(e, Side::Up).retry(oxy_core::Retry::Safe));
        }
        Ok(send)
    }

    /// Whether the origin takes extended CONNECT (RFC 8441 section 3), which it says in its settings: they are waited for.
    /// Cancel safe.
    pub(crate) async fn takes_extended_connect(&self) -> bool {
        let session = &self.session;
        let is_said = || session.send().is_extended_connect_protocol_enabled();
        if !is_said() {
            // Settings come before the answer to a ping.
            let mut pings = session.pings.lock().await;
            if let Some(ping) = &mut *pings {
                let _ = ping.ping(Ping::opaque()).await;
                *pings = None;
            }
        }
        is_said()
    }

    /// The session is not to be used any more: the origin has said so on this exchange.
    pub(crate) fn retire(&self) {
        self.session.retire();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let session = &self.session;
        if session.streams.fetch_sub(1, Relaxed) == 1 {
            let mut since = session.since.lock().unwrap_or_else(PoisonError::into_inner);
            *since = Instant::now();
        }
        if let Some(home) = session.home.upgrade() {
            home.room.notify_one();
        }
    }
}

/// Reads and writes for a connection as long as it is open.
async fn drive(
    mut connection: Dialled<Piece>,
    session: Weak<Session>,
    timeouts: Timeouts,
    _place: Option<cluster::Connection>,
) {
    let alarm = Alarm::new();
    let watch = connection.watch().clone();
    let mut stalled = false;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.poll(cx) {
            return Poll::Ready(ended.err());
        }
        // An origin that does not read is given up, with all that waits for it.
        if watch.is_stalled() != stalled {
            stalled = watch.is_stalled();
            if stalled {
                alarm.set(timeouts.body);
            } else {
                alarm.clear();
            }
        }
        if stalled && alarm.poll_expired(cx).is_ready() {
            return Poll::Ready(Some(Error::up(ErrorKind::Timeout)));
        }
        Poll::Pending
    })
    .await;
    if let Some(session) = session.upgrade() {
        session.retire();
    }
    drop(connection);
    let Some(error) = ended else {
        return;
    };
    tracing::debug!("{error:?}");
    if let Some(verdict) = watch.verdict() {
        // The crate's clients have no word for it. What does not go out at once does not go out.
        let word = watch.last_word(verdict.reason());
        poll_fn(|cx| {
            let flushed = watch.poll_flush(cx).is_ready();
            Poll::Ready(flushed && watch.link().poll_write(cx, &word).is_ready())
        })
        .await;
    }
    if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Overloaded) {
        linger(watch.link(), &alarm, timeouts.linger).await;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} streams)", self.streams.load(Relaxed))
    }
}
