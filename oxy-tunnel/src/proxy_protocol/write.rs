//! From a header to bytes.

use std::net::SocketAddr;

use super::parse::checksum;
use super::{
    Addresses, FIXED, Header, HeaderError, MAX_LINE, SIGNATURE, Transport, Version, WORD, kind,
};

impl Header {
    /// The bytes that stand in front of a connection.
    ///
    /// What version 1 cannot say it leaves unknown: addresses that are not those of a TCP connection.
    ///
    /// # Errors
    ///
    /// The TLVs do not fit, version 1 is to carry some, or the two addresses are of different families.
    pub fn write(&self) -> Result<Vec<u8>, HeaderError> {
        match self.version {
            Version::V1 => self.text(),
            Version::V2 => self.binary(),
        }
    }

    fn text(&self) -> Result<Vec<u8>, HeaderError> {
        if !self.tlvs.is_empty() || self.checksum {
            return Err(HeaderError::NoTlvs);
        }
        let rest = match &self.addresses {
            Addresses::Ip {
                transport: Transport::Stream,
                source,
                destination,
            } if !self.local => {
                let family = match (source, destination) {
                    (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
                    (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
                    _ => return Err(HeaderError::Family),
                };
                format!(
                    "{family} {} {} {} {}\r\n",
                    source.ip(),
                    destination.ip(),
                    source.port(),
                    destination.port()
                )
            }
            _ => "UNKNOWN\r\n".into(),
        };
        let mut bytes = Vec::with_capacity(MAX_LINE);
        bytes.extend_from_slice(WORD);
        bytes.extend_from_slice(rest.as_bytes());
        Ok(bytes)
    }

    fn binary(&self) -> Result<Vec<u8>, HeaderError> {
        let mut bytes = Vec::with_capacity(FIXED + 36 + self.tlvs.0.len());
        bytes.extend_from_slice(SIGNATURE);
        if self.local {
            bytes.extend_from_slice(&[0x20, 0, 0, 0]);
            return Ok(bytes);
        }
        // The length comes when it is known.
        bytes.extend_from_slice(&[0x21, 0, 0, 0]);
        let (family, transport) = match &self.addresses {
            Addresses::Unknown => (0, None),
            Addresses::Ip {
                transport,
                source,
                destination,
            } => {
                let family = match (source, destination) {
                    (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                        bytes.extend_from_slice(&source.ip().octets());
                        bytes.extend_from_slice(&destination.ip().octets());
                        1
                    }
                    (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                        bytes.extend_from_slice(&source.ip().octets());
                        bytes.extend_from_slice(&destination.ip().octets());
                        2
                    }
                    _ => return Err(HeaderError::Family),
                };
                bytes.extend_from_slice(&source.port().to_be_bytes());
                bytes.extend_from_slice(&destination.port().to_be_bytes());
                (family, Some(transport))
            }
            Addresses::Unix {
                transport,
                source,
                destination,
            } => {
                bytes.extend_from_slice(&source[..]);
                bytes.extend_from_slice(&destination[..]);
                (3, Some(transport))
            }
        };
        bytes[13] = family << 4
            | match transport {
                None => 0,
                Some(Transport::Stream) => 1,
                Some(Transport::Datagram) => 2,
            };
        bytes.extend_from_slice(&self.tlvs.0);
        let place = bytes.len() + 3;
        if self.checksum {
            bytes.extend_from_slice(&[kind::CRC32C, 0, 4, 0, 0, 0, 0]);
        }
        let len = u16::try_from(bytes.len() - FIXED).map_err(|_| HeaderError::Long)?;
        bytes[14..FIXED].copy_from_slice(&len.to_be_bytes());
        if self.checksum {
            let sum = checksum(&bytes, place).to_be_bytes();
            bytes[place..].copy_from_slice(&sum);
        }
        Ok(bytes)
    }
}
