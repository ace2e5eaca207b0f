//! TLS towards origins.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oxy_core::{Error, ErrorKind, Host, Result, Retry, Side, StreamIo, TlsFacts};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, KeyLogFile, RootCertStore, SignatureScheme};
use tokio::time::timeout;

use crate::certs::{bad, pem_file, read};
use crate::facts;
use crate::handshake::{Failure, shake};
use crate::io::TlsIo;
use crate::provider::{TlsVersion, provider, unusable, versions};
use crate::session::Session;
use crate::stats::{Outcome, Stats};

/// How TLS is spoken towards origins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ClientOptions {
    /// Files of the authorities whose certificates are trusted, in PEM, in place of the platform's. Default: none, for those
    /// of the platform: `/etc/ssl` or where `SSL_CERT_FILE` and `SSL_CERT_DIR` point.
    pub ca: Vec<PathBuf>,
    /// The name that is asked for and that the certificate must be for. Default: none, for the host that is dialled, or, where
    /// DNS has said for an endpoint what is dialled, the name in `dns://name:port` or of the machine that `srv://name` leads
    /// to. Where there is an address and no name, none is asked for and the certificate must be for the address.
    pub server_name: Option<String>,
    /// The certificate that we show to origins that ask for one, in PEM, with `key`. Default: none.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`, in PEM. Default: none.
    pub key: Option<PathBuf>,
    /// The application protocols that are offered (RFC 7301), best first. Default: `http/1.1`.
    pub alpn: Vec<String>,
    /// The oldest version that is spoken. Default: 1.2, the oldest that is not broken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken. Default: 1.3.
    pub max_version: TlsVersion,
    /// Sessions that are remembered to go on with later, which saves the costly part of a handshake; 0 is none. Default: 1024.
    pub sessions: usize,
    /// Time that a handshake may take. Default: 10 s.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub handshake_timeout: Duration,
    /// Whether any certificate will do. Then anybody on the way can be the origin, read everything and change everything: for
    /// tests on one machine. Default: false.
    pub insecure_skip_verify: bool,
    /// Whether the secrets of all sessions are written to the file that the environment variable `SSLKEYLOGFILE` names, for
    /// Wireshark. Whoever has that file can read everything. Default: false.
    pub key_log: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ca: Vec::new(),
            server_name: None,
            cert: None,
            key: None,
            alpn: vec!["http/1.1".into()],
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            sessions: 1024,
            handshake_timeout: Duration::from_secs(10),
            insecure_skip_verify: false,
            key_log: false,
        }
    }
}

/// TLS towards origins. Clones are the same client, with the same sessions to go on with.
#[derive(Clone)]
pub struct TlsClient(Arc<Shared>);

struct Shared {
    options: ClientOptions,
    config: Arc<ClientConfig>,
    stats: Stats,
}

impl TlsClient {
    /// A client as `options` say.
    ///
    /// # Errors
    ///
    /// Of kind `Tls`, on our side, and with the name of the file that cannot be used.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let config = Arc::new(configure(&options)?);
        Ok(Self(Arc::new(Shared {
            options,
            config,
            stats: Stats::default(),
        })))
    }

    /// How handshakes have ended.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Does the handshake on `stream`, which leads to `host`, and gives its plaintext and what was settled. Cut if the future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// On side `Up`, and retryable, as nothing was sent: `Tls`, `Timeout`, or `Closed` if the origin has left.
    pub async fn connect(&self, stream: StreamIo, host: &Host) -> Result<(StreamIo, TlsFacts)> {
        let name = self.name(Some(host))?;
        self.connect_to(stream, name).await
    }

    /// Whom to ask for at `host`.
    pub(crate) fn name(&self, host: Option<&Host>) -> Result<ServerName<'static>> {
        let wrong = |why: String| {
            Error::local(ErrorKind::Tls)
                .context("no name that TLS could verify")
                .because(why)
        };
        let text = match (&self.0.options.server_name, host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => match host.ip() {
                Some(ip) => return Ok(ServerName::from(ip)),
                None => host.to_string(),
            },
            (None, None) => return Err(wrong("the target has none, and none is set".into())),
        };
        ServerName::try_from(text.trim_end_matches('.').to_owned())
            .map_err(|e| wrong(format!("{text}: {e}")))
    }

    pub(crate) async fn connect_to(
        &self,
        stream: StreamIo,
        name: ServerName<'static>,
    ) -> Result<(StreamIo, TlsFacts)> {
        let done = self.handshake(stream, name).await;
        let outcome = match &done {
            Ok((_, facts)) if facts.resumed => Outcome::Resumed,
            Ok(_) => Outcome::Full,
            Err(failure) => failure.outcome,
        };
        self.0.stats.add(outcome);
        done.map_err(|failure| failure.into_error(Side::Up).retry(Retry::Safe))
    }

    async fn handshake(
        &self,
        stream: StreamIo,
        name: ServerName<'static>,
    ) -> Result<(StreamIo, TlsFacts), Failure> {
        let asked = match &name {
            ServerName::DnsName(name) => Some(name.to_lowercase_owned()),
            _ => None,
        };
        let session =
            UnbufferedClientConnection::new(self.0.config.clone(), name).map_err(Failure::tls)?;
        let mut io = TlsIo::new(Session::Client(session), stream);
        timeout(self.0.options.handshake_timeout, shake(&mut io))
            .await
            .map_err(|_| Failure::new(Outcome::Timeout))??;
        let facts = facts::of(io.common(), asked.as_ref().map(AsRef::as_ref));
        Ok((StreamIo::new(io), facts))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("options", &self.0.options)
            .field("stats", &self.0.stats)
            .finish_non_exhaustive()
    }
}

fn configure(options: &ClientOptions) -> Result<ClientConfig> {
    let versions = versions(options.min_version, options.max_version)?;
    let builder = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&versions)
        .map_err(unusable)?;
    let builder = if options.insecure_skip_verify {
        tracing::warn!(
            "origins' certificates are not verified: anybody on the way can read and change everything"
        );
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
    } else {
        builder.with_root_certificates(roots(&options.ca)?)
    };
    let mut config = match (&options.cert, &options.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = pem_file(cert)?;
            let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| bad(key, e))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|e| bad(cert, e))?
        }
        _ => {
            return Err(unusable(
                "a certificate needs its key, and a key its certificate",
            ));
        }
    };
    config.alpn_protocols = options
        .alpn
        .iter()
        .map(|name| name.clone().into())
        .collect();
    config.resumption = match options.sessions {
        0 => Resumption::disabled(),
        sessions => Resumption::in_memory_sessions(sessions),
    };
    if options.key_log {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    Ok(config)
}

fn roots(files: &[PathBuf]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for path in files {
        for certificate in pem_file::<CertificateDer<'static>>(path)? {
            roots.add(certificate).map_err(|e| bad(path, e))?;
        }
    }
    if files.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        // Platforms have certificates among theirs that cannot be read; those that can are enough.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(ToString::to_string);
            return Err(bad(
                Path::new("the platform's certificates"),
                why.unwrap_or_else(|| "there are none".into()),
            ));
        }
    } else if roots.is_empty() {
        return Err(bad(&files[0], "no certificate in it"));
    }
    Ok(roots)
}

/// Takes any certificate, but not any signature: who has the certificate has its key.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
