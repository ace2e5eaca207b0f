//! What a slot asks for over HTTP/1.1.

use std::net::SocketAddr;

use clap::ValueEnum;

use super::Load;
use super::tls::SERVER_NAME;
use crate::routes;
use oxy_benches::pattern;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// A body comes back.
    Get,
    /// A body goes out.
    Post,
}

/// Above this length only a sample of the bodies is compared byte by byte: the
/// load generator must not be the bottleneck.
const COMPARE_ALL: usize = 16 << 10;

/// One in so many long bodies is compared.
const SAMPLE: u64 = 16;

/// What one slot sends, prepared once.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its heads, which take turns; one, unless requests are spread over routes.
    heads: Vec<Head>,
    pub(super) body: &'static [u8],
    pub(super) expected: &'static [u8],
}

/// The head of a request.
#[derive(Debug)]
struct Head {
    plain: Vec<u8>,
    /// The same, asking the origin to compare the body; nothing if there is no body to compare.
    compared: Option<Vec<u8>>,
}

impl Head {
    /// For the body at `shift` of the proxy that is called `host`, with `prefix` before the path.
    fn new(method: Method, size: usize, shift: usize, host: &str, prefix: &str) -> Self {
        let fields = format!("Host: {host}\r\nUser-Agent: peers/1\r\nAccept: */*\r\n");
        match method {
            Method::Get => Self {
                plain: format!("GET {prefix}/b/{size}/{shift} HTTP/1.1\r\n{fields}\r\n").into(),
                compared: None,
            },
            Method::Post => {
                let head = |kind| {
                    format!(
                        "POST {prefix}/{kind}/{shift} HTTP/1.1\r\n{fields}Content-Length: {size}\r\n\r\n"
                    )
                    .into_bytes()
                };
                Self {
                    plain: head('p'),
                    compared: Some(head('c')),
                }
            }
        }
    }
}

impl Request {
    /// The request of `slot` of `load`; nothing if the size is beyond the pattern.
    ///
    /// Where requests are spread over routes, the slot's are for every so manieth of them, so that all slots together
    /// ask for all.
    pub(crate) fn new(load: &Load, slot: usize, host: &str) -> Option<Self> {
        let (method, size, shift) = (load.method, load.size, pattern::shift(slot));
        let bytes = pattern::body(size, shift)?;
        let heads = match load.routes {
            None => vec![Head::new(method, size, shift, host, "")],
            Some(count) => {
                let count = count.get();
                let numbers = (slot % count..count).step_by(load.connections.max(1));
                let head = |number| {
                    let (host, prefix) = (routes::host(number), routes::prefix(number));
                    Head::new(method, size, shift, &host, &prefix)
                };
                numbers.map(head).collect()
            }
        };
        let (body, expected): (&[u8], &[u8]) = match method {
            Method::Get => (b"", bytes),
            Method::Post => (bytes, b"ok"),
        };
        Some(Self {
            heads,
            body,
            expected,
        })
    }

    /// The head of exchange number `serial`, which tells the origin whether to compare the body.
    pub(super) fn head(&self, serial: u64, compare: bool) -> &[u8] {
        let head = &self.heads[(serial % self.heads.len() as u64) as usize];
        match &head.compared {
            Some(compared) if compare => compared,
            _ => &head.plain,
        }
    }

    /// Whether exchange number `serial` is one whose body is compared.
    pub(super) fn compares(&self, serial: u64) -> bool {
        self.body.len().max(self.expected.len()) <= COMPARE_ALL || serial.is_multiple_of(SAMPLE)
    }
}

/// How the proxy is called in requests: over TLS by the name that it was asked for there.
pub(crate) fn host(target: SocketAddr, tls: bool) -> String {
    if tls {
        format!("{SERVER_NAME}:{}", target.port())
    } else {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroUsize;

    use super::{Method, Request};
    use crate::load::{Load, Shape};

    fn load(method: Method, connections: usize, routes: Option<usize>) -> Load {
        Load {
            method,
            connections,
            routes: routes.and_then(NonZeroUsize::new),
            ..Load::for_tests(Shape::Closed)
        }
    }

    #[test]
    fn all_slots_together_ask_for_all_routes() {
        let load = load(Method::Get, 64, Some(1000));
        let mut asked = BTreeSet::new();
        for slot in 0..64 {
            let request = Request::new(&load, slot, "proxy").unwrap();
            for serial in 0..20 {
                let head = String::from_utf8(request.head(serial, true).to_vec()).unwrap();
                let (path, host) = head.split_once("Host: ").unwrap();
                asked.insert((
                    path.split('/').nth(1).map(str::to_owned),
                    host.lines().next().map(str::to_owned),
                ));
            }
        }
        assert_eq!(asked.len(), 1000);
    }

    #[test]
    fn there_are_as_many_slots_as_one_likes() {
        let load = load(Method::Get, 64, Some(1));
        assert!(Request::new(&load, 63, "proxy").is_some_and(|request| !request.heads.is_empty()));
    }

    #[test]
    fn an_upload_says_whether_it_is_compared() {
        let request = Request::new(&load(Method::Post, 1, None), 3, "proxy").unwrap();
        assert!(request.head(1, true).starts_with(b"POST /c/"));
        assert!(request.head(1, false).starts_with(b"POST /p/"));
        assert_eq!(request.head(1, false), request.head(2, false));
    }
}
