//! Settings files: what is wrong with them and where, and what the environment fills in.

use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

use crate::support::http::get;
use crate::support::{Dir, Oxy, finish, origin, oxy};

/// What `oxy check` says of `text`.
fn check(text: &str) -> (Option<i32>, String) {
    let dir = Dir::new();
    let output = finish(&["check", "-c", &dir.file("oxy.yaml", text)]);
    (output.code, output.out + &output.err)
}

#[test]
fn the_sample_and_the_defaults_are_fine() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/oxy.yaml");
    let output = finish(&["check", "-c", sample]);
    assert_eq!(output.code, Some(0), "{output:?}");

    let defaults = finish(&["config", "default"]).out;
    let (code, said) = check(&defaults);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn settings_come_from_the_standard_input_too() {
    let mut child = oxy(&["check", "-c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(b"listeners: [{listen: [':0'], tcp: {to: ['127.0.0.1:1']}}]\n")
        .unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"-: fine"), "{output:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_column() {
    let cases = [
        (
            "listeners:\n  - lisen: [':1']\n    tcp: {to: ['a:1']}\n",
            ":2:5: ",
            "unknown key `lisen`; did you mean `listen`?",
        ),
        (
            "listeners:\n  - listen: [':1']\n    http:\n      to: ['a:1']\n      options:\n        timeouts: {heat: 1s}\n",
            ":6:20: ",
            "unknown key `heat`; did you mean `head`?",
        ),
        ("zebra: 1\n", ":1:1: ", "unknown key `zebra`; keys here: "),
        (
            "access_log:\n  format: jsn\n",
            ":2:11: ",
            "unknown value `jsn`; did you mean `json`?",
        ),
        (
            "drain_timeout: soon\n",
            ":1:16: ",
            "a duration like 500ms, 10s",
        ),
        (
            "listeners:\n  - listen: [':1']\n    stream: {keepalive: 10 parsecs}\n",
            ":3:25: ",
            "a duration like",
        ),
        (
            "listeners:\n  - listen: ['nowhere']\n    tcp: {to: ['a:1']}\n",
            ":2:14: ",
            "expected IP:PORT, :PORT or unix:PATH",
        ),
        ("workers: 1\nworkers: 2\n", ":2:1: ", "workers"),
        (
            "workers: 1\nlisteners:\n  - listen: [':1']\n    tcp: {to: ['a:1']}\n    udp: {to: ['a:1']}\n",
            ":3:5: ",
            "exactly one of `http`, `tcp` and `udp`",
        ),
        (
            "listeners:\n  - {listen: ['127.0.0.1:1'], tcp: {to: ['a:1']}}\n  - {listen: ['127.0.0.1:1'], tcp: {to: ['a:1']}}\n",
            ":3:5: ",
            "`127.0.0.1:1` is listened on twice",
        ),
        (
            "listeners:\n  - {listen: [':1'], tcp: {to: ['a:1']}, datagram: {queue: 1MiB}}\n",
            ":2:5: ",
            "`datagram` is for `udp` only",
        ),
        ("workers: 2\n", ":1:1: ", "nothing to listen on"),
    ];
    for (text, place, message) in cases {
        let (code, said) = check(text);
        assert_eq!(code, Some(3), "{text}{said}");
        assert!(
            said.contains(&format!("oxy.yaml{place}")),
            "{place} is not in\n{said}"
        );
        assert!(said.contains(message), "{message} is not in\n{said}");
    }
}

#[test]
fn what_is_wrong_inside_clusters_routes_and_certificates_is_named_with_its_place() {
    let listener = "listeners:\n  - name: web\n    listen: [':1']\n";
    let clusters = "clusters:\n  - name: api\n    endpoints: ['a:1']\n";
    let cases = [
        (
            format!("{listener}    tls:\n      certificates:\n        - {{cert: /nowhere/c.pem, key: k.pem}}\n    http: {{to: ['a:1']}}\n"),
            ":6:18: ",
            "/nowhere/c.pem: No such file",
        ),
        (
            format!("{listener}    tls: {{}}\n    http: {{to: ['a:1']}}\n"),
            ":4:10: ",
            "`tls` needs `certificates`",
        ),
        (
            "listeners:\n  - listen: ['https://:1']\n    http: {to: ['a:1']}\n".into(),
            ":2:15: ",
            "needs `tls` with `certificates`",
        ),
        (
            format!("{clusters}{listener}    http: {{cluster: apy}}\n"),
            ":7:21: ",
            "there is no cluster `apy`; did you mean `api`?",
        ),
        (
            format!("{clusters}{listener}    http:\n      routes:\n        - routes:\n            - to: api\n            - match: /b\n              to: [{{cluster: api, weight: 1}}, {{cluster: nobody, weight: 1}}]\n"),
            ":12:57: ",
            "there is no cluster `nobody`",
        ),
        (
            format!("{clusters}{listener}    http:\n      routes:\n        - routes:\n            - to: api\n            - match: {{regex: '/a(b'}}\n              to: api\n"),
            ":11:31: ",
            "regular expression",
        ),
        (
            format!("{clusters}{listener}    http:\n      routes:\n        - hosts: ['a..b']\n          routes: [{{to: api}}]\n"),
            ":9:20: ",
            "a..b",
        ),
        (
            format!("{clusters}  - name: api\n    endpoints: ['b:1']\n{listener}    http: {{cluster: api}}\n"),
            ":4:11: ",
            "two clusters are called `api`",
        ),
        (
            "clusters:\n  - name: api\n    endpoints: ['a:1', 'nowhere']\nlisteners: []\n".into(),
            ":3:24: ",
            "no endpoint's address",
        ),
        (
            "clusters:\n  - name: api\n    endpoints: ['a:1']\n    http:\n      tls: {ca: [/nowhere/ca.pem]}\nlisteners: [{listen: [':1'], http: {cluster: api}}]\n".into(),
            ":5:18: ",
            "/nowhere/ca.pem: ",
        ),
        (
            "clusters:\n  - name: api\n    endpoints: ['a:1']\n    health: {kind: {http: {path: nowhere}}}\nlisteners: [{listen: [':1'], http: {cluster: api}}]\n".into(),
            ":4:5: ",
            "path",
        ),
        (
            format!("{clusters}    send_proxy_protocol: {{version: v1, checksum: true}}\n{listener}    tcp: {{cluster: api}}\n"),
            ":4:5: ",
            "says nothing but addresses",
        ),
        (
            format!("{listener}    tcp:\n      sni:\n        - names: [a.example, 'b*']\n          to: ['a:1']\n"),
            ":6:31: ",
            "no name that a client could ask for",
        ),
        (
            format!("{listener}    http: {{to: ['https://a', 'http://b']}}\n"),
            ":2:5: ",
            "targets that take turns have one scheme",
        ),
        (
            format!("{listener}    http: {{to: ['a:1'], client_identity: 'a b'}}\n"),
            ":4:42: ",
            "is not the name of a field",
        ),
        (
            format!("{listener}    http: {{to: ['a:1'], forward: true}}\n"),
            ":2:5: ",
            "one of `to`, `cluster`, `routes` and `forward`",
        ),
    ];
    for (text, place, message) in cases {
        let (code, said) = check(&text);
        assert_eq!(code, Some(3), "{text}{said}");
        assert!(
            said.contains(&format!("oxy.yaml{place}")),
            "{place} is not in\n{said}"
        );
        assert!(said.contains(message), "{message} is not in\n{said}");
    }
}

#[test]
fn what_bytes_would_not_get_is_refused() {
    let clusters = "clusters:\n  - {name: db, endpoints: ['a:1'], http: {tls: {insecure_skip_verify: true}}}\n  \
                    - {name: told, endpoints: ['a:1'], send_proxy_protocol: {version: v2}}\n";
    let listener = "listeners:\n  - listen: [':1']\n";
    let unencrypted = "`tcp` passes bytes on as they are, so that they would go there unencrypted";
    for (kind, wrong) in [
        (
            "    tcp:\n      cluster: db\n",
            Some((":7:16: ", unencrypted)),
        ),
        (
            "    tcp:\n      sni: [{names: [a.test], cluster: told}]\n      cluster: db\n",
            Some((":8:16: ", unencrypted)),
        ),
        (
            "    udp:\n      cluster: db\n",
            Some((":7:16: ", "has `http.tls`")),
        ),
        (
            "    udp:\n      cluster: told\n",
            Some((":7:16: ", "`send_proxy_protocol`, which is not for `udp`")),
        ),
        ("    tcp:\n      cluster: told\n", None),
        // The client's own TLS goes there.
        (
            "    tcp:\n      sni: [{names: [a.test], cluster: db}]\n",
            None,
        ),
        ("    http:\n      cluster: db\n", None),
    ] {
        let text = format!("{clusters}{listener}{kind}");
        let (code, said) = check(&text);
        let Some((place, message)) = wrong else {
            assert_eq!(code, Some(0), "{text}{said}");
            continue;
        };
        assert_eq!(code, Some(3), "{text}{said}");
        assert!(said.contains(&format!("oxy.yaml{place}")), "{said}");
        assert!(said.contains(message), "{message} is not in\n{said}");
    }
}

#[test]
fn the_line_is_shown_with_a_pointer() {
    let (_, said) = check("listeners:\n  - lisen: [':1']\n");
    let shown: Vec<_> = said.lines().skip(1).collect();
    assert_eq!(
        shown,
        ["   |", " 2 |   - lisen: [':1']", "   |     ^"],
        "{said}"
    );
}

#[test]
fn a_file_that_is_not_there_ends_with_3() {
    let output = finish(&["run", "-c", "/nowhere/oxy.yaml"]);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.err.contains("/nowhere/oxy.yaml: "), "{output:?}");
}

