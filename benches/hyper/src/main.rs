//! A plain proxy on hyper: its server, the pooled client of hyper-util, rustls, one thread.
//!
//! `oxy-bench-hyper LISTEN ORIGIN KEPT [--tls CERTIFICATE KEY]`, where `KEPT` is how many idle
//! connections to the origin it may keep; `--version` says whose proxy it is.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONNECTION, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

/// What it is built from, hyper's version among it.
const LOCKED: &str = include_str!("../Cargo.lock");

/// Connections that wait to be accepted: as many as the other proxies allow.
const BACKLOG: u32 = 4096;

/// What concerns one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What is asked for on the command line.
#[derive(Debug)]
struct Arguments {
    listen: SocketAddr,
    origin: Authority,
    kept: usize,
    tls: Option<(String, String)>,
}

/// Everything goes to one origin.
#[derive(Debug, Clone)]
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    origin: Authority,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--version") {
        println!(
            "hyper {}, rustls with aws-lc",
            version("hyper").unwrap_or("?")
        );
        return Ok(());
    }
    let arguments = parse(words).ok_or("LISTEN ORIGIN KEPT [--tls CERTIFICATE KEY]")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(arguments))
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        listen: words.next()?.parse().ok()?,
        origin: words.next()?.parse().ok()?,
        kept: words.next()?.parse().ok()?,
        tls: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--tls" => arguments.tls = Some((words.next()?, words.next()?)),
            _ => return None,
        }
    }
    Some(arguments)
}

/// The version of a package, which the lock file has in the line after its name.
fn version(package: &str) -> Option<&'static str> {
    let (_, after) = LOCKED.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split('"').next()
}

/// Until it is killed.
async fn serve(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let acceptor = arguments.tls.as_ref().map(acceptor).transpose()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Proxy {
        client: Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(arguments.kept)
            .build(connector),
        origin: arguments.origin,
    };
    let listener = listen(arguments.listen)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (proxy, acceptor) = (proxy.clone(), acceptor.clone());
        // What becomes of one connection is its client's affair.
        tokio::spawn(async move {
            match acceptor {
                None => proxy.connection(stream).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        proxy.connection(stream).await;
                    }
                }
            }
        });
    }
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?; // inherited by what it accepts
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

fn acceptor((certificate, key): &(String, String)) -> Result<TlsAcceptor, Box<dyn Error>> {
    let certificates = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Proxy {
    /// Serves HTTP/1.1 or HTTP/2, whichever the client begins with.
    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| self.exchange(request));
        let server = auto::Builder::new(TokioExecutor::new());
        // An ordinary end and a broken connection are the same here.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    }

    fn exchange(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Incoming>, Box<dyn Error + Send + Sync>>> + Send + 'static
    {
        let mut to = std::mem::take(request.uri_mut()).into_parts();
        to.scheme = Some(Scheme::HTTP);
        to.authority = Some(self.origin.clone());
        *request.version_mut() = Version::HTTP_11;
        strip(request.headers_mut());
        let client = self.client.clone();
        async move {
            *request.uri_mut() = Uri::from_parts(to)?;
            let mut response = client.request(request).await?;
            strip(response.headers_mut());
            Ok(response)
        }
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
