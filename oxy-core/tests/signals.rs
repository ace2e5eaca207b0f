//! Signals, in a process that has no other test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::io::Read;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use oxy_core::{Proxy, Signals};
use rustix::process::{Signal, getpid, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_hangup_reloads_and_a_termination_stops() {
    let signals = Signals::catch().unwrap().with_hangup().unwrap();
    let proxy = |name: &str| Proxy::new(()).name(name).listen("127.0.0.1:0");
    let running = proxy("first").workers(1).start().unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    // One that came before anybody waited is not lost.
    kill_process(getpid(), Signal::HUP).unwrap();
    let (reloads, reloaded) = mpsc::channel();
    let serving = std::thread::spawn(move || {
        let mut count = 0;
        signals.serve_with(running, move |running| {
            count += 1;
            let added = format!("added{count}");
            running.add(proxy(&added)).unwrap();
            reloads.send(running.addresses().len()).unwrap();
            assert!(count < 2, "a fault in a reload");
        })
    });
    assert_eq!(reloaded.recv_timeout(PATIENCE).unwrap(), 2);
    kill_process(getpid(), Signal::HUP).unwrap();
    assert_eq!(reloaded.recv_timeout(PATIENCE).unwrap(), 3);
    // It has survived the fault.
    let mut open = TcpStream::connect(address).unwrap();
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0, "there is no target");
    kill_process(getpid(), Signal::TERM).unwrap();
    serving.join().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}
