//! What a header of version 2 says beyond addresses: types, lengths, values.

use super::HeaderError;

/// The types that the specification knows.
pub mod kind {
    /// The protocol that TLS settled on.
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for (SNI), UTF-8.
    pub const AUTHORITY: u8 = 0x02;
    /// A checksum over the whole header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// Names the connection, at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// That, and how, the client spoke TLS: see [`Ssl`](super::Ssl).
    pub const SSL: u8 = 0x20;
    /// Inside [`SSL`]: the version, US-ASCII.
    pub const SSL_VERSION: u8 = 0x21;
    /// Inside [`SSL`]: the common name of the client's certificate, UTF-8.
    pub const SSL_CN: u8 = 0x22;
    /// Inside [`SSL`]: the cipher suite, US-ASCII.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Inside [`SSL`]: the algorithm that the server's certificate is signed with, US-ASCII.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Inside [`SSL`]: the algorithm of the server's key, US-ASCII.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The name of the network namespace, US-ASCII.
    pub const NETNS: u8 = 0x30;
}

/// The longest unique id, by the specification.
const MAX_UNIQUE_ID: usize = 128;

/// Type-length-values in their order. Those of known types are well-formed: where they come from a header, they were
/// looked at when it was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tlvs(pub(super) Vec<u8>);

impl Tlvs {
    /// Adds a value. Nothing is added where there is an error: the value is longer than 65,535 bytes, or not what its type
    /// says, or the type is that of the checksum ([`Header::checksum`](super::Header::checksum)).
    pub fn push(&mut self, kind: u8, value: &[u8]) -> Result<(), HeaderError> {
        let len = u16::try_from(value.len()).map_err(|_| HeaderError::Long)?;
        if kind == kind::CRC32C {
            return Err(HeaderError::Tlv);
        }
        check(kind, value)?;
        self.0.push(kind);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(value);
        Ok(())
    }

    /// All of them, by type and value.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || split(&mut rest).ok().flatten())
    }

    /// The first of `kind`.
    pub fn get(&self, kind: u8) -> Option<&[u8]> {
        self.iter().find(|tlv| tlv.0 == kind).map(|tlv| tlv.1)
    }

    /// The host name that the client asked for.
    pub fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.get(kind::AUTHORITY)?).ok()
    }

    /// The network namespace that the client's connection came in by.
    pub fn netns(&self) -> Option<&str> {
        std::str::from_utf8(self.get(kind::NETNS)?).ok()
    }

    /// What is said of the client's TLS.
    pub fn ssl(&self) -> Option<Ssl> {
        Ssl::read(self.get(kind::SSL)?).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Tlvs {
    /// Types and lengths only: the values are a client's matter.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tlvs = self.iter().map(|(kind, value)| (kind, value.len()));
        f.debug_map().entries(tlvs).finish()
    }
}

/// The value of a [`kind::SSL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssl {
    /// [`Ssl::TLS`], [`Ssl::CERT_CONN`] and [`Ssl::CERT_SESS`], together.
    pub client: u8,
    /// Zero if the client has shown a certificate that was found good.
    pub verify: u32,
    /// Version, cipher suite, names.
    pub tlvs: Tlvs,
}

impl Ssl {
    /// The client speaks TLS.
    pub const TLS: u8 = 1;
    /// It has shown a certificate on this connection.
    pub const CERT_CONN: u8 = 2;
    /// It has shown a certificate in this TLS session.
    pub const CERT_SESS: u8 = 4;

    /// The value of the TLV.
    pub fn write(&self) -> Vec<u8> {
        let mut value = vec![self.client];
        value.extend_from_slice(&self.verify.to_be_bytes());
        value.extend_from_slice(&self.tlvs.0);
        value
    }

    fn read(value: &[u8]) -> Result<Self, HeaderError> {
        let (&[client, a, b, c, d], tlvs) = value.split_first_chunk().ok_or(HeaderError::Tlv)?;
        for_each(tlvs, |_, _| Ok(()))?;
        Ok(Self {
            client,
            verify: u32::from_be_bytes([a, b, c, d]),
            tlvs: Tlvs(tlvs.to_vec()),
        })
    }
}

/// Reads what stands behind the addresses. What `f` is told of is well-formed.
pub(super) fn for_each(
    mut rest: &[u8],
    mut f: impl FnMut(u8, &[u8]) -> Result<(), HeaderError>,
) -> Result<(), HeaderError> {
    while let Some((kind, value)) = split(&mut rest)? {
        check(kind, value)?;
        f(kind, value)?;
    }
    Ok(())
}

fn split<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, HeaderError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (&[kind, high, low], after) = rest.split_first_chunk().ok_or(HeaderError::Tlv)?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (value, after) = after.split_at_checked(len).ok_or(HeaderError::Tlv)?;
    *rest = after;
    Ok(Some((kind, value)))
}

fn check(kind: u8, value: &[u8]) -> Result<(), HeaderError> {
    let good = match kind {
        kind::AUTHORITY => std::str::from_utf8(value).is_ok(),
        kind::NETNS => value.is_ascii(),
        kind::CRC32C => value.len() == 4,
        kind::UNIQUE_ID => value.len() <= MAX_UNIQUE_ID,
        kind::SSL => return Ssl::read(value).map(|_| ()),
        _ => true,
    };
    if good { Ok(()) } else { Err(HeaderError::Tlv) }
}
