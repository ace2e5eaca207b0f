//! One end of an HTTP/2 connection that sends exactly the frames it is told to, and sees exactly those that come.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{End, Peer};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const PRIORITY_UPDATE: u8 = 16;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;
/// A whole message without a body.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

/// RFC 9113 section 7.
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL: u32 = 1;
    pub const INTERNAL: u32 = 2;
    pub const FLOW_CONTROL: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE: u32 = 6;
    pub const REFUSED: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION: u32 = 9;
    pub const CALM: u32 = 11;
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A SETTINGS frame.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// An integer (RFC 7541 section 5.1), whose first octet begins with `first`.
pub fn integer(first: u8, prefix: u32, mut value: usize) -> Vec<u8> {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return vec![first | value as u8];
    }
    let mut octets = vec![first | mask as u8];
    value -= mask;
    while value >= 128 {
        octets.push(value as u8 | 0x80);
        value >>= 7;
    }
    octets.push(value as u8);
    octets
}

/// Fields that are not indexed and not coded.
pub fn fields<T: AsRef<[u8]>>(fields: &[(&str, T)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value.as_ref()] {
            block.extend(integer(0, 7, text.len()));
            block.extend(text);
        }
    }
    block
}

/// A HEADERS frame, `END_HEADERS` included in `flags` or not.
pub fn headers(stream: u32, flags: u8, list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, fields(list))
}

/// The pseudo-fields of a request, and what else it has.
pub fn request<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut list = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ];
    list.extend(more);
    list
}

/// A whole GET.
pub fn get(stream: u32) -> Vec<u8> {
    headers(stream, WHOLE, &request("GET", &[]))
}

/// A POST whose body is to come.
pub fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, END_HEADERS, &request("POST", more))
}

/// A frame that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The error code of `RST_STREAM` and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// How a stream, or the connection with it, has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole response: its status and its body.
    Response(u16, Vec<u8>),
    Reset(u32),
    /// GOAWAY with an error, and the connection's end.
    Goaway(u32),
    End(End),
}

/// A client, or an origin.
pub struct H2 {
    pub peer: Peer,
    /// What has come of responses that are not whole.
    parts: HashMap<u32, (u16, Vec<u8>)>,
    /// What has become of streams that nobody has asked about yet.
    outcomes: HashMap<u32, Outcome>,
}

impl H2 {
    /// A client that has said hello with these settings, and has heard the same. What it is sent is not compressed with a
    /// dynamic table.
    pub fn with_settings(address: SocketAddr, list: &[(u16, u32)]) -> Self {
        let mut peer = Self::new(Peer::connect(address));
        let list = [&[(1, 0)], list].concat();
        peer.send([PREFACE, &settings(&list)].concat());
        let hello = peer.next().unwrap();
        assert_eq!((hello.kind, hello.flags), (SETTINGS, 0));
        peer.send(frame(SETTINGS, ACK, 0, ""));
        peer
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    /// Nothing has been said yet.
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            parts: HashMap::new(),
            outcomes: HashMap::new(),
        }
    }

    /// An origin whose client has said hello, and has been told the same.
    pub fn accepted(peer: Peer) -> Self {
        let mut peer = Self::new(peer);
        assert_eq!(peer.peer.read(PREFACE.len()), PREFACE);
        peer.send(settings(&[(1, 0)]));
        peer
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.peer.send(bytes);
    }

    /// The next frame; what is said about settings and windows is passed over.
    pub fn next(&mut self) -> Result<Frame, End> {
        let head = self.peer.try_read(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Ok(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload: self.peer.try_read(length)?,
        })
    }

    /// The next frame of this kind.
    pub fn next_of(&mut self, kind: u8) -> Result<Frame, End> {
        loop {
            let frame = self.next()?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// What becomes of a stream.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(outcome) = self.outcomes.remove(&stream) {
                return outcome;
            }
            let frame = match self.next() {
                Ok(frame) => frame,
                Err(end) => return Outcome::End(end),
            };
            match frame.kind {
                GOAWAY if frame.code() != code::NO_ERROR => return self.parted(&frame),
                RST_STREAM => {
                    let reset = Outcome::Reset(frame.code());
                    // After a whole response it says that no more is needed of the request.
                    self.outcomes.entry(frame.stream).or_insert(reset);
                }
                HEADERS | DATA => self.part(&frame),
                _ => {}
            }
        }
    }

    fn part(&mut self, frame: &Frame) {
        let part = self.parts.entry(frame.stream).or_default();
        if frame.kind == DATA {
            part.1.extend(&frame.payload);
        } else {
            let list = decoded(&frame.payload);
            if let Some((_, status)) = list.iter().find(|(name, _)| name == ":status") {
                part.0 = status.parse().unwrap();
            }
        }
        if frame.has(END_STREAM)
            && let Some((status, body)) = self.parts.remove(&frame.stream)
        {
            let response = Outcome::Response(status, body);
            self.outcomes.insert(frame.stream, response);
        }
    }

    /// How the connection ends after GOAWAY.
    fn parted(&mut self, goaway: &Frame) -> Outcome {
        match self.peer.end() {
            End::Closed => Outcome::Goaway(goaway.code()),
            end => Outcome::End(end),
        }
    }

    /// Reads a frame, and tells how the connection has ended if that was the last.
    pub fn last_word(&mut self) -> Option<Outcome> {
        match self.next() {
            Ok(frame) if frame.kind == GOAWAY => Some(self.parted(&frame)),
            Ok(_) => None,
            Err(end) => Some(Outcome::End(end)),
        }
    }

    /// The status of the response on a stream.
    pub fn status(&mut self, stream: u32) -> u16 {
        match self.outcome(stream) {
            Outcome::Response(status, _) => status,
            outcome => panic!("no response: {outcome:?}"),
        }
    }

    /// One request that is answered.
    pub fn ask(&mut self, stream: u32) -> u16 {
        self.send(get(stream));
        self.status(stream)
    }
}

