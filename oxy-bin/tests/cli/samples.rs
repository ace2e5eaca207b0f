//! The samples of the documentation do what they say.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;

use http::Version;

use crate::support::authority::{Authority, Pair};
use crate::support::http::{connect, get, read_head, send};
use crate::support::tls::Client;
use crate::support::{Dir, Oxy, eventually, free_port, grpc, origin, oxy};

/// Runs the sample `name` with these variables, and says where it listens.
fn run(name: &str, variables: &[(&str, &str)], listeners: usize) -> Oxy {
    let file = format!("{}/../docs/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut command = oxy(&["run", "-c", &file]);
    command.env("ADMIN", "127.0.0.1:0").env("ACCESS_LOG", "off");
    Oxy::spawn(with(&mut command, variables), listeners)
}

fn with(command: &mut std::process::Command, variables: &[(&str, &str)]) -> std::process::Command {
    command.envs(variables.iter().copied());
    std::mem::replace(command, oxy(&[]))
}

/// A request for `host`, without TLS.
fn ask(at: SocketAddr, host: &str, path: &str, field: &str) -> crate::support::http::Response {
    send(
        at,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}Connection: close\r\n\r\n"),
    )
}

#[test]
fn edge_tls() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let shop = authority.pair(&dir, "shop", &["shop.example", "www.shop.example"]);
    let blog = authority.pair(&dir, "blog", &["blog.example"]);
    let origins = ["one", "two"].map(|text| origin::answering(text).to_string());
    let posts = origin::answering("posts").to_string();
    let oxy = run(
        "edge-tls",
        &[
            ("PLAIN", "127.0.0.1:0"),
            ("EDGE", "https://127.0.0.1:0"),
            ("SHOP_1", &origins[0]),
            ("SHOP_2", &origins[1]),
            ("BLOG", &posts),
            ("SHOP_CERT", &shop.cert),
            ("SHOP_KEY", &shop.key),
            ("BLOG_CERT", &blog.cert),
            ("BLOG_KEY", &blog.key),
        ],
        3,
    );
    let (plain, edge) = (oxy.at("plain"), oxy.at("edge"));
    let moved = ask(plain, "shop.example", "/a?b", "");
    assert_eq!(moved.status, 308);
    assert!(
        moved.head.contains("location: https://shop.example/a?b"),
        "{}",
        moved.head
    );

    let client = || Client::trusting(&authority);
    let first = client().get(edge, "www.shop.example", "/").unwrap();
    assert_eq!((first.status, first.version), (200, Version::HTTP_2));
    assert!(
        first
            .head
            .contains("strict-transport-security: max-age=31536000"),
        "{}",
        first.head
    );
    // Whoever has been at an origin comes back to it.
    let cookie = first.head.split("set-cookie: ").nth(1).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    assert!(cookie.starts_with("shop_origin="), "{cookie}");
    let mut others = BTreeSet::new();
    for _ in 0..100 {
        let again = client().field("cookie", cookie);
        assert_eq!(
            again.get(edge, "shop.example", "/").unwrap().body,
            first.body
        );
        let other = client().speaking("http/1.1").get(edge, "shop.example", "/");
        others.insert(other.unwrap().body);
        // Where both have as little to do, chance decides.
        if others.len() == 2 {
            break;
        }
    }
    assert_eq!(others.len(), 2, "{others:?}");
    assert_eq!(
        client()
            .get(edge, "shop.example", "/internal/x")
            .unwrap()
            .status,
        404
    );
    let blog = client().get(edge, "blog.example", "/").unwrap();
    assert_eq!(blog.status, 302);
    assert_eq!(
        client().get(edge, "blog.example", "/posts").unwrap().body,
        "posts"
    );
    // Health, as it is found out.
    let healthy = "shop\n";
    eventually(|| {
        let page = get(oxy.at("admin"), "/clusters?text").body;
        let all = page.contains(healthy) && page.matches(" healthy ").count() == 2;
        all.then_some(())
    });
    let page = get(oxy.at("admin"), "/metrics").body;
    for series in [
        "oxy_tls_certificate_expiry_timestamp_seconds{listener=\"edge\",name=\"blog.example\"} ",
        "oxy_cluster_endpoint_requests_total{cluster=\"blog\",",
        "oxy_tls_handshakes_total{listener=\"edge\",outcome=\"full\"} ",
        "oxy_http2_floods_total{kind=\"reset\"} 0",
    ] {
        assert!(page.contains(series), "{series} is not in {page}");
    }
    oxy.stop();
}

