//! The examples do what they say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

#[cfg(feature = "tower")]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/axum_service.rs"]
mod axum_service;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/balancing.rs"]
mod balancing;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/firewall.rs"]
mod firewall;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/gateway.rs"]
mod gateway;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/h2_gateway.rs"]
mod h2_gateway;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
#[path = "../examples/rewriter.rs"]
mod rewriter;

use std::sync::{Mutex, mpsc};

use support::{Bench, Origin, Peer};

fn named(name: &str) -> Origin {
    Origin::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
        name.len()
    ))
}

#[test]
fn the_gateway_knows_keys_and_ways() {
    let setup = Bench::alone();
    let (users, orders) = (named("users"), named("orders"));
    let upstreams = [users.address().into(), orders.address().into()];
    let bench = setup.hooks(gateway::Gateway(upstreams));
    let mut client = bench.client();
    for (path, key, status, body) in [
        ("/users/1", "X-Api-Key: secret\r\n", 200, "users"),
        ("/orders", "x-api-key: secret\r\n", 200, "orders"),
        (
            "/users/1",
            "X-Api-Key: guess\r\n",
            401,
            "401 Unauthorized\n",
        ),
        ("/orders", "", 401, "401 Unauthorized\n"),
        ("/other", "", 401, "401 Unauthorized\n"),
        ("/other", "X-Api-Key: secret\r\n", 404, "404 Not Found\n"),
        ("/ordersx", "X-Api-Key: secret\r\n", 404, "404 Not Found\n"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{key}\r\n"));
        let response = client.response();
        assert_eq!(
            (response.status(), response.text()),
            (status, body),
            "{path}"
        );
    }
    assert_eq!((users.accepted(), orders.accepted()), (1, 1));
    drop(client);
    users.finish();
    orders.finish();
    bench.finish();
}

#[test]
fn the_firewall_reads_bodies() {
    let setup = Bench::before(Origin::echo);
    let bench = setup.hooks(firewall::Firewall(b"<script>"));
    let mut client = bench.client();
    let long = "x".repeat(70_000);
    for (body, status) in [
        ("harmless", 200),
        ("", 200),
        ("a <script> b", 403),
        ("<script", 200),
        // RFC 9112 section 7.1: chunks are no boundary to what a body says.
        ("chunked", 403),
        (&long, 413),
    ] {
        client.send("POST / HTTP/1.1\r\nHost: a\r\n");
        client.send(match body {
            "chunked" => {
                "Transfer-Encoding: chunked\r\n\r\n4\r\n<scr\r\n4\r\nipt>\r\n0\r\n\r\n".into()
            }
            _ => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        });
        let response = client.response();
        assert_eq!(response.status(), status, "{body:.20}");
        if status == 200 {
            assert!(response.text().ends_with(&format!("\r\n\r\n{body}")));
        }
    }
    drop(client);
    bench.finish_with_pool();
}

/// Sends `page` in pieces of `size` bytes, chunked.
fn page(page: &'static str, kind: &'static str, size: usize) -> Origin {
    Origin::each(move |peer| {
        while peer.request().is_ok() {
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            for piece in page.as_bytes().chunks(size) {
                let piece = String::from_utf8_lossy(piece);
                peer.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            peer.send("0\r\n\r\n");
        }
    })
}

#[test]
fn the_rewriter_finds_words_in_pieces() {
    let text = "word, wordword wor wo word w worword wword wor";
    let expected = "thing, thingthing wor wo thing w worthing wthing wor";
    for (kind, expected) in [
        ("text/html; charset=utf-8", expected),
        ("text/html", expected),
        ("text/plain", text),
    ] {
        for size in 1..text.len() {
            let setup = Bench::before(|| page(text, kind, size));
            let bench = setup.hooks(rewriter::Rewriter(b"word", b"thing"));
            let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(response.text(), expected, "in pieces of {size}");
            bench.finish_with_pool();
        }
    }
}

#[test]
fn the_rewriter_knows_what_it_cannot_read() {
    let setup = Bench::before(|| {
        Origin::each(|peer| {
            while let Ok(request) = peer.request() {
                assert_eq!(request.field("accept-encoding"), None);
                assert_eq!(request.field("range"), None);
                peer.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n",
                );
                if request.start.starts_with("GET") {
                    peer.send("two words");
                }
            }
        })
    });
    let bench = setup.hooks(rewriter::Rewriter(b"word", b"thing"));
    let mut client = bench.client();
    let fields = "Host: a\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\n\r\n";
    client.send(format!("HEAD / HTTP/1.1\r\n{fields}"));
    // RFC 9110 section 8.6: no length is better than one that GET would not have.
    assert_eq!(client.head().unwrap().field("content-length"), None);
    client.send(format!("GET / HTTP/1.1\r\n{fields}"));
    assert_eq!(client.response().text(), "two things");
    drop(client);
    bench.finish_with_pool();
}

/// What has been sent arrives before more is sent.
#[test]
fn the_rewriter_streams() {
    let (go, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let setup = Bench::before(|| {
        Origin::each(move |peer: &mut Peer| {
            peer.request().unwrap();
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n");
            for _ in 0..3 {
                peer.send("a word and more of it ");
                told.lock().unwrap().recv().unwrap();
            }
        })
    });
    let bench = setup.hooks(rewriter::Rewriter(b"word", b"thing"));
    let mut client = bench.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.raw_head().unwrap();
    let mut seen = String::new();
    for turn in 1..=3 {
        while seen.matches("thing").count() < turn {
            seen += std::str::from_utf8(&client.read(1)).unwrap();
        }
        go.send(()).unwrap();
    }
    seen += &client.rest_text().0;
    assert_eq!(seen, "a thing and more of it ".repeat(3));
    drop(client);
    bench.finish();
}

#[test]
fn the_h2_gateway_serves_both_versions() {
    let setup = Bench::before(|| named("origin"));
    let http = |http: oxy_http::Http<_>| http.options(h2_gateway::options());
    let bench = setup.proxy(h2_gateway::Gateway, |proxy| proxy, http);
    let response = bench.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(response.text(), "origin");
    assert!(response.field("x-connection").is_some());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(bench.address()).await;
        let (send, connection) = h2::client::handshake(socket.unwrap()).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut send = send.clone().ready().await.unwrap();
            let request = http::Request::get("http://a/").body(()).unwrap();
            let response = send.send_request(request, true).unwrap().0.await.unwrap();
            seen.push(response.headers()["x-connection"].clone());
            let mut body = response.into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "origin");
        }
        assert_eq!(seen[0], seen[1], "one connection");
        assert_eq!(send.current_max_send_streams(), 32);
        drop(send);
        connection.await.unwrap().unwrap();
    });
    drop(runtime);
    bench.finish_with_pool();
}

