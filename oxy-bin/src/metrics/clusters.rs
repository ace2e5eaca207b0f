//! How clusters fare.

use oxy_core::cluster::{ClusterReport, EndpointReport, Health};

use super::exposition::Page;

type Value = fn(&EndpointReport) -> f64;

/// Names, kinds, helps and values of what is told of an endpoint.
const FAMILIES: [(&str, &str, &str, Value); 9] = [
    (
        "oxy_cluster_endpoint_healthy",
        "gauge",
        "Whether an endpoint's health checks do not fail.",
        |it| f64::from(u8::from(it.health != Health::Unhealthy)),
    ),
    (
        "oxy_cluster_endpoint_ejected",
        "gauge",
        "Whether an endpoint is left alone because of its failures.",
        |it| f64::from(u8::from(it.ejected.is_some())),
    ),
    (
        "oxy_cluster_endpoint_weight",
        "gauge",
        "The weight of an endpoint that is in force.",
        |it| f64::from(it.weight) * f64::from(it.weight_percent) / 100.0,
    ),
    (
        "oxy_cluster_endpoint_requests_in_flight",
        "gauge",
        "Requests, or flows, under way at an endpoint.",
        |it| it.totals.in_flight as f64,
    ),
    (
        "oxy_cluster_endpoint_connections",
        "gauge",
        "Connections to an endpoint that are open.",
        |it| it.totals.connections as f64,
    ),
    (
        "oxy_cluster_endpoint_requests_total",
        "counter",
        "Requests, or flows, that an endpoint was picked for.",
        |it| it.totals.picked as f64,
    ),
    (
        "oxy_cluster_endpoint_successes_total",
        "counter",
        "Requests that were answered well.",
        |it| it.totals.successes as f64,
    ),
    (
        "oxy_cluster_endpoint_failures_total",
        "counter",
        "Requests that got no answer.",
        |it| it.totals.failures as f64,
    ),
    (
        "oxy_cluster_endpoint_gateway_errors_total",
        "counter",
        "Answers that said that the endpoint cannot serve.",
        |it| it.totals.gateways as f64,
    ),
];

/// Writes how `clusters` fare.
pub(super) fn write(page: &mut Page, clusters: &[ClusterReport]) {
    for (name, kind, help, value) in FAMILIES {
        page.family(name, kind, help);
        for cluster in clusters {
            for endpoint in &cluster.endpoints {
                let target = endpoint.target.to_string();
                let labels = [("cluster", &*cluster.name), ("endpoint", target.as_str())];
                page.sample(name, &labels, value(endpoint));
            }
        }
    }
}