#[test]
fn grpc_gateway() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "grpc", &["grpc.example"]);
    let (greeter, orders) = (grpc::answering("greeter"), grpc::answering("orders"));
    let oxy = run(
        "grpc-gateway",
        &[
            ("GRPC", "https://127.0.0.1:0"),
            ("GREETER", &greeter.to_string()),
            ("ORDERS", &orders.to_string()),
            ("CERT", &pair.cert),
            ("KEY", &pair.key),
        ],
        2,
    );
    let at = oxy.at("grpc");
    let call = |path: &str| {
        Client::trusting(&authority)
            .get(at, "grpc.example", path)
            .unwrap()
    };
    for service in ["greeter.Greeter/Hello", "orders.Orders/List"] {
        let got = call(&format!("/{service}"));
        assert_eq!((got.status, got.version), (200, Version::HTTP_2), "{got:?}");
        assert!(service.starts_with(&got.body), "{got:?}");
        assert!(got.head.ends_with("grpc-status: 0\r\n"), "{got:?}");
    }
    let unknown = call("/other.Other/Any");
    assert!(unknown.head.contains("grpc-status: 12"), "{unknown:?}");
    let old = Client::trusting(&authority).speaking("http/1.1");
    old.get(at, "grpc.example", "/").unwrap_err();
    eventually(|| {
        let page = get(oxy.at("admin"), "/clusters?text").body;
        page.contains(&format!("{greeter} healthy ")).then_some(())
    });
    oxy.stop();
}

#[test]
fn canary() {
    let (stable, canary) = (origin::answering("stable"), origin::answering("canary"));
    let oxy = run(
        "canary",
        &[
            ("WEB", "127.0.0.1:0"),
            ("STABLE", &stable.to_string()),
            ("CANARY", &canary.to_string()),
            ("STABLE_WEIGHT", "70"),
            ("CANARY_WEIGHT", "30"),
        ],
        2,
    );
    let at = oxy.at("web");
    for version in ["stable", "canary"] {
        let field = format!("X-Version: {version}\r\n");
        for _ in 0..4 {
            assert_eq!(ask(at, "a", "/", &field).body, version);
        }
    }
    let dealt = (0..100).filter(|_| get(at, "/").body == "canary").count();
    assert!(
        (10..=50).contains(&dealt),
        "{dealt} of 100, where 30 were meant"
    );
    oxy.stop();
}