#[test]
fn the_environment_fills_in() {
    let origin = origin::answering("from the environment");
    let dir = Dir::new();
    let text = "\
listeners:
  - name: ${NAME_OF_IT:-fallback}
    listen: ['${LISTEN}']
    http:
      to: ['${ORIGIN}']
      options:
        timeouts:
          head: ${HEAD_TIMEOUT:-3s}
";
    let file = dir.file("oxy.yaml", text);
    let mut command = oxy(&["run", "-c", &file]);
    command
        .env("LISTEN", "127.0.0.1:0")
        .env("ORIGIN", origin.to_string())
        .env_remove("NAME_OF_IT");
    let oxy = Oxy::spawn(command, 1);
    assert_eq!(get(oxy.at("fallback"), "/").body, "from the environment");
    oxy.stop();

    let (code, said) = check(text);
    assert_eq!(code, Some(3));
    assert!(
        said.contains(":3:14: the environment has no variable LISTEN"),
        "{said}"
    );
}

#[test]
fn what_the_environment_has_is_one_value() {
    let dir = Dir::new();
    let file = dir.file(
        "oxy.yaml",
        "listeners: [{name: '${X}', listen: ['127.0.0.1:0'], tcp: {to: ['127.0.0.1:1']}}]\n",
    );
    let mut command = oxy(&["run", "-c", &file]);
    command.env("X", "a', admin: {listen: ':1'}, b: '");
    let oxy = Oxy::spawn(command, 1);
    assert_eq!(oxy.places[0].0, "a', admin: {listen: ':1'}, b: '");
    oxy.stop();
}

