//! HTTP while proxies are changed under it, and connections that say whom they are for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use oxy_core::offramp::{AnyOfframp, DialOptions, Dialer, Direct, EgressPolicy, Offramp};
use oxy_core::resolve::{ResolveOptions, Resolver};
use oxy_core::{Far, FlowInfo, Proxy, Result, Target};
use oxy_http::{Http, HttpProxy};

/// An origin that answers every request with `says`, and counts its connections.
fn origin(says: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            counted.fetch_add(1, SeqCst);
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(socket.try_clone().unwrap()).lines();
                for line in lines.map_while(std::result::Result::ok) {
                    if line.is_empty() {
                        let response =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{says}");
                        let _ = socket.write_all(response.as_bytes());
                    }
                }
            });
        }
    });
    (address, count)
}

fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    let patience = Some(Duration::from_secs(10));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// A request and the head and body of its response.
fn ask(socket: &mut TcpStream) -> (String, String) {
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut body = [0; 3];
    socket.read_exact(&mut body).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&head).to_ascii_lowercase(), text(&body))
}

#[test]
fn connections_to_a_proxy_that_is_replaced_end_in_good_order() {
    let ((old, _), (new, _)) = (origin("old"), origin("new"));
    let proxy = |to: SocketAddr| Proxy::new(()).http(Http::new(()).to(to));
    let running = proxy(old).listen("127.0.0.1:0").workers(2).start().unwrap();
    let at = running.addresses()[0].1.socket_addr().unwrap();
    let (mut idle, mut used) = (connect(at), connect(at));
    for client in [&mut idle, &mut used] {
        let (head, body) = ask(client);
        assert_eq!(body, "old");
        assert!(!head.contains("connection: close"), "{head}");
    }
    running.replace(proxy(new).listen(at)).unwrap();
    // A request that was on its way is answered, and is the last.
    let (head, body) = ask(&mut used);
    assert_eq!(body, "old");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(ask(&mut connect(at)).1, "new");
    for client in [&mut idle, &mut used] {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "an end, no reset");
    }
    running.stop().unwrap();
}

/// Says that its connections are for one client each.
struct PerClient(AnyOfframp);

impl Offramp for PerClient {
    async fn open(&self, target: &Target, of: &FlowInfo) -> Result<Far> {
        self.0.open(target, of).await
    }

    fn is_per_client(&self) -> bool {
        true
    }
}

#[test]
fn connections_that_say_whom_they_are_for_are_not_used_again() {
    for (per_client, connections) in [(false, 1), (true, 3)] {
        let (to, count) = origin("yes");
        let proxy = Proxy::new(())
            .offramp(move |_| {
                let resolver = Resolver::new(ResolveOptions::default())?;
                let policy = EgressPolicy::open();
                let dialer = Dialer::new(resolver, policy, DialOptions::default());
                let direct = AnyOfframp::new(Direct::new(dialer));
                Ok(if per_client {
                    AnyOfframp::new(PerClient(direct))
                } else {
                    direct
                })
            })
            .http(Http::new(()).to(to));
        let running = proxy.listen("127.0.0.1:0").workers(1).start().unwrap();
        let at = running.addresses()[0].1.socket_addr().unwrap();
        let mut client = connect(at);
        for _ in 0..3 {
            assert_eq!(ask(&mut client).1, "yes");
        }
        assert_eq!(count.load(SeqCst), connections);
        drop(client);
        running.stop().unwrap();
    }
}
