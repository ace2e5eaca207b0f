//! From bytes to a header.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{
    Addresses, FIXED, Header, HeaderError, MAX_LINE, SIGNATURE, Transport, Version, WORD, kind, tlv,
};

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header of `len` bytes; the connection proper begins after it.
    Header {
        /// What it says.
        header: Header,
        /// How long it is.
        len: usize,
    },
    /// The beginning of one, or of something that is none: it takes more bytes to tell.
    More,
    /// Something that is no header.
    Not,
}

/// Reads the header that `first` begins with, of at most `max` bytes.
///
/// # Errors
///
/// What begins like a header is malformed, longer than `max`, or its checksum is wrong.
pub fn parse(first: &[u8], max: usize) -> Result<Parsed, HeaderError> {
    if begins(first, SIGNATURE) {
        return if first.len() < SIGNATURE.len() {
            Ok(Parsed::More)
        } else {
            binary(first, max)
        };
    }
    if begins(first, WORD) {
        return if first.len() < WORD.len() {
            Ok(Parsed::More)
        } else {
            text(first, max)
        };
    }
    Ok(Parsed::Not)
}

/// Whether `first` and `signature` are the same for as long as both last.
fn begins(first: &[u8], signature: &[u8]) -> bool {
    first.iter().zip(signature).all(|(a, b)| a == b)
}

fn text(first: &[u8], max: usize) -> Result<Parsed, HeaderError> {
    let max = max.min(MAX_LINE);
    let Some(end) = first.iter().take(max).position(|byte| *byte == b'\n') else {
        return if first.len() < max {
            Ok(Parsed::More)
        } else {
            Err(HeaderError::Long)
        };
    };
    let line = first[..end].strip_suffix(b"\r").ok_or(HeaderError::Line)?;
    let line = &line[WORD.len()..];
    let addresses = if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // What follows is to be ignored, whatever it is.
        Addresses::Unknown
    } else {
        let line = std::str::from_utf8(line).map_err(|_| HeaderError::Line)?;
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or(HeaderError::Line);
        let (source, destination) = match word()? {
            "TCP4" => pair::<Ipv4Addr>(word)?,
            "TCP6" => pair::<Ipv6Addr>(word)?,
            _ => return Err(HeaderError::Line),
        };
        if words.next().is_some() {
            return Err(HeaderError::Line);
        }
        Addresses::Ip {
            transport: Transport::Stream,
            source,
            destination,
        }
    };
    Ok(Parsed::Header {
        header: Header::new(Version::V1, addresses),
        len: end + 1,
    })
}

/// Two addresses and two ports.
fn pair<'a, Ip: FromStr + Into<std::net::IpAddr>>(
    mut word: impl FnMut() -> Result<&'a str, HeaderError>,
) -> Result<(SocketAddr, SocketAddr), HeaderError> {
    let (source, destination) = (ip::<Ip>(word()?)?, ip::<Ip>(word()?)?);
    let (from, to) = (port(word()?)?, port(word()?)?);
    Ok((
        SocketAddr::new(source.into(), from),
        SocketAddr::new(destination.into(), to),
    ))
}

fn ip<Ip: FromStr>(word: &str) -> Result<Ip, HeaderError> {
    word.parse().map_err(|_| HeaderError::Line)
}

/// Decimal, without sign or leading zeros.
fn port(word: &str) -> Result<u16, HeaderError> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (word.len() > 1 && word.starts_with('0')) {
        return Err(HeaderError::Line);
    }
    word.parse().map_err(|_| HeaderError::Line)
}

fn binary(first: &[u8], max: usize) -> Result<Parsed, HeaderError> {
    let Some(&[command, family, high, low]) = first[SIGNATURE.len()..].first_chunk() else {
        return Ok(Parsed::More);
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(HeaderError::Version);
    }
    let local = match command & 15 {
        0 => true,
        1 => false,
        _ => return Err(HeaderError::Command),
    };
    if len > max {
        return Err(HeaderError::Long);
    }
    let Some(bytes) = first.get(..len) else {
        return Ok(Parsed::More);
    };
    if local {
        // All that follows is to be ignored, the family included.
        let header = Header::local(Version::V2);
        return Ok(Parsed::Header { header, len });
    }
    let (addresses, behind) = addresses(family, &bytes[FIXED..])?;
    let mut header = Header::new(Version::V2, addresses);
    let mut at = len - behind.len();
    tlv::for_each(behind, |kind, value| {
        if kind == kind::CRC32C {
            let place = at + 3;
            if header.checksum || value != checksum(bytes, place).to_be_bytes() {
                return Err(HeaderError::Checksum);
            }
            header.checksum = true;
        } else {
            header.tlvs.push(kind, value)?;
        }
        at += 3 + value.len();
        Ok(())
    })?;
    Ok(Parsed::Header { header, len })
}

/// What a family byte stands for, and what comes after the addresses.
fn addresses(family: u8, mut rest: &[u8]) -> Result<(Addresses, &[u8]), HeaderError> {
    let transport = match family & 15 {
        1 => Transport::Stream,
        2 => Transport::Datagram,
        _ if family == 0 => return Ok((Addresses::Unknown, rest)),
        _ => return Err(HeaderError::Family),
    };
    let addresses = match family >> 4 {
        1 => {
            let (source, destination) = (take::<4>(&mut rest)?, take::<4>(&mut rest)?);
            Addresses::Ip {
                transport,
                source: (source, u16::from_be_bytes(take(&mut rest)?)).into(),
                destination: (destination, u16::from_be_bytes(take(&mut rest)?)).into(),
            }
        }
        2 => {
            let (source, destination) = (take::<16>(&mut rest)?, take::<16>(&mut rest)?);
            Addresses::Ip {
                transport,
                source: (source, u16::from_be_bytes(take(&mut rest)?)).into(),
                destination: (destination, u16::from_be_bytes(take(&mut rest)?)).into(),
            }
        }
        3 => Addresses::Unix {
            transport,
            source: Box::new(take(&mut rest)?),
            destination: Box::new(take(&mut rest)?),
        },
        _ => return Err(HeaderError::Family),
    };
    Ok((addresses, rest))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], HeaderError> {
    let (first, after) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
    *rest = after;
    Ok(*first)
}

/// The checksum of `header` whose own four bytes, at `place`, count as zeros.
pub(super) fn checksum(header: &[u8], place: usize) -> u32 {
    let sum = crc32c::crc32c(&header[..place]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &header[place + 4..])
}

#[cfg(test)]
mod tests;
