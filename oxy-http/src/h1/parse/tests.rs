use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::h1::index::TargetForm;

fn one(input: &[u8], limits: &HeadLimits) -> Result<(Parse, RequestIndex), Reject> {
    let mut index = RequestIndex::default();
    request(input, limits, &mut index).map(|parse| (parse, index))
}

/// Parses the whole input, and every prefix of it, which must never be accepted where the whole is not.
fn read(input: &[u8]) -> Result<(Parse, RequestIndex), Reject> {
    let limits = HeadLimits::default();
    let whole = one(input, &limits);
    for cut in 0..input.len() {
        match (one(&input[..cut], &limits), &whole) {
            (Ok((Parse::Partial, _)), _) | (Err(_), Err(_)) => {}
            (Ok((Parse::Complete, index)), Ok((Parse::Complete, all))) => assert_eq!(&index, all),
            (part, whole) => panic!(
                "{:?} cut at {cut}: {part:?} but {whole:?}",
                String::from_utf8_lossy(input)
            ),
        }
    }
    whole
}

fn good(input: &str) -> RequestIndex {
    match read(input.as_bytes()) {
        Ok((Parse::Complete, index)) => index,
        other => panic!("{input:?}: {other:?}"),
    }
}

fn refused(input: &str) -> ErrorKind {
    match read(input.as_bytes()) {
        Err(reject) => reject.kind,
        other => panic!("{input:?}: {other:?}"),
    }
}

fn with(lines: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_request() {
    let input = "\r\nGET /a?b HTTP/1.1\r\nHost: a:1\r\nX-Foo:\t b c \t\r\nEmpty:  \r\n\r\nrest";
    let index = good(input);
    let head = input.as_bytes();
    assert_eq!(index.method.of(head), b"GET");
    assert_eq!(index.target.of(head), b"/a?b");
    assert_eq!(index.authority(head), b"a:1");
    assert_eq!(index.find(head, b"x-foo"), Some(&b"b c"[..]));
    assert_eq!(index.find(head, b"empty"), Some(&b""[..]));
    assert_eq!(&head[index.head_len..], b"rest");
    assert!(index.keep_alive);
    assert_eq!(
        (index.minor, index.framing, index.form),
        (1, Framing::None, TargetForm::Origin)
    );
}

#[test]
fn request_lines() {
    use ErrorKind::{Malformed, TargetTooLong, Unsupported, Version};
    for (line, kind) in [
        ("GET  /a HTTP/1.1", Malformed),
        ("GET /a  HTTP/1.1", Malformed),
        ("GET /a b HTTP/1.1", Malformed),
        (" GET /a HTTP/1.1", Malformed),
        ("\nGET /a HTTP/1.1", Malformed),
        ("\r\n\r\n\r\nGET /a HTTP/1.1", Malformed),
        ("G@T /a HTTP/1.1", Malformed),
        ("GET: /a HTTP/1.1", Malformed),
        ("GET /a", Malformed),
        ("GET /a\tHTTP/1.1", Malformed),
        ("GET /a\rHTTP/1.1", Malformed),
        ("GET /a HTTP/1.1 ", Malformed),
        ("GET /a HTTP/1.10", Malformed),
        ("GET /a HTTP/01.1", Malformed),
        ("GET /a http/1.1", Malformed),
        ("GET /a HTP/1.1", Malformed),
        ("GET /a HTTP/1,1", Malformed),
        ("GET /a HTTP/1.2", Version),
        ("GET /a HTTP/2.0", Version),
        ("GET /a HTTP/0.9", Version),
        ("PRI * HTTP/2.0", Version),
        ("GET /\u{7f} HTTP/1.1", Malformed),
        ("GET /\u{e9} HTTP/1.1", Malformed),
        ("GET /a#b HTTP/1.1", Malformed),
        ("GET * HTTP/1.1", Malformed),
        ("GET a:80 HTTP/1.1", Malformed),
        ("CONNECT /a HTTP/1.1", Malformed),
    ] {
        assert_eq!(
            refused(&format!("{line}\r\nHost: a\r\n\r\n")),
            kind,
            "{line:?}"
        );
    }
    assert_eq!(
        refused(&format!(
            "{} /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "A".repeat(33)
        )),
        Unsupported
    );
    let limits = HeadLimits {
        max_target: 10,
        ..HeadLimits::default()
    };
    assert!(one(b"GET /123456789 HTTP/1.1\r\nHost: a\r\n\r\n", &limits).is_ok());
    assert_eq!(
        one(b"GET /1234567890 HTTP/1.1\r\nHost: a\r\n\r\n", &limits)
            .unwrap_err()
            .kind,
        TargetTooLong
    );
    assert_eq!(
        one(b"GET /1234567890", &limits).unwrap_err().kind,
        TargetTooLong
    );
}

#[test]
fn line_ends_are_crlf() {
    for bad in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\nY: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \t\nY: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rZ",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n",
    ] {
        assert_eq!(refused(bad), ErrorKind::Malformed, "{bad:?}");
    }
}

