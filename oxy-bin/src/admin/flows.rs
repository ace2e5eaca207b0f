//! The flows that are open, as JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use oxy_core::FlowInfo;
use oxy_core::sniff::ClientHello;
use serde::Serialize;

use crate::access_log::{alpn, tls_version};

/// The most flows that are listed: more than anybody reads, and a few MiB.
const LISTED_MAX: usize = 10_000;

#[derive(Serialize)]
struct List<'a> {
    /// How many are open, listed or not.
    open: usize,
    flows: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    parent: Option<u64>,
    layer: &'static str,
    listener: &'a str,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    target: Option<String>,
    /// In seconds.
    age: f64,
    received: u64,
    sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
}

/// What is known of the TLS that a flow lies in, or that is passed on in it.
#[derive(Serialize)]
struct Tls<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    /// The subject of the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<String>,
}

impl<'a> Tls<'a> {
    fn of(info: &'a FlowInfo) -> Option<Self> {
        let (facts, hello) = (info.tls(), info.client_hello());
        if facts.is_none() && hello.is_none() {
            return None;
        }
        Some(Self {
            server_name: hello.and_then(|hello| hello.server_name.as_deref()),
            version: facts.map(tls_version),
            alpn: facts.and_then(alpn),
            resumed: facts.map(|facts| facts.resumed),
            client: facts
                .and_then(|facts| facts.peer_identity.as_deref())
                .map(|identity| identity.subject.as_str()),
            ja4: hello.map(ClientHello::ja4),
        })
    }
}

/// The list, oldest first.
pub(super) fn list(open: &[Arc<FlowInfo>]) -> String {
    let now = Instant::now();
    let flows = open.iter().take(LISTED_MAX).map(|info| Line {
        id: info.id.get(),
        parent: info.parent.as_ref().map(|parent| parent.id.get()),
        layer: info.layer.name(),
        listener: &info.listener,
        peer: info.peer,
        local: info.local,
        target: info.target().map(ToString::to_string),
        age: now.saturating_duration_since(info.started).as_secs_f64(),
        received: info.meter().received(),
        sent: info.meter().sent(),
        tls: Tls::of(info),
    });
    let list = List {
        open: open.len(),
        flows: flows.collect(),
    };
    // It fails only for maps whose keys are not strings.
    let mut text = serde_json::to_string(&list).unwrap_or_default();
    text.push('\n');
    text
}
