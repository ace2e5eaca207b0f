//! A line for each exchange, and for each flow that carries none, written by a thread of its own.
//!
//! Workers never wait for it, nor for each other: each adds to lines of its own, and a line that finds no room there is dropped
//! and counted.

mod escape;
mod json;
mod line;
mod lines;
mod text;
mod time;
mod writer;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use oxy_core::{Error, FlowInfo, Result, Side, Summary, TlsFacts};
use oxy_http::ExchangeSummary;

use crate::metrics::thread_number;
use crate::settings::{AccessLogSettings, LogFormat, LogPath};
use line::Line;
use lines::Lines;
pub(crate) use writer::Writer;

/// How many bytes of a worker's lines may wait for the writer: a tenth of a second of what a busy one logs.
const ROOM: usize = 2 << 20;

/// Where exchanges and flows are logged. Clones write to the same place.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    format: Format,
    open: Arc<Open>,
    counts: Arc<Counts>,
}

/// Lines that are closed when nobody can log any more.
#[derive(Debug)]
struct Open(Arc<Lines>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the lines of all exchanges of a connection say of it, written with the first.
#[derive(Debug, Default)]
pub(crate) struct Who(OnceLock<[Box<[u8]>; 2]>);

impl Who {
    /// What `parts` write, in whichever two places of a line.
    fn parts(&self, parts: [&dyn Fn(&mut Line<'_>); 2]) -> &[Box<[u8]>; 2] {
        self.0.get_or_init(|| {
            parts.map(|write| {
                let mut text = Vec::new();
                write(&mut Line::new(&mut text));
                text.into()
            })
        })
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug)]
enum Format {
    Text,
    Json,
}

/// What became of the lines.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Lines that were written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Lines that found no room, or could not be written.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl AccessLog {
    /// Opens what `settings` name, for `threads` workers; none if they say that nothing is logged.
    pub(crate) fn open(
        settings: &AccessLogSettings,
        threads: usize,
    ) -> Result<Option<(Self, Writer)>> {
        let format = match settings.format {
            LogFormat::Off => return Ok(None),
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let out: Box<dyn Write + Send> = match &settings.path {
            LogPath::Stdout => Box::new(io::stdout()),
            LogPath::Stderr => Box::new(io::stderr()),
            LogPath::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|e| {
                    let named = io::Error::new(e.kind(), format!("{}: {e}", path.display()));
                    Error::io(Side::Local, named).context("opening the access log")
                })?)
            }
        };
        let counts = Arc::new(Counts::default());
        let lines = Arc::new(Lines::new(threads, ROOM));
        let writer = Writer::start(out, &lines, counts.clone())?;
        let log = Self {
            format,
            open: Arc::new(Open(lines)),
            counts,
        };
        Ok(Some((log, writer)))
    }

    /// What became of the lines.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Logs an exchange of the connection that `who` and `info` are about.
    pub(crate) fn exchange(&self, who: &Who, info: &FlowInfo, summary: &ExchangeSummary<'_>) {
        self.put(|line| match self.format {
            Format::Text => text::exchange(line, who, info, summary),
            Format::Json => json::exchange(line, who, info, summary),
        });
    }

    /// Logs a flow.
    pub(crate) fn flow(&self, summary: &Summary) {
        self.put(|line| match self.format {
            Format::Text => text::flow(line, summary),
            Format::Json => json::flow(line, summary),
        });
    }

    fn put(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.open.0.put(thread_number(), write) {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// What of the request target is logged: not the query, in which secrets are passed, nor userinfo.
fn path(target: &str) -> &str {
    let end = target.bytes().position(|byte| matches!(byte, b'?' | b'#'));
    let target = &target[..end.unwrap_or(target.len())];
    if target.starts_with('/') {
        return target;
    }
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    }
}

/// The authority without userinfo.
fn host(authority: &str) -> &str {
    let at = authority.bytes().rposition(|byte| byte == b'@');
    &authority[at.map_or(0, |at| at + 1)..]
}

/// The version of TLS, as OpenTelemetry's `tls.protocol.version` has it.
pub(crate) fn tls_version(facts: &TlsFacts) -> &'static str {
    match facts.version {
        0x0304 => "1.3",
        0x0303 => "1.2",
        _ => "unknown",
    }
}

/// The protocol that was chosen in TLS.
pub(crate) fn alpn(facts: &TlsFacts) -> Option<String> {
    Some(String::from_utf8_lossy(facts.alpn.as_deref()?).into_owned())
}

/// The name that a TLS client has asked for, whether the TLS is ours or passed on.
fn server_name(info: &FlowInfo) -> Option<&str> {
    let asked = info.tls().and_then(|facts| facts.server_name.as_deref());
    let asked = asked.or_else(|| info.client_hello()?.server_name.as_deref());
    asked.map(|name| clipped(name, HOST_MAX))
}

/// The start of what a client sent, so that it cannot make the queue large.
fn clipped(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// The most of a method, a path and an authority that is logged, in bytes.
const METHOD_MAX: usize = 32;
const PATH_MAX: usize = 2048;
const HOST_MAX: usize = 255;

fn side(side: Side) -> &'static str {
    match side {
        Side::Down => "client",
        Side::Up => "upstream",
        Side::Local => "local",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out() {
        assert_eq!(path("/a/b?token=1"), "/a/b");
        assert_eq!(path("http://u:p@h/a?x"), "/a");
        assert_eq!(path("http://h"), "/");
        assert_eq!(path("http://h?x=/y"), "/");
        assert_eq!(path("*"), "*");
        assert_eq!(path("example.com:443"), "example.com:443");
        assert_eq!(host("u:p@example.com:80"), "example.com:80");
    }

    #[test]
    fn long_text_is_clipped_between_characters() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("abcd", 3), "abc");
        assert_eq!(clipped("ab\u{e9}", 3), "ab");
        assert_eq!(clipped("\u{1F600}", 2), "");
    }
}
