//! Proxies that are added, replaced and removed while they run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::{Duration, Instant};

use oxy_core::clock::Alarm;
use oxy_core::onramp::{ListenAddr, StreamOptions};
use oxy_core::relay::RelayOptions;
use oxy_core::{
    Changes, Drain, Ended, ErrorKind, Flow, FlowHooks, FlowInfo, Proxy, Result, Running, Server,
    Side, Summary, Verdict, Worker,
};
use tokio::io::AsyncWriteExt;

const PATIENCE: Duration = Duration::from_secs(10);

/// Says its name to whoever connects, then sends back what it gets.
struct Named {
    name: &'static str,
    ends: mpsc::Sender<(&'static str, Ended)>,
    /// Dropped with the hooks.
    _alive: Arc<()>,
}

impl FlowHooks for Named {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), flow: &mut Flow) -> Result<Verdict> {
        if flow.stream().is_none() {
            return Ok(Verdict::Continue);
        }
        let name = self.name;
        Ok(Verdict::taken(move |mut flow| async move {
            let stream = flow.stream().unwrap();
            stream.write_all(name.as_bytes()).await?;
            loop {
                let got = stream.peek(1).await?.to_vec();
                if got.is_empty() {
                    return Ok(());
                }
                stream.take_prefix();
                stream.write_all(&got).await?;
            }
        }))
    }

    fn on_close(&self, (): &(), s: &Summary) {
        let _ = self.ends.send((self.name, s.ended));
    }
}