#[test]
fn field_lines() {
    for bad in [
        "X : a",
        "X\t: a",
        ": a",
        ":",
        "X",
        "X(: a",
        "X\0: a",
        "X: \0",
        "X: a\u{7f}",
        "X: \u{b}",
        "X\u{e9}: a",
        "X,Y: a",
    ] {
        assert_eq!(
            refused(&with(&format!("{bad}\r\n"))),
            ErrorKind::Malformed,
            "{bad:?}"
        );
    }
    good(&with("X: caf\u{e9}\r\n!#$%&'*+-.^_`|~: a\r\n"));
}

#[test]
fn hosts() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), ErrorKind::Malformed);
    assert_eq!(
        refused("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n"),
        ErrorKind::Malformed
    );
    assert_eq!(
        refused("GET http://a/ HTTP/1.1\r\n\r\n"),
        ErrorKind::Malformed
    );
    for bad in ["a b", "a@b", "a:b", "<a>", "a/b", "a, b", "[::1", "a:99999"] {
        assert_eq!(
            refused(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n")),
            ErrorKind::Malformed,
            "{bad}"
        );
    }
    good("GET / HTTP/1.1\r\nHost:\r\n\r\n");
    good("GET / HTTP/1.0\r\n\r\n");
    let input = "GET http://b:2 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(good(input).authority(input.as_bytes()), b"b:2");
}

#[test]
fn framings() {
    use ErrorKind::{Malformed, Unsupported};
    let framing = |lines: &str| good(&with(lines)).framing;
    assert_eq!(framing(""), Framing::None);
    assert_eq!(framing("Content-Length: 0\r\n"), Framing::Length(0));
    assert_eq!(framing("content-length:007 \r\n"), Framing::Length(7));
    assert_eq!(framing("Transfer-Encoding: ChunkeD\r\n"), Framing::Chunked);
    for (lines, kind) in [
        ("Content-Length: \r\n", Malformed),
        ("Content-Length: +5\r\n", Malformed),
        ("Content-Length: 5, 5\r\n", Malformed),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Malformed),
        ("Content-Length: 18446744073709551621\r\n", Malformed),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Malformed,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Malformed,
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n",
            Unsupported,
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", Unsupported),
        ("Transfer-Encoding: gzip\r\n", Malformed),
        ("Transfer-Encoding: chunked, gzip\r\n", Malformed),
        ("Transfer-Encoding: chunked, chunked\r\n", Malformed),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Malformed,
        ),
        ("Transfer-Encoding: ,chunked\r\n", Malformed),
        ("Transfer-Encoding: \"chunked\"\r\n", Malformed),
        ("Transfer-Encoding: \r\n", Malformed),
        ("Transfer-Encoding: xchunked\r\n", Malformed),
    ] {
        assert_eq!(refused(&with(lines)), kind, "{lines:?}");
    }
    assert_eq!(
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Malformed
    );
    assert_eq!(
        refused("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
        Malformed
    );
    assert_eq!(
        refused("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Malformed
    );
}

#[test]
fn connection_options() {
    let keep = |version: &str, option: &str| {
        good(&format!(
            "GET / HTTP/{version}\r\nHost: a\r\nConnection: {option}\r\n\r\n"
        ))
        .keep_alive
    };
    assert!(keep("1.1", "") && keep("1.1", "x") && keep("1.0", "Keep-Alive") && !keep("1.0", "x"));
    assert!(!keep("1.1", "x, CLOSE") && !keep("1.0", "keep-alive,close"));
    let input =
        with("Connection: X-A, x-b , Via,close\r\nx-a: 1\r\nX-B: 2\r\nX-C: 3\r\nVia: 1.1 d\r\n");
    let index = good(&input);
    let named: Vec<_> = index
        .fields
        .iter()
        .filter(|f| f.named)
        .map(|f| f.name().of(input.as_bytes()))
        .collect();
    assert_eq!(named, [b"x-a", b"X-B"]);
    assert_eq!(
        refused(&with(&format!("Connection: {}\r\n", "a,".repeat(33)))),
        ErrorKind::HeadTooLarge
    );
    assert_eq!(refused(&with("Connection: a b\r\n")), ErrorKind::Malformed);
}

#[test]
fn upgrades_and_expectations() {
    assert!(good(&with("Connection: Upgrade\r\nUpgrade: websocket\r\n")).upgrade);
    assert!(!good(&with("Upgrade: websocket\r\n")).upgrade);
    assert!(!good(&with("Connection: upgrade\r\n")).upgrade);
    assert!(
        !good(&with(
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n"
        ))
        .upgrade
    );
    assert!(good(&with("Expect: 100-Continue\r\nContent-Length: 5\r\n")).expect_continue);
    assert!(!good(&with("Expect: 100-continue\r\n")).expect_continue);
    assert!(!good("POST / HTTP/1.0\r\nExpect: cows\r\nContent-Length: 5\r\n\r\n").expect_continue);
    assert_eq!(refused(&with("Expect: cows\r\n")), ErrorKind::Expectation);
    assert_eq!(
        refused(&with("Expect: 100-continue\r\nExpect: 100-continue\r\n")),
        ErrorKind::Expectation
    );
    assert!(good(&with("TE: gzip, trailers\r\n")).te_trailers);
}

#[test]
fn limits_hold() {
    let limits = HeadLimits {
        max_head: 40,
        max_target: 20,
        max_fields: 2,
    };
    assert!(
        one(
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 345678901\r\n\r\n",
            &limits
        )
        .is_err()
    );
    assert!(one(b"GET / HTTP/1.1\r\nHost: a\r\nX: 5678901\r\n\r\n", &limits).is_ok());
    assert_eq!(
        one(b"GET / HTTP/1.1\r\nHost: a\r\nX: 345678901234", &limits)
            .unwrap_err()
            .kind,
        ErrorKind::HeadTooLarge
    );
    assert!(one(b"GET / HTTP/1.1\r\na:\r\nHost:\r\n\r\n", &limits).is_ok());
    assert_eq!(
        one(b"GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\n\r\n", &limits)
            .unwrap_err()
            .kind,
        ErrorKind::HeadTooLarge
    );
    // More fields than fit on the stack.
    let limits = HeadLimits {
        max_fields: 300,
        ..HeadLimits::default()
    };
    for (fields, ok) in [(127, true), (128, true), (299, true), (300, false)] {
        let input = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: b\r\n".repeat(fields)
        );
        let parsed = one(input.as_bytes(), &limits);
        assert_eq!(parsed.is_ok(), ok, "{fields}");
        if let Ok((_, index)) = parsed {
            assert_eq!(index.fields.len(), fields + 1);
        }
    }
}

