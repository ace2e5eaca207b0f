//! Trailers (RFC 9110 section 6.5): which are passed on, and how they are written.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::h1::chunked::Trailers;
use crate::h1::write::{CRLF, LAST_CHUNK_BEFORE_TRAILERS};

/// Whether a field may stand in a trailer section. RFC 9110 section 6.5.1 forbids what frames, routes, authenticates,
/// modifies a request or describes the content, since a recipient has acted on the head by then, and one that merges
/// trailers into the head would be fooled.
pub fn may_be_trailer(name: &[u8]) -> bool {
    let is = |other: &&[u8]| name.eq_ignore_ascii_case(other);
    let begins = |prefix: &&[u8]| {
        name.len() > prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix)
    };
    !FORBIDDEN.iter().any(is) && !FORBIDDEN_PREFIXES.iter().any(begins)
}

const FORBIDDEN: &[&[u8]] = &[
    // Framing and hop-by-hop.
    b"transfer-encoding",
    b"content-length",
    b"connection",
    b"keep-alive",
    b"upgrade",
    b"te",
    b"trailer",
    b"http2-settings",
    // Routing.
    b"host",
    b"via",
    b"forwarded",
    b"max-forwards",
    b"location",
    b"alt-svc",
    // Request modifiers and conditions.
    b"expect",
    b"range",
    b"cache-control",
    b"pragma",
    b"priority",
    // Authentication and state.
    b"authorization",
    b"www-authenticate",
    b"authentication-info",
    b"cookie",
    b"set-cookie",
    b"origin",
    b"referer",
    // Control data of responses.
    b"age",
    b"date",
    b"expires",
    b"retry-after",
    b"vary",
    b"warning",
    b"refresh",
    b"clear-site-data",
    b"strict-transport-security",
    // How to read the content. Content-Digest may come late.
    b"content-type",
    b"content-encoding",
    b"content-range",
    b"content-location",
    b"content-language",
    b"content-disposition",
    b"content-security-policy",
];

const FORBIDDEN_PREFIXES: &[&[u8]] = &[
    b"x-forwarded-",
    b"proxy-",
    b"if-",
    b"accept",
    b"access-control-",
    b"sec-",
    b"x-http-",
];

/// Appends the end of a chunked body with those of `trailers` that may be passed on.
pub fn write_trailers(trailers: &Trailers, out: &mut Vec<u8>) {
    out.reserve(trailers.block.len() + 8);
    write(trailers.iter().map(|(_, name, value)| (name, value)), out);
}

/// Appends the end of a chunked body with those of `trailers` that may be passed on.
pub fn write_trailer_map(trailers: &HeaderMap, out: &mut Vec<u8>) {
    write(
        trailers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        out,
    );
}

fn write<'a>(trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
    out.extend_from_slice(LAST_CHUNK_BEFORE_TRAILERS);
    for (name, value) in trailers.filter(|(name, _)| may_be_trailer(name)) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(CRLF);
    }
    out.extend_from_slice(CRLF);
}

/// Those of `trailers` that may be passed on, in the types of the `http` crate.
pub fn trailer_map(trailers: &Trailers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(trailers.fields.len());
    for (_, name, value) in trailers.iter().filter(|(_, name, _)| may_be_trailer(name)) {
        // What the decoder has let through, `http` takes.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::chunked::{Decoder, Step};
    use crate::limits::ChunkLimits;

    fn trailers(block: &str) -> Trailers {
        let input = format!("0\r\n{block}\r\n");
        match Decoder::new().decode(input.as_bytes(), &ChunkLimits::default()) {
            Ok((_, Step::Done(trailers))) => {
                trailers.map_or_else(Trailers::default, |trailers| *trailers)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_harmless_trailers_are_written() {
        let trailers = trailers(
            "Grpc-Status: 0\r\nContent-Length: 5\r\nX-Forwarded-For: a\r\nSet-Cookie: a\r\nContent-Digest:\tb \r\n",
        );
        let mut out = Vec::new();
        write_trailers(&trailers, &mut out);
        assert_eq!(out, b"0\r\nGrpc-Status: 0\r\nContent-Digest: b\r\n\r\n");
        let map = trailer_map(&trailers);
        assert_eq!(map.len(), 2);
        out.clear();
        write_trailer_map(&map, &mut out);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\ncontent-digest: b\r\n\r\n");
        out.clear();
        write_trailer_map(&HeaderMap::new(), &mut out);
        assert_eq!(out, crate::h1::write::LAST_CHUNK);
    }
}