type Ends = mpsc::Receiver<(&'static str, Ended)>;

fn named(name: &'static str) -> (Proxy<Named>, Ends, Weak<()>) {
    let (ends, receiver) = mpsc::channel();
    let alive = Arc::new(());
    let gone = Arc::downgrade(&alive);
    let hooks = Named {
        name,
        ends,
        _alive: alive,
    };
    (Proxy::new(hooks), receiver, gone)
}

fn server() -> Server {
    Server::new().workers(2).drain_timeout(PATIENCE)
}

fn address(running: &Running, name: &str) -> SocketAddr {
    let addresses = running.addresses();
    let (_, address) = addresses.iter().find(|(of, _)| &**of == name).unwrap();
    address.socket_addr().unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Who answers there: names have three letters.
fn who(mut socket: impl Read) -> String {
    let mut name = [0; 3];
    socket.read_exact(&mut name).unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

fn echo(socket: &mut (impl Read + Write)) {
    socket.write_all(b"ping").unwrap();
    let mut got = [0; 4];
    socket.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ping");
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_gone(alive: &Weak<()>) -> bool {
    alive.strong_count() == 0
}

fn open_flows(running: &Running) -> usize {
    running.workers().iter().map(Worker::open_flows).sum()
}

#[test]
fn replacing_under_load_loses_no_connection() {
    const REPLACES: usize = 50;
    let (proxy, _, first) = named("p00");
    let running = server().with(proxy.listen("127.0.0.1:0")).start().unwrap();
    let to = address(&running, "main");
    let (stop, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (stop.clone(), served.clone());
            std::thread::spawn(move || {
                let mut names = std::collections::BTreeSet::new();
                while !stop.load(SeqCst) {
                    let mut socket = connect(to);
                    names.insert(who(&mut socket));
                    echo(&mut socket);
                    socket.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
                    served.fetch_add(1, SeqCst);
                }
                names.len()
            })
        })
        .collect();
    let mut all = vec![first];
    for i in 1..=REPLACES {
        // Some connections come between any two replaces.
        let before = served.load(SeqCst);
        eventually("clients are served", || served.load(SeqCst) >= before + 4);
        let name: &'static str = format!("p{i:02}").leak();
        let (proxy, _, alive) = named(name);
        running.replace(proxy.listen(to)).unwrap();
        all.push(alive);
        assert_eq!(who(connect(to)), name, "new connections go to the new one");
    }
    stop.store(true, SeqCst);
    for client in clients {
        assert!(client.join().unwrap() > REPLACES / 2);
    }
    eventually("only the last is left", || {
        all.iter().filter(|alive| !is_gone(alive)).count() == 1
    });
    running.stop().unwrap();
    assert!(all.iter().all(is_gone));
}

#[test]
fn proxies_come_and_go_and_leave_nothing_behind() {
    let (proxy, _, _) = named("one");
    let running = server()
        .with(proxy.name("one").listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let to = address(&running, "one");
    for _ in 0..5 {
        let (proxy, ends, alive) = named("two");
        running
            .add(
                proxy
                    .name("two")
                    .listen("127.0.0.1:0")
                    .listen("127.0.0.1:0"),
            )
            .unwrap();
        assert_eq!(running.addresses().len(), 3);
        let second = address(&running, "two");
        assert_eq!(who(connect(second)), "two");
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap().0, "two");
        running.remove("two").unwrap();
        assert!(TcpStream::connect(second).is_err(), "nobody listens");
        assert_eq!(running.addresses().len(), 1);
        eventually("nothing is left of it", || is_gone(&alive));
    }
    assert_eq!(who(connect(to)), "one");
    eventually("its flow is over", || open_flows(&running) == 0);
    running.stop().unwrap();
}

#[test]
fn what_is_open_drains_when_its_proxy_leaves() {
    let (proxy, ends, alive) = named("old");
    let (other, _, _) = named("oth");
    let running = server()
        .with(proxy.name("old").listen("127.0.0.1:0"))
        .with(other.name("oth").listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let (to, beside) = (address(&running, "old"), address(&running, "oth"));
    let (mut open, mut neighbour) = (connect(to), connect(beside));
    assert_eq!(
        (who(&mut open), who(&mut neighbour)),
        ("old".into(), "oth".into())
    );
    running.remove("old").unwrap();
    assert!(TcpStream::connect(to).is_err());
    echo(&mut open);
    assert_eq!(open_flows(&running), 2);
    assert!(ends.try_recv().is_err());
    assert!(!is_gone(&alive));
    drop(open);
    let (_, ended) = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended, Ended::Done);
    eventually("nothing is left of it", || is_gone(&alive));
    echo(&mut neighbour);
    assert_eq!(who(connect(beside)), "oth");
    drop(neighbour);
    running.stop().unwrap();
}

#[test]
fn what_does_not_end_is_cut_when_the_drains_time_is_over() {
    // One is the application's to drive, the other is relayed.
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (proxy, ends, alive) = named("old");
    let running = Server::new()
        .workers(1)
        .drain_timeout(Duration::from_millis(300))
        .with(proxy.name("old").listen("127.0.0.1:0"))
        .with(
            Proxy::new(())
                .name("relay")
                .listen("127.0.0.1:0")
                .to(target.local_addr().unwrap()),
        )
        .start()
        .unwrap();
    let mut taken = connect(address(&running, "old"));
    assert_eq!(who(&mut taken), "old");
    let mut relayed = connect(address(&running, "relay"));
    let _far = target.accept().unwrap();
    let start = Instant::now();
    let changes = Changes::new().remove("old").remove("relay");
    running.apply(changes).unwrap();
    assert!(matches!(taken.read(&mut [0]), Ok(0) | Err(_)));
    assert!(relayed.read(&mut [0]).is_err(), "cut, not ended");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap().1, Ended::Cut);
    eventually("nothing is left of it", || is_gone(&alive));
    assert!(running.drain().is_serving());
    running.stop().unwrap();
}

/// Closes its connections at once when its branch of the drain tree drains, as idle connections of a protocol do.
struct Idle;

impl FlowHooks for Idle {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), _: &mut Flow) -> Result<Verdict> {
        Ok(Verdict::taken(|flow| async move {
            let alarm = Alarm::new();
            // Whoever wakes it is not the alarm, but the drain.
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                let _ = alarm.poll_expired(cx);
                if polls > 1 {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            drop(flow);
            Ok(())
        }))
    }
}

#[test]
fn idle_connections_are_woken_when_their_proxy_leaves() {
    let running = server()
        .with(Proxy::new(Idle).listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let mut idle = connect(address(&running, "main"));
    eventually("it is open", || open_flows(&running) == 1);
    running.remove("main").unwrap();
    let start = Instant::now();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert!(start.elapsed() < PATIENCE / 2);
    running.stop().unwrap();
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let (proxy, _, _) = named("one");
    let (other, _, _) = named("two");
    let running = server()
        .with(proxy.name("one").listen("127.0.0.1:0"))
        .with(other.name("two").listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let (one, two) = (address(&running, "one"), address(&running, "two"));
    let mut open = connect(one);
    assert_eq!(who(&mut open), "one");
    let before = running.addresses();
    // Not shared: the kernel refuses it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let occupied = taken.local_addr().unwrap();

    let new = |name: &str| named("new").0.name(name);
    let failing: Vec<(Changes, ErrorKind)> = vec![
        (
            Changes::new()
                .replace(new("one").listen(one))
                .remove("two")
                .add(new("add").listen("127.0.0.1:0").listen(occupied)),
            ErrorKind::Io,
        ),
        // A proxy that stays has it.
        (Changes::new().add(new("add").listen(two)), ErrorKind::Io),
        (
            Changes::new()
                .remove("one")
                .add(new("add").listen(one))
                .add(new("add2").listen(one)),
            ErrorKind::Io,
        ),
        (
            Changes::new().replace(new("one").listen("nonsense")),
            ErrorKind::Malformed,
        ),
        (
            Changes::new().replace(new("one").listen(one).to("not a target")),
            ErrorKind::Malformed,
        ),
        // It binds, and then cannot be made on a worker.
        (
            Changes::new().remove("two").replace(
                new("one")
                    .listen(one)
                    .listen("127.0.0.1:0")
                    .offramp(|worker| match worker.index() {
                        0 => Ok(oxy_core::offramp::AnyOfframp::new(Never)),
                        _ => Err(oxy_core::Error::local(ErrorKind::Dns)),
                    }),
            ),
            ErrorKind::Dns,
        ),
        (Changes::new().replace(new("three")), ErrorKind::Malformed),
        (Changes::new().add(new("two")), ErrorKind::Malformed),
        (Changes::new().remove("three"), ErrorKind::Malformed),
        (
            Changes::new().remove("one").remove("one"),
            ErrorKind::Malformed,
        ),
        (
            Changes::new().add(new("add")).add(new("add")),
            ErrorKind::Malformed,
        ),
    ];
    for (i, (changes, kind)) in failing.into_iter().enumerate() {
        let error = running.apply(changes).unwrap_err();
        assert_eq!(error.kind(), kind, "{i}: {error:?}");
        for _ in 0..8 {
            assert_eq!(who(connect(one)), "one", "{i}");
            assert_eq!(who(connect(two)), "two", "{i}");
        }
        echo(&mut open);
    }
    drop(taken);
    eventually("only one flow is open", || open_flows(&running) == 1);
    assert_eq!(running.addresses(), before);
    drop(open);
    running.stop().unwrap();
}

struct Never;

impl oxy_core::offramp::Offramp for Never {
    async fn open(&self, _: &oxy_core::Target, _: &FlowInfo) -> Result<oxy_core::flow::Far> {
        std::future::pending().await
    }
}

#[test]
fn sockets_follow_their_address_to_another_proxy() {
    let (proxy, _, _) = named("one");
    let running = server()
        .with(proxy.name("one").listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let to = address(&running, "one");
    let stop = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut names = std::collections::BTreeSet::new();
            while !stop.load(SeqCst) {
                names.insert(who(connect(to)));
            }
            names
        }
    });
    for _ in 0..20 {
        let (from, into) = (running.addresses()[0].0.clone(), named("two").0);
        let into = match &*from {
            "one" => into.name("two"),
            _ => into.name("one"),
        };
        let (proxy, from) = (into.listen(to).listen("127.0.0.1:0"), from.to_string());
        running
            .apply(Changes::new().remove(&from).add(proxy))
            .unwrap();
        assert_eq!(running.addresses().len(), 2);
    }
    stop.store(true, SeqCst);
    assert!(client.join().unwrap().contains("two"));
    running.stop().unwrap();
}

#[test]
fn connections_that_wait_are_taken_in_before_a_socket_is_closed() {
    // The one worker is busy while they come, so that they wait in the queue.
    const WAITING: usize = 20;
    let (proxy, ends, _) = named("old");
    let (busy, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let blocks = Proxy::new(Blocks(gate)).name("busy").listen("127.0.0.1:0");
    let running = Server::new()
        .workers(1)
        .with(proxy.name("old").listen("127.0.0.1:0"))
        .with(blocks)
        .start()
        .unwrap();
    let to = address(&running, "old");
    let running = Arc::new(running);
    let mut blocker = connect(address(&running, "busy"));
    assert_eq!(who(&mut blocker), "blk", "now the worker waits");
    let waiting: Vec<_> = (0..WAITING).map(|_| connect(to)).collect();
    let removing = std::thread::spawn({
        let running = running.clone();
        move || running.remove("old")
    });
    eventually("it is on its way out", || running.addresses().len() == 1);
    busy.send(()).unwrap();
    removing.join().unwrap().unwrap();
    assert!(TcpStream::connect(to).is_err());
    for mut socket in waiting {
        assert_eq!(who(&mut socket), "old");
        echo(&mut socket);
    }
    for _ in 0..WAITING {
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap().1, Ended::Done);
    }
}

/// Says so, and then holds up its worker until it is told to go on.
struct Blocks(Mutex<mpsc::Receiver<()>>);

impl FlowHooks for Blocks {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), flow: &mut Flow) -> Result<Verdict> {
        flow.stream().unwrap().write_all(b"blk").await?;
        let _ = self.0.lock().unwrap().recv();
        Ok(Verdict::Continue)
    }
}

