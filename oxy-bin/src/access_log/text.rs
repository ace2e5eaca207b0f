//! Lines for people.

use http::Version;
use oxy_core::{Ended, FlowInfo, Summary, Target};
use oxy_http::ExchangeSummary;

use super::escape::Escaped;
use super::line::Line;
use super::time::Stamp;
use super::{
    HOST_MAX, METHOD_MAX, PATH_MAX, Who, alpn, clipped, host, path, server_name, side, tls_version,
};

pub(super) fn exchange(
    out: &mut Vec<u8>,
    who: &Who,
    info: &FlowInfo,
    summary: &ExchangeSummary<'_>,
) {
    let took = summary.took();
    let mut line = Line::new(out);
    let [who, tls] = who.parts([&|line| line.who(info), &|line| line.tls(info)]);
    line.bytes(&Stamp::of(summary.started() + took).text());
    line.bytes(who);
    line.text(" \"");
    line.escaped(clipped(summary.method(), METHOD_MAX));
    line.text(" ");
    line.escaped(clipped(path(summary.target()), PATH_MAX));
    line.text(" ");
    line.text(version(summary.version));
    line.text("\" host=\"");
    line.escaped(clipped(host(summary.host()), HOST_MAX));
    line.text("\" status=");
    line.number(summary.status.into());
    line.text(" received=");
    line.number(summary.received);
    line.text(" sent=");
    line.number(summary.sent);
    line.text(" took=");
    line.length(took);
    if let Some(first) = summary.first_byte {
        line.text(" first_byte=");
        line.length(first);
    }
    line.bytes(tls);
    line.upstream(summary.upstream);
    if summary.reused {
        line.text(" reused");
    }
    if summary.retries > 0 {
        line.text(" retries=");
        line.number(summary.retries.into());
    }
    if let Some((kind, at)) = summary.error {
        line.error(side(at), kind.name());
    }
    line.end();
}

pub(super) fn flow(out: &mut Vec<u8>, summary: &Summary) {
    let info = &summary.info;
    let mut line = Line::new(out);
    line.bytes(&Stamp::of(info.started + summary.lived).text());
    line.who(info);
    line.text(" ");
    line.text(info.layer.name());
    line.text(" received=");
    line.number(summary.received);
    line.text(" sent=");
    line.number(summary.sent);
    line.text(" lived=");
    line.length(summary.lived);
    line.tls(info);
    line.upstream(info.target());
    match summary.ended {
        Ended::Done => {}
        Ended::Failed(kind, at) => line.error(side(at), kind.name()),
        Ended::Cut => line.error("local", "cut"),
    }
    line.end();
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

impl Line<'_> {
    /// Where and from whom.
    fn who(&mut self, info: &FlowInfo) {
        self.text(" ");
        self.escaped(&info.listener);
        self.text(" ");
        match info.peer {
            Some(peer) => self.address(peer),
            // What has no address.
            None => self.text("-"),
        }
    }

    fn escaped(&mut self, text: &str) {
        let escaped = Escaped(text);
        match escaped.plain() {
            Some(plain) => self.text(plain),
            None => self.shown(&escaped),
        }
    }

    fn tls(&mut self, info: &FlowInfo) {
        let facts = info.tls();
        if let Some(facts) = facts {
            self.text(" tls=");
            self.text(tls_version(facts));
        }
        if let Some(name) = server_name(info) {
            self.text(" sni=");
            self.escaped(name);
        }
        if let Some(alpn) = facts.and_then(alpn) {
            self.text(" alpn=");
            self.escaped(&alpn);
        }
    }

    fn upstream(&mut self, target: Option<&Target>) {
        if let Some(target) = target {
            self.text(" upstream=");
            self.target(target);
        }
    }

    fn error(&mut self, side: &str, kind: &str) {
        self.text(" error=");
        self.text(side);
        self.text(":");
        self.text(kind);
    }
}
