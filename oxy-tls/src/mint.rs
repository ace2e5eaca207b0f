//! An authority of our own, which makes certificates as they are needed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use oxy_core::sniff::ClientHello;
use oxy_core::{Error, ErrorKind, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::provider::provider;

/// Certificates that are kept: who asks for more names than this makes us make them again.
const KEPT: usize = 4096;

/// How long the authority's certificate is good for: ten years, as it is made again whenever the process starts.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a leaf is good for: less than what browsers take from anybody (398 days).
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// How old a certificate seems when it is made, for clients whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// An authority in memory, for tests, for a server that was given no certificate, and for interception.
///
/// Who trusts it trusts whoever holds this value. All leaves have one key, which makes making one a matter of a signature.
pub struct Mint {
    authority: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    leaf_key: KeyPair,
    leaves: Mutex<HashMap<Vec<String>, Arc<CertifiedKey>>>,
}

impl Mint {
    /// A new authority, with a key that nobody has seen.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("Oxy in-memory authority", AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            authority: Issuer::new(params, key),
            leaf_key: KeyPair::generate().map_err(failed)?,
            leaves: Mutex::default(),
        })
    }

    /// The authority's certificate, in PEM: what clients must trust.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The same, in DER.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for `names` (host names and addresses), with its key. The same names give the same one.
    ///
    /// # Errors
    ///
    /// Where a name can be in no certificate.
    pub fn leaf<S: AsRef<str>>(&self, names: &[S]) -> Result<Arc<CertifiedKey>> {
        let names: Vec<String> = names
            .iter()
            .map(|name| name.as_ref().to_ascii_lowercase())
            .collect();
        if let Some(leaf) = self.leaves().get(&names) {
            return Ok(leaf.clone());
        }
        let leaf = Arc::new(self.make(&names)?);
        let mut leaves = self.leaves();
        if leaves.len() >= KEPT {
            leaves.clear();
        }
        leaves.insert(names, leaf.clone());
        Ok(leaf)
    }

    /// The certificate for what a client asks for: for [`crate::TlsServer::with_resolver`]. A client that asks for no name gets
    /// one for `otherwise`.
    pub fn for_hello(&self, hello: &ClientHello, otherwise: &str) -> Result<Arc<CertifiedKey>> {
        self.leaf(&[hello.server_name.as_deref().unwrap_or(otherwise)])
    }

    fn make(&self, names: &[String]) -> Result<CertifiedKey> {
        let mut params = params(names.first().map_or("localhost", String::as_str), LEAF_LIFE);
        params.subject_alt_names = CertificateParams::new(names)
            .map_err(failed)?
            .subject_alt_names;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params
            .signed_by(&self.leaf_key, &self.authority)
            .map_err(failed)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::try_from(self.leaf_key.serialize_der()).map_err(failed)?;
        CertifiedKey::from_der(chain, key, provider()).map_err(failed)
    }

    fn leaves(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<String>, Arc<CertifiedKey>>> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn params(name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // RFC 5280 appendix A: a common name has 64 characters at most.
    let short: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, short);
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    params
}

fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::local(ErrorKind::Tls)
        .context("making a certificate")
        .because(why)
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mint({} leaves)", self.leaves().len())
    }
}
