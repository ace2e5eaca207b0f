//! Health checks over real sockets: what makes an endpoint well, and what does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use oxy_core::cluster::{
    AnyProbe, Cluster, ClusterSpec, Endpoint, EndpointSpec, Health, HealthCheck,
};
use oxy_core::offramp::{AnyOfframp, DialOptions, Dialer, Direct, EgressPolicy};
use oxy_core::resolve::{ResolveOptions, Resolver};
use oxy_core::{
    Carrier, ErrorKind, Flow, Layer, Origin as From, Proxy, Result, Side, StreamIo, Target,
};
use oxy_http::health::{CheckMethod, GrpcCheck, GrpcProbe, HttpCheck, HttpProbe, OpenProbe};
use oxy_http::{Http, HttpPlan, HttpProxy, Protocol, Upstream};
use oxy_tls::{CertStore, ClientOptions, Mint, ServerOptions, TlsClient, TlsOfframp, TlsServer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener whose connections are served as it is told; they end with it.
struct Origin {
    target: Target,
    _accepting: JoinSet<()>,
}

impl Origin {
    async fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().into();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                serving.spawn(serve(socket));
            }
        });
        Self {
            target,
            _accepting: accepting,
        }
    }

    /// Says `answer` to whatever is asked, and then nothing more, with the connection open.
    async fn saying(answer: impl Into<Vec<u8>>) -> (Self, Arc<Mutex<String>>) {
        let (answer, asked) = (answer.into(), Arc::new(Mutex::new(String::new())));
        let heard = asked.clone();
        let origin = Self::new(move |mut socket| {
            let (answer, heard) = (answer.clone(), heard.clone());
            async move {
                let head = head(&mut socket).await;
                *heard.lock().unwrap() = head;
                // It may have heard enough before this is all said.
                let _ = socket.write_all(&answer).await;
                while socket.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
            }
        });
        (origin.await, asked)
    }

    /// Answers over HTTP/2 in clear text.
    async fn over_http2(answer: Grpc) -> Self {
        Self::new(move |socket| grpc(socket, answer.clone())).await
    }
}

async fn head(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// What an HTTP/2 server says to every request: status, fields, body, trailers.
#[derive(Clone)]
struct Grpc {
    status: u16,
    fields: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    trailers: Option<&'static str>,
    /// What was asked: the URI and the body.
    asked: Arc<Mutex<(String, Vec<u8>)>>,
}

impl Grpc {
    fn new(body: &'static [u8], trailers: Option<&'static str>) -> Self {
        Self {
            status: 200,
            fields: &[("content-type", "application/grpc")],
            body,
            trailers,
            asked: Arc::default(),
        }
    }
}

async fn grpc(socket: impl AsyncRead + AsyncWrite + Unpin + Send, answer: Grpc) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let answer = answer.clone();
        let (parts, mut body) = request.into_parts();
        tokio::spawn(async move {
            let mut asked = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                asked.extend_from_slice(&data);
            }
            *answer.asked.lock().unwrap() = (format!("{} {}", parts.method, parts.uri), asked);
            let mut head = Response::builder().status(answer.status);
            for (name, value) in answer.fields {
                head = head.header(*name, *value);
            }
            let ends = answer.body.is_empty() && answer.trailers.is_none();
            let mut send = respond.send_response(head.body(()).unwrap(), ends).unwrap();
            if !ends {
                let data = Bytes::from_static(answer.body);
                let _ = send.send_data(data, answer.trailers.is_none());
            }
            if let Some(status) = answer.trailers {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                let _ = send.send_trailers(trailers);
            }
        });
    }
}

fn direct() -> AnyOfframp {
    let resolver = Resolver::new(ResolveOptions::default()).unwrap();
    let dialer = Dialer::new(resolver, EgressPolicy::open(), DialOptions::default());
    AnyOfframp::new(Direct::new(dialer))
}

fn endpoint(target: &Target) -> Arc<Endpoint> {
    let cluster = Cluster::new(ClusterSpec::new("c", [target.clone()])).unwrap();
    cluster.endpoints().remove(0)
}

