//! Reading the settings again while serving.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use rustix::process::Signal;

use crate::support::authority::Authority;
use crate::support::http::{connect, get, send};
use crate::support::tls::Client;
use crate::support::{Dir, Oxy, eventually, finish, free_port, origin};

/// Clients that ask again and again until they are told to stop. What fails of it is counted, with why.
struct Crowd {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn new() -> Self {
        Self {
            stop: Arc::default(),
            asked: Arc::default(),
            clients: Vec::new(),
        }
    }

    fn add(&mut self, ask: impl Fn() -> Result<(), String> + Send + 'static) {
        let (stop, asked) = (self.stop.clone(), self.asked.clone());
        self.clients.push(std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stop.load(Relaxed) {
                if let Err(why) = ask() {
                    failures.push(why);
                }
                asked.fetch_add(1, Relaxed);
            }
            failures
        }));
    }

    /// Waits until so many more requests are over.
    fn goes_on(&self, count: usize) {
        let target = self.asked.load(Relaxed) + count;
        eventually(|| (self.asked.load(Relaxed) >= target).then_some(()));
    }

    fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Relaxed);
        let failures = self.clients.into_iter().flat_map(|it| it.join().unwrap());
        (self.asked.load(Relaxed), failures.collect())
    }
}

/// Whether one of the two origins answers.
fn answers(at: SocketAddr) -> Result<(), String> {
    let response = std::panic::catch_unwind(|| get(at, "/")).map_err(|_| "cut".to_owned())?;
    match (response.status, response.body.as_str()) {
        (200, "one" | "two") => Ok(()),
        _ => Err(format!("{response:?}")),
    }
}

fn reload(admin: SocketAddr) -> (Option<i32>, String) {
    let output = finish(&["reload", "--admin", &admin.to_string()]);
    (output.code, output.out + &output.err)
}

#[test]
fn no_request_fails_whatever_is_reloaded() {
    const RELOADS: usize = 20;
    let dir = Dir::new();
    let authority = Authority::new(&dir);
    let mut pair = authority.pair(&dir, "site", &["site.example"]);
    let (one, two) = (origin::answering("one"), origin::answering("two"));
    let (web, tls, extra) = (free_port(), free_port(), free_port());
    let text = |step: usize, cert: &str, key: &str| {
        let to = if step.is_multiple_of(2) { "one" } else { "two" };
        let more = if step % 4 == 2 {
            format!("  - {{name: extra, listen: ['127.0.0.1:{extra}'], http: {{cluster: two}}}}\n")
        } else {
            String::new()
        };
        // A listener whose frame changes is replaced, and keeps its socket.
        let backlog = 1000 + step / 3;
        format!(
            "admin: {{listen: '127.0.0.1:0'}}
clusters:
  - {{name: one, endpoints: ['{one}']}}
  - {{name: two, endpoints: ['{two}']}}
listeners:
  - name: web
    listen: ['127.0.0.1:{web}']
    stream: {{backlog: {backlog}}}
    http: {{routes: [{{routes: [{{to: {to}}}]}}]}}
  - name: tls
    listen: ['https://127.0.0.1:{tls}']
    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}
    http: {{to: ['{one}']}}
{more}"
        )
    };
    let write = |text: &str| dir.file("oxy.yaml", text);
    let file = write(&text(0, &pair.cert, &pair.key));
    let oxy = Oxy::start(&["run", "-c", &file], 3);
    let (at, secure, admin) = (oxy.at("web"), oxy.at("tls"), oxy.at("admin"));
    let fingerprint = || {
        let got = Client::trusting(&authority).get(secure, "site.example", "/");
        got.unwrap()
            .facts
            .peer_identity
            .unwrap()
            .fingerprint
            .clone()
    };

    let mut crowd = Crowd::new();
    crowd.add(move || answers(at));
    crowd.add(move || answers(at));
    let client = Client::trusting(&authority);
    crowd.add(move || {
        let got = client.get(secure, "site.example", "/")?;
        if got.status == 200 && got.body == "one" {
            Ok(())
        } else {
            Err(format!("{got:?}"))
        }
    });
    let mut last = fingerprint();
    let mut good = 0;
    for step in 1..=RELOADS {
        if step.is_multiple_of(5) {
            // What is wrong is refused whole: the route in it, too.
            write(&text(step, &pair.cert, &pair.key).replace("cluster: two", "cluster: tow"));
            let bad = text(step, &pair.cert, &pair.key).replace("- name: web", "- nam: web");
            write(&bad);
            let (code, said) = reload(admin);
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains("oxy.yaml:6:5: unknown key `nam`"), "{said}");
        } else {
            if step.is_multiple_of(3) {
                pair = authority.pair(&dir, "site", &["site.example"]);
            }
            write(&text(step, &pair.cert, &pair.key));
            let (code, said) = reload(admin);
            assert_eq!(code, Some(0), "{said}");
            good += 1;
            assert_eq!(
                get(at, "/").body,
                if step.is_multiple_of(2) { "one" } else { "two" }
            );
            let is_there = std::net::TcpStream::connect(("127.0.0.1", extra)).is_ok();
            assert_eq!(is_there, step % 4 == 2, "{said}");
            let now = fingerprint();
            assert_eq!(now != last, step.is_multiple_of(3), "{said}");
            assert_eq!(
                said.contains("certificates of tls"),
                step.is_multiple_of(3),
                "{said}"
            );
            last = now;
        }
        crowd.goes_on(5);
    }
    let (asked, failures) = crowd.stop();
    assert!(
        failures.is_empty(),
        "{} of {asked}: {failures:?}",
        failures.len()
    );
    let page = get(admin, "/metrics").body;
    for line in [
        format!("oxy_reloads_total{{result=\"success\"}} {good}"),
        format!("oxy_reloads_total{{result=\"failure\"}} {}", RELOADS - good),
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in {page}");
    }
    let errors = oxy.stop();
    assert_eq!(
        errors.matches("not reloaded: ").count(),
        RELOADS - good,
        "{errors}"
    );
}

