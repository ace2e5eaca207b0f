//! TLS towards clients.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use oxy_core::sniff::tls::{Parsed, parse};
use oxy_core::sniff::{ClientHello, Sniffed, tell};
use oxy_core::tls::EarlyData;
use oxy_core::{
    Carrier, Decapsulate, Error, ErrorKind, Flow, FlowInfo, Layer, Result, Side, StreamIo, TlsFacts,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache,
    UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{KeyLogFile, RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::certs::{CertFiles, CertStore, bad, pem_file, read};
use crate::facts;
use crate::handshake::{Failure, shake};
use crate::io::{Shaken, TlsIo};
use crate::provider::{TlsVersion, provider, unusable, versions};
use crate::session::Session;
use crate::stats::{Outcome, Stats};

/// How TLS is spoken towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ServerOptions {
    /// The certificates, the first of which is the default. Default: none, which is an error unless the program brings its
    /// own.
    pub certificates: Vec<CertFiles>,
    /// Whether clients that ask for no name, or for one that no certificate is for, are refused (alert `unrecognized_name`)
    /// rather than given the default certificate. Default: false, as clients that know only an address ask for no name.
    pub strict_sni: bool,
    /// The application protocols that are offered (RFC 7301), best first. A client that offers none of them is refused, one
    /// that does not speak of it is served. Default: `h2` and `http/1.1`.
    pub alpn: Vec<String>,
    /// The oldest version that is spoken. Default: 1.2, the oldest that is not broken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken. Default: 1.3.
    pub max_version: TlsVersion,
    /// Who clients must be.
    pub client_auth: ClientAuth,
    /// Whether clients may go on with an earlier session (RFC 8446 section 2.2), which saves the costly part of a handshake.
    /// The tickets' keys live in this process's memory, change every six hours, and are good for twelve. Default: true.
    pub resumption: bool,
    /// Bytes that a client may send before the handshake is over (RFC 8446 section 2.3); 0 is none. Such data can be sent
    /// again by somebody who has seen it pass, so that only what may be done twice must be done with it (RFC 8470). Sessions
    /// are then kept in memory rather than in tickets, and each is used once. Default: 0.
    pub max_early_data: u32,
    /// Sessions that are kept in memory where `max_early_data` asks for it; the oldest go first. Default: 10000, some minutes'
    /// worth of a busy site's clients.
    pub session_cache: usize,
    /// Time that a handshake may take, from the connection's first byte on. Default: 10 s.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub handshake_timeout: Duration,
    /// Handshakes that are under way at once, in the whole process, counted from when the client has said its first; 0 is no
    /// limit. More of them wait, within their time. Default: 8192: more than that are an attack, or need more machines.
    pub max_handshakes: usize,
    /// Whether the secrets of all sessions are written to the file that the environment variable `SSLKEYLOGFILE` names, for
    /// Wireshark. Whoever has that file can read everything. Default: false.
    pub key_log: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            strict_sni: false,
            alpn: vec!["h2".into(), "http/1.1".into()],
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            client_auth: ClientAuth::default(),
            resumption: true,
            max_early_data: 0,
            session_cache: 10_000,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 8192,
            key_log: false,
        }
    }
}

/// Who clients must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ClientAuth {
    /// Whether clients are asked for a certificate. Default: `off`.
    pub mode: ClientAuthMode,
    /// Files of the authorities whose certificates are trusted, in PEM. Default: none, which is an error where clients are
    /// asked.
    pub ca: Vec<PathBuf>,
    /// Files of revoked certificates (RFC 5280 section 5), in PEM or DER. Where there is one there must be one for each
    /// authority, as a certificate of which nothing is known is then refused. Read again at every reload, which also ends the
    /// resumption of earlier sessions. Default: none, for no revocation.
    pub crl: Vec<PathBuf>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum ClientAuthMode {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; those without one are served, those with a bad one are not.
    Optional,
    /// They must have one.
    Required,
}

type Choose = dyn Fn(&ClientHello) -> Result<Arc<CertifiedKey>> + Send + Sync;

/// Where certificates come from.
enum Source {
    Store(CertStore),
    Choose(Box<Choose>),
}

