//! Requests of HTTP/2 as the rest of the proxy takes them (RFC 9113 section 8.3).

use std::sync::Arc;

use ::h2::RecvStream;
use ::h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, request};
use oxy_core::{Error, ErrorKind, Result};

use super::incoming::{Home, Incoming};
use super::server::Stream;
use crate::body::Body;
use crate::h1::{target, token};
use crate::message::Req;
use crate::options::HttpOptions;
use crate::websocket;

/// Whether a request is one that may go on; where it is another version's way of saying something, it is made to say it as
/// HTTP/1.1 does.
pub(crate) fn check(parts: &mut request::Parts, options: &HttpOptions) -> Result<()> {
    let malformed = |what| Error::down(ErrorKind::Malformed).context(what);
    let limits = &options.head;
    if parts.headers.len() > limits.max_fields {
        return Err(Error::down(ErrorKind::HeadTooLarge).context("too many fields"));
    }
    for value in parts.headers.values() {
        // RFC 9113 section 8.2.1.
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value.as_bytes() {
            return Err(malformed("white space around a field's value"));
        }
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    if path.len() > limits.max_target {
        return Err(Error::down(ErrorKind::TargetTooLong).context("a path over the limit"));
    }
    let protocol = parts.extensions.remove::<Protocol>();
    let is_tunnel = parts.method == Method::CONNECT && protocol.is_none();
    let wrong_path = match path {
        _ if is_tunnel => false,
        "*" => parts.method != Method::OPTIONS,
        path => !path.starts_with('/') || target::path(path.as_bytes()).is_err(),
    };
    if wrong_path {
        return Err(malformed("a bad path"));
    }
    if parts.uri.scheme_str() == Some("") {
        return Err(malformed("an empty scheme"));
    }
    authority(parts, is_tunnel)?;
    join_cookies(&mut parts.headers);
    if let Some(protocol) = protocol {
        upgrade(parts, &protocol)?;
    }
    Ok(())
}

/// RFC 9113 section 8.3.1: an authority is there, has no userinfo, and is not another one than Host's.
fn authority(parts: &request::Parts, is_tunnel: bool) -> Result<()> {
    let malformed = |what| Err(Error::down(ErrorKind::Malformed).context(what));
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("more than one Host");
    }
    let text = match (parts.uri.authority(), host) {
        (Some(authority), Some(host))
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes()) =>
        {
            return malformed("Host and :authority differ");
        }
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return malformed("no authority"),
    };
    match target::authority(text) {
        Some(authority) if !authority.empty && (!is_tunnel || authority.port.is_some()) => Ok(()),
        _ => malformed("a bad authority"),
    }
}

/// RFC 9113 section 8.2.3: crumbs of a cookie are one field to everybody else.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    // Values joined by what a value may have are one.
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(whole)) {
        headers.insert(header::COOKIE, value);
    }
}

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;

/// Extended CONNECT (RFC 8441 section 4) asks for what Upgrade asks for in HTTP/1.1, which is how hooks see it.
fn upgrade(parts: &mut request::Parts, protocol: &Protocol) -> Result<()> {
    let malformed = || Error::down(ErrorKind::Malformed).context("a bad :protocol");
    let name = protocol.as_str();
    if !token::is_token(name.as_bytes()) {
        return Err(malformed());
    }
    parts.method = Method::GET;
    let headers = &mut parts.headers;
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let value = HeaderValue::from_str(name).map_err(|_| malformed())?;
    headers.insert(header::UPGRADE, value);
    if name.eq_ignore_ascii_case("websocket") {
        headers.insert(KEY, websocket::key());
    }
    Ok(())
}

/// The request, and what a tunnel would be read from if it becomes one.
pub(crate) fn exchanged(
    parts: request::Parts,
    recv: RecvStream,
    stream: &Arc<Stream>,
) -> (Req, Option<RecvStream>) {
    let tunnels = parts.method == Method::CONNECT || parts.headers.contains_key(header::UPGRADE);
    if tunnels || recv.is_end_stream() {
        let request = Request::from_parts(parts, Body::empty());
        return (Req::from(request), tunnels.then_some(recv));
    }
    let length = content_length(&parts.headers);
    let expecting = parts
        .headers
        .get_all(header::EXPECT)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let home = Home::Client(stream.clone(), expecting);
    let incoming = Incoming::new(recv, length, home).at_most(stream.options().body.max_request);
    (
        Req::from(Request::from_parts(parts, Body::stream(incoming))),
        None,
    )
}

/// What Content-Length says, which the `h2` crate has checked.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    token::digits(headers.get(header::CONTENT_LENGTH)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: http::request::Builder) -> request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn checked(request: http::request::Builder) -> Result<request::Parts> {
        let mut parts = parts(request);
        check(&mut parts, &HttpOptions::default()).map(|()| parts)
    }

    #[test]
    fn what_hides_a_second_meaning_is_malformed() {
        let get = || Request::get("http://a/b");
        assert!(checked(get()).is_ok());
        assert!(checked(get().header("host", "A")).is_ok());
        assert!(checked(Request::get("/b").header("host", "a")).is_ok());
        for bad in [
            get().header("host", "b"),
            get().header("host", "a").header("host", "a"),
            Request::get("/b"),
            Request::get("http://u@a/b"),
            get().header("x", " y"),
            get().header("x", "y\t"),
            Request::builder().method("CONNECT").uri("a"),
            Request::get("http://a/\u{e9}"),
        ] {
            let text = format!("{bad:?}");
            let error = checked(bad).expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
        }
        assert!(checked(Request::builder().method("CONNECT").uri("a:1")).is_ok());
        let star = |method: &str| {
            let uri = http::Uri::from_static("*");
            checked(
                Request::builder()
                    .method(method)
                    .uri(uri)
                    .header("host", "a"),
            )
        };
        assert!(star("OPTIONS").is_ok());
        assert!(star("GET").is_err());
    }

    #[test]
    fn what_is_too_much_is_said_to_be() {
        let long = format!("http://a/{}", "b".repeat(9000));
        let error = checked(Request::get(long)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TargetTooLong);
        let mut many = Request::get("http://a/");
        for n in 0..101 {
            many = many.header(format!("x{n}"), "y");
        }
        assert_eq!(checked(many).unwrap_err().kind(), ErrorKind::HeadTooLarge);
    }

    #[test]
    fn crumbs_are_joined() {
        let request = Request::get("http://a/")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("cookie", "c=3");
        let parts = checked(request).unwrap();
        let cookies: Vec<_> = parts.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn extended_connect_is_an_upgrade() {
        let request = Request::builder()
            .method("CONNECT")
            .uri("https://a/chat")
            .extension(Protocol::from_static("websocket"));
        let parts = checked(request).unwrap();
        assert_eq!(parts.method, "GET");
        assert_eq!(parts.uri.path(), "/chat");
        assert_eq!(parts.headers["upgrade"], "websocket");
        assert_eq!(parts.headers["connection"], "upgrade");
        assert_eq!(parts.headers["sec-websocket-key"].len(), 24);
    }
}
