//! The messages of gRPC's health checks (`grpc.health.v1`), in their frames. There are two of them with a field each, so
//! that no protobuf library is needed.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The path that asks once.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It does not say.
    Unknown,
    /// It serves.
    Serving,
    /// It does not serve.
    NotServing,
    /// There is no such service. Only said to those who watch; who asks once is told by [`super::Code::NotFound`].
    ServiceUnknown,
}

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthError {
    /// It ends early.
    Truncated,
    /// It is compressed, though nothing was said that allows it.
    Compressed,
    /// There is more than one message.
    Trailing,
    /// It is not protobuf.
    Malformed,
}

impl fmt::Display for HealthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the answer ends early",
            Self::Compressed => "the answer is compressed",
            Self::Trailing => "there is more than one answer",
            Self::Malformed => "the answer is not protobuf",
        })
    }
}

impl std::error::Error for HealthError {}

/// A frame begins with whether it is compressed, and how long it is.
const FRAME_HEAD: usize = 5;

/// The body of a request that asks how `service` is; empty is the server as a whole.
pub fn request(service: &str) -> Bytes {
    let mut message = BytesMut::with_capacity(FRAME_HEAD + 11 + service.len());
    message.put_bytes(0, FRAME_HEAD);
    // As protobuf has it, a field with its default is not there.
    if !service.is_empty() {
        message.put_u8(1 << 3 | LENGTH as u8);
        let mut length = service.len();
        while length > 0x7f {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let length = (message.len() - FRAME_HEAD) as u32;
    message[1..FRAME_HEAD].copy_from_slice(&length.to_be_bytes());
    message.freeze()
}

/// Reads the whole body of an answer. Fields that are not known are passed over, and a value that is not known is
/// [`Serving::Unknown`].
pub fn response(body: &[u8]) -> Result<Serving, HealthError> {
    let Some((head, message)) = body.split_first_chunk::<FRAME_HEAD>() else {
        return Err(HealthError::Truncated);
    };
    let [flag, length @ ..] = *head;
    match flag {
        0 => {}
        1 => return Err(HealthError::Compressed),
        _ => return Err(HealthError::Malformed),
    }
    let length = u32::from_be_bytes(length) as usize;
    match message.len() {
        got if got < length => Err(HealthError::Truncated),
        got if got > length => Err(HealthError::Trailing),
        _ => status(message).ok_or(HealthError::Malformed),
    }
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// The field number 1 of a message.
fn status(mut message: &[u8]) -> Option<Serving> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = tag >> 3;
        if field == 0 || field > MOST_FIELDS {
            return None;
        }
        let skipped = match tag & 7 {
            VARINT => {
                let value = varint(&mut message)?;
                // The last one counts.
                if field == 1 {
                    status = value;
                }
                0
            }
            FIXED64 => 8,
            LENGTH => usize::try_from(varint(&mut message)?).ok()?,
            FIXED32 => 4,
            // Groups, which nobody has sent for long, and what is not defined.
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(match status {
        1 => Serving::Serving,
        2 => Serving::NotServing,
        3 => Serving::ServiceUnknown,
        _ => Serving::Unknown,
    })
}

/// The largest number of a field.
const MOST_FIELDS: u64 = (1 << 29) - 1;

/// Takes a number of seven bits a byte, the lowest first.
fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = (message.len() as u32).to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    #[test]
    fn requests() {
        assert_eq!(&request("")[..], b"\0\0\0\0\0");
        assert_eq!(&request("abc")[..], b"\0\0\0\0\x05\x0a\x03abc");
        let long = request(&"s".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 0x01, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 8 + 300);
    }

    #[test]
    fn responses() {
        for (message, expected) in [
            (&b""[..], Serving::Unknown),
            (b"\x08\x00", Serving::Unknown),
            (b"\x08\x01", Serving::Serving),
            (b"\x08\x02", Serving::NotServing),
            (b"\x08\x03", Serving::ServiceUnknown),
            (b"\x08\x04", Serving::Unknown),
            // Minus one, as protobuf writes it.
            (
                b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                Serving::Unknown,
            ),
            // The last one counts; a number may be longer than it need be.
            (b"\x08\x02\x08\x81\x00", Serving::Serving),
            // Fields of all kinds that are not known, and one of a kind that it does not have.
            (
                b"\x10\x05\x19abcdefgh\x22\x02xy\x2dabcd\x08\x01",
                Serving::Serving,
            ),
            (b"\x0a\x01x\x08\x01", Serving::Serving),
        ] {
            assert_eq!(response(&framed(message)), Ok(expected), "{message:?}");
        }
    }

    #[test]
    fn what_cannot_be_read() {
        for message in [
            &b"\x08"[..],
            b"\x08\x80",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x00\x01",
            b"\x0b",
            b"\x0c",
            b"\x0e",
            b"\x19abc",
            b"\x12\x05x",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(
                response(&framed(message)),
                Err(HealthError::Malformed),
                "{message:?}"
            );
        }
        let mut compressed = framed(b"\x08\x01");
        compressed[0] = 1;
        assert_eq!(response(&compressed), Err(HealthError::Compressed));
        compressed[0] = 2;
        assert_eq!(response(&compressed), Err(HealthError::Malformed));
        let twice = [framed(b"\x08\x01"), framed(b"\x08\x01")].concat();
        assert_eq!(response(&twice), Err(HealthError::Trailing));
    }

    #[test]
    fn at_every_length() {
        let whole = framed(b"\x08\x01");
        for end in 0..whole.len() {
            assert_eq!(
                response(&whole[..end]),
                Err(HealthError::Truncated),
                "{end}"
            );
        }
        assert_eq!(response(&whole), Ok(Serving::Serving));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = response(&bytes);
            let _ = response(&framed(&bytes));
        }

        #[test]
        fn a_request_is_one_frame_with_one_field(service in ".{0,200}") {
            let body = request(&service);
            // It has the field 1 as a text, which is no status.
            prop_assert_eq!(response(&body), Ok(Serving::Unknown));
            prop_assert!(body.ends_with(service.as_bytes()));
        }
    }
}
