//! The access log, as text and as JSON.

use std::io::{Read, Write};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::http::{connect, get, send};
use crate::support::{Dir, Oxy, eventually, origin, oxy};

#[test]
fn text_has_a_line_for_each_exchange() {
    let origin = origin::answering("hello").to_string();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &origin,
            "--access-log",
            "text",
        ],
        1,
    );
    get(oxy.at("reverse"), "/a/b?token=secret");
    let line = oxy.line();
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[1], "reverse", "{line}");
    assert!(words[0].ends_with('Z'), "{line}");
    assert!(words[2].starts_with("127.0.0.1:"), "{line}");
    assert!(line.contains(" \"GET /a/b HTTP/1.1\" "), "{line}");
    assert!(line.contains(" status=200 sent=5 took=0."), "{line}");
    assert!(line.contains(&format!(" upstream={origin}")), "{line}");
    assert!(!line.contains("secret"), "{line}");
    oxy.stop();
}

#[test]
fn what_clients_send_is_escaped() {
    let origin = origin::answering("hello").to_string();
    let args = [
        "reverse",
        "-l",
        "127.0.0.1:0",
        "--to",
        &origin,
        "--access-log",
    ];
    let target = "/\"quoted\"";
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");

    let text = Oxy::start(&[&args[..], &["text"]].concat(), 1);
    let allowed = send(text.at("reverse"), &request).status;
    let line = text.line();
    if allowed == 200 {
        assert!(line.contains("\"GET /\\\"quoted\\\" HTTP/1.1\""), "{line}");
    }
    // What is no request at all may be logged or not, but never as it came.
    let mut raw = connect(text.at("reverse"));
    raw.write_all(b"GET /\x1b[31m\x07 HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let _ = raw.read_to_end(&mut Vec::new());
    text.signal(Signal::TERM);
    for line in text.rest() {
        assert!(!line.contains(['\x1b', '\x07']), "{line:?}");
    }

    let mut command = oxy(&[&args[..], &["json"]].concat());
    command.env("RUST_LOG", "off");
    let dir = Dir::new();
    let _ = (command, dir);
}

#[test]
fn json_has_an_object_for_each_exchange_in_the_file_that_is_named() {
    let origin = origin::answering("hello").to_string();
    let dir = Dir::new();
    let log = dir.path("access.log");
    let file = dir.file(
        "oxy.yaml",
        &format!(
            "access_log: {{format: json, path: {}}}\nlisteners:\n  - name: web\n    listen: ['127.0.0.1:0']\n    http: {{to: ['{origin}']}}\n",
            log.display()
        ),
    );
    let oxy = Oxy::start(&["run", "-c", &file], 1);
    let request =
        "GET /x\"y?secret=1 HTTP/1.1\r\nHost: shop.example:81\r\nConnection: close\r\n\r\n";
    let status = send(oxy.at("web"), request).status;
    oxy.stop();
    let text = std::fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["listener"], "web");
    assert_eq!(line["client.address"], "127.0.0.1");
    assert_eq!(line["http.response.status_code"], status);
    if status == 200 {
        assert_eq!(line["http.request.method"], "GET");
        assert_eq!(line["url.path"], "/x\"y");
        assert_eq!(line["server.address"], "shop.example:81");
        assert_eq!(line["upstream"], *origin);
        assert_eq!(line["http.response.body.size"], 5);
    }
    assert!(line["duration"].as_f64().unwrap() > 0.0);
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn json_keeps_the_standard_output_to_itself() {
    let origin = origin::answering("hello").to_string();
    let mut command = oxy(&[
        "reverse",
        "-l",
        "127.0.0.1:0",
        "--to",
        &origin,
        "--access-log",
        "json",
    ]);
    // The greeting is then on the standard error, so that nothing is awaited here.
    command.env("RUST_LOG", "off");
    let mut oxy = Oxy::spawn(command, 0);
    oxy.signal(Signal::TERM);
    let ended = oxy.wait();
    if ended.0.code() == Some(0) {
        assert!(ended.1.starts_with("listening on 127.0.0.1:"), "{ended:?}");
    }
    assert!(oxy.rest().is_empty());
}

#[test]
fn relays_log_their_flows() {
    let echo = origin::echoing().to_string();
    let oxy = Oxy::start(
        &[
            "tcp",
            "-l",
            "127.0.0.1:0",
            "--to",
            &echo,
            "--access-log",
            "text",
        ],
        1,
    );
    let mut stream = connect(oxy.at("tcp"));
    stream.write_all(b"12345").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let line = oxy.line();
    assert!(line.contains(" tcp received=5 sent=5 lived="), "{line}");
    assert!(line.contains(&format!(" upstream={echo}")), "{line}");
    oxy.stop();
}

#[test]
fn tunnels_log_the_exchange_and_the_flow() {
    let echo = origin::echoing().to_string();
    let oxy = Oxy::start(
        &[
            "forward",
            "-l",
            "127.0.0.1:0",
            "--allow-private",
            "--access-log",
            "text",
        ],
        1,
    );
    let mut stream = connect(oxy.at("forward"));
    write!(stream, "CONNECT {echo} HTTP/1.1\r\nHost: {echo}\r\n\r\n").unwrap();
    crate::support::http::read_head(&mut stream);
    drop(stream);
    let lines = [oxy.line(), oxy.line()];
    assert!(
        lines[0].contains(&format!("\"CONNECT {echo} HTTP/1.1\"")),
        "{lines:?}"
    );
    assert!(lines[0].contains(" status=200 "), "{lines:?}");
    assert!(lines[1].contains(" connect received="), "{lines:?}");
    oxy.stop();
}

#[test]
fn nothing_is_logged_unless_it_is_asked_for() {
    let origin = origin::answering("hello").to_string();
    let oxy = Oxy::start(&["reverse", "-l", "127.0.0.1:0", "--to", &origin], 1);
    get(oxy.at("reverse"), "/");
    oxy.signal(Signal::TERM);
    assert_eq!(oxy.rest(), [""; 0]);
}

#[test]
fn a_log_that_cannot_be_opened_ends_with_1() {
    let dir = Dir::new();
    let file = dir.file(
        "oxy.yaml",
        "access_log: {format: text, path: /nowhere/access.log}\nlisteners: [{listen: ['127.0.0.1:0'], tcp: {to: ['127.0.0.1:1']}}]\n",
    );
    let output = crate::support::finish(&["run", "-c", &file]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.contains("/nowhere/access.log"), "{output:?}");
    let _ = eventually(|| Some(()));
}
