//! Endpoints that DNS has named, by TLS: what they are called, and who is believed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxy_core::cluster::{
    Address, Cluster, ClusterSpec, Health, HealthCheck, Tending, open as open_flow,
};
use oxy_core::offramp::{AnyOfframp, DialOptions, Dialer, Direct, EgressPolicy};
use oxy_core::resolve::{Family, Found, FoundServices, Lookup, ResolveOptions, Resolver, Service};
use oxy_core::{
    Carrier, ErrorKind, Flow, HostName, Layer, Origin as From, Proxy, Result, StreamIo,
};
use oxy_http::health::HttpCheck;
use oxy_http::{Http, HttpOptions, HttpProxy, Upstream};
use oxy_tls::{CertStore, ClientOptions, Mint, ServerOptions, TlsClient, TlsOfframp, TlsServer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A DNS that knows the machine `a.test`, and a service on it.
struct Zone {
    port: u16,
}

impl Lookup for Zone {
    async fn lookup(&self, name: &HostName, family: Family) -> Result<Found> {
        let here = "127.0.0.1".parse().unwrap();
        let known = name.as_str() == "a.test" && family.has(&here);
        Ok(Found {
            addrs: known.then_some(here).into_iter().collect(),
            ttl: Some(PATIENCE),
        })
    }

    async fn services(&self, name: &HostName) -> Result<FoundServices> {
        let service = Service {
            priority: 0,
            weight: 1,
            host: "a.test".parse().unwrap(),
            port: self.port,
        };
        let known = name.as_str() == "_web._tcp.test";
        Ok(FoundServices {
            services: known.then_some(service).into_iter().collect(),
            ttl: Some(PATIENCE),
        })
    }
}

/// An HTTP/1.1 server with TLS, and what was asked of it: the name in the handshake, and the Host field.
struct Origin {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, String)>>>,
    _accepting: JoinSet<()>,
}

