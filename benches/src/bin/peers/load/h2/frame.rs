//! HTTP/2 frames (RFC 9113 section 4), as far as a client needs them that asks for
//! one thing only.

/// Before each frame's payload.
pub(super) const HEADER: usize = 9;

/// The longest payload that a peer may send, as nobody has been told otherwise.
const MAX_PAYLOAD: usize = 16 << 10;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// The settings that are of interest, by number.
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// A whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Without padding.
    pub(super) payload: &'a [u8],
    /// The payload's length with padding, which flow control counts.
    pub(super) length: usize,
}

/// The bytes are not HTTP/2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes` and what follows it; nothing before it is whole.
    pub(super) fn split(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, kind, flags, stream @ ..] = *header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MAX_PAYLOAD {
            return Err(Malformed);
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        let padded = matches!(kind, DATA | HEADERS) && flags & PADDED != 0;
        let payload = match payload.split_first() {
            Some((&padding, payload)) if padded => payload
                .get(..payload.len().wrapping_sub(usize::from(padding)))
                .ok_or(Malformed)?,
            _ => payload,
        };
        let frame = Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            payload,
            length,
        };
        Ok(Some((frame, rest)))
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::{DATA, END_STREAM, Frame, Malformed, PADDED, put};

    #[test]
    fn comes_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        put(&mut bytes, DATA, END_STREAM, 7, b"hello");
        for end in 0..bytes.len() {
            assert_eq!(Frame::split(&bytes[..end]), Ok(None));
        }
        bytes.push(1);
        let (frame, rest) = Frame::split(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind, frame.stream), (DATA, 7));
        assert_eq!((frame.payload, rest), (&b"hello"[..], &[1][..]));
        assert!(frame.has(END_STREAM) && !frame.has(PADDED));
    }

    #[test]
    fn padding_is_counted_and_dropped() {
        let mut bytes = Vec::new();
        put(&mut bytes, DATA, PADDED, 1, b"\x02okxx");
        let (frame, _) = Frame::split(&bytes).unwrap().unwrap();
        assert_eq!((frame.payload, frame.length), (&b"ok"[..], 5));
        let mut bytes = Vec::new();
        put(&mut bytes, DATA, PADDED, 1, b"\x05okxx");
        assert_eq!(Frame::split(&bytes), Err(Malformed));
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused() {
        assert_eq!(
            Frame::split(&[0, 0x40, 1, DATA, 0, 0, 0, 0, 1]),
            Err(Malformed)
        );
    }
}
