//! Flows through the engine: their books, their ends, and what happens when resources run out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use oxy_core::cluster::{Cluster, ClusterSpec};
use oxy_core::flow::{Facts, Far};
use oxy_core::offramp::{AnyOfframp, Offramp};
use oxy_core::relay::RelayOptions;
use oxy_core::{
    AnyLift, BoxFuture, Carrier, Decapsulate, Drain, Ended, Engine, Error, ErrorKind, Flow,
    FlowHooks, FlowInfo, Layer, Means, Open, Origin, Proxy, Result, Running, Server, Side,
    StreamIo, Summary, Target, Terminal, Verdict, Worker,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Decide = dyn Fn(&mut Flow) -> Result<Verdict> + Send + Sync;

/// Does as `decide` says and tells of every end.
struct Books {
    decide: Box<Decide>,
    ends: mpsc::Sender<(Layer, Ended)>,
}

impl FlowHooks for Books {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), flow: &mut Flow) -> Result<Verdict> {
        (self.decide)(flow)
    }

    fn on_close(&self, (): &(), s: &Summary) {
        let _ = self.ends.send((s.info.layer, s.ended));
    }
}

type Ends = mpsc::Receiver<(Layer, Ended)>;

fn books(decide: impl Fn(&mut Flow) -> Result<Verdict> + Send + Sync + 'static) -> (Books, Ends) {
    let (ends, receiver) = mpsc::channel();
    let decide = Box::new(decide);
    (Books { decide, ends }, receiver)
}

fn next(ends: &Ends) -> (Layer, Ended) {
    ends.recv_timeout(Duration::from_secs(5)).unwrap()
}

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut from = socket.try_clone().unwrap();
                let _ = std::io::copy(&mut from, &mut socket);
                let _ = socket.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn start(hooks: Books, change: impl FnOnce(Proxy<Books>) -> Proxy<Books>) -> (Running, SocketAddr) {
    let running = change(Proxy::new(hooks).listen("127.0.0.1:0"))
        .workers(2)
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    (running, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn talk(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.write_all(b"ping")?;
    let mut got = [0; 4];
    socket.read_exact(&mut got)?;
    assert_eq!(&got, b"ping");
    Ok(())
}

fn open_flows(running: &Running) -> usize {
    running.workers().iter().map(Worker::open_flows).sum()
}

#[test]
fn flows_end_once_whatever_ends_them() {
    type Case = (fn(&mut Flow) -> Result<Verdict>, Ended);
    let cases: [Case; 5] = [
        (|_| Ok(Verdict::Continue), Ended::Done),
        (
            |_| Ok(Verdict::Refuse(Error::down(ErrorKind::Denied))),
            Ended::Failed(ErrorKind::Denied, Side::Down),
        ),
        (
            |_| Err(Error::app("a hook's own")),
            Ended::Failed(ErrorKind::Internal, Side::Local),
        ),
        (
            |_| Ok(Verdict::taken(|_flow| async { Ok(()) })),
            Ended::Done,
        ),
        (
            |_| Ok(Verdict::Decapsulate(Layer::Http)),
            Ended::Failed(ErrorKind::Unsupported, Side::Local),
        ),
    ];
    for (decide, expected) in cases {
        let (hooks, ends) = books(decide);
        let (running, address) = start(hooks, |proxy| proxy.to(echo()));
        let mut socket = connect(address);
        if decide as usize == cases[0].0 as usize {
            talk(&mut socket).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        }
        let _ = socket.read_to_end(&mut Vec::new());
        assert_eq!(next(&ends), (Layer::Tcp, expected));
        let flows = running.workers().iter().map(Worker::opened_flows);
        assert_eq!(flows.sum::<u64>(), 1);
        // The books were closed before the flow's line was taken out of them, or just after.
        let start = Instant::now();
        while open_flows(&running) > 0 && start.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        assert_eq!(open_flows(&running), 0);
        running.stop().unwrap();
        assert!(ends.try_recv().is_err(), "once");
    }
}

#[test]
fn a_target_that_refuses_and_one_that_resets_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let (hooks, ends) = books(|_| Ok(Verdict::Continue));
    let (running, address) = start(hooks, |proxy| proxy.to(nobody));
    let _ = connect(address).read(&mut [0]);
    assert_eq!(next(&ends).1, Ended::Failed(ErrorKind::Connect, Side::Up));
    drop(running);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (hooks, ends) = books(|_| Ok(Verdict::Continue));
    let (_running, address) = start(hooks, |proxy| proxy.to(listener.local_addr().unwrap()));
    let mut client = connect(address);
    let (mut server, _) = listener.accept().unwrap();
    // Now the relay runs.
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    socket2::SockRef::from(&server)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(server);
    assert!(client.read(&mut [0]).is_err(), "the reset is passed on");
    assert_eq!(next(&ends).1, Ended::Failed(ErrorKind::Closed, Side::Up));
}

#[test]
fn one_side_may_end_first_and_silence_is_cut() {
    let (hooks, ends) = books(|_| Ok(Verdict::Continue));
    let mut relay = RelayOptions::default();
    relay.idle = Duration::from_millis(300);
    let (_running, address) = start(hooks, |proxy| proxy.to(echo()).relay(relay));
    let mut socket = connect(address);
    socket.write_all(&vec![7; 300_000]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    socket.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 300_000);
    assert_eq!(next(&ends).1, Ended::Done);

    let mut silent = connect(address);
    talk(&mut silent).unwrap();
    assert!(silent.read(&mut [0]).is_err());
    let cut = Ended::Failed(ErrorKind::Timeout, Side::Local);
    assert_eq!(next(&ends).1, cut);
}

#[test]
fn a_drain_lets_flows_finish_and_cuts_them_in_the_end() {
    for finishes in [true, false] {
        let (hooks, ends) = books(|_| Ok(Verdict::Continue));
        let server = Server::new()
            .with(Proxy::new(hooks).listen("127.0.0.1:0").to(echo()))
            .workers(2)
            .drain_timeout(Duration::from_millis(700));
        let running = server.start().unwrap();
        let address = running.addresses()[0].1.socket_addr().unwrap();
        let mut socket = connect(address);
        talk(&mut socket).unwrap();
        let stopped = std::thread::spawn(move || running.stop());
        std::thread::sleep(Duration::from_millis(200));
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
        talk(&mut socket).unwrap();
        if finishes {
            drop(socket);
            stopped.join().unwrap().unwrap();
            assert!(matches!(next(&ends).1, Ended::Done));
        } else {
            let error = stopped.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Draining);
            assert!(socket.read(&mut [0]).is_err(), "cut, not ended");
            let cut = Ended::Failed(ErrorKind::Draining, Side::Local);
            assert_eq!(next(&ends).1, cut);
        }
        assert!(ends.try_recv().is_err());
    }
}

