//! TLS on both sides, from the command line.

use http::Version;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::http::{connect, get};
use crate::support::tls::Client;
use crate::support::{Dir, Oxy, eventually, finish, free_port, origin};

#[test]
fn reverse_serves_https_in_both_versions() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let one = authority.pair(&dir, "one", &["one.example"]);
    let two = authority.pair(&dir, "two", &["two.example"]);
    let origin = origin::answering("hello").to_string();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "https://127.0.0.1:0",
            "-l",
            "127.0.0.1:0",
            "--cert",
            &one.cert,
            "--key",
            &one.key,
            "--cert",
            &two.cert,
            "--key",
            &two.key,
            "--to",
            &origin,
            "--access-log",
            "text",
        ],
        2,
    );
    let at = oxy.at("reverse-2");
    let client = Client::trusting(&authority);
    let got = client.get(at, "one.example", "/").unwrap();
    assert_eq!(
        (got.status, got.body.as_str(), got.version),
        (200, "hello", Version::HTTP_2)
    );
    let line = oxy.line();
    assert!(line.contains("\"GET / HTTP/2.0\""), "{line}");
    assert!(
        line.contains(" tls=1.3 sni=one.example alpn=h2 upstream="),
        "{line}"
    );
    // The second certificate is for the second name; each is chosen by what the client asks for.
    let client = Client::trusting(&authority).speaking("http/1.1");
    let got = client.get(at, "two.example", "/").unwrap();
    assert_eq!(
        (got.body.as_str(), got.version),
        ("hello", Version::HTTP_11)
    );
    let error = client.get(at, "three.example", "/").unwrap_err();
    assert!(error.contains("name"), "{error}");
    // Without TLS it is served where that was asked for, and nowhere else.
    assert_eq!(get(oxy.at("reverse"), "/").body, "hello");
    assert_eq!(get(at, "/").status, 400);
    drop(connect(at));
    oxy.stop();
}

#[test]
fn origins_are_reached_through_tls() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "origin", &["localhost"]);
    let hello = origin::answering("hello").to_string();
    let origin = Oxy::start(
        &[
            "reverse",
            "-l",
            "https://127.0.0.1:0",
            "--cert",
            &pair.cert,
            "--key",
            &pair.key,
            "--to",
            &hello,
            "--access-log",
            "text",
        ],
        1,
    );
    let port = origin.at("reverse").port();
    let named = format!("https://localhost:{port}");
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &named,
            "--ca",
            &authority.ca,
        ],
        1,
    );
    let response = get(oxy.at("reverse"), "/");
    assert_eq!((response.status, response.body.as_str()), (200, "hello"));
    let line = origin.line();
    assert!(line.contains(" tls=1.3 sni=localhost alpn=h2 "), "{line}");
    oxy.stop();

    // The certificate is for another name, and by nobody whom the platform trusts.
    let address = format!("https://127.0.0.1:{port}");
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &address,
            "--ca",
            &authority.ca,
        ],
        1,
    );
    assert_eq!(get(oxy.at("reverse"), "/").status, 502);
    oxy.stop();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &address,
            "--insecure",
        ],
        1,
    );
    assert_eq!(get(oxy.at("reverse"), "/").body, "hello");
    oxy.stop();
    origin.stop();
}

#[test]
fn endpoints_from_dns_prove_their_names() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "origin", &["a.example"]);
    let hello = origin::answering("hello").to_string();
    let origin = Oxy::start(
        &[
            "reverse",
            "-l",
            "https://127.0.0.1:0",
            "--cert",
            &pair.cert,
            "--key",
            &pair.key,
            "--to",
            &hello,
        ],
        1,
    );
    let port = origin.at("reverse").port();
    // The name, what the settings say instead, and whether that is the origin's own.
    for (name, more, is_good) in [
        ("a.example", "", true),
        ("b.example", "", false),
        ("b.example", ", server_name: a.example", true),
        ("a.example", ", server_name: b.example", false),
    ] {
        let file = dir.file(
            "oxy.yaml",
            &format!(
                "admin: {{listen: '127.0.0.1:0'}}
clusters:
  - name: c
    endpoints: ['dns://{name}:{port}']
    resolve: {{hosts: {{{name}: [127.0.0.1]}}}}
    health: {{kind: {{http: {{path: /}}}}, interval: 50ms}}
    failover: {{panic_percent: 0}}
    http: {{tls: {{ca: [{}]{more}}}}}
listeners:
  - {{name: web, listen: ['127.0.0.1:0'], http: {{cluster: c}}}}
",
                authority.ca
            ),
        );
        let oxy = Oxy::start(&["run", "-c", &file], 2);
        let health = eventually(|| {
            let page = get(oxy.at("admin"), "/clusters").body;
            let report: Value = serde_json::from_str(&page).unwrap();
            let health = report["clusters"][0]["endpoints"][0]["health"]
                .as_str()?
                .to_owned();
            (health != "unchecked").then_some(health)
        });
        assert_eq!(health == "healthy", is_good, "{name}{more}: {health}");
        let status = get(oxy.at("web"), "/").status;
        assert_eq!(status == 200, is_good, "{name}{more}: {status}");
        oxy.stop();
    }
    origin.stop();
}

