//! What a TLS handshake settles, in plain data: the core knows no TLS library.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use bytes::Bytes;

/// What a TLS handshake has settled, on either side of the proxy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The protocol version: `0x0304` is TLS 1.3, `0x0303` is 1.2.
    pub version: u16,
    /// The cipher suite, by its number in IANA's registry.
    pub cipher_suite: u16,
    /// The key exchange's group, by its number in IANA's registry: `0x11ec` is X25519MLKEM768. None where there was no such
    /// exchange, as in a resumption of TLS 1.2.
    pub group: Option<u16>,
    /// The protocol that was chosen (RFC 7301), if any.
    pub alpn: Option<Box<[u8]>>,
    /// The name that the client asked for, lower-cased.
    pub server_name: Option<Box<str>>,
    /// The session was resumed rather than made anew: no certificates were exchanged.
    pub resumed: bool,
    /// Whether the client sent data before the handshake was over; none where it did not, or where that was refused.
    pub early_data: Option<EarlyData>,
    /// Who the peer is, by a certificate that has been verified.
    pub peer_identity: Option<Box<PeerIdentity>>,
}

impl TlsFacts {
    /// Whether what has been read so far may be a replay of what somebody else has sent before (RFC 8446 section 8): it came
    /// as early data, and the handshake is not over yet. RFC 8470 says what HTTP does about it.
    pub fn may_be_replay(&self) -> bool {
        self.early_data.as_ref().is_some_and(EarlyData::is_pending)
    }
}

/// Data that a client sent before the handshake was over (RFC 8446 section 2.3), and was taken.
#[derive(Clone)]
pub struct EarlyData(Arc<AtomicBool>);

impl EarlyData {
    /// Early data of a handshake that goes on.
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether the handshake still goes on. Once it is over the peer has proved that it is there, and nothing was replayed.
    pub fn is_pending(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Says that the handshake is over.
    pub fn settle(&self) {
        self.0.store(false, Relaxed);
    }
}

impl Default for EarlyData {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EarlyData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_pending() {
            "EarlyData(pending)"
        } else {
            "EarlyData(settled)"
        })
    }
}

/// Who a peer is, by its verified certificate (RFC 5280).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerIdentity {
    /// The certificate, in DER.
    pub certificate: Bytes,
    /// The SHA-256 of that, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// The subject's name as RFC 4514 writes it.
    pub subject: String,
    /// The host names that it is for.
    pub dns: Vec<String>,
    /// The URIs that it is for; a SPIFFE ID is one.
    pub uris: Vec<String>,
    /// The mail addresses that it is for.
    pub emails: Vec<String>,
    /// Its serial number, in lower-case hexadecimal digits.
    pub serial: String,
    /// When it ceases to be valid.
    pub not_after: SystemTime,
}

impl PeerIdentity {
    /// An identity of which only the certificate is known.
    pub fn new(certificate: Bytes) -> Self {
        Self {
            certificate,
            fingerprint: String::new(),
            subject: String::new(),
            dns: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            serial: String::new(),
            not_after: SystemTime::UNIX_EPOCH,
        }
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity")
            .field("subject", &self.subject)
            .field("fingerprint", &self.fingerprint)
            .field("dns", &self.dns)
            .field("uris", &self.uris)
            .field("emails", &self.emails)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}