impl Origin {
    /// One whose certificate is for `name`.
    async fn new(mint: &Mint, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = CertStore::from_keys(vec![mint.leaf(&[name]).unwrap()]);
        let tls = TlsServer::with_store(ServerOptions::default(), store);
        let (tls, asked) = (Arc::new(tls.unwrap()), Arc::new(Mutex::new(Vec::new())));
        let mut accepting = JoinSet::new();
        accepting.spawn({
            let asked = asked.clone();
            async move {
                let mut serving = JoinSet::new();
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    serving.spawn(serve(tls.clone(), socket, asked.clone()));
                }
            }
        });
        Self {
            address,
            asked,
            _accepting: accepting,
        }
    }

    fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn serve(tls: Arc<TlsServer>, socket: TcpStream, asked: Arc<Mutex<Vec<(String, String)>>>) {
    let info = flow(StreamIo::pair(1).0).info;
    let Ok((mut stream, facts)) = tls.accept(StreamIo::from(socket), &info).await else {
        return;
    };
    let name = facts.server_name.as_deref().unwrap_or("nobody").to_owned();
    loop {
        let head = head(&mut stream).await;
        let host = head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case("host").then_some(value)
        });
        let Some(host) = host else { return };
        asked.lock().unwrap().push((name.clone(), host.to_owned()));
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn flow(stream: StreamIo) -> Flow {
    let from = From {
        listener: "test".into(),
        peer: None,
        local: None,
    };
    Flow::new(Layer::Tcp, Carrier::Stream(stream), from)
}

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("oxy-names-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Everything between a client and an origin: names, ways, trust.
struct World {
    mint: Mint,
    ca: File,
}

impl World {
    fn new(test: &str) -> Self {
        let mint = Mint::new().unwrap();
        let ca = File::new(test, mint.ca_pem());
        Self { mint, ca }
    }

    fn client(&self, name: Option<&str>) -> TlsClient {
        let mut options = ClientOptions::default();
        options.ca = vec![self.ca.0.clone()];
        options.server_name = name.map(Into::into);
        TlsClient::new(options).unwrap()
    }
}

fn resolver(port: u16) -> Resolver {
    let options = ResolveOptions {
        hosts_file: false,
        ..ResolveOptions::default()
    };
    Resolver::with_lookup(options, Zone { port })
}

fn direct(resolver: Resolver) -> (Dialer, AnyOfframp) {
    let dialer = Dialer::new(resolver, EgressPolicy::open(), DialOptions::default());
    (dialer.clone(), AnyOfframp::new(Direct::new(dialer)))
}

fn cluster(address: &str, check: bool) -> Arc<Cluster> {
    let mut spec = ClusterSpec::new("c", [address.parse::<Address>().unwrap()]);
    spec.health = check.then(|| {
        let mut check = HealthCheck::default();
        check.interval = Duration::from_millis(20);
        check
    });
    Cluster::new(spec).unwrap()
}

/// Asks a proxy in front of `cluster`, and gives the status line.
async fn ask(cluster: &Arc<Cluster>, port: u16, client: TlsClient) -> String {
    let (dialer, _) = direct(resolver(port));
    let upstream = Upstream::new(cluster.clone())
        .secure(move |offramp| AnyOfframp::new(TlsOfframp::new(offramp, client.clone())))
        .tending(Tending::new(dialer));
    let mut options = HttpOptions::default();
    options.forward.preserve_host = false;
    let http = Http::new(()).upstream(upstream).options(options);
    let proxy = Proxy::new(()).listen("127.0.0.1:0").workers(1);
    let running = proxy.http(http).start().unwrap();
    let at = running.addresses()[0].1.socket_addr().unwrap();
    tokio::time::timeout(PATIENCE, cluster.ready())
        .await
        .unwrap();
    let mut status = String::new();
    // Twice: the second request goes by the connection that the first one has left.
    let mut socket = TcpStream::connect(at).await.unwrap();
    for _ in 0..2 {
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: client.test\r\n\r\n")
            .await
            .unwrap();
        let head = tokio::time::timeout(PATIENCE, head(&mut socket)).await;
        let head = head.unwrap();
        status = head.lines().next().unwrap_or_default().to_owned();
        if status != "HTTP/1.1 200 OK" {
            break;
        }
        socket.read_exact(&mut [0; 2]).await.unwrap();
    }
    drop(socket);
    tokio::task::spawn_blocking(|| running.stop().unwrap())
        .await
        .unwrap();
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_goes_by_its_name() {
    let world = World::new("goes");
    let origin = Origin::new(&world.mint, "a.test").await;
    let port = origin.address.port();
    let asked = ("a.test".to_owned(), format!("a.test:{port}"));
    for address in [&*format!("dns://a.test:{port}"), "srv://_web._tcp.test"] {
        let cluster = cluster(address, false);
        let status = ask(&cluster, port, world.client(None)).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{address}");
        // What is dialled is the address.
        let target = cluster.endpoints()[0].target().clone();
        assert_eq!(target.socket_addr(), Some(origin.address));
        assert_eq!(origin.asked(), [asked.clone(), asked.clone()], "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_another_name_is_refused() {
    let world = World::new("refused");
    // Neither another name's certificate nor the address's will do.
    for name in ["b.test", "127.0.0.1"] {
        let origin = Origin::new(&world.mint, name).await;
        let port = origin.address.port();
        let cluster = cluster(&format!("dns://a.test:{port}"), false);
        let status = ask(&cluster, port, world.client(None)).await;
        assert!(status.starts_with("HTTP/1.1 50"), "{name}: {status}");
        assert_eq!(origin.asked(), [], "{name}");
        // The settings may say that it is known by that name.
        let status = ask(&cluster, port, world.client(Some(name))).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{name}");
        let host = format!("a.test:{port}");
        let said = if name == "b.test" { name } else { "nobody" };
        let asked = (said.to_owned(), host);
        assert_eq!(origin.asked(), [asked.clone(), asked], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_ask_for_the_same_name() {
    let world = World::new("checks");
    for (name, health) in [("a.test", Health::Healthy), ("b.test", Health::Unhealthy)] {
        let origin = Origin::new(&world.mint, name).await;
        let port = origin.address.port();
        let cluster = cluster(&format!("dns://a.test:{port}"), true);
        let (dialer, offramp) = direct(resolver(port));
        let offramp = AnyOfframp::new(TlsOfframp::new(offramp, world.client(None)));
        let probe = oxy_http::health::HttpProbe::new(
            offramp,
            oxy_http::Protocol::Auto,
            HttpCheck::default(),
        );
        let means = Tending::new(dialer).probe(oxy_core::cluster::AnyProbe::new(probe.unwrap()));
        let mut tending = JoinSet::new();
        tending.spawn(cluster.clone().tend(means));
        let settled = async {
            // There is no endpoint before DNS has said so.
            while cluster.report().endpoints.first().map(|it| it.health) != Some(health) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, settled).await;
        assert!(came.is_ok(), "{:?}", cluster.report());
        let asked = origin.asked();
        assert_eq!(asked.is_empty(), name != "a.test", "{asked:?}");
        let expected = ("a.test".to_owned(), format!("a.test:{port}"));
        assert!(asked.iter().all(|asked| *asked == expected), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_of_bytes_is_opened_under_the_name() {
    let world = World::new("bytes");
    for (name, expected) in [("a.test", None), ("b.test", Some(ErrorKind::Tls))] {
        let origin = Origin::new(&world.mint, name).await;
        let port = origin.address.port();
        let cluster = cluster(&format!("dns://a.test:{port}"), false);
        let (dialer, offramp) = direct(resolver(port));
        let mut tending = JoinSet::new();
        tending.spawn(cluster.clone().tend(Tending::new(dialer)));
        let offramp = AnyOfframp::new(TlsOfframp::new(offramp, world.client(None)));
        let flow = flow(StreamIo::pair(1).0);
        let opened = open_flow(&cluster.balancer(0), &offramp, &flow).await;
        assert_eq!(opened.err().map(|error| error.kind()), expected, "{name}");
    }
}
