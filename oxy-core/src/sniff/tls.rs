//! What a TLS client says first: a parser of `ClientHello` (RFC 8446 section 4.1.2) that needs no TLS library.

use super::{Opinion, Sniffed};

/// What a TLS client said first (RFC 8446 section 4.1.2), as far as a proxy needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name that it asks for (RFC 6066 section 3), lower-cased.
    pub server_name: Option<String>,
    /// The protocols that it offers (RFC 7301), in its order, without those of GREASE (RFC 8701).
    pub alpn: Vec<Vec<u8>>,
    /// The versions that it speaks, in its order (RFC 8446 section 4.2.1), without those of GREASE: `0x0304` is TLS 1.3. A
    /// client that does not list them speaks its `legacy_version` and those before.
    pub versions: Vec<u16>,
    /// The cipher suites that it offers, in its order, without those of GREASE.
    pub cipher_suites: Vec<u16>,
    /// The extensions that it sends, in its order, without those of GREASE.
    pub extensions: Vec<u16>,
    /// The signature algorithms that it takes (RFC 8446 section 4.2.3), in its order, without those of GREASE.
    pub signature_algorithms: Vec<u16>,
    /// It hides its true `ClientHello` in this one (`encrypted_client_hello`, RFC 9849); the name is then the front's.
    pub encrypted: bool,
}

impl ClientHello {
    /// The JA4 fingerprint of a client that comes over TCP (<https://github.com/FoxIO-LLC/ja4>): clients of a make have the
    /// same. Anybody can have another's.
    pub fn ja4(&self) -> String {
        super::ja4::of(self, 't')
    }

    /// The same, of a client that comes over QUIC.
    pub fn ja4_quic(&self) -> String {
        super::ja4::of(self, 'q')
    }
}

/// What has been made of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole `ClientHello`.
    Hello(Box<ClientHello>),
    /// So far it may be one.
    More,
    /// It is none.
    Not,
}

/// The handshake message's size in bytes beyond which it is none: no client sends 16 KiB, and rustls and OpenSSL refuse
/// more, too.
const MAX_HELLO: usize = 16 * 1024;

/// The most that one record carries (RFC 8446 section 5.1).
const MAX_RECORD: usize = 16 * 1024;

/// How many records a `ClientHello` may be spread over: one would do, and a few are what evades middleboxes that read only
/// the first; thousands of a byte each are what wears out those that read them again at every byte.
const MAX_RECORDS: usize = 64;

/// How many extensions there may be: IANA knows some seventy.
const MAX_EXTENSIONS: usize = 256;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

pub(super) fn detect(first: &[u8]) -> Opinion {
    match parse(first) {
        Parsed::Hello(hello) => Opinion::Is(Sniffed::Tls(hello)),
        Parsed::More => Opinion::More,
        Parsed::Not => Opinion::Not,
    }
}

/// Reads the first bytes of a stream as TLS records (RFC 8446 section 5.1) with a `ClientHello` in them.
pub fn parse(first: &[u8]) -> Parsed {
    let mut records = first;
    let mut message = Vec::new();
    for _ in 0..MAX_RECORDS {
        let (part, rest) = match record(records) {
            Ok(Some(found)) => found,
            Ok(None) => return Parsed::More,
            Err(Malformed) => return Parsed::Not,
        };
        // Almost always the whole message lies in the first record, and nothing is copied.
        let whole = if message.is_empty() {
            part
        } else {
            message.extend_from_slice(part);
            &message[..]
        };
        match handshake(whole) {
            Ok(Some(hello)) => return Parsed::Hello(Box::new(hello)),
            Ok(None) => {}
            Err(Malformed) => return Parsed::Not,
        }
        if message.is_empty() {
            message.extend_from_slice(part);
        }
        if rest.is_empty() {
            return Parsed::More;
        }
        records = rest;
    }
    Parsed::Not
}

/// Reads a `ClientHello` in a handshake message (RFC 8446 section 4), as QUIC's CRYPTO frames carry it without records.
pub fn parse_message(message: &[u8]) -> Parsed {
    match handshake(message) {
        Ok(Some(hello)) => Parsed::Hello(Box::new(hello)),
        Ok(None) => Parsed::More,
        Err(Malformed) => Parsed::Not,
    }
}

#[derive(Debug)]
struct Malformed;

type Split<'a> = (&'a [u8], &'a [u8]);

