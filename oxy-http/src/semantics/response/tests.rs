use super::*;
use crate::h1::parse::{self, MethodKind, Parse};
use crate::limits::HeadLimits;
use crate::semantics::Pseudonym;

fn index(input: &str, method: MethodKind) -> ResponseIndex {
    let mut index = ResponseIndex::default();
    let parsed = parse::response(input.as_bytes(), &HeadLimits::default(), method, &mut index);
    assert_eq!(parsed, Ok(Parse::Complete), "{input:?}");
    index
}

const HOP: ResponseHop<'_> = ResponseHop {
    minor: 1,
    head: false,
    keep_alive: true,
    date: b"",
    upgrade: None,
};

fn forward(input: &str, hop: &ResponseHop<'_>) -> (Framed, String) {
    let method = if hop.head {
        MethodKind::Head
    } else {
        MethodKind::Other
    };
    let index = index(input, method);
    let policy = ForwardPolicy {
        via: None::<Pseudonym>,
        ..ForwardPolicy::default()
    };
    let mut out = Vec::new();
    let framed = forward_response(
        &ResponseHead::indexed(&index, input.as_bytes()),
        hop,
        &policy,
        &mut out,
    );
    let text = String::from_utf8(out).unwrap();
    let again = self::index(&text, method);
    assert_eq!(again.framing, framed.framing);
    assert_eq!(again.keep_alive, framed.keep_alive);
    (framed, text)
}

#[test]
fn a_plain_response_passes_untouched() {
    let input =
        "HTTP/1.1 299 Fine then\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        forward(input, &HOP),
        (
            Framed {
                framing: Framing::Length(5),
                keep_alive: true
            },
            input.into()
        )
    );
}

#[test]
fn hop_by_hop_fields_go() {
    let input = "HTTP/1.0 200 OK\r\nConnection: X-A, close\r\nX-A: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTrailer: x\r\n\
                 Proxy-Authenticate: x\r\nProxy-Authorization: y\r\nContent-Length: 5\r\nDate: d\r\n\r\n";
    let hop = ResponseHop {
        date: b"now",
        ..HOP
    };
    assert_eq!(
        forward(input, &hop).1,
        "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\n"
    );
}

#[test]
fn bodies_are_delimited_for_the_client() {
    let open = "HTTP/1.1 200 OK\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n";
    let ten = ResponseHop { minor: 0, ..HOP };
    assert_eq!(
        forward(open, &HOP).1,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        forward(chunked, &HOP).1,
        "HTTP/1.1 200 OK\r\nTrailer: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        forward(open, &ten).1,
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(
        forward(chunked, &ten).1,
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    );
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let shut = ResponseHop {
        keep_alive: false,
        ..HOP
    };
    assert_eq!(
        forward(length, &shut).1,
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    );
    let head = ResponseHop { head: true, ..HOP };
    assert_eq!(forward(length, &head).1, length);
    assert_eq!(forward(chunked, &head).1, "HTTP/1.1 200 OK\r\n\r\n");
    let not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(forward(not_modified, &HOP).1, not_modified);
    let none = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(forward(none, &HOP).1, "HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn an_http_10_client_is_told_that_the_connection_stays() {
    let input = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let policy = ForwardPolicy::default();
    let index = index(input, MethodKind::Other);
    let mut out = Vec::new();
    let hop = ResponseHop {
        minor: 0,
        date: b"now",
        ..HOP
    };
    let framed = forward_response(
        &ResponseHead::indexed(&index, input.as_bytes()),
        &hop,
        &policy,
        &mut out,
    );
    assert!(framed.keep_alive);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: now\r\nVia: 1.1 oxy\r\nConnection: keep-alive\r\n\r\n"
    );
}

#[test]
fn interim_heads_stay_bare() {
    let hop = ResponseHop {
        date: b"now",
        keep_alive: true,
        ..HOP
    };
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    assert_eq!(forward(hints, &hop).1, hints);
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let hop = ResponseHop {
        upgrade: Some(b"websocket"),
        ..hop
    };
    assert_eq!(
        forward(switch, &hop).1,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn head_is_told_the_length_that_get_would_be() {
    let mut response = http::Response::new(());
    let hop = ResponseHop { head: true, ..HOP };
    for (declared, body, told) in [
        (None, "", "0"),
        // The application has left the body out, as it is not sent anyway.
        (Some("99"), "", "99"),
        (Some("99"), "hello", "5"),
        (None, "hello", "5"),
    ] {
        response.headers_mut().clear();
        if let Some(declared) = declared {
            let value = http::HeaderValue::from_static(declared);
            response.headers_mut().insert("content-length", value);
        }
        let mut out = Vec::new();
        let head = ResponseHead::of_body(&response, &crate::body::Body::from(body));
        let framed = forward_response(&head, &hop, &ForwardPolicy::default(), &mut out);
        assert_eq!(framed.framing, Framing::None);
        let line = format!("\r\nContent-Length: {told}\r\n");
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&line), "{text}, and not {told}");
    }
}

#[test]
fn a_built_response_is_written_by_the_same_rules() {
    let mut response = http::Response::new(());
    response
        .headers_mut()
        .insert("content-length", http::HeaderValue::from_static("99"));
    response
        .headers_mut()
        .insert("x-a", http::HeaderValue::from_static("1"));
    *response.version_mut() = http::Version::HTTP_2;
    let mut out = Vec::new();
    let head = ResponseHead::of_response(&response, Framing::Length(5), None);
    let framed = forward_response(&head, &HOP, &ForwardPolicy::default(), &mut out);
    assert_eq!(
        framed,
        Framed {
            framing: Framing::Length(5),
            keep_alive: true
        }
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 OK\r\nx-a: 1\r\nContent-Length: 5\r\nVia: 2 oxy\r\n\r\n"
    );
}
