//! Flows over real sockets to the endpoints of a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxy_core::cluster::{
    Address, BalanceSpec, Cause, Cluster, ClusterReport, ClusterSpec, EndpointSpec, Health,
    HealthCheck,
};
use oxy_core::{ErrorKind, Proxy, Running};
use socket2::{Domain, Socket, Type};

/// A server that says its name to everyone and closes.
fn named(name: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    say(listener, name);
    address
}

fn say(listener: TcpListener, name: u8) {
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let _ = socket.unwrap().write_all(&[name]);
        }
    });
}

/// A port that nobody listens on, nor can anybody else as long as the socket is held.
fn nobody() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn start(proxy: Proxy, workers: usize) -> (Running, SocketAddr) {
    let running = proxy
        .listen("127.0.0.1:0")
        .workers(workers)
        .start()
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    (running, address)
}

/// Who answers; `None` if nobody does.
fn ask(address: SocketAddr) -> Option<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut name = [0];
    socket.read_exact(&mut name).ok()?;
    let _ = socket.shutdown(Shutdown::Both);
    Some(name[0])
}

fn ask_often(address: SocketAddr, times: usize) -> BTreeMap<Option<u8>, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        *answers.entry(ask(address)).or_default() += 1;
    }
    answers
}

/// Waits for what other threads bring about.
fn until(cluster: &Cluster, what: impl Fn(&ClusterReport) -> bool) {
    let start = Instant::now();
    while !what(&cluster.report()) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            cluster.report()
        );
        std::thread::yield_now();
    }
}

#[test]
fn targets_have_turns_as_often_as_they_are_given() {
    let (one, two) = (named(1), named(2));
    let proxy = Proxy::new(()).to(one).to(two).to(one);
    let (_running, address) = start(proxy, 1);
    let answers = ask_often(address, 30);
    assert_eq!(answers, BTreeMap::from([(Some(1), 20), (Some(2), 10)]));
}

#[test]
fn a_dead_endpoint_costs_no_flow_and_is_left_alone() {
    let (_held, dead) = nobody();
    let (one, two) = (named(1), named(2));
    let spec = ClusterSpec::new("test", [one, two, dead].map(oxy_core::Target::from));
    let cluster = Cluster::new(spec).unwrap();
    let (running, address) = start(Proxy::new(()).cluster(cluster.clone()), 1);
    let answers = ask_often(address, 60);
    assert_eq!(answers.get(&None), None, "{answers:?}");
    assert_eq!(answers.len(), 2);
    let report = cluster.report().endpoints;
    assert_eq!(report[2].totals.failures, 5);
    assert_eq!(report[2].ejected.unwrap().1, Cause::Failures);
    assert_eq!(report[0].totals.successes + report[1].totals.successes, 60);
    running.stop().unwrap();
    let endpoints = cluster.report().endpoints;
    for it in &endpoints {
        assert_eq!((it.totals.in_flight, it.totals.connections), (0, 0));
    }
}

#[test]
fn where_all_are_dead_the_error_is_that_of_connecting() {
    let (_one, one) = nobody();
    let (_other, other) = nobody();
    let (_running, address) = start(Proxy::new(()).to(one).to(other), 1);
    assert_eq!(ask(address), None);
}

#[test]
fn a_name_is_resolved_before_the_first_flow_is_refused() {
    let port = named(7).port();
    let name: Address = format!("dns://localhost:{port}").parse().unwrap();
    let cluster = Cluster::new(ClusterSpec::new("test", [name])).unwrap();
    let (_running, address) = start(Proxy::new(()).cluster(cluster.clone()), 2);
    assert_eq!(ask(address), Some(7));
    let endpoint = &cluster.endpoints()[0];
    assert_eq!(endpoint.target().to_string(), format!("127.0.0.1:{port}"));
    assert_eq!(endpoint.host().unwrap().as_str(), "localhost");
}

#[test]
fn checks_run_while_the_proxy_does() {
    let (socket, dead) = nobody();
    let mut spec = ClusterSpec::new("test", [named(1), dead].map(oxy_core::Target::from));
    let mut check = HealthCheck::default();
    check.interval = Duration::from_millis(5);
    spec.health = Some(check);
    let cluster = Cluster::new(spec.clone()).unwrap();
    let (_running, address) = start(Proxy::new(()).cluster(cluster.clone()), 2);
    until(&cluster, |report| {
        report.endpoints[1].health == Health::Unhealthy
    });
    let before = cluster.report().endpoints[1].totals.picked;
    assert_eq!(ask_often(address, 10), BTreeMap::from([(Some(1), 10)]));
    assert_eq!(cluster.report().endpoints[1].totals.picked, before);
    // It comes to life, and another one joins.
    socket.listen(16).unwrap();
    say(socket.into(), 2);
    until(&cluster, |report| {
        report.endpoints[1].health == Health::Healthy
    });
    let third = oxy_core::Target::from(named(3));
    spec.endpoints.push(EndpointSpec::new(third));
    cluster.update(spec).unwrap();
    let answers = ask_often(address, 90);
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers.get(&None), None);
}

#[test]
fn a_client_stays_with_its_endpoint() {
    let names = [1, 2, 3, 4].map(|n| oxy_core::Target::from(named(n)));
    let mut spec = ClusterSpec::new("test", names);
    spec.balance = BalanceSpec::Maglev;
    let cluster = Cluster::new(spec).unwrap();
    let (_running, address) = start(Proxy::new(()).cluster(cluster), 2);
    assert_eq!(ask_often(address, 20).len(), 1);
}

#[test]
fn the_limits_of_a_cluster_refuse_flows() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = oxy_core::Target::from(server.local_addr().unwrap());
    let mut spec = ClusterSpec::new("test", [target]);
    spec.breaker.max_connections = Some(1);
    let cluster = Cluster::new(spec).unwrap();
    let (_running, address) = start(Proxy::new(()).cluster(cluster.clone()), 1);
    let mut first = TcpStream::connect(address).unwrap();
    let (mut far, _) = server.accept().unwrap();
    assert_eq!(ask(address), None);
    far.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    let usage = |report: &ClusterReport| report.connections.unwrap().used;
    assert_eq!(usage(&cluster.report()), 1);
    drop((first, far));
    until(&cluster, |report| usage(report) == 0);
    // That we refuse says nothing about the endpoint.
    assert_eq!(cluster.report().endpoints[0].totals.failures, 0);
}

#[test]
fn sessions_of_datagrams_go_to_endpoints_too() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buf = [0; 64];
        while let Ok((len, peer)) = server.recv_from(&mut buf) {
            let _ = server.send_to(&buf[..len], peer);
        }
    });
    let name: Address = format!("127.0.0.1:{port}").parse().unwrap();
    let cluster = Cluster::new(ClusterSpec::new("test", [name])).unwrap();
    let proxy = Proxy::new(()).cluster(cluster.clone());
    let running = proxy.listen("udp:127.0.0.1:0").workers(1).start().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let address = running.addresses()[0].1.socket_addr().unwrap();
    client.send_to(b"ping", address).unwrap();
    let mut got = [0; 64];
    let (len, _) = client.recv_from(&mut got).unwrap();
    assert_eq!(&got[..len], b"ping");
    assert_eq!(cluster.report().endpoints[0].totals.in_flight, 1);
}

#[test]
fn a_proxy_has_either_targets_or_a_cluster() {
    let cluster: Arc<Cluster> = Cluster::new(ClusterSpec::default()).unwrap();
    let both = Proxy::new(()).listen("127.0.0.1:0").to(named(1));
    let error = both.cluster(cluster).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}