/// The (possibly cut short) payload of the first record, and what follows it.
fn record(bytes: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    // Each byte is judged as soon as it is there, so that other protocols are let go at once.
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != 3)
        || bytes.get(2).is_some_and(|minor| *minor > 4)
    {
        return Err(Malformed);
    }
    let Some((header, rest)) = bytes.split_at_checked(5) else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // RFC 8446 section 5.1: no empty fragments of handshake messages.
    if len == 0 || len > MAX_RECORD {
        return Err(Malformed);
    }
    Ok(Some(rest.split_at(len.min(rest.len()))))
}

/// None where it is cut short.
fn handshake(bytes: &[u8]) -> Result<Option<ClientHello>, Malformed> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Malformed);
    }
    let Some((header, rest)) = bytes.split_at_checked(4) else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if len > MAX_HELLO {
        return Err(Malformed);
    }
    match rest.get(..len) {
        Some(body) => client_hello(Reader(body)).map(Some),
        None => Ok(None),
    }
}

fn client_hello(mut body: Reader<'_>) -> Result<ClientHello, Malformed> {
    let mut hello = ClientHello::default();
    let legacy = body.u16()?;
    body.take(32)?; // random
    if body.vector8()?.0.len() > 32 {
        return Err(Malformed); // legacy_session_id
    }
    let mut suites = body.vector16()?;
    while !suites.0.is_empty() {
        keep(&mut hello.cipher_suites, suites.u16()?);
    }
    if body.vector8()?.0.is_empty() {
        return Err(Malformed); // legacy_compression_methods
    }
    // RFC 5246 section 7.4.1.2: before TLS 1.3 there may be no extensions at all.
    let mut extensions = if body.0.is_empty() {
        Reader(&[])
    } else {
        body.vector16()?
    };
    if !body.0.is_empty() {
        return Err(Malformed);
    }
    let mut count = 0;
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vector16()?);
        count += 1;
        // RFC 8446 section 4.2: none may come twice. What is read twice could be read in two ways.
        if count > MAX_EXTENSIONS || hello.extensions.contains(&kind) {
            return Err(Malformed);
        }
        keep(&mut hello.extensions, kind);
        match kind {
            SERVER_NAME => hello.server_name = server_name(data)?,
            SIGNATURE_ALGORITHMS => hello.signature_algorithms = schemes(data)?,
            ALPN => hello.alpn = alpn(data)?,
            SUPPORTED_VERSIONS => hello.versions = versions(data)?,
            ENCRYPTED_CLIENT_HELLO => hello.encrypted = true,
            _ => {}
        }
    }
    if hello.versions.is_empty() {
        hello.versions.push(legacy);
    }
    Ok(hello)
}

fn server_name(mut data: Reader<'_>) -> Result<Option<String>, Malformed> {
    let mut list = data.vector16()?;
    let mut found = None;
    while !list.0.is_empty() {
        let (kind, name) = (list.u8()?, list.vector16()?);
        // RFC 6066 section 3: one of a kind, and the only kind is a host name (0) in ASCII.
        if kind == 0 {
            let plain = |byte: &u8| byte.is_ascii_graphic();
            if found.is_some() || name.0.is_empty() || !name.0.iter().all(plain) {
                return Err(Malformed);
            }
            found = Some(String::from_utf8_lossy(name.0).to_ascii_lowercase());
        }
    }
    data.end(found)
}

fn alpn(mut data: Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut list = data.vector16()?;
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?.0;
        match name {
            [] => return Err(Malformed),
            [a, b] if is_grease(u16::from_be_bytes([*a, *b])) => {}
            name => found.push(name.to_vec()),
        }
    }
    data.end(found)
}

fn schemes(mut data: Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let mut list = data.vector16()?;
    let mut found = Vec::new();
    while !list.0.is_empty() {
        keep(&mut found, list.u16()?);
    }
    data.end(found)
}

fn versions(mut data: Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let mut list = data.vector8()?;
    let mut found = Vec::new();
    while !list.0.is_empty() {
        keep(&mut found, list.u16()?);
    }
    data.end(found)
}

fn keep(list: &mut Vec<u16>, value: u16) {
    if !is_grease(value) {
        list.push(value);
    }
}

/// RFC 8701: values that mean nothing, sent so that nobody relies on there being no others: `0x0a0a`, `0x1a1a` to `0xfafa`.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Takes things off the front, never more than there is.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What a length of one byte stands before.
    fn vector8(&mut self) -> Result<Reader<'a>, Malformed> {
        let len = self.u8()?;
        self.take(len.into()).map(Reader)
    }

    /// What a length of two bytes stands before.
    fn vector16(&mut self) -> Result<Reader<'a>, Malformed> {
        let len = self.u16()?;
        self.take(len.into()).map(Reader)
    }

    /// `value`, if nothing is left over.
    fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Malformed)
        }
    }
}