/// TLS towards clients: lifts a stream to its plaintext. Clones are the same server.
///
/// All workers share it, and with it the sessions that clients go on with.
#[derive(Clone)]
pub struct TlsServer(Arc<Shared>);

struct Shared {
    /// Read once for each handshake, written at a reload.
    rules: RwLock<Arc<Rules>>,
    stats: Stats,
}

/// What handshakes go by.
struct Rules {
    options: Arc<ServerOptions>,
    source: Arc<Source>,
    config: Arc<ServerConfig>,
    places: Option<Arc<Semaphore>>,
}

impl TlsServer {
    /// A server with the certificates of `options`.
    ///
    /// # Errors
    ///
    /// Of kind `Tls`, on our side, and with the name of the file that cannot be used.
    pub fn new(options: ServerOptions) -> Result<Self> {
        if options.certificates.is_empty() {
            return Err(unusable("no certificates"));
        }
        let store = CertStore::from_files(options.certificates.clone())?;
        Self::with_store(options, store)
    }

    /// A server with the certificates of `store`; those of `options` are not looked at.
    pub fn with_store(options: ServerOptions, store: CertStore) -> Result<Self> {
        Self::make(options, Source::Store(store))
    }

    /// A server that asks `choose` for each client's certificate. It is called on the worker's thread and must not block. An
    /// error refuses the client (alert `unrecognized_name`).
    pub fn with_resolver(
        options: ServerOptions,
        choose: impl Fn(&ClientHello) -> Result<Arc<CertifiedKey>> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::make(options, Source::Choose(Box::new(choose)))
    }

    fn make(options: ServerOptions, source: Source) -> Result<Self> {
        let config = Arc::new(configure(&options, &source)?);
        let places = Some(options.max_handshakes).filter(|most| *most > 0);
        let rules = Rules {
            config,
            places: places.map(|most| Arc::new(Semaphore::new(most))),
            source: Arc::new(source),
            options: Arc::new(options),
        };
        Ok(Self(Arc::new(Shared {
            rules: RwLock::new(Arc::new(rules)),
            stats: Stats::default(),
        })))
    }

