//! The cryptography: aws-lc-rs, and the versions that it is used with.

use std::sync::{Arc, LazyLock};

use oxy_core::{Error, ErrorKind, Result};
use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use crate::seal;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    seal::install(&mut provider);
    Arc::new(provider)
});

/// The provider, whose default key exchange is X25519MLKEM768. It is not installed as the process's default: that is the
/// program's to choose.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)
)]
pub enum TlsVersion {
    /// RFC 5246.
    #[cfg_attr(feature = "settings", serde(rename = "1.2"))]
    V1_2,
    /// RFC 8446.
    #[cfg_attr(feature = "settings", serde(rename = "1.3"))]
    V1_3,
}

/// The versions from `min` to `max`.
pub(crate) fn versions(
    min: TlsVersion,
    max: TlsVersion,
) -> Result<Vec<&'static SupportedProtocolVersion>> {
    if min > max {
        return Err(unusable("the oldest version is newer than the newest"));
    }
    let range = min..=max;
    let versions = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
    let spoken = versions.into_iter().filter(|(it, _)| range.contains(it));
    Ok(spoken.map(|(_, version)| version).collect())
}

/// An error of ours: what was asked for cannot be done.
pub(crate) fn unusable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::local(ErrorKind::Tls)
        .context("TLS cannot be set up")
        .because(why)
}
