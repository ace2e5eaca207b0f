//! From an index to the types of the `http` crate, for those who ask for them.
//!
//! Everything that the parser lets through is taken by `http`, so none of this fails on a head that was indexed; it
//! still returns a `Result`, because a request that silently became another one would be worse than a 500.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version, request, response};
use oxy_core::ErrorKind;

use super::index::{Field, RequestIndex, ResponseIndex, Span, TargetForm};
use super::reject::Reject;

impl RequestIndex {
    /// The request in the types of the `http` crate. Values share the memory of `head`.
    ///
    /// The target is kept in its form: in origin-form the URI has no authority.
    pub fn parts(&self, head: &Bytes) -> Result<request::Parts, Reject> {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = Method::from_bytes(self.method.of(head)).map_err(|_| foreign())?;
        parts.uri = self.uri(head)?;
        parts.version = version(self.minor);
        parts.headers = header_map(&self.fields, head)?;
        Ok(parts)
    }

    /// The target as a URI.
    pub fn uri(&self, head: &Bytes) -> Result<Uri, Reject> {
        if self.form == TargetForm::Asterisk {
            return Ok(Uri::from_static("*"));
        }
        Uri::from_maybe_shared(slice(head, self.target)).map_err(|_| foreign())
    }
}

impl ResponseIndex {
    /// The response in the types of the `http` crate, without its reason phrase. Values share the memory of `head`.
    pub fn parts(&self, head: &Bytes) -> Result<response::Parts, Reject> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(self.status).map_err(|_| foreign())?;
        parts.version = version(self.minor);
        parts.headers = header_map(&self.fields, head)?;
        Ok(parts)
    }
}

/// The fields at `fields` in `head`, in order.
pub fn header_map(fields: &[Field], head: &Bytes) -> Result<HeaderMap, Reject> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = match field.known.header_name() {
            Some(name) => name,
            None => HeaderName::from_bytes(field.name().of(head)).map_err(|_| foreign())?,
        };
        let value =
            HeaderValue::from_maybe_shared(slice(head, field.value())).map_err(|_| foreign())?;
        map.append(name, value);
    }
    Ok(map)
}

fn slice(head: &Bytes, span: Span) -> Bytes {
    if span.range().end <= head.len() {
        head.slice(span.range())
    } else {
        Bytes::new()
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

fn foreign() -> Reject {
    Reject::new(ErrorKind::Internal, "the index is not of this head")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, MethodKind, Parse};
    use crate::limits::HeadLimits;

    #[test]
    fn a_request_is_built() {
        let head = Bytes::from_static(b"\r\nPOST http://a:1/b?c HTTP/1.1\r\nHost: x\r\nX: \xff\r\nX:\r\nContent-Length: 2\r\n\r\nhi");
        let mut index = RequestIndex::default();
        assert_eq!(
            parse::request(&head, &HeadLimits::default(), &mut index),
            Ok(Parse::Complete)
        );
        let parts = index.parts(&head).unwrap();
        assert_eq!(parts.method, Method::POST);
        assert_eq!(parts.uri, "http://a:1/b?c");
        assert_eq!(
            parts
                .headers
                .get_all("x")
                .iter()
                .map(HeaderValue::as_bytes)
                .collect::<Vec<_>>(),
            [&b"\xff"[..], b""]
        );
        assert!(index.parts(&Bytes::new()).is_err());
    }

    #[test]
    fn a_response_is_built() {
        let head = Bytes::from_static(b"HTTP/1.0 299 X\r\nServer: s\r\n\r\n");
        let mut index = ResponseIndex::default();
        assert_eq!(
            parse::response(&head, &HeadLimits::default(), MethodKind::Other, &mut index),
            Ok(Parse::Complete)
        );
        let parts = index.parts(&head).unwrap();
        assert_eq!(
            (parts.status.as_u16(), parts.version),
            (299, Version::HTTP_10)
        );
        assert_eq!(parts.headers["server"], "s");
    }
}
