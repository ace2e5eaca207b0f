//! What the proxy says itself.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use oxy_core::Error;

use crate::body::Body;
use crate::date;
use crate::scratch::Out;

/// A response with `status`, and a line of text that says it again.
pub fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(text(status)));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The response that tells a client of `error`: its status, and nothing of what is behind it.
pub fn of_error(error: &Error) -> Response<Body> {
    plain(status(error))
}

fn status(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn text(status: StatusCode) -> String {
    format!(
        "{} {}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error")
    )
}

/// Writes the head of a response that tells of `error` and ends the connection; gives its body.
pub(crate) fn write_error(error: &Error, out: &mut Out) -> Bytes {
    let status = status(error);
    let body = text(status);
    let reason = status.canonical_reason().unwrap_or("Error");
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    out.extend_from_slice(
        format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nDate: ",
            body.len()
        )
        .as_bytes(),
    );
    date::with(|date| out.extend_from_slice(date));
    out.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
    body.into()
}