/// An origin that takes its time, as the test allows.
fn slow(name: &'static str) -> Origin {
    Origin::each(move |peer| {
        while peer.request().is_ok() {
            if name == "slow" {
                std::thread::sleep(std::time::Duration::from_millis(500));
            }
            let length = name.len();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
            ));
        }
    })
}

#[test]
fn balancing_finds_the_fastest() {
    let setup = Bench::alone();
    let origins = [slow("slow"), slow("fast")];
    let targets = origins.each_ref().map(|origin| origin.address().into());
    let upstream = balancing::upstream(targets).unwrap();
    let bench = setup.proxy((), |proxy| proxy, |http| http.upstream(upstream));
    let mut client = bench.client();
    let mut seen = Vec::new();
    for _ in 0..6 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        seen.push(client.response().text().to_owned());
    }
    // Each is tried once, and the fast one is kept.
    assert_eq!(
        seen.iter().filter(|name| *name == "slow").count(),
        1,
        "{seen:?}"
    );
    assert_eq!(seen[2..], ["fast"; 4]);
    drop(client);
    for origin in origins {
        origin.finish();
    }
    bench.finish();
}

#[cfg(feature = "tower")]
#[test]
fn the_axum_service_has_pages_of_its_own() {
    let hooks = axum_service::Internal(oxy_http::tower::Answer(axum_service::app()));
    let bench = Bench::before(|| named("origin")).hooks(hooks);
    let mut client = bench.client();
    for (request, expected) in [
        ("GET /internal/health HTTP/1.1\r\nHost: a\r\n\r\n", "well\n"),
        (
            "POST /internal/shout HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "HELLO",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "origin"),
    ] {
        client.send(request);
        assert_eq!(client.response().text(), expected);
    }
    drop(client);
    bench.finish_with_pool();
}