#[test]
fn each_flow_learns_why_it_is_cut() {
    let server = echo();
    // More than the event loop polls in one turn.
    for flows in [1, 150] {
        let (hooks, ends) = books(|_| Ok(Verdict::Continue));
        let (running, address) = start(hooks, |proxy| proxy.to(server));
        let mut clients: Vec<_> = (0..flows).map(|_| connect(address)).collect();
        for client in &mut clients {
            talk(client).unwrap();
        }
        drop(running);
        let cut = Ended::Failed(ErrorKind::Draining, Side::Local);
        for _ in clients {
            assert_eq!(next(&ends), (Layer::Tcp, cut));
        }
    }
}

/// Reaches one end of a stream in memory, whose other end answers nothing.
struct Nowhere;

impl Offramp for Nowhere {
    async fn open(&self, target: &Target, _: &FlowInfo) -> Result<Far> {
        let (near, far) = StreamIo::pair(64);
        std::mem::forget(far);
        Ok(Far {
            carrier: Carrier::Stream(near),
            target: target.clone(),
            peer: None,
            facts: Facts::default(),
        })
    }
}

fn engine(hooks: Books) -> Engine<Books> {
    let worker = Worker::new(0, Drain::new());
    let nowhere = ClusterSpec::new("nowhere", [Target::tcp([192, 0, 2, 1], 1)]);
    let means = Means {
        offramp: AnyOfframp::new(Nowhere),
        relay: RelayOptions::default(),
        balancer: Some(Cluster::new(nowhere).unwrap().balancer(0)),
    };
    Engine::new(Arc::new(hooks), worker, means)
}

fn flow() -> (Flow, StreamIo) {
    let (near, client) = StreamIo::pair(64);
    let origin = Origin {
        listener: "test".into(),
        peer: None,
        local: None,
    };
    (Flow::new(Layer::Tcp, Carrier::Stream(near), origin), client)
}