#[test]
fn sighup_says_in_the_log_what_has_changed() {
    let dir = Dir::new();
    let (one, two) = (origin::answering("one"), origin::answering("two"));
    let text = |origin| {
        format!(
            "listeners:\n  - {{name: web, listen: ['127.0.0.1:0'], http: {{to: ['{origin}']}}}}\n"
        )
    };
    let file = dir.file("oxy.yaml", &text(one));
    let oxy = Oxy::start(&["run", "-c", &file], 1);
    let at = oxy.at("web");
    assert_eq!(get(at, "/").body, "one");
    dir.file("oxy.yaml", &text(two));
    oxy.signal(Signal::HUP);
    eventually(|| (get(at, "/").body == "two").then_some(()));
    let errors = oxy.stop();
    assert!(
        errors.contains("reloaded: clusters ~web.to, routes and options of web"),
        "{errors}"
    );
}

#[test]
fn what_needs_a_restart_is_named() {
    let dir = Dir::new();
    let text = |head: &str| {
        format!(
            "{head}listeners:\n  - {{name: web, listen: ['127.0.0.1:0'], http: {{to: [builtin]}}}}\n"
        )
    };
    let first = "workers: 1\nadmin: {listen: '127.0.0.1:0'}\n";
    let file = dir.file("oxy.yaml", &text(first));
    let oxy = Oxy::start(&["run", "-c", &file], 2);
    let admin = oxy.at("admin");
    let warning = |names: &str| {
        format!("only a restart changes {names}: what the file says of it is not in force")
    };
    let elsewhere = free_port();
    for (head, names) in [
        (
            "workers: 2\nadmin: {listen: '127.0.0.1:0'}\n".to_owned(),
            "workers",
        ),
        (
            format!("workers: 1\nadmin: {{listen: '127.0.0.1:{elsewhere}'}}\n"),
            "admin",
        ),
        (
            format!("{first}access_log: {{format: json}}\n"),
            "access_log",
        ),
        (format!("{first}drain_timeout: 3s\n"), "drain_timeout"),
        (
            "workers: 2\naccess_log: {format: text}\n".to_owned(),
            "workers, admin, access_log",
        ),
    ] {
        dir.file("oxy.yaml", &text(&head));
        let (code, said) = reload(admin);
        assert_eq!(code, Some(0), "{said}");
        let expected = format!("\nwarning: {}\n", warning(names));
        assert!(said.contains(&expected), "{names} is not in\n{said}");
    }
    // It stays so until the file says what is in force.
    dir.file("oxy.yaml", &text(first));
    let (code, said) = reload(admin);
    assert!(code == Some(0) && !said.contains("warning"), "{said}");
    let errors = oxy.stop();
    let warnings: Vec<_> = errors
        .lines()
        .filter(|line| line.contains("WARN"))
        .collect();
    assert_eq!(warnings.len(), 5, "{errors}");
    assert!(
        warnings[4].contains(&warning("workers, admin, access_log")),
        "{errors}"
    );
}

