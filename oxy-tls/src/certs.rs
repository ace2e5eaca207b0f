//! Certificates with their keys: from files, chosen by the name that a client asks for, exchanged while the server runs.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use oxy_core::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::facts::host_names;
use crate::provider::provider;

/// The files of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(deny_unknown_fields)
)]
pub struct CertFiles {
    /// The certificate and those between it and its root, in PEM, leaf first.
    pub cert: PathBuf,
    /// Its private key, in PEM: PKCS #8, SEC 1 or PKCS #1, not encrypted.
    pub key: PathBuf,
    /// An OCSP response in DER that is stapled to the certificate (RFC 6066 section 8); read again at every reload. Default:
    /// none.
    #[cfg_attr(feature = "settings", serde(default))]
    pub ocsp: Option<PathBuf>,
    /// The names that it is chosen for; `*.example.com` stands for one label. Default: none, for those that the certificate
    /// has (RFC 5280 section 4.2.1.6).
    #[cfg_attr(feature = "settings", serde(default))]
    pub names: Vec<String>,
}

impl CertFiles {
    /// A certificate and its key.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            ..Self::default()
        }
    }

    /// Reads them. The error names the file.
    fn load(&self) -> Result<Entry> {
        let chain: Vec<CertificateDer<'static>> = pem_file(&self.cert)?;
        if chain.is_empty() {
            return Err(bad(&self.cert, "no certificate in it"));
        }
        let key =
            PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|e| bad(&self.key, e))?;
        let mut certified =
            CertifiedKey::from_der(chain, key, provider()).map_err(|e| bad(&self.key, e))?;
        certified.ocsp = self.ocsp.as_deref().map(read).transpose()?;
        let mut entry = Entry::new(Arc::new(certified));
        if !self.names.is_empty() {
            entry.names = self.names.iter().map(|n| n.to_ascii_lowercase()).collect();
        }
        Ok(entry)
    }
}

/// The certificates of a server. Clones are the same store.
///
/// A name is looked up as it stands first, then as `*.` with its first label left out (RFC 6125 section 6.4.3); where nothing
/// is found the first certificate is the default. Where several are for the same name (an ECDSA and an RSA one), the first
/// whose key fits the client's signature algorithms is taken.
#[derive(Clone)]
pub struct CertStore(Arc<Inner>);

struct Inner {
    files: Vec<CertFiles>,
    /// Read once for each handshake, written at a reload.
    table: RwLock<Arc<Table>>,
}

struct Entry {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl CertStore {
    /// The certificates of `files`, the first of which is the default.
    pub fn from_files(files: Vec<CertFiles>) -> Result<Self> {
        let table = Table::load(&files)?;
        Ok(Self(Arc::new(Inner {
            files,
            table: RwLock::new(Arc::new(table)),
        })))
    }

    /// The certificates of `keys`, the first of which is the default, for the names that they have.
    pub fn from_keys(keys: Vec<Arc<CertifiedKey>>) -> Self {
        Self(Arc::new(Inner {
            files: Vec::new(),
            table: RwLock::new(Arc::new(Table::new(
                keys.into_iter().map(Entry::new).collect(),
            ))),
        }))
    }

    /// Reads the files again. Handshakes from now on get the new certificates; sessions that are open live on.
    ///
    /// # Errors
    ///
    /// Where a file cannot be used the error names it, and everything stays as it is. A store without files stays as it is,
    /// too.
    pub fn reload(&self) -> Result<()> {
        if self.0.files.is_empty() {
            return Ok(());
        }
        let table = Arc::new(Table::load(&self.0.files)?);
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// Whether there is a certificate for `name` other than the default.
    pub fn knows(&self, name: &str) -> bool {
        self.table().named(name).is_some()
    }

    /// When the certificates end, by the names that they are for: for a metric or a warning.
    pub fn expiries(&self) -> Vec<(String, std::time::SystemTime)> {
        let table = self.table();
        let mut list: Vec<_> = table
            .by_name
            .iter()
            .flat_map(|(name, keys)| keys.iter().map(move |key| (name, key)))
            .filter_map(|(name, key)| {
                let leaf = key.cert.first()?;
                Some((name.clone(), crate::facts::identity(leaf).not_after))
            })
            .collect();
        list.sort();
        list
    }

    fn table(&self) -> Arc<Table> {
        self.0
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Entry {
    fn new(key: Arc<CertifiedKey>) -> Self {
        let names = key.cert.first().map(|leaf| host_names(leaf));
        Self {
            names: names.unwrap_or_default(),
            key,
        }
    }
}

impl Table {
    fn load(files: &[CertFiles]) -> Result<Self> {
        let entries = files.iter().map(CertFiles::load);
        Ok(Self::new(entries.collect::<Result<_>>()?))
    }

    fn new(entries: Vec<Entry>) -> Self {
        let mut table = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            // The default may have a sibling with another kind of key, for the same names.
            let same = table
                .default
                .first()
                .and_then(|first| first.cert.first())
                .is_some_and(|leaf| host_names(leaf) == entry.names);
            if index == 0 || same {
                table.default.push(entry.key.clone());
            }
            for name in entry.names {
                table
                    .by_name
                    .entry(name)
                    .or_default()
                    .push(entry.key.clone());
            }
        }
        table
    }

    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let found = self.by_name.get(&name).or_else(|| {
            let (_, rest) = name.split_once('.')?;
            self.by_name.get(&format!("*.{rest}"))
        });
        found.map(Vec::as_slice)
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table();
        let keys = hello
            .server_name()
            .and_then(|name| table.named(name))
            .unwrap_or(&table.default);
        let fits =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys.iter().find(fits).or(keys.first()).cloned()
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table().by_name.keys()).finish()
    }
}

/// The PEM items of a kind in a file.
pub(crate) fn pem_file<T: PemObject>(path: &Path) -> Result<Vec<T>> {
    T::pem_slice_iter(&read(path)?)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| bad(path, e))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| bad(path, e))
}

/// An error of ours that names the file.
pub(crate) fn bad(path: &Path, why: impl fmt::Display) -> Error {
    Error::local(ErrorKind::Tls)
        .context("a file of TLS cannot be used")
        .because(format!("{}: {why}", path.display()))
}