#[tokio::test]
async fn a_dropped_flow_is_cut_wherever_it_was() {
    let (hooks, ends) = books(|_| Ok(Verdict::Continue));
    let engine = engine(hooks);
    let (never_polled, _client) = flow();
    drop(engine.enter(never_polled, None));
    assert_eq!(next(&ends), (Layer::Tcp, Ended::Cut));

    let (relayed, mut client) = flow();
    let task = tokio::spawn(engine.enter(relayed, None));
    client.write_all(b"x").await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(engine.worker().open_flows(), 1);
    task.abort();
    let _ = task.await;
    assert_eq!(next(&ends), (Layer::Tcp, Ended::Cut));
    assert_eq!(engine.worker().open_flows(), 0);

    let (relayed, _client) = flow();
    let task = tokio::spawn(engine.enter(relayed, None));
    tokio::task::yield_now().await;
    engine.worker().drain().abort();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Draining);
    let cut = Ended::Failed(ErrorKind::Draining, Side::Local);
    assert_eq!(next(&ends), (Layer::Tcp, cut));
    assert!(ends.try_recv().is_err());
}

/// Wraps each flow in another one, which outlives the serving of its parent.
struct Wrap;

impl Terminal<Books> for Wrap {
    fn layer(&self) -> Layer {
        Layer::Http
    }

    fn serve(
        self: Arc<Self>,
        engine: Engine<Books>,
        open: Arc<Open<Books>>,
        flow: Flow,
    ) -> BoxFuture<'static, Result<()>> {
        let child = Flow::child(&flow.info, Layer::Connect, flow.carrier);
        tokio::spawn(engine.enter(child, Some(open)));
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_child_closes_before_its_parent() {
    let (hooks, ends) = books(|flow| {
        Ok(match flow.info.layer {
            Layer::Tcp => Verdict::Decapsulate(Layer::Http),
            _ => Verdict::taken(|flow| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(flow);
                Err(Error::up(ErrorKind::Closed))
            }),
        })
    });
    let engine = engine(hooks).with_terminals(vec![Arc::new(Wrap)]);
    let (outer, _client) = flow();
    engine.enter(outer, None).await.unwrap();
    assert!(ends.try_recv().is_err(), "its child lives");
    assert_eq!(engine.worker().open_flows(), 2);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let failed = Ended::Failed(ErrorKind::Closed, Side::Up);
    assert_eq!(next(&ends), (Layer::Connect, failed));
    assert_eq!(next(&ends), (Layer::Tcp, Ended::Done));
    assert_eq!(engine.worker().open_flows(), 0);
}

/// Lifts a stream by taking a `+` off its front.
struct Plus;

impl Decapsulate for Plus {
    fn layer(&self) -> Layer {
        Layer::Tls
    }

    async fn lift(&self, mut flow: Flow) -> Result<Flow> {
        let stream = flow.stream().unwrap();
        if stream.read_u8().await.unwrap() != b'+' {
            return Err(Error::down(ErrorKind::Tls));
        }
        Ok(Flow::child(&flow.info, Layer::Tls, flow.carrier))
    }
}

/// Ends flows after a byte.
struct Byte;

impl Terminal<Books> for Byte {
    fn layer(&self) -> Layer {
        Layer::Http
    }

    fn serve(
        self: Arc<Self>,
        _: Engine<Books>,
        _: Arc<Open<Books>>,
        mut flow: Flow,
    ) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            match flow.stream().unwrap().read_u8().await.unwrap() {
                b'.' => Ok(()),
                _ => Err(Error::down(ErrorKind::Malformed)),
            }
        })
    }
}

#[tokio::test]
async fn streams_from_outside_are_lifted_once_and_end_as_what_lies_inside() {
    let malformed = Ended::Failed(ErrorKind::Malformed, Side::Down);
    let not_tls = Ended::Failed(ErrorKind::Tls, Side::Down);
    for (said, ended) in [
        (
            b"+.",
            &[(Layer::Tls, Ended::Done), (Layer::Tcp, Ended::Done)][..],
        ),
        (b"+!", &[(Layer::Tls, malformed), (Layer::Tcp, malformed)]),
        (b"-.", &[(Layer::Tcp, not_tls)]),
    ] {
        let (hooks, ends) = books(|_| Ok(Verdict::Continue));
        let engine = engine(hooks)
            .with_lifts(vec![AnyLift::new(Plus)])
            .with_terminals(vec![Arc::new(Byte)]);
        let (outer, mut client) = flow();
        client.write_all(said).await.unwrap();
        let result = engine.enter(outer, None).await;
        assert_eq!(result.is_ok(), ended[0].1 == Ended::Done);
        drop(engine);
        assert_eq!(ends.iter().collect::<Vec<_>>(), ended);
    }
}