    fn rules(&self) -> Arc<Rules> {
        let rules = self.0.rules.read();
        rules.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts `rules` in force. Sessions that were begun by what was in force before are gone on with, unless clients have to
    /// prove who they are: who was let in by other rules would be let in again by a ticket.
    fn put_in_force(&self, mut config: ServerConfig, rules: Rules) {
        let open = |rules: &Rules| rules.options.client_auth.mode == ClientAuthMode::Off;
        let now = self.0.rules.write();
        let mut now = now.unwrap_or_else(PoisonError::into_inner);
        if open(&rules) && open(&now) {
            config.ticketer = now.config.ticketer.clone();
            config.session_storage = now.config.session_storage.clone();
        }
        *now = Arc::new(Rules {
            config: Arc::new(config),
            ..rules
        });
    }

    /// Goes by what `other` was told from now on, as far as handshakes are concerned that have not begun; sessions that are
    /// open live on. Clones of this server do so, too.
    pub fn adopt(&self, other: &Self) {
        let Rules {
            options,
            source,
            config,
            places,
        } = &*other.rules();
        let rules = Rules {
            options: options.clone(),
            source: source.clone(),
            config: config.clone(),
            places: places.clone(),
        };
        self.put_in_force((**config).clone(), rules);
    }

    /// Reads all files again: certificates, keys, staples, authorities and revocations. Handshakes from now on go by them;
    /// sessions that are open live on.
    ///
    /// # Errors
    ///
    /// The error names the file that cannot be used, and everything stays as it is.
    pub fn reload(&self) -> Result<()> {
        let rules = self.rules();
        let fresh = configure(&rules.options, &rules.source)?;
        if let Source::Store(store) = &*rules.source {
            store.reload()?;
        }
        let rules = Rules {
            options: rules.options.clone(),
            source: rules.source.clone(),
            config: rules.config.clone(),
            places: rules.places.clone(),
        };
        self.put_in_force(fresh, rules);
        Ok(())
    }

    /// How handshakes have ended.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// What it was told.
    pub fn options(&self) -> Arc<ServerOptions> {
        self.rules().options.clone()
    }

    /// Does the handshake on `stream`, the stream of the flow `info`, and gives its plaintext and what was settled. What the
    /// client has said first is added to the facts of `info` if nobody has looked before. Cut if the future is dropped.
    ///
    /// # Errors
    ///
    /// On side `Down`: `Tls`, `Timeout`, `Closed` if the client has left, and `Overloaded` if there were too many others for all
    /// of the time that a handshake may take.
    pub async fn accept(&self, stream: StreamIo, info: &FlowInfo) -> Result<(StreamIo, TlsFacts)> {
        let done = self.handshake(stream, info).await;
        let outcome = match &done {
            Ok((_, facts)) if facts.resumed => Outcome::Resumed,
            Ok(_) => Outcome::Full,
            Err(failure) => failure.outcome,
        };
        self.0.stats.add(outcome);
        done.map_err(|failure| failure.into_error(Side::Down))
    }

    async fn handshake(
        &self,
        mut stream: StreamIo,
        info: &FlowInfo,
    ) -> Result<(StreamIo, TlsFacts), Failure> {
        let rules = self.rules();
        let ends = Instant::now() + rules.options.handshake_timeout;
        let late = |_| Failure::new(Outcome::Timeout);
        let hello = if let Some(hello) = info.facts.client_hello.get() {
            hello
        } else {
            let listening = timeout_at(ends, listen(&mut stream));
            let hello = listening.await.map_err(late)??;
            info.facts.client_hello.get_or_init(|| hello)
        };
        // From here on a client costs us: those who have said nothing yet take nobody's place.
        let _place = match &rules.places {
            None => None,
            Some(places) => match timeout_at(ends, places.acquire()).await {
                Ok(place) => place.ok(),
                Err(_) => return Err(Failure::new(Outcome::Overloaded)),
            },
        };
        let config = match rules.config_for(hello) {
            Ok(config) => config,
            Err(error) => {
                let failure = Failure {
                    outcome: Outcome::UnknownName,
                    source: error.map(Into::into),
                };
                return Err(refuse(stream, UNRECOGNIZED_NAME, failure).await);
            }
        };
        let session = UnbufferedServerConnection::new(config).map_err(Failure::tls)?;
        let mut io = TlsIo::new(Session::Server(session), stream);
        let shaken = timeout_at(ends, shake(&mut io)).await.map_err(late)??;
        let mut facts = facts::of(io.common(), hello.server_name.as_deref());
        if shaken == Shaken::Early {
            let early = EarlyData::new();
            io.set_early_data(early.clone());
            facts.early_data = Some(early);
        }
        Ok((StreamIo::new(io), facts))
    }
}

impl Rules {
    /// The configuration for a client that has said `hello`; an error where there is no certificate for it.
    fn config_for(&self, hello: &ClientHello) -> Result<Arc<ServerConfig>, Option<Error>> {
        let config = self.config.clone();
        match &*self.source {
            Source::Store(store) => {
                let known = || {
                    hello
                        .server_name
                        .as_deref()
                        .is_some_and(|name| store.knows(name))
                };
                if self.options.strict_sni && !known() {
                    return Err(None);
                }
                Ok(config)
            }
            Source::Choose(choose) => {
                let key = choose(hello)?;
                let mut own = (*config).clone();
                own.cert_resolver = Arc::new(Chosen(key));
                Ok(Arc::new(own))
            }
        }
    }
}

impl Decapsulate for TlsServer {
    fn layer(&self) -> Layer {
        Layer::Tls
    }

