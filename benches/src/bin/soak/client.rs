//! The clients: each sends one request after the other, and judges what comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::plan::{Draw, Framing, Plan};
use crate::tally::Tally;
use crate::wire::{self, Fault, Reader};

/// How long a request may take, whatever happens to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that are being opened at a time, far below the proxy's backlog.
const OPENING: usize = 256;

/// Loopback addresses that connections come from, in turn, so that one address's ports do not run out.
const SOURCES: u64 = 100;

/// One client in so many is gone at the end without having read its answer.
const ABRUPT_EVERY: usize = 4;

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) target: SocketAddr,
    pub(crate) tally: Arc<Tally>,
    pub(crate) reset_percent: f64,
    /// The longest pause between two requests, in milliseconds.
    pub(crate) pause: u64,
    next: AtomicU64,
    opening: Semaphore,
}

impl Clients {
    pub(crate) fn new(
        target: SocketAddr,
        tally: Arc<Tally>,
        reset_percent: f64,
        pause: u64,
        seed: u64,
    ) -> Self {
        Self {
            target,
            tally,
            reset_percent,
            pause,
            next: AtomicU64::new(seed << 32),
            opening: Semaphore::new(OPENING),
        }
    }

    /// Runs `count` clients for some time and until each has ended. Gives the most that were open at a time.
    pub(crate) async fn run(self: &Arc<Self>, count: usize, time: Duration) -> u64 {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for slot in 0..count {
            tasks.spawn(self.clone().client(slot, stopped.clone()));
        }
        let mut most = 0;
        let watch = async {
            loop {
                most = most.max(self.tally.open.now());
                sleep(Duration::from_millis(50)).await;
            }
        };
        // It ends by the time being over, never by itself.
        let _: Result<(), _> = timeout(time, watch).await;
        let _ = stop.send(true);
        while tasks.join_next().await.is_some() {}
        most
    }

    async fn client(self: Arc<Self>, slot: usize, mut stop: watch::Receiver<bool>) {
        let mut gone = stop.clone();
        let work = async {
            let mut draw = Draw::new(slot as u64);
            self.rest(&mut draw).await;
            while !*stop.borrow() {
                if let Err(error) = self.connection(&mut draw, &mut stop).await {
                    let what = format!("connecting: {error}");
                    self.tally.mistake(&self.tally.wrong, what);
                    self.rest(&mut draw).await;
                }
            }
        };
        if slot.is_multiple_of(ABRUPT_EVERY) {
            tokio::select! {
                () = work => {}
                _ = gone.wait_for(|stop| *stop) => {}
            }
        } else {
            work.await;
        }
    }

    async fn rest(&self, draw: &mut Draw) {
        sleep(Duration::from_millis(draw.below(self.pause))).await;
    }

    /// Uses one connection for as long as it lasts.
    async fn connection(
        &self,
        draw: &mut Draw,
        stop: &mut watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let mut stream = self.connect().await?;
        self.tally.connections.one();
        self.tally.open.one();
        let _open = Open(&self.tally);
        let (read, mut write) = stream.split();
        let mut reader = Reader::new(read);
        loop {
            tokio::select! {
                () = self.rest(draw) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            let id = self.next.fetch_add(1, Relaxed);
            let plan = Plan::of(id, self.reset_percent);
            self.tally.requests.one();
            let exchange = exchange(&mut reader, &mut write, id, &plan);
            let patience = plan.gives_up.map_or(PATIENCE, Duration::from_millis);
            let Ok(outcome) = timeout(patience, exchange).await else {
                if plan.gives_up.is_some() {
                    self.tally.given_up.one();
                } else {
                    let tally = &self.tally;
                    tally.mistake(&tally.hung, format!("request {id}: no end: {plan:.0?}"));
                }
                return Ok(());
            };
            if !self.judge(id, &plan, &outcome) {
                return Ok(());
            }
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        // It is never closed.
        let _permit = self.opening.acquire().await;
        let number = self.tally.connections.now();
        let last = u8::try_from(2 + number % SOURCES).unwrap_or(2);
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
        let stream = socket.connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Counts an outcome, and tells whether the connection can go on.
    fn judge(&self, id: u64, plan: &Plan, outcome: &Outcome) -> bool {
        let tally = &self.tally;
        match outcome {
            Outcome::Right { persists } => {
                tally.right.one();
                let uploaded = plan.upload.map_or(0, |upload| upload.bytes.len());
                tally
                    .bytes
                    .add((uploaded + plan.response.bytes.len()) as u64);
                return *persists;
            }
            Outcome::Gateway { persists } => {
                tally.gateway.one();
                self.explain(id, plan, "502 or 504");
                return *persists;
            }
            Outcome::Fault(Fault::Cut) => {
                tally.cut.one();
                self.explain(id, plan, "cut");
            }
            Outcome::Fault(Fault::Wrong(what)) => {
                tally.mistake(&tally.wrong, format!("request {id}: {what}: {plan:?}"));
            }
        }
        false
    }

    fn explain(&self, id: u64, plan: &Plan, what: &str) {
        let tally = &self.tally;
        if !tally.was_reset(id) {
            let what = format!("request {id}: {what}, and the origin had not reset it: {plan:?}");
            tally.doubt(what);
        }
    }
}

/// Counts a connection as open.
struct Open<'a>(&'a Tally);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.subtract_one();
    }
}