#[tokio::test]
async fn a_hook_decides_what_is_lifted() {
    // What is told by name is lifted wherever it comes from; what is not lifted is served as it is.
    let (hooks, ends) = books(|flow| {
        Ok(match flow.info.layer {
            Layer::Connect => Verdict::Decapsulate(Layer::Tls),
            Layer::Tls => Verdict::Continue,
            _ => Verdict::Decapsulate(Layer::Http),
        })
    });
    let engine = engine(hooks)
        .with_lifts(vec![AnyLift::new(Plus)])
        .with_terminals(vec![Arc::new(Byte)]);
    let (outer, mut client) = flow();
    client.write_all(b".").await.unwrap();
    engine.enter(outer, None).await.unwrap();
    assert_eq!(next(&ends), (Layer::Tcp, Ended::Done));
    let (near, mut client) = StreamIo::pair(64);
    client.write_all(b"+.").await.unwrap();
    let tunnel = Flow::child(&flow().0.info, Layer::Connect, Carrier::Stream(near));
    engine.enter(tunnel, None).await.unwrap();
    assert_eq!(next(&ends), (Layer::Tls, Ended::Done));
    assert_eq!(next(&ends), (Layer::Connect, Ended::Done));
    assert!(ends.try_recv().is_err());
}

#[tokio::test]
async fn nesting_is_bounded() {
    let (hooks, ends) = books(|_| Ok(Verdict::Decapsulate(Layer::Http)));
    let engine = engine(hooks).with_terminals(vec![Arc::new(Wrap)]);
    let (outer, _client) = flow();
    engine.enter(outer, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let closed: Vec<_> = ends.try_iter().collect();
    assert_eq!(closed.len(), usize::from(oxy_core::flow::MAX_DEPTH) + 2);
    let looped = Ended::Failed(ErrorKind::Loop, Side::Down);
    assert_eq!(closed[0], (Layer::Connect, looped));
}

/// Descriptors that the process of the next test has: the runtime and the listener need some, and each flow two.
const DESCRIPTORS: u64 = 40;

/// Not a test: the proxy of [`it_survives_running_out_of_descriptors`], in a process of its own.
#[test]
fn few_descriptors() {
    let Ok(to) = std::env::var("OXY_TEST_FEW_DESCRIPTORS") else {
        return;
    };
    let limit = rustix::process::Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let running = Proxy::new(())
        .listen("127.0.0.1:0")
        .to(to.as_str())
        .workers(1)
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    println!("\nlistening {address}");
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

#[test]
fn it_survives_running_out_of_descriptors() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "few_descriptors", "--nocapture"])
        .env("OXY_TEST_FEW_DESCRIPTORS", echo().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address: SocketAddr = lines
        .find_map(|line| line.unwrap().strip_prefix("listening ")?.parse().ok())
        .unwrap();
    let mut served = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut socket = TcpStream::connect(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        match talk(&mut socket) {
            Ok(()) => served.push(socket),
            Err(_) => waiting.push(socket),
        }
    }
    assert!(served.len() >= 5, "{}", served.len());
    assert!(waiting.len() >= 30, "{}", waiting.len());
    // It neither spins while there is nothing to be had, nor forgets those whom it serves.
    let before = cpu_ticks(child.id());
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_ticks(child.id()) - before;
    assert!(spent <= 15, "{spent} hundredths of a second");
    for socket in &mut served {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        talk(socket).unwrap();
    }
    drop((served, waiting));
    let start = Instant::now();
    let recovered = loop {
        let mut socket = connect(address);
        if talk(&mut socket).is_ok() {
            break true;
        }
        if start.elapsed() > Duration::from_secs(5) {
            break false;
        }
    };
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(recovered);
}

/// The CPU time of a process in hundredths of a second (proc(5), fields 14 and 15).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
