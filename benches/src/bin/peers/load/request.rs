//! What a slot asks for over HTTP/1.1.

use std::net::SocketAddr;

use clap::ValueEnum;

use super::tls::SERVER_NAME;
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
    plain: Vec<u8>,
    /// The same, asking the origin to compare the body.
    compared: Vec<u8>,
    pub(super) body: &'static [u8],
    pub(super) expected: &'static [u8],
}

impl Request {
    /// The request of `slot`; nothing if `size` is beyond the pattern.
    pub(crate) fn new(method: Method, size: usize, slot: usize, host: &str) -> Option<Self> {
        let shift = pattern::shift(slot);
        let bytes = pattern::body(size, shift)?;
        let fields = format!("Host: {host}\r\nUser-Agent: peers/1\r\nAccept: */*\r\n");
        Some(match method {
            Method::Get => {
                let head = format!("GET /b/{size}/{shift} HTTP/1.1\r\n{fields}\r\n").into_bytes();
                Self {
                    plain: head.clone(),
                    compared: head,
                    body: b"",
                    expected: bytes,
                }
            }
            Method::Post => {
                let head = |kind| {
                    format!(
                        "POST /{kind}/{shift} HTTP/1.1\r\n{fields}Content-Length: {size}\r\n\r\n"
                    )
                    .into_bytes()
                };
                Self {
                    plain: head('p'),
                    compared: head('c'),
                    body: bytes,
                    expected: b"ok",
                }
            }
        })
    }

    /// Its head, which tells the origin whether to compare the body.
    pub(super) fn head(&self, compare: bool) -> &[u8] {
        if compare { &self.compared } else { &self.plain }
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
