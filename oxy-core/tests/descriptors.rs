//! Changes leave no descriptor open, in a process that has no other test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use oxy_core::onramp::ListenAddr;
use oxy_core::{Changes, Error, ErrorKind, Proxy, Running, Server, Worker};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the process has open, once it has come to rest at `expected`.
fn settles_at(expected: usize) -> bool {
    let start = Instant::now();
    while descriptors() != expected {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn address(running: &Running, name: &str) -> SocketAddr {
    let addresses = running.addresses();
    let (_, address) = addresses.iter().find(|(of, _)| &**of == name).unwrap();
    address.socket_addr().unwrap()
}

#[test]
fn changes_leave_no_descriptor_open() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = origin.local_addr().unwrap();
    let new = |name: &str| Proxy::new(()).name(name).to(to);
    // The runtime keeps some for the whole process, from the first time on.
    new("warm").workers(1).start().unwrap().stop().unwrap();
    let before_all = descriptors();
    let running = Server::new()
        .workers(3)
        .with(new("one").listen("127.0.0.1:0").listen("udp:127.0.0.1:0"))
        .start()
        .unwrap();
    let one = address(&running, "one");
    let udp = running.addresses()[1].1.clone();
    let before = descriptors();

    // Added and removed.
    for _ in 0..3 {
        running
            .add(new("two").listen("127.0.0.1:0").listen("udp:127.0.0.1:0"))
            .unwrap();
        assert_eq!(descriptors(), before + 6);
        drop(TcpStream::connect(address(&running, "two")).unwrap());
        drop(origin.accept().unwrap());
        running.remove("two").unwrap();
        assert!(settles_at(before), "{} for {before}", descriptors());
    }

    // Replaced, with a session of each kind in between.
    for _ in 0..3 {
        drop(TcpStream::connect(one).unwrap());
        drop(origin.accept().unwrap());
        running
            .replace(new("one").listen(one).listen(udp.clone()))
            .unwrap();
        assert!(settles_at(before), "{} for {before}", descriptors());
    }

    // Tried in vain.
    let occupied = UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = before + 1;
    let failing = [
        Changes::new().replace(
            new("one")
                .listen(one)
                .listen("127.0.0.1:0")
                .listen(ListenAddr::Udp(occupied.local_addr().unwrap())),
        ),
        Changes::new().replace(
            new("one")
                .listen(one)
                .listen("127.0.0.1:0")
                .listen(udp.clone())
                .offramp(|_| Err(Error::local(ErrorKind::Dns))),
        ),
    ];
    for changes in failing {
        running.apply(changes).unwrap_err();
        assert!(settles_at(before), "{} for {before}", descriptors());
    }
    assert_eq!(
        running
            .workers()
            .iter()
            .map(Worker::open_flows)
            .sum::<usize>(),
        0
    );
    running.stop().unwrap();
    drop(occupied);
    assert!(settles_at(before_all), "{} for {before_all}", descriptors());
}
