//! `oxy reverse`, `forward`, `tcp` and `udp`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::UnixStream;

use crate::support::http::{connect, get, read, read_head, send};
use crate::support::origin;
use crate::support::{Dir, Oxy, PATIENCE, finish, shown};

#[test]
fn reverse_goes_to_its_origins_by_turns() {
    let (one, two) = (origin::answering("one"), origin::answering("two"));
    let oxy = Oxy::start(
        &[
            "reverse",
            "--listen",
            "127.0.0.1:0",
            "--to",
            &one.to_string(),
            "--to",
            &format!("http://{two}"),
            "--workers",
            "1",
        ],
        1,
    );
    let bodies: Vec<_> = (0..4).map(|_| get(oxy.at("reverse"), "/").body).collect();
    assert_eq!(bodies[..2], bodies[2..]);
    assert_eq!(BTreeSet::from_iter(bodies).len(), 2);
    oxy.stop();
}

#[test]
fn listen_repeats_and_workers_share_a_port() {
    let origin = origin::answering("hello").to_string();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "-l",
            "127.0.0.1:0",
            "--to",
            &origin,
            "--workers",
            "3",
        ],
        2,
    );
    for (_, address) in &oxy.places {
        for _ in 0..8 {
            assert_eq!(get(address.parse().unwrap(), "/").body, "hello");
        }
    }
    oxy.stop();
}

#[test]
fn reverse_serves_the_builtin_origin_too() {
    let oxy = Oxy::start(&["reverse", "-l", "127.0.0.1:0", "--to", "builtin"], 1);
    assert_eq!(get(oxy.at("reverse"), "/status/418").status, 418);
    oxy.stop();
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let dir = Dir::new();
    let (near, far) = (dir.path("near"), dir.path("far"));
    origin::answering_at(&far, "over unix");
    let oxy = Oxy::start(
        &[
            "reverse",
            "--listen",
            &format!("unix:{}", shown(&near)),
            "--to",
            &format!("unix:{}", shown(&far)),
        ],
        1,
    );
    let mut stream = UnixStream::connect(&near).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(read(stream).body, "over unix");
    oxy.stop();
}

#[test]
fn forward_refuses_private_addresses_unless_it_is_told_otherwise() {
    let origin = origin::answering("inside");
    let request =
        format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n");
    let tunnel =
        format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n");

    let oxy = Oxy::start(&["forward", "--listen", "127.0.0.1:0"], 1);
    assert_eq!(send(oxy.at("forward"), &request).status, 403);
    assert_eq!(send(oxy.at("forward"), &tunnel).status, 403);
    oxy.stop();

    let oxy = Oxy::start(
        &["forward", "--listen", "127.0.0.1:0", "--allow-private"],
        1,
    );
    let response = send(oxy.at("forward"), &request);
    assert_eq!((response.status, response.body.as_str()), (200, "inside"));
    oxy.stop();
}

#[test]
fn connect_opens_a_tunnel() {
    let echo = origin::echoing();
    let oxy = Oxy::start(
        &["forward", "--listen", "127.0.0.1:0", "--allow-private"],
        1,
    );
    let mut stream = connect(oxy.at("forward"));
    write!(stream, "CONNECT {echo} HTTP/1.1\r\nHost: {echo}\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    stream.write_all(b"through the tunnel").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "through the tunnel");
    oxy.stop();
}

#[test]
fn tcp_relays_bytes() {
    let echo = origin::echoing().to_string();
    let oxy = Oxy::start(
        &[
            "tcp",
            "--listen",
            "127.0.0.1:0",
            "--to",
            &echo,
            "--workers",
            "1",
        ],
        1,
    );
    let mut stream = connect(oxy.at("tcp"));
    stream.write_all(b"\x00not HTTP at all\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"\x00not HTTP at all\r\n");
    oxy.stop();
}

#[test]
fn udp_relays_datagrams() {
    let echo = origin::echoing_datagrams().to_string();
    let oxy = Oxy::start(&["udp", "--listen", "127.0.0.1:0", "--to", &echo], 1);
    assert!(oxy.places[0].1.starts_with("udp:"), "{:?}", oxy.places);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(oxy.at("udp")).unwrap();
    for text in ["one", "two"] {
        socket.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 64];
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], text.as_bytes());
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [
        &["reverse", "--listen", "127.0.0.1:0"][..],
        &["reverse", "--to", "127.0.0.1:1"],
        &["tcp", "--listen", "nowhere", "--to", "127.0.0.1:1"],
        &[
            "tcp",
            "--listen",
            "127.0.0.1:0",
            "--to",
            "127.0.0.1:1",
            "--workers",
            "0",
        ],
        &["frobnicate"],
    ] {
        let output = finish(args);
        assert_eq!(output.code, Some(2), "{args:?}: {output:?}");
        assert!(!output.err.is_empty());
    }
}

#[test]
fn what_fits_no_listener_ends_with_3() {
    let output = finish(&["udp", "-l", "127.0.0.1:0", "--to", "unix:/nowhere"]);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.err.contains("command line: "), "{output:?}");
}