#[test]
fn unix_sockets_are_handed_over_and_their_files_go_with_the_last() {
    let dir = std::env::temp_dir().join(format!("oxy-changes-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("socket");
    let listen = || ListenAddr::Unix(path.clone());
    let (proxy, _, _) = named("old");
    let running = server().with(proxy.listen(listen())).start().unwrap();
    assert_eq!(who(UnixStream::connect(&path).unwrap()), "old");
    let mut private = StreamOptions::default();
    private.mode = 0o600;
    let (proxy, _, _) = named("new");
    running
        .replace(proxy.stream_options(private).listen(listen()))
        .unwrap();
    assert_eq!(who(UnixStream::connect(&path).unwrap()), "new");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    running.remove("main").unwrap();
    assert!(!path.exists());
    let (proxy, _, _) = named("new");
    running.add(proxy.listen(listen())).unwrap();
    assert_eq!(who(UnixStream::connect(&path).unwrap()), "new");
    running.stop().unwrap();
    assert!(!path.exists());
    std::fs::remove_dir(&dir).unwrap();
}

/// Says what congestion control its connections go by.
struct Congestion;

impl FlowHooks for Congestion {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), flow: &mut Flow) -> Result<Verdict> {
        let stream = flow.stream().unwrap();
        let name = socket2::SockRef::from(&stream.link().socket().unwrap()).tcp_congestion();
        stream.write_all(&name.unwrap()).await?;
        Ok(Verdict::taken(|_| async { Ok(()) }))
    }
}

