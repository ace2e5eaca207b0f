//! `/metrics`, `/healthz` and `/flows`.
#![expect(clippy::float_cmp, reason = "counters are whole numbers")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::http::{connect, get, send};
use crate::support::{Oxy, eventually, origin};

/// The page's samples. Panics where it is not what Prometheus reads.
fn metrics(at: SocketAddr) -> BTreeMap<String, f64> {
    let page = get(at, "/metrics");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        page.head
    );
    let (mut samples, mut families) = (BTreeMap::new(), BTreeMap::new());
    let mut family = String::new();
    for line in page.body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().into();
            assert!(help.len() > family.len() + 1, "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(
                families.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffixes = ["_bucket", "_sum", "_count"];
            let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(
                name == family || (base == Some(&family) && families[&family] == "histogram"),
                "{line} is not of {family}"
            );
            if let Some(labels) = series
                .strip_prefix(name)
                .filter(|labels| !labels.is_empty())
            {
                assert!(labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
            }
            let earlier = samples.insert(series.to_owned(), value.parse().unwrap());
            assert!(earlier.is_none(), "{series} stands there twice");
        }
    }
    samples
}

#[test]
fn counts_are_exact() {
    const COUNT: usize = 20;
    let origin = origin::answering("hello").to_string();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &origin,
            "--workers",
            "2",
            "--admin",
            "127.0.0.1:0",
        ],
        2,
    );
    let (at, admin) = (oxy.at("reverse"), oxy.at("admin"));
    let mut bytes = [0, 0];
    for _ in 0..COUNT {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let response = send(at, request);
        assert_eq!(response.body, "hello");
        bytes[0] += request.len();
        bytes[1] += response.head.len() + "\r\n\r\n".len() + response.body.len();
    }
    send(
        at,
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n",
    );
    let total = (COUNT + 1) as f64;
    // A client has its response a little before the books are closed.
    let samples = eventually(|| {
        let samples = metrics(admin);
        (samples["oxy_flows_open{listener=\"reverse\",layer=\"tcp\"}"] == 0.0
            && samples["oxy_flows_opened_total{listener=\"reverse\",layer=\"tcp\"}"] == total)
            .then_some(samples)
    });
    let of = |name: &str, labels: &str| samples[&format!("{name}{{listener=\"reverse\"{labels}}}")];
    assert_eq!(
        of("oxy_http_requests_total", ",status=\"2xx\""),
        COUNT as f64
    );
    assert_eq!(of("oxy_http_requests_total", ",status=\"4xx\""), 1.0);
    assert_eq!(of("oxy_http_requests_total", ",status=\"none\""), 0.0);
    assert_eq!(
        of("oxy_http_errors_total", ",side=\"client\",kind=\"denied\""),
        1.0
    );
    assert_eq!(of("oxy_http_upstream_requests_total", ""), COUNT as f64);
    assert_eq!(of("oxy_http_upstream_reused_total", ""), 0.0);
    assert_eq!(of("oxy_http_retries_total", ""), 0.0);
    assert_eq!(of("oxy_http_request_duration_seconds_count", ""), total);
    assert_eq!(
        of("oxy_http_request_duration_seconds_bucket", ",le=\"+Inf\""),
        total
    );
    assert!(of("oxy_http_request_duration_seconds_sum", "") > 0.0);
    assert!(of("oxy_received_bytes_total", "") > bytes[0] as f64);
    assert!(of("oxy_sent_bytes_total", "") > bytes[1] as f64);
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    assert!(samples["process_open_fds"] > 3.0);
    assert!(samples["process_start_time_seconds"] > 1.5e9);
    assert_eq!(samples["oxy_draining"], 0.0);
    oxy.stop();
}

#[test]
fn upstream_failures_are_counted_by_kind() {
    // Nobody listens there: the port was free a moment ago, and is not handed out again so soon.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &gone.to_string(),
            "--admin",
            "127.0.0.1:0",
        ],
        2,
    );
    assert_eq!(get(oxy.at("reverse"), "/").status, 502);
    let series = "oxy_http_errors_total{listener=\"reverse\",side=\"upstream\",kind=\"connect\"}";
    let count = eventually(|| metrics(oxy.at("admin")).get(series).copied());
    assert_eq!(count, 1.0);
    oxy.stop();
}

#[test]
fn flows_are_listed_while_they_are_open() {
    let echo = origin::echoing().to_string();
    let oxy = Oxy::start(
        &[
            "tcp",
            "-l",
            "127.0.0.1:0",
            "--to",
            &echo,
            "--admin",
            "127.0.0.1:0",
        ],
        2,
    );
    let admin = oxy.at("admin");
    let mut stream = connect(oxy.at("tcp"));
    stream.write_all(b"12345").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let page = get(admin, "/flows");
    assert!(
        page.head.contains("content-type: application/json"),
        "{}",
        page.head
    );
    let list: Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(list["open"], 1, "{list}");
    let flow = &list["flows"][0];
    assert_eq!(flow["layer"], "tcp");
    assert_eq!(flow["listener"], "tcp");
    assert_eq!(flow["peer"], stream.local_addr().unwrap().to_string());
    assert_eq!(flow["target"], *echo);
    assert_eq!(flow["received"], 5);
    assert!(flow["age"].as_f64().unwrap() >= 0.0);
    let received = metrics(admin)["oxy_received_bytes_total{listener=\"tcp\"}"];
    assert_eq!(received, 5.0, "open flows count, too");

    drop(stream);
    eventually(|| {
        let list: Value = serde_json::from_str(&get(admin, "/flows").body).unwrap();
        (list["open"] == 0).then_some(())
    });
    oxy.stop();
}

#[test]
fn health_says_when_the_process_is_going_away() {
    let (origin, coming, go) = origin::waiting();
    let mut oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &origin.to_string(),
            "--admin",
            "127.0.0.1:0",
        ],
        2,
    );
    let (at, admin) = (oxy.at("reverse"), oxy.at("admin"));
    let health = get(admin, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    let client = std::thread::spawn(move || get(at, "/"));
    coming.recv().unwrap();
    oxy.signal(Signal::TERM);
    eventually(|| (get(admin, "/healthz").status == 503).then_some(()));
    assert_eq!(metrics(admin)["oxy_draining"], 1.0);
    go.send("finished").unwrap();
    assert_eq!(client.join().unwrap().body, "finished");
    assert_eq!(oxy.wait().0.code(), Some(0));
}

#[test]
fn nothing_else_is_served() {
    let oxy = Oxy::start(
        &[
            "tcp",
            "-l",
            "127.0.0.1:0",
            "--to",
            "127.0.0.1:1",
            "--admin",
            "127.0.0.1:0",
        ],
        2,
    );
    let admin = oxy.at("admin");
    assert_eq!(get(admin, "/").status, 200);
    assert_eq!(get(admin, "/nothing").status, 404);
    let request =
        "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(send(admin, request).status, 405);
    let head = send(
        admin,
        "HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    oxy.stop();
}