#[test]
fn mtls() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let orders = authority.pair(&dir, "orders", &["orders.internal"]);
    let payments = authority.pair(&dir, "payments", &["payments.internal"]);
    let other = authority.pair(&dir, "other", &["other.internal"]);
    // The built-in origin says what it was sent.
    let app = Oxy::start(&["reverse", "-l", "127.0.0.1:0", "--to", "builtin"], 1);
    let app_at = app.at("reverse").to_string();
    let port = free_port();
    let (inside, peer) = (
        format!("https://127.0.0.1:{port}"),
        format!("127.0.0.1:{port}"),
    );
    let oxy = run(
        "mtls",
        &[
            ("OUT", "127.0.0.1:0"),
            ("IN", &inside),
            ("PAYMENTS", &peer),
            ("APP", &app_at),
            ("CA", &authority.ca),
            ("OUT_CERT", &orders.cert),
            ("OUT_KEY", &orders.key),
            ("IN_CERT", &payments.cert),
            ("IN_KEY", &payments.key),
        ],
        2,
    );
    let forged = "X-Forwarded-Client-Cert: DNS=evil.internal\r\n";
    let echo = ask(oxy.at("out"), "payments.internal", "/echo", forged).body;
    assert!(echo.contains("x-forwarded-client-cert: Hash="), "{echo}");
    assert!(echo.contains(";DNS=orders.internal"), "{echo}");
    assert!(!echo.contains("evil"), "{echo}");
    // Whether the built-in origin has the path is another question than whether it was asked.
    assert_eq!(
        ask(oxy.at("out"), "payments.internal", "/pay/1", "").status,
        404
    );

    let inward = oxy.at("in");
    let stranger = Client::trusting(&authority).get(inward, "payments.internal", "/");
    stranger.unwrap_err();
    let as_other = |path| {
        let client = Client::trusting(&authority).with(&other);
        let client = client.field("x-forwarded-client-cert", "DNS=orders.internal");
        client.get(inward, "payments.internal", path).unwrap()
    };
    assert_eq!(as_other("/pay/1").status, 403);
    assert!(as_other("/echo").body.contains("DNS=other.internal"));
    oxy.stop();
    app.stop();
}

/// A server with a certificate of its own that says `text`.
fn server(pair: &Pair, text: &'static str) -> Oxy {
    let origin = origin::answering(text).to_string();
    Oxy::start(
        &[
            "reverse",
            "-l",
            "https://127.0.0.1:0",
            "--cert",
            &pair.cert,
            "--key",
            &pair.key,
            "--to",
            &origin,
        ],
        1,
    )
}

#[test]
fn sni() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let names = [
        "mail.example",
        "git.example",
        "other.example",
        "site.example",
    ];
    let [mail_pair, git_pair, other_pair, site_pair] =
        names.map(|name| authority.pair(&dir, name, &[name, &format!("imap.{name}")]));
    let (git, others) = (server(&git_pair, "git"), server(&other_pair, "others"));
    // This one is told who the client is.
    let hello = origin::answering("mail");
    let mail = dir.file(
        "mail.yaml",
        &format!(
            "access_log: {{format: text}}\nlisteners:\n  - name: mail\n    listen: ['https://127.0.0.1:0']\n    proxy_protocol: {{}}\n    tls: {{certificates: [{{cert: {}, key: {}}}]}}\n    http: {{to: ['{hello}']}}\n",
            mail_pair.cert, mail_pair.key
        ),
    );
    let mail = Oxy::start(&["run", "-c", &mail], 1);
    let site = origin::answering("site").to_string();
    let (git_at, others_at) = (
        git.at("reverse").to_string(),
        others.at("reverse").to_string(),
    );
    let oxy = run(
        "sni",
        &[
            ("TLS", "127.0.0.1:0"),
            ("MIXED", "https://127.0.0.1:0"),
            ("MAIL", &mail.at("mail").to_string()),
            ("GIT", &git_at),
            ("OTHERS", &others_at),
            ("SITE", &site),
            ("CERT", &site_pair.cert),
            ("KEY", &site_pair.key),
        ],
        3,
    );
    let (tls, mixed) = (oxy.at("tls"), oxy.at("mixed"));
    let client = Client::trusting(&authority);
    let body = |at, name| client.get(at, name, "/").unwrap().body;
    assert_eq!(body(tls, "mail.example"), "mail");
    assert_eq!(body(tls, "imap.mail.example"), "mail");
    assert_eq!(body(tls, "git.example"), "git");
    assert_eq!(body(tls, "other.example"), "others");
    // What is no TLS goes to the last one, too, which says so.
    assert_eq!(get(tls, "/").status, 400);
    // The server's own certificate is what the client sees.
    assert_eq!(body(mixed, "git.example"), "git");
    assert_eq!(body(mixed, "site.example"), "site");

    // Its log has the client's address, not the proxy's: a connection that stays open is listed with its name.
    let mut stream = connect(tls);
    let local = stream.local_addr().unwrap();
    stream.write_all(&hello_for("mail.example")).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    eventually(|| {
        let page = get(oxy.at("admin"), "/flows").body;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let flows = page["flows"].as_array().unwrap();
        let flow = flows
            .iter()
            .find(|flow| flow["peer"] == local.to_string())?;
        assert_eq!(flow["tls"]["server_name"], "mail.example", "{flow}");
        assert!(
            flow["tls"]["ja4"].as_str().unwrap().starts_with('t'),
            "{flow}"
        );
        Some(())
    });
    drop(stream);
    let line = eventually(|| Some(mail.line()).filter(|line| line.contains("error=")));
    assert!(line.contains(&format!(" mail {local} ")), "{line}");
    oxy.stop();
}