/// How an exchange ended, and whether the connection is good for another.
#[derive(Debug)]
enum Outcome {
    Right { persists: bool },
    Gateway { persists: bool },
    Fault(Fault),
}

/// Sends a request and reads its response at the same time.
async fn exchange(
    reader: &mut Reader<ReadHalf<'_>>,
    write: &mut WriteHalf<'_>,
    id: u64,
    plan: &Plan,
) -> Outcome {
    let mut upload = pin!(send(write, id, plan));
    let mut response = pin!(receive(reader, id, plan));
    let mut sent = None;
    let outcome = loop {
        tokio::select! {
            // What cannot be sent is not wanted any more: there is, or was, an answer.
            result = &mut upload, if sent.is_none() => sent = Some(result.is_ok()),
            outcome = &mut response => break outcome,
        }
    };
    match outcome {
        Ok(Outcome::Right { persists: true }) => {
            let whole = match sent {
                Some(whole) => whole,
                None => upload.await.is_ok(),
            };
            Outcome::Right { persists: whole }
        }
        Ok(Outcome::Gateway { persists }) => Outcome::Gateway {
            persists: persists && sent == Some(true),
        },
        Ok(outcome) => outcome,
        Err(fault) => Outcome::Fault(fault),
    }
}

async fn send(write: &mut WriteHalf<'_>, id: u64, plan: &Plan) -> std::io::Result<()> {
    if let Some(upload) = plan.upload {
        let head = format!("POST /{id} HTTP/1.1\r\nHost: soak\r\n");
        wire::write(write, &head, upload, usize::MAX).await
    } else {
        let head = format!("GET /{id} HTTP/1.1\r\nHost: soak\r\n\r\n");
        write.write_all(head.as_bytes()).await
    }
}

/// What matters of a response's head.
struct Told {
    status: String,
    id: Option<u64>,
    length: Option<usize>,
    chunked: bool,
    closes: bool,
}

async fn receive(
    reader: &mut Reader<ReadHalf<'_>>,
    id: u64,
    plan: &Plan,
) -> Result<Outcome, Fault> {
    let told = reader
        .head(|head| Told {
            status: head.first_line().split(' ').nth(1).unwrap_or("").to_owned(),
            id: head.field("x-id").and_then(|id| id.parse().ok()),
            length: head.content_length(),
            chunked: head.field("transfer-encoding").is_some(),
            closes: head.closes(),
        })
        .await?;
    let persists = !told.closes;
    match told.status.as_str() {
        "200" => {}
        "502" | "504" => {
            reader.skip(told.length.unwrap_or(0)).await?;
            return Ok(Outcome::Gateway { persists });
        }
        status => return Err(Fault::Wrong(format!("status {status}"))),
    }
    if told.id != Some(id) {
        return Err(Fault::Wrong(format!("the answer to {:?}", told.id)));
    }
    let expected = plan.response.bytes;
    let framing = match told.length {
        _ if told.chunked => Framing::Chunked,
        Some(length) if length == expected.len() => Framing::Length,
        Some(length) => return Err(Fault::Wrong(format!("a length of {length}"))),
        None => Framing::Close,
    };
    reader.body(framing, expected).await?;
    Ok(Outcome::Right {
        persists: persists && framing != Framing::Close,
    })
}