#[test]
fn connections_that_are_open_stay_open_and_endpoints_keep_their_counts() {
    let dir = Dir::new();
    let echo = origin::echoing();
    let text = |more: &str| {
        format!(
            "admin: {{listen: '127.0.0.1:0'}}\nclusters:\n  - {{name: echo, endpoints: ['{echo}'{more}]}}\nlisteners:\n  - {{name: relay, listen: ['127.0.0.1:0'], tcp: {{cluster: echo}}}}\n"
        )
    };
    let file = dir.file("oxy.yaml", &text(""));
    let oxy = Oxy::start(&["run", "-c", &file], 2);
    let mut stream = connect(oxy.at("relay"));
    let say = |stream: &mut std::net::TcpStream, word: &[u8]| {
        use std::io::{Read, Write};
        stream.write_all(word).unwrap();
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, word);
    };
    say(&mut stream, b"before");
    dir.file("oxy.yaml", &text(", '127.0.0.1:1'"));
    let (code, said) = reload(oxy.at("admin"));
    assert_eq!((code, said.as_str()), (Some(0), "clusters ~echo\n"));
    say(&mut stream, b"after");
    let page = get(oxy.at("admin"), "/clusters").body;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let endpoints = page["clusters"][0]["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2, "{page}");
    assert_eq!(endpoints[0]["address"], *echo.to_string());
    assert_eq!(endpoints[0]["connections"], 1, "{page}");
    drop(stream);
    oxy.stop();
}

#[test]
fn connections_to_origins_are_kept_unless_they_are_to_be_otherwise() {
    let dir = Dir::new();
    // The built-in origin keeps its connections.
    let origin = Oxy::start(&["reverse", "-l", "127.0.0.1:0", "--to", "builtin"], 1);
    let at = origin.at("reverse");
    let text = |wait: &str, protocol: &str| {
        format!(
            "workers: 1\nadmin: {{listen: '127.0.0.1:0'}}\nclusters: [{{name: origin, endpoints: ['{at}'], http: {{protocol: {protocol}}}}}]\nlisteners: [{{name: web, listen: ['127.0.0.1:0'], http: {{cluster: origin, options: {{timeouts: {{first_byte: {wait}}}}}}}}}]\n"
        )
    };
    let file = dir.file("oxy.yaml", &text("10s", "auto"));
    let oxy = Oxy::start(&["run", "-c", &file], 2);
    let admin = oxy.at("admin");
    let reused_after_another = || {
        assert_eq!(get(oxy.at("web"), "/").status, 200);
        let requests = "oxy_http_upstream_requests_total{listener=\"web\"} ";
        let reused = "oxy_http_upstream_reused_total{listener=\"web\"} ";
        let read = |page: &str, series| {
            let line = page.lines().find_map(|line| line.strip_prefix(series));
            line.unwrap().parse::<u64>().unwrap()
        };
        // A client has its response a little before the books are closed.
        let page = eventually(|| {
            let page = get(admin, "/metrics").body;
            let asked = page.contains("oxy_http_requests_total") && page.contains(requests);
            (asked && read(&page, requests) > 0).then_some(page)
        });
        (read(&page, requests), read(&page, reused))
    };
    reused_after_another();
    dir.file("oxy.yaml", &text("20s", "auto"));
    assert_eq!(
        reload(admin),
        (Some(0), "routes and options of web\n".into())
    );
    eventually(|| (reused_after_another().1 > 0).then_some(()));
    let (asked, reused) = eventually(|| {
        let (asked, reused) = reused_after_another();
        (asked - reused == 1).then_some((asked, reused))
    });
    assert_eq!(asked, reused + 1, "all but the first");
    dir.file("oxy.yaml", &text("20s", "http1"));
    assert_eq!(reload(admin), (Some(0), "clusters ~origin\n".into()));
    eventually(|| {
        let (asked, reused) = reused_after_another();
        (asked - reused == 2).then_some(())
    });
    oxy.stop();
    origin.stop();
}

