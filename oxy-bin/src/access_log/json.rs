//! Lines for machines. The names are those of OpenTelemetry's HTTP and network conventions where it has one.

use std::time::{Duration, Instant};

use http::Version;
use oxy_core::{Ended, ErrorKind, FlowInfo, Side, Summary, Target};
use oxy_http::ExchangeSummary;

use super::escape::Escaped;
use super::line::Line;
use super::time::Stamp;
use super::{
    HOST_MAX, METHOD_MAX, PATH_MAX, Who, alpn, clipped, host, path, server_name, side, tls_version,
};

/// A member's name as it stands behind others: a piece, where there would be three.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

pub(super) fn exchange(
    out: &mut Vec<u8>,
    who: &Who,
    info: &FlowInfo,
    summary: &ExchangeSummary<'_>,
) {
    let took = summary.took();
    let mut line = Line::new(out);
    let [who, _] = who.parts([&|line| line.client(info), &|_| {}]);
    line.start(summary.started() + took);
    line.bytes(who);
    line.course(summary.upstream, summary.error);
    line.string(
        key!("http.request.method"),
        clipped(summary.method(), METHOD_MAX),
    );
    line.string(key!("url.path"), clipped(path(summary.target()), PATH_MAX));
    line.string(
        key!("server.address"),
        clipped(host(summary.host()), HOST_MAX),
    );
    line.string(key!("network.protocol.version"), version(summary.version));
    line.count(key!("http.response.status_code"), summary.status.into());
    line.count(key!("http.request.body.size"), summary.received);
    line.count(key!("http.response.body.size"), summary.sent);
    line.seconds(key!("duration"), took);
    if let Some(first) = summary.first_byte {
        line.seconds(key!("first_byte"), first);
    }
    line.flag(key!("reused"), summary.reused);
    line.count(key!("retries"), summary.retries.into());
    line.text("}");
    line.end();
}

pub(super) fn flow(out: &mut Vec<u8>, summary: &Summary) {
    let info = &summary.info;
    let error = match summary.ended {
        Ended::Failed(kind, at) => Some((kind, at)),
        Ended::Done | Ended::Cut => None,
    };
    let mut line = Line::new(out);
    line.start(info.started + summary.lived);
    line.client(info);
    line.course(info.target(), error);
    line.string(key!("layer"), info.layer.name());
    line.count(key!("received"), summary.received);
    line.count(key!("sent"), summary.sent);
    line.seconds(key!("duration"), summary.lived);
    line.string(key!("ended"), summary.ended.name());
    line.text("}");
    line.end();
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The members of an object. Their names need no escaping.
impl Line<'_> {
    /// The object's beginning.
    fn start(&mut self, now: Instant) {
        self.text("{\"time\":\"");
        self.bytes(&Stamp::of(now).text());
        self.text("\"");
    }

    /// Where and from whom.
    fn client(&mut self, info: &FlowInfo) {
        self.string(key!("listener"), &info.listener);
        self.count(key!("flow"), info.id.get());
        if let Some(peer) = info.peer {
            self.text(concat!(key!("client.address"), "\""));
            self.ip(peer.ip());
            self.text("\"");
            self.count(key!("client.port"), peer.port().into());
        }
        let facts = info.tls();
        if let Some(facts) = facts {
            self.string(key!("tls.protocol.version"), tls_version(facts));
        }
        if let Some(name) = server_name(info) {
            self.string(key!("tls.client.server_name"), name);
        }
        if let Some(alpn) = facts.and_then(alpn) {
            self.string(key!("tls.next_protocol"), &alpn);
        }
        if let Some(facts) = facts {
            self.flag(key!("tls.resumed"), facts.resumed);
        }
    }

    /// Where to, and what went wrong.
    fn course(&mut self, upstream: Option<&Target>, error: Option<(ErrorKind, Side)>) {
        match upstream {
            // Nothing that has to be escaped is in an address.
            Some(target @ Target::Tcp { .. }) => {
                self.text(concat!(key!("upstream"), "\""));
                self.target(target);
                self.text("\"");
            }
            Some(target) => self.string(key!("upstream"), &target.to_string()),
            None => {}
        }
        if let Some((kind, at)) = error {
            self.string(key!("error.type"), kind.name());
            self.string(key!("error.side"), side(at));
        }
    }

    fn string(&mut self, key: &'static str, value: &str) {
        self.text(key);
        if let Some(plain) = Escaped(value).plain() {
            self.text("\"");
            self.text(plain);
            self.text("\"");
            return;
        }
        // A string cannot fail.
        let escaped = serde_json::to_string(value).unwrap_or_else(|_| "\"\"".into());
        self.text(&escaped);
    }

    fn count(&mut self, key: &'static str, value: u64) {
        self.text(key);
        self.number(value);
    }

    fn seconds(&mut self, key: &'static str, value: Duration) {
        self.text(key);
        self.length(value);
    }

    fn flag(&mut self, key: &'static str, value: bool) {
        self.text(key);
        self.text(if value { "true" } else { "false" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_they_were() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "\u{1}\n\u{7f}",
            "\u{e9}\u{1F600}\u{2028}",
        ] {
            let mut out = b"{\"a\":0".to_vec();
            let mut line = Line::new(&mut out);
            line.string(key!("text"), text);
            line.flag(key!("yes"), true);
            line.seconds(key!("length"), Duration::from_micros(1_000_002));
            line.text("}");
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(read["text"], text);
            assert_eq!(read["yes"], true);
            assert_eq!(read["length"], 1.000_002);
        }
    }
}
