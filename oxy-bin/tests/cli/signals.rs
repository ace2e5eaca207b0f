//! How it ends.

use rustix::process::Signal;

use crate::support::http::get;
use crate::support::{Dir, Oxy, eventually, origin};

#[test]
fn sigterm_lets_a_request_in_flight_end() {
    let (origin, coming, go) = origin::waiting();
    let mut oxy = Oxy::start(
        &["reverse", "-l", "127.0.0.1:0", "--to", &origin.to_string()],
        1,
    );
    let at = oxy.at("reverse");
    let client = std::thread::spawn(move || get(at, "/"));
    coming.recv().unwrap();
    oxy.signal(Signal::TERM);
    // Once nobody is let in any more, it drains.
    eventually(|| std::net::TcpStream::connect(at).is_err().then_some(()));
    go.send("finished").unwrap();
    let response = client.join().unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "finished"));
    let (status, errors) = oxy.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
}

#[test]
fn sigint_ends_it_in_good_order_too() {
    let mut oxy = Oxy::start(&["tcp", "-l", "127.0.0.1:0", "--to", "127.0.0.1:1"], 1);
    oxy.signal(Signal::INT);
    assert_eq!(oxy.wait().0.code(), Some(0));
}

#[test]
fn a_second_sigint_cuts_what_is_left() {
    let (origin, coming, _go) = origin::waiting();
    let mut oxy = Oxy::start(
        &["reverse", "-l", "127.0.0.1:0", "--to", &origin.to_string()],
        1,
    );
    let at = oxy.at("reverse");
    let client = std::thread::spawn(move || {
        let mut stream = crate::support::http::connect(at);
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
        bytes
    });
    coming.recv().unwrap();
    oxy.signal(Signal::INT);
    eventually(|| std::net::TcpStream::connect(at).is_err().then_some(()));
    oxy.signal(Signal::INT);
    let (status, errors) = oxy.wait();
    assert_eq!(status.code(), Some(4), "{errors}");
    assert!(errors.contains("flows were cut"), "{errors}");
    let bytes = client.join().unwrap();
    assert!(!bytes.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
}

#[test]
fn the_drain_has_an_end() {
    let (origin, coming, _go) = origin::waiting();
    let dir = Dir::new();
    let file = dir.file(
        "oxy.yaml",
        &format!("drain_timeout: 100ms\nlisteners: [{{name: a, listen: ['127.0.0.1:0'], http: {{to: ['{origin}']}}}}]\n"),
    );
    let mut oxy = Oxy::start(&["run", "-c", &file], 1);
    let at = oxy.at("a");
    let client = std::thread::spawn(move || {
        let mut stream = crate::support::http::connect(at);
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    coming.recv().unwrap();
    oxy.signal(Signal::TERM);
    assert_eq!(oxy.wait().0.code(), Some(4));
    client.join().unwrap();
}