async fn ask(probe: &AnyProbe, target: &Target) -> Result<()> {
    let endpoint = endpoint(target);
    let asked = probe.probe(&endpoint, target);
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

async fn http1(target: &Target, check: HttpCheck) -> Result<()> {
    let probe = HttpProbe::new(direct(), Protocol::Auto, check).unwrap();
    ask(&AnyProbe::new(probe), target).await
}

fn containing(text: &str) -> HttpCheck {
    let mut check = HttpCheck::new("/");
    check.contains = Some(text.into());
    check
}

#[tokio::test]
async fn the_status_decides() {
    let narrow = || {
        let mut check = HttpCheck::default();
        check.statuses = vec![204.into(), (500..=503).into()];
        check
    };
    for (status, by_default, by_these) in [
        (200, true, false),
        (204, true, true),
        (302, true, false),
        (399, true, false),
        (400, false, false),
        (404, false, false),
        (503, false, true),
        (504, false, false),
    ] {
        let (origin, _) = Origin::saying(format!("HTTP/1.1 {status} X\r\n\r\n")).await;
        for (check, well) in [(HttpCheck::default(), by_default), (narrow(), by_these)] {
            let result = http1(&origin.target, check).await;
            assert_eq!(result.is_ok(), well, "{status}: {result:?}");
            if let Err(error) = result {
                assert_eq!(error.side(), Side::Up);
                assert!(format!("{error:?}").contains(&status.to_string()));
            }
        }
    }
}

#[tokio::test]
async fn what_is_asked() {
    let (origin, asked) = Origin::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    http1(&origin.target, HttpCheck::new("/healthz?a=b"))
        .await
        .unwrap();
    let expected = format!(
        "GET /healthz?a=b HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nuser-agent: oxy-health\r\n\r\n",
        origin.target
    );
    assert_eq!(*asked.lock().unwrap(), expected);
    let mut check = HttpCheck::default();
    check.method = CheckMethod::Head;
    check.host = Some("a.test".into());
    check.headers.insert("X-From".into(), "here".into());
    check.headers.insert("User-Agent".into(), "me".into());
    http1(&origin.target, check).await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(
        asked.starts_with("HEAD / HTTP/1.1\r\nhost: a.test\r\n"),
        "{asked}"
    );
    assert!(asked.contains("\r\nx-from: here\r\n"), "{asked}");
    assert!(asked.contains("\r\nuser-agent: me\r\n"), "{asked}");
}

#[tokio::test]
async fn the_body_decides_where_it_is_asked_for() {
    let page = |framing: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
    let long = |before: usize| {
        let body = format!("{}ready{}", "x".repeat(before), "x".repeat(1 << 20));
        page(&format!("Content-Length: {}", body.len()), &body)
    };
    let last = 64 * 1024 - "ready".len();
    for (answer, well) in [
        (page("Content-Length: 8", "is ready"), true),
        (page("Content-Length: 7", "is ready"), false),
        (page("Content-Length: 7", "not yet"), false),
        (page("Content-Length: 0", ""), false),
        (
            page(
                "Transfer-Encoding: chunked",
                "3\r\nrea\r\n2;x=y\r\ndy\r\n0\r\nA: b\r\n\r\n",
            ),
            true,
        ),
        (
            page("Transfer-Encoding: chunked", "3\r\nrea\r\nz\r\n"),
            false,
        ),
        // Interim responses are passed over.
        (
            format!(
                "HTTP/1.1 103 X\r\nLink: a\r\n\r\n{}",
                page("Content-Length: 5", "ready")
            ),
            true,
        ),
        (long(last), true),
        (long(last + 1), false),
    ] {
        let (origin, _) = Origin::saying(answer.clone()).await;
        let result = http1(&origin.target, containing("ready")).await;
        assert_eq!(result.is_ok(), well, "{answer:.80}: {result:?}");
    }
    // Until the connection ends.
    let origin = Origin::new(|mut socket| async move {
        head(&mut socket).await;
        socket
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nis re")
            .await
            .unwrap();
        socket.write_all(b"ady").await.unwrap();
    });
    http1(&origin.await.target, containing("ready"))
        .await
        .unwrap();
    // A body that is cut short is none.
    let origin = Origin::new(|mut socket| async move {
        head(&mut socket).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nready";
        socket.write_all(answer).await.unwrap();
    });
    let error = http1(&origin.await.target, containing("ready"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn garbage_is_an_error_and_bounded() {
    let endless = |part: &str| [b"HTTP/1.1 200 OK\r\n", part.repeat(1 << 16).as_bytes()].concat();
    for (answer, kind) in [
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), ErrorKind::Malformed),
        (b"HTTP/1.1 200 OK\n\n".to_vec(), ErrorKind::Malformed),
        (b"HTTP/1.1 OK\r\n\r\n".to_vec(), ErrorKind::Malformed),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
            ErrorKind::Malformed,
        ),
        (endless("a: b\r\n"), ErrorKind::HeadTooLarge),
        (endless("aaaaaaaaaaaaaaaaaaaaaaaa"), ErrorKind::HeadTooLarge),
        (b"HTTP/1.1 100 X\r\n\r\n".repeat(99), ErrorKind::Malformed),
    ] {
        let (origin, _) = Origin::saying(answer.clone()).await;
        let error = http1(&origin.target, HttpCheck::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.side()),
            (kind, Side::Up),
            "{:.60}",
            String::from_utf8_lossy(&answer)
        );
    }
    let silent = Origin::new(|socket| async move { drop(socket) }).await;
    let error = http1(&silent.target, HttpCheck::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::Closed, Side::Up));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Target::from(listener.local_addr().unwrap())
    };
    let error = http1(&nobody, HttpCheck::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    ask(&AnyProbe::new(OpenProbe::new(direct())), &nobody)
        .await
        .unwrap_err();
    ask(&AnyProbe::new(OpenProbe::new(direct())), &silent.target)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_probe_speaks_http2_where_requests_do() {
    let mut answer = Grpc::new(b"is ready", None);
    answer.fields = &[];
    let asked = answer.asked.clone();
    let origin = Origin::over_http2(answer.clone()).await;
    let over_http2 = async |check| {
        let probe = HttpProbe::new(direct(), Protocol::Http2, check).unwrap();
        ask(&AnyProbe::new(probe), &origin.target).await
    };
    over_http2(HttpCheck::new("/healthz")).await.unwrap();
    let uri = format!("GET http://{}/healthz", origin.target);
    assert_eq!(*asked.lock().unwrap(), (uri, vec![]));
    over_http2(containing("ready")).await.unwrap();
    over_http2(containing("steady")).await.unwrap_err();
    // HTTP/1.1 to who speaks HTTP/2, and the other way round.
    http1(&origin.target, HttpCheck::default())
        .await
        .unwrap_err();
    let (origin, _) = Origin::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let probe = HttpProbe::new(direct(), Protocol::Http2, HttpCheck::default()).unwrap();
    ask(&AnyProbe::new(probe), &origin.target)
        .await
        .unwrap_err();
}

/// Frames that no server sends, and more of those that it may send than it has a reason to.
#[tokio::test]
async fn http2_is_judged_as_that_of_origins_is() {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    let pings = [SETTINGS, &b"\0\0\x08\x06\0\0\0\0\0pingpong".repeat(1 << 16)].concat();
    for (frames, kind) in [
        // A stream that the client has not opened.
        (
            [SETTINGS, b"\0\0\x01\x01\x05\0\0\0\x09\x88"].concat(),
            ErrorKind::Malformed,
        ),
        // An end of data before there was a head.
        (
            [SETTINGS, b"\0\0\0\0\x01\0\0\0\x01"].concat(),
            ErrorKind::Malformed,
        ),
        (pings, ErrorKind::Overloaded),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            ErrorKind::Malformed,
        ),
    ] {
        let (origin, _) = Origin::saying(frames.clone()).await;
        let probe = HttpProbe::new(direct(), Protocol::Http2, HttpCheck::default()).unwrap();
        let error = ask(&AnyProbe::new(probe), &origin.target)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.side()),
            (kind, Side::Up),
            "{:?}: {error:?}",
            &frames[..20]
        );
    }
}