fn read_response(input: &str, method: MethodKind) -> Result<(Parse, ResponseIndex), Reject> {
    let limits = HeadLimits::default();
    let one = |bytes: &[u8]| {
        let mut index = ResponseIndex::default();
        response(bytes, &limits, method, &mut index).map(|parse| (parse, index))
    };
    let whole = one(input.as_bytes());
    for cut in 0..input.len() {
        match (one(&input.as_bytes()[..cut]), &whole) {
            (Ok((Parse::Partial, _)), _) | (Err(_), Err(_)) => {}
            (Ok((Parse::Complete, index)), Ok((Parse::Complete, all))) => assert_eq!(&index, all),
            (part, whole) => panic!("{input:?} cut at {cut}: {part:?} but {whole:?}"),
        }
    }
    whole
}

#[test]
fn status_lines() {
    let reason = |line: &str| {
        let input = format!("{line}\r\nContent-Length: 5\r\n\r\nhello");
        let (parse, index) = read_response(&input, MethodKind::Other).ok()?;
        assert_eq!(
            (parse, index.framing),
            (Parse::Complete, Framing::Length(5))
        );
        Some(String::from_utf8_lossy(index.reason.of(input.as_bytes())).into_owned())
    };
    assert_eq!(reason("HTTP/1.1 200 OK then").as_deref(), Some("OK then"));
    assert_eq!(reason("HTTP/1.0 200 ").as_deref(), Some(""));
    assert_eq!(reason("HTTP/1.1 200").as_deref(), Some(""));
    assert_eq!(reason("HTTP/1.1 599 d\u{e9}").as_deref(), Some("d\u{e9}"));
    for bad in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 600 OK",
        "http/1.1 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/1.1  200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 a\rb",
        "HTTP/1.1 200 a\0b",
        "\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 a\nX: b",
    ] {
        assert_eq!(reason(bad), None, "{bad:?}");
    }
}

