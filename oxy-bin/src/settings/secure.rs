//! TLS of a listener: its certificates, read or made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use oxy_core::Result;
use oxy_tls::{CertStore, Mint, ServerOptions, TlsServer};

use super::error::story;
use super::plan::{text, wrong};
use super::{Located, SettingsError};

/// TLS towards clients.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tls {
    /// What does it.
    pub server: TlsServer,
    /// Its certificates.
    pub certificates: CertStore,
    /// The certificate of the authority that has made them, in PEM, where they were not read.
    pub authority: Option<Arc<str>>,
    /// What was in the files.
    contents: u64,
    /// The options as they were written.
    written: String,
}

impl Tls {
    /// None if neither options nor names say that there is to be any.
    pub(super) fn of(
        options: Option<Located<ServerOptions>>,
        mint: &[String],
    ) -> Result<Option<Self>, SettingsError> {
        let (options, place) = match options {
            Some(options) => options.split(),
            None if mint.is_empty() => return Ok(None),
            None => (ServerOptions::default(), ().into()),
        };
        let failed = |error: oxy_core::Error| {
            let message = story(&error);
            let file = files(&options).find(|file| message.contains(&*file.to_string_lossy()));
            let file = file.map(|file| file.display().to_string());
            SettingsError::at(&place, message).near(file.unwrap_or_default())
        };
        let (certificates, authority) = match (options.certificates.is_empty(), mint.is_empty()) {
            (true, true) => {
                return Err(SettingsError::at(&place, "`tls` needs `certificates`"));
            }
            (false, false) => return Err(wrong("there is either `tls.certificates` or `mint`")),
            (false, true) => {
                let store = CertStore::from_files(options.certificates.clone());
                (store.map_err(failed)?, None)
            }
            (true, false) => {
                let mint_of = Mint::new().map_err(failed)?;
                let leaf = mint_of
                    .leaf(mint)
                    .map_err(|error| wrong(format!("`mint`: {}", story(&error))).near("mint"))?;
                let authority = mint_of.ca_pem().into();
                (CertStore::from_keys(vec![leaf]), Some(authority))
            }
        };
        let server =
            TlsServer::with_store(options.clone(), certificates.clone()).map_err(failed)?;
        Ok(Some(Self {
            contents: contents(&options),
            written: text(&options),
            server,
            certificates,
            authority,
        }))
    }

    /// Whether `newer` says otherwise than this did.
    pub(crate) fn differs(&self, newer: &Self) -> bool {
        self.written != newer.written
    }

    /// This server with what is known of `newer`, which it is to adopt.
    #[must_use]
    pub(crate) fn with(&self, newer: Self) -> Self {
        Self {
            server: self.server.clone(),
            authority: self.authority.clone(),
            ..newer
        }
    }

    /// Reads the files again where they are others than they were. Says whether they are.
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        let contents = contents(&self.server.options());
        if contents == self.contents {
            return Ok(false);
        }
        self.server.reload()?;
        self.contents = contents;
        Ok(true)
    }
}

/// What is in the files of `options`, in short.
fn contents(options: &ServerOptions) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files(options) {
        // What cannot be read is found out by who uses it.
        std::fs::read(file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

/// The files that `options` name.
fn files(options: &ServerOptions) -> impl Iterator<Item = &Path> {
    let certificates = options.certificates.iter();
    certificates
        .flat_map(|files| [Some(&files.cert), Some(&files.key), files.ocsp.as_ref()])
        .flatten()
        .chain(&options.client_auth.ca)
        .chain(&options.client_auth.crl)
        .map(AsRef::as_ref)
}
