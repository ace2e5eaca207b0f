//! Lines for people.

use std::fmt::{self, Arguments, Display, Formatter};
use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use oxy_core::{Ended, FlowInfo, Summary};
use oxy_http::ExchangeSummary;

use super::escape::Escaped;
use super::time::Stamp;
use super::{
    HOST_MAX, METHOD_MAX, PATH_MAX, alpn, clipped, host, path, server_name, side, tls_version,
};

/// Room that most lines fit in.
const USUAL: usize = 256;

pub(super) fn exchange(now: SystemTime, info: &FlowInfo, summary: &ExchangeSummary<'_>) -> Vec<u8> {
    let mut line = Line(Vec::with_capacity(USUAL));
    let method = clipped(summary.method, METHOD_MAX);
    let path = clipped(path(summary.target), PATH_MAX);
    let host = clipped(host(summary.host), HOST_MAX);
    line.add(format_args!(
        "{} {} {} \"{} {} {:?}\" host=\"{}\" status={} received={} sent={} took={:.6}",
        Stamp(now),
        Escaped(&info.listener),
        Peer(info.peer),
        Escaped(method),
        Escaped(path),
        summary.version,
        Escaped(host),
        summary.status,
        summary.received,
        summary.sent,
        summary.took.as_secs_f64(),
    ));
    if let Some(first) = summary.first_byte {
        line.add(format_args!(" first_byte={:.6}", first.as_secs_f64()));
    }
    line.tls(info);
    line.upstream(summary.upstream);
    if summary.reused {
        line.add(format_args!(" reused"));
    }
    if summary.retries > 0 {
        line.add(format_args!(" retries={}", summary.retries));
    }
    if let Some((kind, at)) = summary.error {
        line.add(format_args!(" error={}:{}", side(at), kind.name()));
    }
    line.end()
}

pub(super) fn flow(now: SystemTime, summary: &Summary) -> Vec<u8> {
    let info = &summary.info;
    let mut line = Line(Vec::with_capacity(USUAL));
    line.add(format_args!(
        "{} {} {} {} received={} sent={} lived={:.6}",
        Stamp(now),
        Escaped(&info.listener),
        Peer(info.peer),
        info.layer,
        summary.received,
        summary.sent,
        summary.lived.as_secs_f64(),
    ));
    line.tls(info);
    line.upstream(info.target());
    match summary.ended {
        Ended::Done => {}
        Ended::Failed(kind, at) => line.add(format_args!(" error={}:{}", side(at), kind.name())),
        Ended::Cut => line.add(format_args!(" error=local:cut")),
    }
    line.end()
}

/// An address, or a dash for what has none.
struct Peer(Option<SocketAddr>);

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("-"),
        }
    }
}

struct Line(Vec<u8>);

impl Line {
    fn add(&mut self, text: Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.0.write_fmt(text);
    }

    fn tls(&mut self, info: &FlowInfo) {
        let facts = info.tls();
        if let Some(facts) = facts {
            self.add(format_args!(" tls={}", tls_version(facts)));
        }
        if let Some(name) = server_name(info) {
            self.add(format_args!(" sni={}", Escaped(name)));
        }
        if let Some(alpn) = facts.and_then(alpn) {
            self.add(format_args!(" alpn={}", Escaped(&alpn)));
        }
    }

    fn upstream(&mut self, target: Option<&impl Display>) {
        if let Some(target) = target {
            self.add(format_args!(" upstream={target}"));
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'\n');
        self.0
    }
}
