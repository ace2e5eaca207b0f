//! What a proxy knows of gRPC over HTTP/2 (the gRPC project's `PROTOCOL-HTTP2`): which requests are its, how long they may
//! take, how it is told of errors, and its health checks. Without I/O.

pub mod health;

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use oxy_core::{ErrorKind, Side};

use crate::body::Body;
use crate::h1::token;

/// The field that says how long a request may take.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The field, or trailer, that says how a request ended.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The field, or trailer, that says it in words.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a message with this Content-Type is gRPC: `application/grpc`, alone or with a `+` and a format or with
/// parameters. gRPC-Web is not: its trailers are in the body.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some((start, rest)) = content_type.split_at_checked(TYPE.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(TYPE) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
}

/// What `grpc-timeout` says; none if it says nothing that makes sense: up to eight digits and a unit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, number) = value.split_last()?;
    if number.len() > MOST_DIGITS {
        return None;
    }
    let number = token::digits(number)?;
    Some(match unit {
        b'n' => Duration::from_nanos(number),
        b'u' => Duration::from_micros(number),
        b'm' => Duration::from_millis(number),
        b'S' => Duration::from_secs(number),
        b'M' => Duration::from_secs(number * 60),
        b'H' => Duration::from_secs(number * 3600),
        _ => return None,
    })
}

/// The value of `grpc-timeout` for `duration`, in the smallest unit that has room for it. It is rounded up, so that what is
/// left of a deadline does not become none; what is longer than eleven thousand years is cut to that.
pub fn timeout_value(duration: Duration) -> HeaderValue {
    let nanos = duration.as_nanos();
    let fitting = UNITS.iter().find_map(|(unit, scale)| {
        let number = nanos.div_ceil(*scale);
        (number <= MOST).then_some((number, unit))
    });
    let (number, unit) = fitting.unwrap_or((MOST, &'H'));
    let text = Bytes::from(format!("{number}{unit}"));
    // Digits and a letter are the value of any field.
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// How many digits there may be.
const MOST_DIGITS: usize = 8;
/// The largest number of so many digits.
const MOST: u128 = 99_999_999;
/// The units, with their nanoseconds.
const UNITS: [(char, u128); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60_000_000_000),
    ('H', 3_600_000_000_000),
];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Well.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// For no reason that has a name.
    Unknown = 2,
    /// The caller said something that makes no sense.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// What was to be made is there.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A quota or another limit is used up.
    ResourceExhausted = 8,
    /// Something has to be done first.
    FailedPrecondition = 9,
    /// Something else was faster.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// There is no such method.
    Unimplemented = 12,
    /// Something that should hold does not.
    Internal = 13,
    /// Not now; another try may help.
    Unavailable = 14,
    /// Data was lost.
    DataLoss = 15,
    /// The caller did not say who it is.
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number in `grpc-status`.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// What a value of `grpc-status` says; [`Code::Unknown`] if it is none.
    pub fn read(value: &[u8]) -> Self {
        let number = token::digits(value).and_then(|number| usize::try_from(number).ok());
        number
            .and_then(|number| Self::ALL.get(number).copied())
            .unwrap_or(Self::Unknown)
    }

    /// What fields or trailers say; none if they have no `grpc-status`.
    pub fn of_fields(fields: &HeaderMap) -> Option<Self> {
        fields.get(STATUS).map(|value| Self::read(value.as_bytes()))
    }

    /// What stands for an HTTP status that came without a `grpc-status` (the gRPC project's
    /// `http-grpc-status-mapping`). 200 is not well without one.
    pub const fn of_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// What tells a client of an error of `kind` on `side`. [`Code::Unavailable`] is kept for what another try may help
    /// with, because clients try again for it.
    pub const fn of_error(kind: ErrorKind, side: Side) -> Self {
        use ErrorKind as K;
        match (kind, side) {
            (K::Timeout, _) => Self::DeadlineExceeded,
            (K::Denied, _) => Self::PermissionDenied,
            (K::NoRoute | K::Unsupported | K::Version, Side::Down | Side::Local) => {
                Self::Unimplemented
            }
            (K::TargetTooLong | K::HeadTooLarge | K::BodyTooLarge, Side::Down) => {
                Self::ResourceExhausted
            }
            (K::Expectation, Side::Down) => Self::FailedPrecondition,
            (K::Closed | K::Io, Side::Down) => Self::Cancelled,
            (K::Connect | K::Dns | K::Overloaded | K::Draining | K::Misdirected, _)
            | (K::Closed | K::Io | K::NoRoute, Side::Up)
            | (K::Closed, Side::Local) => Self::Unavailable,
            // What is malformed, on either side, and what is wrong here.
            _ => Self::Internal,
        }
    }
}

