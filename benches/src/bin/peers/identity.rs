//! The certificate that every proxy presents in the TLS cases.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::load::SERVER_NAME;

/// Files in PEM.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one, as `HAProxy` wants them.
    pub(crate) both: PathBuf,
}

impl Identity {
    /// A new self-signed certificate in `dir`, with a key on P-256: the kind that
    /// costs a server least, and that public authorities issue by default.
    pub(crate) fn mint(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let parameters = rcgen::CertificateParams::new([SERVER_NAME.to_owned()])?;
        let certificate = parameters.self_signed(&key)?.pem();
        let key = key.serialize_pem();
        let identity = Self {
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            both: dir.join("both.pem"),
        };
        fs::write(&identity.certificate, &certificate)?;
        fs::write(&identity.key, &key)?;
        fs::write(&identity.both, [certificate, key].concat())?;
        Ok(identity)
    }
}