    async fn lift(&self, flow: Flow) -> Result<Flow> {
        let Flow { info, carrier, .. } = flow;
        let Carrier::Stream(stream) = carrier else {
            return Err(Error::local(ErrorKind::Unsupported).context("TLS needs a stream"));
        };
        let (plain, facts) = self.accept(stream, &info).await?;
        let child = Flow::child(&info, Layer::Tls, Carrier::Stream(plain));
        let _ = child.info.facts.tls.set(Box::new(facts));
        Ok(child)
    }
}

/// The code of an alert (RFC 8446 section 6.2).
const DECODE_ERROR: u8 = 50;
/// The same.
const UNRECOGNIZED_NAME: u8 = 112;

/// What a client is told that speaks HTTP where TLS is spoken: a status that says what is wrong serves it better than an
/// alert that it does not understand.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
    content-length: 47\r\n\r\nThis port speaks HTTPS; the request was HTTP.\r\n";

/// Waits for what a client says first, and leaves it to be read again.
async fn listen(stream: &mut StreamIo) -> Result<Box<ClientHello>, Failure> {
    let mut seen = 0;
    loop {
        let first = stream.peek(seen + 1).await.map_err(|error| Failure {
            outcome: Outcome::Left,
            source: Some(Box::new(error)),
        })?;
        if first.len() == seen {
            return Err(Failure::new(Outcome::Left));
        }
        seen = first.len();
        match parse(first) {
            Parsed::Hello(hello) => return Ok(hello),
            Parsed::More => {}
            Parsed::Not => break,
        }
    }
    // A request line shows within its first bytes; if it does not, they are no request line.
    let first = stream.peek(0).await.unwrap_or_default();
    if tell(first) == Some(Sniffed::Http1) {
        let _ = stream.write_all(PLAIN_HTTP).await;
        let _ = stream.shutdown().await;
        return Err(Failure::new(Outcome::PlainHttp));
    }
    let _ = alert(stream, DECODE_ERROR).await;
    Err(Failure::new(Outcome::NotTls))
}

async fn refuse(mut stream: StreamIo, description: u8, failure: Failure) -> Failure {
    let _ = alert(&mut stream, description).await;
    failure
}

/// Sends a fatal alert in the clear (RFC 8446 section 6), before there is a session to send one. It fits into any socket's
/// buffer.
async fn alert(stream: &mut StreamIo, description: u8) -> std::io::Result<()> {
    stream.write_all(&[21, 3, 3, 0, 2, 2, description]).await?;
    stream.shutdown().await
}

/// One certificate, whoever asks.
#[derive(Debug)]
struct Chosen(Arc<CertifiedKey>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn configure(options: &ServerOptions, source: &Source) -> Result<ServerConfig> {
    let versions = versions(options.min_version, options.max_version)?;
    let resolver: Arc<dyn ResolvesServerCert> = match source {
        Source::Store(store) => Arc::new(store.clone()),
        Source::Choose(_) => Arc::new(Nobody),
    };
    let asks = options.client_auth.mode != ClientAuthMode::Off;
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&versions)
        .map_err(unusable)?
        .with_client_cert_verifier(verifier(&options.client_auth)?)
        .with_cert_resolver(resolver);
    config.alpn_protocols = options
        .alpn
        .iter()
        .map(|name| name.clone().into())
        .collect();
    if options.key_log {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if !options.resumption {
        config.send_tls13_tickets = 0;
    } else if options.max_early_data > 0 {
        // Early data wants sessions that are used once (RFC 8446 section 8.1), which tickets alone cannot promise.
        config.session_storage = ServerSessionMemoryCache::new(options.session_cache);
        config.max_early_data_size = options.max_early_data;
        // Answers need not wait for the rest of the handshake, unless that tells who is asking.
        config.send_half_rtt_data = !asks;
    } else {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(unusable)?;
    }
    Ok(config)
}

/// No certificate: each client gets a configuration with its own.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn verifier(auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>> {
    if auth.mode == ClientAuthMode::Off {
        return Ok(Arc::new(NoClientAuth));
    }
    let mut roots = RootCertStore::empty();
    for path in &auth.ca {
        for certificate in pem_file::<CertificateDer<'static>>(path)? {
            roots.add(certificate).map_err(|e| bad(path, e))?;
        }
    }
    if roots.is_empty() {
        return Err(unusable(
            "clients are asked for certificates, but no authority is trusted",
        ));
    }
    let mut lists = Vec::new();
    for path in &auth.crl {
        lists.extend(revocations(path)?);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider().clone())
        .with_crls(lists);
    let builder = if auth.mode == ClientAuthMode::Optional {
        builder.allow_unauthenticated()
    } else {
        builder
    };
    builder.build().map_err(unusable)
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    const PEM: &[u8] = b"-----BEGIN";
    let bytes = read(path)?;
    if bytes.trim_ascii_start().starts_with(PEM) {
        return pem_file(path);
    }
    Ok(vec![bytes.into()])
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("options", &self.options())
            .field("stats", &self.0.stats)
            .finish_non_exhaustive()
    }
}