/// A response that has only a head, which says how the request ended (Trailers-Only). Its status is 200 whatever `code`
/// says; `message` is for people, and may be empty.
pub fn error_response(code: Code, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(STATUS, HeaderValue::from(code.number()));
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_maybe_shared(Bytes::from(message_value(message)))
    {
        fields.insert(MESSAGE, message);
    }
    response
}

/// `message` with percent-encoding: what is not printable ASCII, and the percent sign itself.
fn message_value(message: &str) -> String {
    let mut value = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => value.push(char::from(byte)),
            // Writing to memory does not fail.
            _ => _ = write!(value, "%{byte:02X}"),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_types() {
        for good in [
            "application/grpc",
            "Application/gRPC",
            "application/grpc+proto",
            "application/grpc+json",
            "application/grpc;charset=utf-8",
            "application/grpc ; a=b",
        ] {
            assert!(is_grpc(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "application/grp",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpcx",
            "application/json",
            " application/grpc",
        ] {
            assert!(!is_grpc(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn timeouts_are_read() {
        for (text, expected) in [
            ("0n", Duration::ZERO),
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("100m", Duration::from_millis(100)),
            ("001S", Duration::from_secs(1)),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(timeout(text.as_bytes()), Some(expected), "{text}");
        }
        for bad in [
            "",
            "n",
            "1",
            "1s",
            "1h",
            "1 S",
            " 1S",
            "1S ",
            "-1S",
            "+1S",
            "1.5S",
            "100000000n",
            "000000001n",
            "1nS",
        ] {
            assert_eq!(timeout(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn timeouts_are_written() {
        for (duration, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(60), "60000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(86_400 * 365), "31536000S"),
            (Duration::from_secs(99_999_999 * 60), "99999999M"),
            (Duration::from_secs(99_999_999 * 60 + 1), "1666667H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_value(duration), expected, "{duration:?}");
        }
    }

    #[test]
    fn codes_of_http() {
        for status in 100..=599 {
            let expected = match status {
                400 => 13,
                401 => 16,
                403 => 7,
                404 => 12,
                429 | 502..=504 => 14,
                _ => 2,
            };
            assert_eq!(Code::of_http(status).number(), expected, "{status}");
        }
    }

    #[test]
    fn codes_of_errors() {
        use ErrorKind as K;
        for (kind, down, up, local) in [
            (K::Malformed, Code::Internal, Code::Internal, Code::Internal),
            (
                K::TargetTooLong,
                Code::ResourceExhausted,
                Code::Internal,
                Code::Internal,
            ),
            (
                K::HeadTooLarge,
                Code::ResourceExhausted,
                Code::Internal,
                Code::Internal,
            ),
            (
                K::BodyTooLarge,
                Code::ResourceExhausted,
                Code::Internal,
                Code::Internal,
            ),
            (
                K::Unsupported,
                Code::Unimplemented,
                Code::Internal,
                Code::Unimplemented,
            ),
            (
                K::Version,
                Code::Unimplemented,
                Code::Internal,
                Code::Unimplemented,
            ),
            (
                K::Expectation,
                Code::FailedPrecondition,
                Code::Internal,
                Code::Internal,
            ),
            (
                K::Denied,
                Code::PermissionDenied,
                Code::PermissionDenied,
                Code::PermissionDenied,
            ),
            (
                K::Misdirected,
                Code::Unavailable,
                Code::Unavailable,
                Code::Unavailable,
            ),
            (K::Loop, Code::Internal, Code::Internal, Code::Internal),
            (
                K::Timeout,
                Code::DeadlineExceeded,
                Code::DeadlineExceeded,
                Code::DeadlineExceeded,
            ),
            (
                K::Closed,
                Code::Cancelled,
                Code::Unavailable,
                Code::Unavailable,
            ),
            (
                K::Connect,
                Code::Unavailable,
                Code::Unavailable,
                Code::Unavailable,
            ),
            (
                K::Dns,
                Code::Unavailable,
                Code::Unavailable,
                Code::Unavailable,
            ),
            (
                K::Overloaded,
                Code::Unavailable,
                Code::Unavailable,
                Code::Unavailable,
            ),
            (
                K::Draining,
                Code::Unavailable,
                Code::Unavailable,
                Code::Unavailable,
            ),
            (
                K::NoRoute,
                Code::Unimplemented,
                Code::Unavailable,
                Code::Unimplemented,
            ),
            (K::Io, Code::Cancelled, Code::Unavailable, Code::Internal),
            (K::Internal, Code::Internal, Code::Internal, Code::Internal),
        ] {
            for (side, expected) in [(Side::Down, down), (Side::Up, up), (Side::Local, local)] {
                assert_eq!(Code::of_error(kind, side), expected, "{kind:?} {side:?}");
            }
        }
    }

    #[test]
    fn codes_are_read() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.number() as usize, number);
            assert_eq!(Code::read(number.to_string().as_bytes()), code);
        }
        for bad in ["", "17", "-1", "x", "99999999999999999999999", " 0"] {
            assert_eq!(Code::read(bad.as_bytes()), Code::Unknown, "{bad}");
        }
        let response = error_response(Code::NotFound, "");
        assert_eq!(Code::of_fields(response.headers()), Some(Code::NotFound));
        assert_eq!(Code::of_fields(&HeaderMap::new()), None);
    }

    #[test]
    fn errors_are_told_in_a_head() {
        let response = error_response(Code::Unavailable, "50% of\nour \u{e9}");
        assert_eq!(response.status(), 200);
        let fields = response.headers();
        assert_eq!(fields.len(), 3);
        assert_eq!(fields["content-type"], "application/grpc");
        assert_eq!(fields["grpc-status"], "14");
        assert_eq!(fields["grpc-message"], "50%25 of%0Aour %C3%A9");
        let silent = error_response(Code::Ok, "");
        assert_eq!(silent.headers().len(), 2);
        assert_eq!(silent.headers()["grpc-status"], "0");
    }

    proptest! {
        #[test]
        fn a_timeout_is_read_as_it_was_written_or_a_little_longer(nanos: u64, shift in 0..64) {
            let duration = Duration::from_nanos(nanos >> shift);
            let written = timeout_value(duration);
            prop_assert!(written.len() <= 9);
            let longer = timeout(written.as_bytes()).unwrap().checked_sub(duration).unwrap();
            // A unit is at most a thousand of the one before, which did not fit in eight digits.
            prop_assert!(longer <= duration / 100_000);
        }

        #[test]
        fn any_message(message in ".{0,40}") {
            let response = error_response(Code::Internal, &message);
            let value = response.headers().get(MESSAGE).map_or(&b""[..], |value| value.as_bytes());
            let mut decoded = Vec::new();
            let mut rest = value;
            while let Some((byte, after)) = rest.split_first() {
                if *byte == b'%' {
                    let digits = std::str::from_utf8(&after[..2]).unwrap();
                    decoded.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = &after[2..];
                } else {
                    decoded.push(*byte);
                    rest = after;
                }
            }
            prop_assert_eq!(decoded, message.into_bytes());
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = timeout(&bytes);
            let _ = is_grpc(&bytes);
            let _ = Code::read(&bytes);
        }
    }
}
