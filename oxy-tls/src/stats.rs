//! How handshakes end, counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible};

/// How a handshake has ended, in words for an operator: a bounded set of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A new session.
    Full,
    /// A session that went on from an earlier one.
    Resumed,
    /// The peer left before it was over.
    Left,
    /// It took longer than it may.
    Timeout,
    /// There were too many others.
    Overloaded,
    /// The peer spoke HTTP without TLS.
    PlainHttp,
    /// The peer spoke no TLS, or broken TLS.
    NotTls,
    /// No certificate for the name that was asked for.
    UnknownName,
    /// No version of TLS in common.
    NoVersion,
    /// No cipher suite, key exchange or signature algorithm in common.
    NoCipher,
    /// No application protocol in common.
    NoProtocol,
    /// The peer does not trust our certificate.
    Distrusted,
    /// The peer gave no certificate where one is required.
    NoCertificate,
    /// The peer's certificate is by nobody whom we trust.
    UnknownCa,
    /// The peer's certificate is for another name.
    WrongName,
    /// The peer's certificate is over, or does not hold yet.
    Expired,
    /// The peer's certificate has been revoked.
    Revoked,
    /// The peer's certificate is bad in another way.
    BadCertificate,
    /// The peer refused with an alert.
    Refused,
    /// Something else.
    Other,
}

impl Outcome {
    const COUNT: usize = Self::Other as usize + 1;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Full,
        Self::Resumed,
        Self::Left,
        Self::Timeout,
        Self::Overloaded,
        Self::PlainHttp,
        Self::NotTls,
        Self::UnknownName,
        Self::NoVersion,
        Self::NoCipher,
        Self::NoProtocol,
        Self::Distrusted,
        Self::NoCertificate,
        Self::UnknownCa,
        Self::WrongName,
        Self::Expired,
        Self::Revoked,
        Self::BadCertificate,
        Self::Refused,
        Self::Other,
    ];

    /// A short name for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Left => "left",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::UnknownName => "unknown_name",
            Self::NoVersion => "no_version",
            Self::NoCipher => "no_cipher",
            Self::NoProtocol => "no_protocol",
            Self::Distrusted => "distrusted",
            Self::NoCertificate => "no_certificate",
            Self::UnknownCa => "unknown_ca",
            Self::WrongName => "wrong_name",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }

    /// What it means, for the context of an error.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Full => "a TLS handshake",
            Self::Resumed => "a resumed TLS handshake",
            Self::Left => "the TLS handshake: the peer left",
            Self::Timeout => "the TLS handshake's time",
            Self::Overloaded => "too many TLS handshakes at once",
            Self::PlainHttp => "HTTP without TLS where TLS is spoken",
            Self::NotTls => "the TLS handshake: no TLS",
            Self::UnknownName => "the TLS handshake: no certificate for the name",
            Self::NoVersion => "the TLS handshake: no version in common",
            Self::NoCipher => "the TLS handshake: no cipher or key exchange in common",
            Self::NoProtocol => "the TLS handshake: no application protocol in common",
            Self::Distrusted => "the TLS handshake: the peer does not trust our certificate",
            Self::NoCertificate => "the TLS handshake: the peer gave no certificate",
            Self::UnknownCa => "the TLS handshake: the certificate is by nobody whom we trust",
            Self::WrongName => "the TLS handshake: the certificate is for another name",
            Self::Expired => "the TLS handshake: the certificate is not valid now",
            Self::Revoked => "the TLS handshake: the certificate has been revoked",
            Self::BadCertificate => "the TLS handshake: the certificate is bad",
            Self::Refused => "the TLS handshake: the peer refused",
            Self::Other => "the TLS handshake",
        }
    }

    /// What `error` comes down to.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(why) => match why {
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
                | PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoEcPointFormatsInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                | PeerIncompatible::KeyShareExtensionRequired
                | PeerIncompatible::NamedGroupsExtensionRequired
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired => Self::NoCipher,
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Self::NoVersion,
                _ => Self::Other,
            },
            Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer => Self::UnknownCa,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::Revoked => Self::Revoked,
                _ => Self::BadCertificate,
            },
            Error::AlertReceived(alert) => match alert {
                Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::UnsupportedCertificate
                | Alert::BadCertificateStatusResponse => Self::Distrusted,
                Alert::CertificateRequired => Self::NoCertificate,
                Alert::ProtocolVersion => Self::NoVersion,
                Alert::NoApplicationProtocol => Self::NoProtocol,
                Alert::UnrecognisedName => Self::UnknownName,
                Alert::UserCanceled => Self::Left,
                _ => Self::Refused,
            },
            _ => Self::Other,
        }
    }
}

/// How many handshakes have ended how. Counted once a handshake, by all workers together.
#[derive(Default)]
pub struct Stats([AtomicU64; Outcome::COUNT]);

impl Stats {
    /// How many have ended in `outcome`.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Relaxed)
    }

    pub(crate) fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Outcome::ALL.map(|outcome| (outcome.name(), self.count(outcome)));
        f.debug_map()
            .entries(counts.into_iter().filter(|(_, count)| *count > 0))
            .finish()
    }
}