#[test]
fn streams_are_relayed_out_of_tls_too_and_logged_once() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "any", &["a.example"]);
    let origin = origin::answering("hello");
    let file = dir.file(
        "oxy.yaml",
        &format!(
            "access_log: {{format: json}}\nlisteners:\n  - name: relay\n    listen: ['https://127.0.0.1:{port}']\n    tls: {{alpn: [http/1.1], certificates: [{{cert: {}, key: {}}}]}}\n    tcp: {{to: ['{origin}']}}\n",
            pair.cert,
            pair.key,
            port = free_port(),
        ),
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.split("https://").nth(1).unwrap();
    let at = at.split('\'').next().unwrap().parse().unwrap();
    let oxy = Oxy::start(&["run", "-c", &file], 0);
    let client = Client::trusting(&authority);
    let got = eventually(|| client.get(at, "a.example", "/").ok());
    assert_eq!((got.status, got.body.as_str()), (200, "hello"));
    // What failed of its handshake is told of by the connection, and what did not by what lay in it.
    let stranger = Dir::new();
    Client::trusting(&Authority::new(&stranger))
        .get(at, "a.example", "/")
        .unwrap_err();
    oxy.signal(Signal::TERM);
    let lines = oxy.rest();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let mut lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Two workers may have one each, and tell of them in any order.
    lines.sort_by_key(|line| line["layer"] == "tcp");
    assert_eq!(lines[0]["layer"], "tls", "{lines:#?}");
    assert_eq!(lines[0]["tls.protocol.version"], "1.3");
    assert_eq!(lines[0]["tls.client.server_name"], "a.example");
    assert_eq!(lines[0]["tls.next_protocol"], "http/1.1");
    assert_eq!(lines[0]["tls.resumed"], false);
    assert_eq!(lines[0]["upstream"], *origin.to_string());
    assert_eq!(lines[1]["layer"], "tcp", "{lines:#?}");
    assert_eq!(lines[1]["error.type"], "tls", "{lines:#?}");
    assert_eq!(lines[1]["error.side"], "client", "{lines:#?}");
    assert_eq!(lines[1]["tls.client.server_name"], "a.example");
}

#[test]
fn what_is_missing_or_contradicts_itself_is_said() {
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let pair = authority.pair(&dir, "any", &["localhost"]);
    let (cert, key) = (pair.cert.as_str(), pair.key.as_str());
    let plain = ["reverse", "-l", "127.0.0.1:0"];
    let secure = ["reverse", "-l", "https://127.0.0.1:0"];
    for (base, more, said) in [
        (secure, &["--to", "builtin"][..], "needs --cert and --key"),
        (
            secure,
            &["--to", "builtin", "--cert", cert],
            "each --cert needs its --key",
        ),
        (
            secure,
            &["--to", "builtin", "--cert", key, "--key", key],
            "no certificate in it",
        ),
        (
            secure,
            &["--to", "builtin", "--cert", cert, "--key", "/nowhere/key"],
            "/nowhere/key: ",
        ),
        (
            plain,
            &["--to", "builtin", "--cert", cert, "--key", key],
            "for https:// in --listen",
        ),
        (
            plain,
            &["--to", "https://a", "--to", "http://b"],
            "have one scheme",
        ),
        (
            plain,
            &["--to", "http://a", "--insecure"],
            "are for https:// origins",
        ),
        (
            plain,
            &["--to", "https://a", "--ca", "/nowhere/ca"],
            "/nowhere/ca: ",
        ),
    ] {
        let args: Vec<_> = base.iter().chain(more).copied().collect();
        let output = finish(&args);
        assert_eq!(output.code, Some(3), "{args:?} {output:?}");
        assert!(output.err.starts_with("oxy: command line: "), "{output:?}");
        assert!(output.err.contains(said), "{args:?} {output:?}");
    }
    let output = finish(&["tcp", "-l", "https://127.0.0.1:0", "--to", "a:1"]);
    assert_eq!(output.code, Some(3), "{output:?}");
}