#[test]
fn who_is_trusted_is_read_again() {
    let (dir, elsewhere) = (Dir::new(), Dir::new());
    let (authority, other) = (Authority::new(&dir), Authority::new(&elsewhere));
    let pair = authority.pair(&dir, "origin", &["localhost"]);
    let hello = origin::answering("hello").to_string();
    let origin = Oxy::start(
        &[
            "reverse",
            "-l",
            "https://127.0.0.1:0",
            "--cert",
            &pair.cert,
            "--key",
            &pair.key,
            "--to",
            &hello,
        ],
        1,
    );
    let (good, bad) = [&authority, &other]
        .map(|it| std::fs::read_to_string(&it.ca).unwrap())
        .into();
    let ca = dir.file("trusted.pem", &good);
    let port = origin.at("reverse").port();
    let oxy = Oxy::start(
        &[
            "reverse",
            "-l",
            "127.0.0.1:0",
            "--to",
            &format!("https://localhost:{port}"),
            "--ca",
            &ca,
            "--admin",
            "127.0.0.1:0",
        ],
        2,
    );
    let (at, admin) = (oxy.at("reverse"), oxy.at("admin"));
    assert_eq!(get(at, "/").status, 200);
    let file = dir.file(
        "oxy.yaml",
        &format!(
            "admin: {{listen: '127.0.0.1:0'}}\nclusters: [{{name: origin, endpoints: ['localhost:{port}'], http: {{tls: {{ca: [{ca}]}}}}}}]\nlisteners: [{{name: web, listen: ['127.0.0.1:0'], http: {{cluster: origin}}}}]\n"
        ),
    );
    // What a command line says stays as it is, but for certificates of clients' side.
    assert_eq!(reload(admin), (Some(0), "nothing has changed\n".into()));
    oxy.stop();

    let oxy = Oxy::start(&["run", "-c", &file], 2);
    let (at, admin) = (oxy.at("web"), oxy.at("admin"));
    assert_eq!(get(at, "/").status, 200);
    dir.file("trusted.pem", &bad);
    assert_eq!(reload(admin), (Some(0), "clusters ~origin\n".into()));
    assert_eq!(get(at, "/").status, 502);
    dir.file("trusted.pem", &good);
    assert_eq!(reload(admin), (Some(0), "clusters ~origin\n".into()));
    assert_eq!(get(at, "/").status, 200);
    dir.file("trusted.pem", "nothing");
    let (code, said) = reload(admin);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("trusted.pem: no certificate in it"), "{said}");
    assert_eq!(get(at, "/").status, 200);
    oxy.stop();
    origin.stop();
}

#[test]
fn a_certificate_that_is_made_is_made_again_for_a_listener_that_is_replaced() {
    let dir = Dir::new();
    let port = free_port();
    let text = |names: &str| {
        format!(
            "admin: {{listen: '127.0.0.1:0'}}\nlisteners:\n  - {{name: web, listen: ['https://127.0.0.1:{port}'], mint: [{names}], http: {{to: [builtin]}}}}\n"
        )
    };
    let file = dir.file("oxy.yaml", &text("a.example"));
    let mut command = crate::support::oxy(&["run", "-c", &file]);
    command.env("XDG_RUNTIME_DIR", dir.path("."));
    let oxy = Oxy::spawn(command, 2);
    let files = || {
        let names = std::fs::read_dir(dir.path(".")).unwrap();
        let names = names.map(|entry| crate::support::shown(&entry.unwrap().path()));
        names
            .filter(|name| name.contains("oxy-ca-"))
            .collect::<Vec<_>>()
    };
    let ask = |name| {
        let [ca] = &files()[..] else {
            panic!("{:?}", files());
        };
        Client::trusting_file(ca).get(oxy.at("web"), name, "/")
    };
    assert_eq!(ask("a.example").unwrap().status, 200);
    dir.file("oxy.yaml", &text("b.example"));
    let (code, said) = reload(oxy.at("admin"));
    assert_eq!((code, said.as_str()), (Some(0), "listeners ~web\n"));
    assert_eq!(ask("b.example").unwrap().status, 200);
    ask("a.example").unwrap_err();
    oxy.stop();
    assert!(files().is_empty(), "{:?}", files());
}

#[test]
fn a_listener_that_cannot_be_bound_changes_nothing() {
    let dir = Dir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap();
    let (one, two) = (origin::answering("one"), origin::answering("two"));
    let text = |origin, more: &str| {
        format!(
            "admin: {{listen: '127.0.0.1:0'}}\nlisteners:\n  - {{name: web, listen: ['127.0.0.1:0'], http: {{to: ['{origin}']}}}}\n{more}"
        )
    };
    let file = dir.file("oxy.yaml", &text(one, ""));
    let oxy = Oxy::start(&["run", "-c", &file], 2);
    let more = format!("  - {{name: more, listen: ['{place}'], http: {{to: ['{two}']}}}}\n");
    dir.file("oxy.yaml", &text(two, &more));
    let (code, said) = reload(oxy.at("admin"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&place.to_string()), "{said}");
    assert_eq!(get(oxy.at("web"), "/").body, "one");
    // Somebody's page in a browser cannot ask for it.
    let request = "POST /reload HTTP/1.1\r\nHost: a\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(send(oxy.at("admin"), request).status, 403);
    oxy.stop();
}

#[test]
fn reload_says_when_there_is_nobody() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let output = finish(&["reload", "--admin", &nobody]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.contains(&nobody), "{output:?}");
    assert_eq!(finish(&["reload"]).code, Some(2));
    assert_eq!(finish(&["reload", "--pid", "0"]).code, Some(1));
}