/// What a TLS 1.2 client says first that asks for `name`, and can do nothing.
fn hello_for(name: &str) -> Vec<u8> {
    let mut extension = vec![0, 0];
    let len = name.len() as u16;
    for number in [len + 5, len + 3] {
        extension.extend(number.to_be_bytes());
    }
    extension.push(0);
    extension.extend(len.to_be_bytes());
    extension.extend(name.as_bytes());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, one cipher suite that nobody has, no compression.
    body.extend([0, 0, 2, 0x13, 0x37, 1, 0]);
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[test]
fn connections_for_nobody_are_refused_where_there_is_no_default() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "a", &["a.example", "b.example"]);
    let server = server(&pair, "a");
    let at = server.at("reverse");
    let file = dir.file(
        "oxy.yaml",
        &format!("listeners:\n  - {{name: tls, listen: ['127.0.0.1:0'], tcp: {{sni: [{{names: [a.example], to: ['{at}']}}]}}}}\n"),
    );
    let oxy = Oxy::start(&["run", "-c", &file], 1);
    let client = Client::trusting(&authority);
    assert_eq!(
        client.get(oxy.at("tls"), "a.example", "/").unwrap().body,
        "a"
    );
    client.get(oxy.at("tls"), "b.example", "/").unwrap_err();
    oxy.stop();
}

#[test]
fn the_proxy_protocol_goes_in_and_out() {
    let dir = Dir::new();
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = origin.local_addr().unwrap();
    let file = dir.file(
        "oxy.yaml",
        &format!(
            "clusters:\n  - {{name: origin, endpoints: ['{at}'], send_proxy_protocol: {{version: v1}}}}\nlisteners:\n  - name: relay\n    listen: ['127.0.0.1:0']\n    proxy_protocol: {{}}\n    tcp: {{cluster: origin}}\n  - name: web\n    listen: ['127.0.0.1:0']\n    proxy_protocol: {{required: false}}\n    http: {{cluster: origin}}\n"
        ),
    );
    let oxy = Oxy::start(&["run", "-c", &file], 2);
    let mut stream = connect(oxy.at("relay"));
    stream
        .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\nhello\r\n\r\n")
        .unwrap();
    let (mut far, _) = origin.accept().unwrap();
    let head = read_head(&mut far);
    assert_eq!(
        head,
        "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\nhello\r\n\r\n"
    );
    drop((stream, far));

    let mut stream = connect(oxy.at("web"));
    stream
        .write_all(b"PROXY TCP4 192.0.2.9 192.0.2.8 1234 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (mut far, _) = origin.accept().unwrap();
    let head = read_head(&mut far).to_ascii_lowercase();
    assert!(
        head.starts_with("proxy tcp4 192.0.2.9 192.0.2.8 1234 443\r\nget / http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("x-forwarded-for: 192.0.2.9\r\n"), "{head}");
    drop((stream, far));
    oxy.stop();
}