const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const NOT_SERVING: &[u8] = b"\0\0\0\0\x02\x08\x02";

#[tokio::test]
async fn grpc_says_how_it_is() {
    static LONG: [u8; 8 * 1024] = [0; 8 * 1024];
    let trailers_only = |fields| Grpc {
        fields,
        ..Grpc::new(b"", None)
    };
    for (answer, expected) in [
        (Grpc::new(SERVING, Some("0")), None),
        (Grpc::new(NOT_SERVING, Some("0")), Some("does not serve")),
        (
            Grpc::new(b"\0\0\0\0\0", Some("0")),
            Some("does not say that it serves"),
        ),
        (
            Grpc::new(SERVING, Some("5")),
            Some("no service of that name"),
        ),
        (
            Grpc::new(b"", Some("12")),
            Some("no service for health checks"),
        ),
        (
            trailers_only(&[("grpc-status", "12")]),
            Some("no service for health checks"),
        ),
        (trailers_only(&[("grpc-status", "14")]), Some("Unavailable")),
        (Grpc::new(SERVING, Some("what")), Some("Unknown")),
        (Grpc::new(SERVING, None), Some("how its check has ended")),
        (Grpc::new(b"\0\0\0", Some("0")), Some("ends early")),
        (
            Grpc::new(b"\x01\0\0\0\x02\x08\x01", Some("0")),
            Some("compressed"),
        ),
        (Grpc::new(&LONG, Some("0")), Some("how its check has ended")),
        (
            Grpc {
                status: 404,
                ..trailers_only(&[])
            },
            Some("404"),
        ),
    ] {
        let asked = answer.asked.clone();
        let origin = Origin::over_http2(answer).await;
        let probe = GrpcProbe::new(direct(), GrpcCheck::new("a.B")).unwrap();
        let result = ask(&AnyProbe::new(probe), &origin.target).await;
        match (expected, result) {
            (None, result) => result.unwrap(),
            (Some(why), Ok(())) => panic!("well, and not {why}"),
            (Some(why), Err(error)) => {
                assert_eq!(error.side(), Side::Up);
                assert!(
                    format!("{error:?}").contains(why),
                    "{error:?}, and not {why}"
                );
            }
        }
        let uri = format!("POST http://{}/grpc.health.v1.Health/Check", origin.target);
        let body = b"\0\0\0\0\x05\x0a\x03a.B".to_vec();
        assert_eq!(*asked.lock().unwrap(), (uri, body));
    }
    // Somebody who speaks something else altogether.
    let (origin, _) = Origin::saying("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let probe = GrpcProbe::new(direct(), GrpcCheck::default()).unwrap();
    ask(&AnyProbe::new(probe), &origin.target)
        .await
        .unwrap_err();
}

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn tls_is_spoken_where_the_way_out_does() {
    let mint = Mint::new().unwrap();
    let dir = Dir(std::env::temp_dir().join(format!("oxy-probes-{}", std::process::id())));
    std::fs::create_dir_all(&dir.0).unwrap();
    let ca = dir.0.join("ca.pem");
    std::fs::write(&ca, mint.ca_pem()).unwrap();
    let server = |alpn: &[&str]| {
        let mut options = ServerOptions::default();
        options.alpn = alpn.iter().map(|name| (*name).into()).collect();
        let store = CertStore::from_keys(vec![mint.leaf(&["127.0.0.1"]).unwrap()]);
        Arc::new(TlsServer::with_store(options, store).unwrap())
    };
    let client = |ca: Vec<PathBuf>| {
        let mut options = ClientOptions::default();
        options.alpn = vec!["h2".into(), "http/1.1".into()];
        options.ca = ca;
        let client = TlsClient::new(options).unwrap();
        AnyOfframp::new(TlsOfframp::new(direct(), client))
    };
    let over_http1 = {
        let server = server(&["http/1.1"]);
        Origin::new(move |socket| {
            let server = server.clone();
            async move {
                if let Some(mut stream) = accept(&server, socket).await {
                    head(&mut stream).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                    let _ = stream.flush().await;
                    let _ = stream.read(&mut [0]).await;
                }
            }
        })
        .await
    };
    let answer = Grpc::new(SERVING, Some("0"));
    let asked = answer.asked.clone();
    let over_http2 = {
        let server = server(&["h2"]);
        Origin::new(move |socket| {
            let (server, answer) = (server.clone(), answer.clone());
            async move {
                if let Some(stream) = accept(&server, socket).await {
                    grpc(stream, answer).await;
                }
            }
        })
        .await
    };
    let http = |offramp| {
        let probe = HttpProbe::new(offramp, Protocol::Auto, HttpCheck::default()).unwrap();
        AnyProbe::new(probe)
    };
    let grpc =
        AnyProbe::new(GrpcProbe::new(client(vec![ca.clone()]), GrpcCheck::default()).unwrap());
    let trusting = http(client(vec![ca]));
    ask(&trusting, &over_http1.target).await.unwrap();
    ask(&trusting, &over_http2.target).await.unwrap();
    let uri = format!("GET https://{}/", over_http2.target);
    assert_eq!(asked.lock().unwrap().0, uri);
    ask(&grpc, &over_http2.target).await.unwrap();
    let error = ask(&grpc, &over_http1.target).await.unwrap_err();
    assert!(format!("{error:?}").contains("HTTP/2"), "{error:?}");
    // Another authority, and no TLS at all.
    let stranger = dir.0.join("other.pem");
    std::fs::write(&stranger, Mint::new().unwrap().ca_pem()).unwrap();
    let error = ask(&http(client(vec![stranger])), &over_http1.target)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    http1(&over_http1.target, HttpCheck::default())
        .await
        .unwrap_err();
}

async fn accept(server: &TlsServer, socket: TcpStream) -> Option<StreamIo> {
    let from = From {
        listener: "test".into(),
        peer: None,
        local: None,
    };
    let info = Flow::new(Layer::Tcp, Carrier::Stream(StreamIo::pair(1).0), from).info;
    let accepted = server.accept(StreamIo::from(socket), &info).await;
    Some(accepted.ok()?.0)
}

/// The whole: a proxy that tends its cluster, and sends nothing to who is ill.
#[tokio::test]
async fn a_proxy_asks_as_its_upstream_says() {
    let says = |text: &'static str, status: Arc<Mutex<&'static str>>| {
        Origin::new(move |mut socket| {
            let status = status.clone();
            async move {
                loop {
                    let head = head(&mut socket).await;
                    let status = if head.starts_with("GET /healthz ") {
                        *status.lock().unwrap()
                    } else {
                        "200 OK"
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\n{text}");
                    if head.is_empty() || socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
    };
    let status = Arc::new(Mutex::new("503 Not Yet"));
    let a = says("a", status.clone()).await;
    let b = says("b", Arc::new(Mutex::new("200 OK"))).await;
    let hanging = Origin::new(|socket| async move {
        let _socket = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let targets = [&a, &b, &hanging].map(|origin| EndpointSpec::new(origin.target.clone()));
    let mut spec = ClusterSpec::new("c", targets);
    let mut check = HealthCheck::default();
    check.interval = Duration::from_millis(20);
    check.timeout = Duration::from_millis(200);
    check.healthy_threshold = 1;
    check.assume_healthy = false;
    spec.health = Some(check);
    spec.failover.panic_percent = 0;
    let cluster = Cluster::new(spec).unwrap();
    let upstream = Upstream::new(cluster.clone())
        .probe(HttpCheck::new("/healthz"))
        .unwrap();
    let plan = HttpPlan::new().upstream(upstream).unwrap();
    let proxy = Proxy::new(()).listen("127.0.0.1:0").workers(2);
    let running = proxy
        .http(Http::new(()).live(oxy_core::Live::new(plan)))
        .start()
        .unwrap();
    let at = running.addresses()[0].1.socket_addr().unwrap();
    let health = || {
        let report = cluster.report();
        report
            .endpoints
            .iter()
            .map(|it| it.health)
            .collect::<Vec<_>>()
    };
    let until = async |expected: [Health; 3]| {
        let wait = async {
            while health() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, wait).await;
        assert!(came.is_ok(), "{:?}", cluster.report());
    };
    let get = async || {
        let mut socket = TcpStream::connect(at).await.unwrap();
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let head = head(&mut socket).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        socket.read_u8().await.unwrap()
    };
    until([Health::Unhealthy, Health::Healthy, Health::Unhealthy]).await;
    for _ in 0..8 {
        assert_eq!(get().await, b'b');
    }
    let why: Vec<_> = cluster
        .report()
        .endpoints
        .into_iter()
        .map(|it| it.why)
        .collect();
    assert!(why[0].as_deref().unwrap().contains("503"), "{why:?}");
    assert!(why[2].as_deref().unwrap().contains("timeout"), "{why:?}");
    *status.lock().unwrap() = "200 OK";
    until([Health::Healthy, Health::Healthy, Health::Unhealthy]).await;
    let mut seen = Vec::new();
    for _ in 0..16 {
        seen.push(get().await);
    }
    assert!(seen.contains(&b'a') && seen.contains(&b'b'), "{seen:?}");
    running.stop().unwrap();
}