/// The fields of a block that was written without a dynamic table (RFC 7541 appendix A and B, as far as printable ASCII).
pub fn decoded(mut block: &[u8]) -> Vec<(String, String)> {
    const STATUS: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    let mut list = Vec::new();
    while let Some(&first) = block.first() {
        if first & 0xe0 == 0x20 {
            number(&mut block, 5);
        } else if first & 0x80 != 0 {
            let index = number(&mut block, 7);
            let value = index.checked_sub(8).and_then(|n| STATUS.get(n)).copied();
            list.push((name(index), value.unwrap_or_default().to_owned()));
        } else {
            let index = number(&mut block, if first & 0x40 != 0 { 6 } else { 4 });
            let name = if index == 0 {
                text(&mut block)
            } else {
                name(index)
            };
            list.push((name, text(&mut block)));
        }
    }
    list
}

fn name(index: usize) -> String {
    match index {
        1 => ":authority".to_owned(),
        2 | 3 => ":method".to_owned(),
        4 | 5 => ":path".to_owned(),
        6 | 7 => ":scheme".to_owned(),
        8..=14 => ":status".to_owned(),
        28 => "content-length".to_owned(),
        index => format!("#{index}"),
    }
}

fn number(block: &mut &[u8], prefix: u32) -> usize {
    let mut octet = || {
        let (&first, rest) = block.split_first().unwrap();
        *block = rest;
        usize::from(first)
    };
    let mask = (1 << prefix) - 1;
    let mut value = octet() & mask;
    if value == mask {
        for shift in (0..).step_by(7) {
            let next = octet();
            value += (next & 0x7f) << shift;
            if next < 128 {
                break;
            }
        }
    }
    value
}

fn text(block: &mut &[u8]) -> String {
    let coded = block[0] & 0x80 != 0;
    let length = number(block, 7);
    let (text, rest) = block.split_at(length);
    *block = rest;
    if !coded {
        return String::from_utf8_lossy(text).into_owned();
    }
    // The code is canonical: these are its symbols by length and order.
    const CODES: [(u32, &str); 10] = [
        (5, "012aceiost"),
        (6, " %-./3456789=A_bdfghlmnpru"),
        (7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
        (8, "&*,;XZ"),
        (10, "!\"()?"),
        (11, "'+|"),
        (12, "#>"),
        (13, "\0$@[]~"),
        (14, "^}"),
        (15, "<`{"),
    ];
    let bits: Vec<u32> = text
        .iter()
        .flat_map(|octet| (0..8).rev().map(move |n| u32::from(octet >> n) & 1))
        .collect();
    let mut bits = bits.iter();
    let mut decoded = String::new();
    'symbols: loop {
        let (mut value, mut have, mut first, mut before) = (0, 0, 0, 0);
        for (length, symbols) in CODES {
            first = (first + before) << (length - have);
            while have < length {
                let Some(bit) = bits.next() else {
                    break 'symbols;
                };
                value = value << 1 | bit;
                have += 1;
            }
            before = symbols.len() as u32;
            if value < first + before {
                decoded.push(symbols.chars().nth((value - first) as usize).unwrap());
                continue 'symbols;
            }
        }
        panic!("a symbol that is not printable");
    }
    decoded
}
