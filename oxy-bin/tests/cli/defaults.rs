//! `oxy` without a word, and the origin that it brings along.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::support::http::{connect, get, read_head, send};
use crate::support::tls::Client;
use crate::support::{Dir, Oxy, finish};

/// What `oxy` runs on, with ports that the system chooses.
fn tour() -> (Dir, Oxy) {
    let settings = finish(&["config", "default"]).out;
    let settings = [":8080", ":8443", ":3128", ":9901"]
        .iter()
        .fold(settings, |text, port| {
            assert!(text.contains(port), "{port}");
            text.replace(port, ":0")
        });
    let dir = Dir::new();
    let oxy = Oxy::start(&["run", "-c", &dir.file("oxy.yaml", &settings)], 4);
    (dir, oxy)
}

#[test]
fn the_tour_says_what_listens_where_and_what_to_try() {
    let ports = [8080, 8443, 3128, 9901];
    let taken = ports
        .iter()
        .find(|port| TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], **port))).is_err());
    if let Some(port) = taken {
        eprintln!("skipped: port {port} of 127.0.0.1 is taken");
        let output = finish(&[]);
        assert_eq!(output.code, Some(1));
        assert!(output.err.contains("in use"), "{output:?}");
        return;
    }
    let oxy = Oxy::start(&[], 4);
    let rest: Vec<_> = (0..2).map(|_| oxy.line()).collect();
    let said = format!("{}{}", oxy.greeting, rest.join("\n"));
    for line in [
        "listening on 127.0.0.1:8080 (reverse)",
        "curl http://127.0.0.1:8080/",
        "listening on 127.0.0.1:8443 (https)",
        " https://127.0.0.1:8443/",
        "listening on 127.0.0.1:3128 (forward)",
        "curl -x http://127.0.0.1:3128 http://example.com/",
        "listening on 127.0.0.1:9901 (admin)",
        "curl http://127.0.0.1:9901/metrics",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert_eq!(get(oxy.at("reverse"), "/").status, 200);
    oxy.stop();
}

#[test]
fn the_builtin_origin_stands_behind_a_real_proxy() {
    let (_dir, oxy) = tour();
    let at = oxy.at("reverse");
    let welcome = get(at, "/");
    assert!(welcome.body.contains("/bytes/N"), "{}", welcome.body);
    assert!(welcome.head.contains("via: 1.1 oxy"), "{}", welcome.head);
    let echo = get(at, "/echo?a=b");
    assert!(
        echo.body.starts_with("GET /echo?a=b HTTP/1.1\n"),
        "{}",
        echo.body
    );
    assert!(
        echo.body.contains("x-forwarded-for: 127.0.0.1\n"),
        "{}",
        echo.body
    );
    let posted = send(
        at,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/x-test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    assert_eq!(posted.body, "hello");
    assert!(
        posted.head.contains("content-type: text/x-test"),
        "{}",
        posted.head
    );
    let bytes = get(at, "/bytes/300000");
    assert!(
        bytes.head.contains("content-length: 300000"),
        "{}",
        bytes.head
    );
    assert_eq!(bytes.body.len(), 300_000);
    assert_eq!(get(at, "/delay/1").body, "1 ms later\n");
    for (path, status) in [
        ("/status/200", 200),
        ("/status/204", 204),
        ("/status/304", 304),
        ("/status/503", 503),
        ("/status/599", 599),
        ("/status/600", 400),
        ("/status/101", 400),
        ("/bytes/x", 400),
        ("/bytes/10737418241", 400),
        ("/delay/60001", 400),
        ("/bytes", 404),
        ("/nothing", 404),
    ] {
        assert_eq!(get(at, path).status, status, "{path}");
    }
    assert_eq!(oxy.stop().lines().count(), 1);
}

#[test]
fn the_tour_has_tls_with_an_authority_that_lives_as_long_as_it() {
    let (_dir, oxy) = tour();
    let file = oxy.greeting.split("--cacert ").nth(1).unwrap();
    let file = file.split(' ').next().unwrap().to_owned();
    for host in ["localhost", "127.0.0.1", "::1"] {
        let got = Client::trusting_file(&file).get(oxy.at("https"), host, "/echo");
        let got = got.unwrap();
        assert_eq!(got.version, http::Version::HTTP_2);
        assert!(
            got.body.contains("x-forwarded-proto: https"),
            "{}",
            got.body
        );
    }
    let old = Client::trusting_file(&file).speaking("http/1.1");
    assert_eq!(
        old.get(oxy.at("https"), "localhost", "/").unwrap().status,
        200
    );
    oxy.stop();
    assert!(
        !std::path::Path::new(&file).exists(),
        "{file} is still there"
    );
}

#[test]
fn echo_streams_both_ways_at_once() {
    let (_dir, oxy) = tour();
    let mut stream = connect(oxy.at("reverse"));
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n")
        .unwrap();
    // The first chunk is back before the second is sent.
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut seen = Vec::new();
    while !seen.windows(5).any(|window| window == b"first") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("second"), "{rest}");
    // A connection that stays open on this side is waited for when the proxy goes away.
    drop(stream);
    oxy.stop();
}