#[test]
fn connections_go_by_the_congestion_control_that_their_listener_names() {
    let goes_by = |to| {
        let mut name = String::new();
        connect(to).read_to_string(&mut name).unwrap();
        name.trim_end_matches('\0').to_owned()
    };
    let named = |name: Option<&str>| {
        let mut options = StreamOptions::default();
        options.congestion = name.map(str::to_owned);
        Proxy::new(Congestion).stream_options(options)
    };
    let running = server()
        .with(named(None).listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let to = address(&running, "main");
    let by_itself = goes_by(to);
    assert!(!by_itself.starts_with("bbr"), "{by_itself}");
    running.replace(named(Some("reno")).listen(to)).unwrap();
    assert_eq!(goes_by(to), "reno");
    running.replace(named(None).listen(to)).unwrap();
    assert_eq!(goes_by(to), by_itself);
    let unknown = named(Some("none")).name("other").listen("127.0.0.1:0");
    assert!(running.add(unknown).is_err());
    running.stop().unwrap();
}

#[test]
fn limits_go_on_counting_what_was_open_before() {
    let mut two = StreamOptions::default();
    two.max_connections = 2;
    let (proxy, _, _) = named("old");
    let running = server()
        .with(proxy.stream_options(two.clone()).listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let to = address(&running, "main");
    let mut open = connect(to);
    assert_eq!(who(&mut open), "old");
    let (proxy, _, _) = named("new");
    running
        .replace(proxy.stream_options(two).listen(to))
        .unwrap();
    let second = connect(to);
    assert_eq!(who(&second), "new");
    let mut third = connect(to);
    assert!(
        matches!(third.read(&mut [0]), Err(_) | Ok(0)),
        "that is three"
    );
    drop(open);
    eventually("there is room again", || {
        let mut socket = connect(to);
        socket.read(&mut [0]).is_ok_and(|n| n == 1)
    });
    drop(second);
    running.stop().unwrap();
}

#[test]
fn udp_sessions_stay_with_the_proxy_that_they_began_with() {
    let origin = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let client = |to: SocketAddr| {
        let socket = origin();
        socket.connect(to).unwrap();
        socket
    };
    let (old, new) = (origin(), origin());
    let mut relay = RelayOptions::default();
    relay.datagram_idle = Duration::from_millis(500);
    let proxy = |to: &UdpSocket| {
        Proxy::new(())
            .relay(relay.clone())
            .to(to.local_addr().unwrap())
    };
    let running = server()
        .with(proxy(&old).listen("udp:127.0.0.1:0"))
        .start()
        .unwrap();
    let to = address(&running, "main");
    let early: Vec<_> = (0..8).map(|_| client(to)).collect();
    let say = |from: &UdpSocket, at: &UdpSocket| {
        let mut buf = [0; 16];
        from.send(b"ping").unwrap();
        let (n, peer) = at.recv_from(&mut buf).unwrap();
        at.send_to(&buf[..n], peer).unwrap();
        assert_eq!(from.recv(&mut buf).unwrap(), 4);
    };
    for client in &early {
        say(client, &old);
    }
    running
        .replace(proxy(&new).listen(ListenAddr::Udp(to)))
        .unwrap();
    for early in &early {
        say(early, &old);
        say(&client(to), &new);
    }
    eventually("the sessions are over", || open_flows(&running) == 0);
    say(&early[0], &new);
    running.remove("main").unwrap();
    // Its port is free once its last session is over.
    eventually("the port is free", || UdpSocket::bind(to).is_ok());
    running.stop().unwrap();
}

/// Tries to change what runs from within.
struct Meddles(Arc<Mutex<Option<Weak<Running>>>>, mpsc::Sender<ErrorKind>);

impl FlowHooks for Meddles {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    async fn on_flow(&self, (): &mut (), _: &mut Flow) -> Result<Verdict> {
        let running = self.0.lock().unwrap().as_ref().unwrap().upgrade().unwrap();
        let error = running.remove("main").unwrap_err();
        self.1.send(error.kind()).unwrap();
        assert_eq!(running.addresses().len(), 1);
        Ok(Verdict::Refuse(error))
    }
}

#[test]
fn a_worker_cannot_wait_for_itself_nor_anybody_for_one_that_goes() {
    let (errors, error) = mpsc::channel();
    let place = Arc::new(Mutex::new(None));
    let running = server()
        .with(Proxy::new(Meddles(place.clone(), errors)).listen("127.0.0.1:0"))
        .start()
        .unwrap();
    let running = Arc::new(running);
    *place.lock().unwrap() = Some(Arc::downgrade(&running));
    let to = address(&running, "main");
    let mut open = connect(to);
    assert_eq!(error.recv_timeout(PATIENCE).unwrap(), ErrorKind::Internal);
    let _ = open.read(&mut [0]);
    let drain: Drain = running.drain().clone();
    drain.start();
    let (proxy, _, _) = named("new");
    let error = running.replace(proxy.listen(to)).unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Draining, Side::Local)
    );
}
