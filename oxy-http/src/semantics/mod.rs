//! What a proxy changes in a message, and nothing else (RFC 9110 section 7.6, RFC 9112 sections 3.2 and 6, RFC 7239).
//!
//! The rules stand here once. They read fields from a [`fields::Fields`], which is the index of a raw HTTP/1.1 head or
//! a header map, and write them to a [`fields::Sink`], which is the bytes of the next head or a header map again. The
//! bytes of a target are normalised only where the policy says so: what an origin makes of `%2e%2e` is for it to say.

pub mod fields;
pub(crate) mod normalise;
pub mod policy;
pub mod recipient;
pub mod request;
pub mod response;
pub mod trailers;

pub use fields::{Fields, Indexed, Lines, MapSink, Mapped, Sink};
pub use policy::{ForwardPolicy, Forwarding, Pseudonym};
pub use recipient::answer_here;
pub use request::{
    Outcome, RequestHead, RequestHop, Wire, forward_request, request_fields, upgrade_offer,
};
pub use response::{Framed, ResponseHead, ResponseHop, forward_response, response_fields};
pub use trailers::{may_be_trailer, trailer_map, write_trailer_map, write_trailers};

/// The version of HTTP in which a message was received, as Via names it (RFC 9110 section 7.6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Received {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Received {
    pub(crate) const fn of_minor(minor: u8) -> Self {
        if minor == 0 {
            Self::Http10
        } else {
            Self::Http11
        }
    }

    pub(crate) fn of(version: http::Version) -> Self {
        match version {
            http::Version::HTTP_3 => Self::Http3,
            http::Version::HTTP_2 => Self::Http2,
            http::Version::HTTP_11 => Self::Http11,
            _ => Self::Http10,
        }
    }

    const fn via(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"1.0 ",
            Self::Http11 => b"1.1 ",
            Self::Http2 => b"2 ",
            Self::Http3 => b"3 ",
        }
    }
}