#[test]
fn response_framings() {
    use MethodKind::{Connect, Head, Other};
    let read = |status: u16, lines: &str, method| {
        let (_, index) =
            read_response(&format!("HTTP/1.1 {status} X\r\n{lines}\r\n"), method).ok()?;
        Some((index.framing, index.content_length, index.keep_alive))
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let five = "Content-Length: 5\r\n";
    assert_eq!(
        read(200, "", Other),
        Some((Framing::UntilClose, None, false))
    );
    assert_eq!(
        read(200, five, Other),
        Some((Framing::Length(5), Some(5), true))
    );
    assert_eq!(
        read(200, chunked, Other),
        Some((Framing::Chunked, None, true))
    );
    assert_eq!(read(200, five, Head), Some((Framing::None, Some(5), true)));
    assert_eq!(read(200, chunked, Head), Some((Framing::None, None, true)));
    assert_eq!(read(304, five, Other), Some((Framing::None, Some(5), true)));
    assert_eq!(read(304, chunked, Other), Some((Framing::None, None, true)));
    assert_eq!(read(204, "", Other), Some((Framing::None, None, true)));
    assert_eq!(read(204, five, Other), Some((Framing::None, None, false)));
    assert_eq!(read(100, "", Other), Some((Framing::None, None, true)));
    assert_eq!(read(200, five, Connect), Some((Framing::None, None, true)));
    assert_eq!(
        read(200, chunked, Connect),
        Some((Framing::None, None, true))
    );
    assert_eq!(
        read(403, five, Connect),
        Some((Framing::Length(5), Some(5), true))
    );
    for (status, lines) in [
        (204, chunked),
        (100, chunked),
        (200, "Content-Length: 5\r\nContent-Length: 5\r\n"),
        (200, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (200, "Transfer-Encoding: gzip\r\n"),
        (200, "Content-Length: x\r\n"),
    ] {
        assert_eq!(read(status, lines, Other), None, "{lines:?}");
    }
    assert!(
        read_response(
            "HTTP/1.0 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
            Other
        )
        .is_err()
    );
    let (_, index) = read_response(
        "HTTP/1.0 200 X\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
        Other,
    )
    .unwrap();
    assert!(index.keep_alive);
    let (_, index) = read_response(
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n",
        Other,
    )
    .unwrap();
    assert!(index.upgrade);
}

prop_compose! {
    fn field()(name in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", value in "([!-~]([ \t!-~]{0,12}[!-~])?)?",
               lead in "[ \t]{0,2}", tail in "[ \t]{0,2}") -> (String, String, String, String) {
        // A prefix keeps clear of the names that have a meaning.
        (format!("x{name}"), value, lead, tail)
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_trouble(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&input);
    }

    #[test]
    fn nearly_good_heads_are_no_trouble(
        at in any::<prop::sample::Index>(), byte in prop::sample::select(&b"\r\n\0 \t:,;A\xff1/*"[..]), insert in any::<bool>()
    ) {
        let mut input = b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\nX: y\r\n\r\n".to_vec();
        let at = at.index(input.len());
        if insert { input.insert(at, byte) } else { input[at] = byte }
        let _ = read(&input);
    }

    #[test]
    fn what_was_written_is_read(
        method in "[A-Z]{1,10}", target in "/[a-z0-9/._~%-]{0,20}(\\?[a-z=&/?]{0,10})?", minor in 0_u8..2,
        fields in prop::collection::vec(field(), 0..10), length in prop::option::of(any::<u32>()),
    ) {
        prop_assume!(!matches!(method.as_str(), "CONNECT" | "TRACE"));
        let mut input = format!("{method} {target} HTTP/1.{minor}\r\nHost: a\r\n");
        for (name, value, lead, tail) in &fields {
            let _ = write!(input, "{name}:{lead}{value}{tail}\r\n");
        }
        if let Some(length) = length {
            let _ = write!(input, "Content-Length: {length}\r\n");
        }
        input += "\r\n";
        let index = good(&input);
        let head = input.as_bytes();
        prop_assert_eq!(index.method.of(head), method.as_bytes());
        prop_assert_eq!(index.target.of(head), target.as_bytes());
        prop_assert_eq!(index.minor, minor);
        prop_assert_eq!(index.head_len, head.len());
        prop_assert_eq!(index.framing, length.map_or(Framing::None, |length| Framing::Length(length.into())));
        for (field, (name, value, ..)) in index.fields[1..].iter().zip(&fields) {
            prop_assert_eq!(field.name().of(head), name.as_bytes());
            prop_assert_eq!(field.value().of(head), value.as_bytes());
        }
    }
}