#[test]
fn an_address_that_is_taken_is_named_and_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for args in [
        &["tcp", "--listen", &address, "--to", "127.0.0.1:1"][..],
        &[
            "tcp",
            "--listen",
            "127.0.0.1:0",
            "--to",
            "127.0.0.1:1",
            "--admin",
            &address,
        ],
    ] {
        let output = finish(args);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.err.contains(&address), "{output:?}");
        assert!(output.err.contains("in use"), "{output:?}");
        assert_eq!(output.out, "", "nothing listens yet");
    }
}

#[test]
fn a_second_oxy_does_not_share_the_first_ones_port() {
    let first = Oxy::start(&["tcp", "-l", "127.0.0.1:0", "--to", "127.0.0.1:1"], 1);
    let address = first.at("tcp").to_string();
    let output = finish(&["tcp", "-l", &address, "--to", "127.0.0.1:1"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    first.stop();
}

#[test]
fn the_reference_has_every_section() {
    let output = finish(&["config", "reference"]);
    assert_eq!(output.code, Some(0));
    for key in [
        "workers:",
        "drain_timeout:",
        "admin:",
        "access_log:",
        "clusters:",
        "endpoints:",
        "balance: round_robin",
        "sticky_cookie:",
        "listeners:",
        "- cert:",
        "pass_through:",
        "client_identity:",
        "sni_timeout: 10s",
        "proxy_protocol:",
        "first_byte:",
    ] {
        let found = output
            .out
            .lines()
            .any(|line| line.trim_start().starts_with(key));
        assert!(found, "{key}");
    }
}
