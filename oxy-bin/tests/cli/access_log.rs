//! The access log, as text and as JSON.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::http::{connect, get, read_head, send};
use crate::support::{Dir, Oxy, eventually, finish, origin};

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
    assert!(
        line.contains(" status=200 received=0 sent=5 took=0."),
        "{line}"
    );
    assert!(line.contains(&format!(" upstream={origin}")), "{line}");
    assert!(!line.contains("secret"), "{line}");
    oxy.stop();
}

#[test]
fn what_clients_send_is_escaped() {
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
    let request = "GET /\\' HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(send(oxy.at("reverse"), request).status, 200);
    let line = oxy.line();
    assert!(line.contains(r#" "GET /\\' HTTP/1.1" "#), "{line}");
    // Whether this is a request at all is not for the log to say; as it came, it must not be in there.
    for hostile in ["/\x1b[31m\x07", "/\"", "/\u{202e}"] {
        let mut stream = connect(oxy.at("reverse"));
        write!(stream, "GET {hostile} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    oxy.signal(Signal::TERM);
    for line in oxy.rest() {
        assert!(
            line.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{line:?}"
        );
        let quotes = line.replace("\\\"", "").matches('"').count();
        assert!(quotes == 0 || quotes == 4, "{line:?}");
    }
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
        "GET /x\\y?secret=1 HTTP/1.1\r\nHost: shop.example:81\r\nConnection: close\r\n\r\n";
    assert_eq!(send(oxy.at("web"), request).status, 200);
    oxy.stop();
    let text = std::fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["listener"], "web");
    assert_eq!(line["client.address"], "127.0.0.1");
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["http.request.method"], "GET");
    assert_eq!(line["url.path"], "/x\\y");
    assert_eq!(line["server.address"], "shop.example:81");
    assert_eq!(line["upstream"], *origin);
    assert_eq!(line["http.request.body.size"], 0);
    assert_eq!(line["http.response.body.size"], 5);
    assert!(line["duration"].as_f64().unwrap() > 0.0);
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn json_keeps_the_standard_output_to_itself() {
    let origin = origin::answering("hello").to_string();
    let dir = Dir::new();
    let path = dir.path("listener");
    let listen = format!("unix:{}", path.display());
    let mut oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            &listen,
            "--to",
            &origin,
            "--access-log",
            "json",
        ],
        0,
    );
    let mut stream = eventually(|| UnixStream::connect(&path).ok());
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let line: Value = serde_json::from_str(&oxy.line()).unwrap();
    assert_eq!(line["http.response.status_code"], 200);
    oxy.signal(Signal::TERM);
    let (status, errors) = oxy.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    let greeting = format!("listening on {listen} (reverse)\n");
    assert!(errors.starts_with(&greeting), "{errors}");
    assert!(oxy.rest().is_empty());
}

#[test]
fn what_was_no_request_is_logged_as_a_flow() {
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            "builtin",
            "--access-log",
            "text",
        ],
        1,
    );
    let at = oxy.at("reverse");
    assert_eq!(
        send(at, "\x16\x03\x01 this is not HTTP\r\n\r\n").status,
        400
    );
    let line = oxy.line();
    assert!(line.contains(" tcp received="), "{line}");
    assert!(line.ends_with(" error=client:malformed"), "{line}");
    // What an exchange has told of is not told again; nor is a connection that ends well.
    send(
        at,
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n",
    );
    get(at, "/");
    drop(connect(at));
    // Lines of two workers come in any order.
    let lines = [oxy.line(), oxy.line()];
    for status in [" status=403 ", " status=200 "] {
        assert!(lines.iter().any(|line| line.contains(status)), "{lines:?}");
    }
    oxy.signal(Signal::TERM);
    assert_eq!(oxy.rest(), [""; 0]);
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
    read_head(&mut stream);
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
    let output = finish(&["run", "-c", &file]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.contains("/nowhere/access.log"), "{output:?}");
}
