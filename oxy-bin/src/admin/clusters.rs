//! Clusters and their endpoints, as JSON or as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use oxy_core::cluster::{ClusterReport, EndpointReport, Health, Usage};
use serde::Serialize;

#[derive(Serialize)]
struct Cluster<'a> {
    name: &'a str,
    endpoints: Vec<Endpoint<'a>>,
    priorities: Vec<Priority>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<Source<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<&'static str, Limit>,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    address: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    priority: u32,
    weight: u32,
    /// In percent of the weight; 0 where it is not used.
    weight_percent: u32,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    ejected: bool,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_by: Option<&'static str>,
    in_flight: u64,
    connections: u64,
    requests: u64,
    successes: u64,
    failures: u64,
    gateway_errors: u64,
}

#[derive(Serialize)]
struct Priority {
    priority: u32,
    share_percent: u32,
    panic: bool,
}

#[derive(Serialize)]
struct Source<'a> {
    name: String,
    endpoints: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Limit {
    used: u32,
    limit: u32,
}

/// The clusters for programs.
pub(super) fn json(reports: &[ClusterReport]) -> String {
    let clusters: Vec<_> = reports.iter().map(Cluster::of).collect();
    // It fails only for maps whose keys are not strings.
    let mut text =
        serde_json::to_string(&serde_json::json!({ "clusters": clusters })).unwrap_or_default();
    text.push('\n');
    text
}

/// The clusters for people.
pub(super) fn text(reports: &[ClusterReport]) -> String {
    let mut text = String::new();
    for report in reports {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{}", report.name);
        for endpoint in &report.endpoints {
            let Endpoint {
                address,
                weight,
                weight_percent,
                health,
                in_flight,
                requests,
                successes,
                failures,
                gateway_errors,
                ..
            } = Endpoint::of(endpoint);
            let _ = write!(
                text,
                "  {address} {health} weight={weight} ({weight_percent}%) in_flight={in_flight} requests={requests} \
                 ok={successes} failed={failures} gateway={gateway_errors}",
            );
            if let Some((left, cause)) = endpoint.ejected {
                let _ = write!(text, " ejected={}s ({})", left.as_secs(), cause.name());
            }
            if let Some(why) = &endpoint.why {
                let _ = write!(text, " why={}", why.escape_debug());
            }
            text.push('\n');
        }
        for source in &report.sources {
            let _ = match (&source.error, source.endpoints) {
                (Some(error), _) => {
                    writeln!(text, "  {}: {}", source.address, error.escape_debug())
                }
                (None, Some(count)) => writeln!(text, "  {}: {count} endpoints", source.address),
                (None, None) => writeln!(text, "  {}: not asked for yet", source.address),
            };
        }
    }
    text
}

impl<'a> Cluster<'a> {
    fn of(report: &'a ClusterReport) -> Self {
        let limits: [(&str, Option<Usage>); 4] = [
            ("connections", report.connections),
            ("pending", report.pending),
            ("requests", report.requests),
            ("retries", report.retries),
        ];
        let limits = limits.into_iter().filter_map(|(name, usage)| {
            let Usage { used, limit, .. } = usage?;
            Some((name, Limit { used, limit }))
        });
        Self {
            name: &report.name,
            endpoints: report.endpoints.iter().map(Endpoint::of).collect(),
            priorities: report
                .levels
                .iter()
                .map(|level| Priority {
                    priority: level.priority,
                    share_percent: level.share_percent,
                    panic: level.panic,
                })
                .collect(),
            sources: report
                .sources
                .iter()
                .map(|source| Source {
                    name: source.address.to_string(),
                    endpoints: source.endpoints,
                    error: source.error.as_deref(),
                })
                .collect(),
            limits: limits.collect(),
        }
    }
}

impl<'a> Endpoint<'a> {
    fn of(report: &'a EndpointReport) -> Self {
        let totals = report.totals;
        Self {
            address: report.target.to_string(),
            id: report.id.to_string(),
            host: report.host.as_ref().map(ToString::to_string),
            labels: &report.labels,
            priority: report.priority,
            weight: report.weight,
            weight_percent: report.weight_percent,
            health: match report.health {
                Health::Unchecked => "unchecked",
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            },
            why: report.why.as_deref(),
            ejected: report.ejected.is_some(),
            ejected_for: report.ejected.map(|(left, _)| left.as_secs_f64()),
            ejected_by: report.ejected.map(|(_, cause)| cause.name()),
            in_flight: totals.in_flight,
            connections: totals.connections,
            requests: totals.picked,
            successes: totals.successes,
            failures: totals.failures,
            gateway_errors: totals.gateways,
        }
    }
}
