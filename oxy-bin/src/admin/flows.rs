//! The flows that are open, as JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use oxy_core::FlowInfo;
use serde::Serialize;

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
