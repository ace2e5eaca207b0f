//! What a proxy answers where it is the final recipient: a request whose Max-Forwards is used up.

use http::{HeaderValue, Response, header};

use super::Received;
use super::fields::Fields;
use super::request::RequestHead;
use crate::body::Body;

/// Not to be shown to whoever can make a client send TRACE (RFC 9110 section 9.3.8).
const SENSITIVE: [&[u8]; 4] = [
    b"authorization",
    b"proxy-authorization",
    b"cookie",
    b"x-api-key",
];

/// The response to a TRACE or OPTIONS that goes no further (RFC 9110 sections 7.6.2, 9.3.7 and 9.3.8): what was received,
/// less what is sensitive, or the methods that pass.
pub fn answer_here<F: Fields>(head: &RequestHead<'_, F>) -> Response<Body> {
    if head.method == b"TRACE" {
        let mut response = Response::new(Body::from(reflect(head)));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("message/http"),
        );
        return response;
    }
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(
        header::ALLOW,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"),
    );
    response
}

fn reflect<F: Fields>(head: &RequestHead<'_, F>) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.fields.size() + head.path.len() + 64);
    out.extend_from_slice(head.method);
    out.push(b' ');
    out.extend_from_slice(if head.path.is_empty() {
        b"/"
    } else {
        head.path
    });
    out.extend_from_slice(match head.received {
        Received::Http10 => b" HTTP/1.0\r\n",
        _ => b" HTTP/1.1\r\n",
    });
    for field in head.fields.iter() {
        let is_sensitive = SENSITIVE
            .iter()
            .any(|name| name.eq_ignore_ascii_case(field.name));
        if !is_sensitive {
            for part in [field.name, b": ", field.value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}
