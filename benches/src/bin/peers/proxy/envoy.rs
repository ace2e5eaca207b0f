//! Envoy, set up as its own guide to benchmarks asks for: one worker, no request ids,
//! no statistics that vary by request, and no circuit breaker in the way.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Site;
use crate::case::Case;

/// For its circuit breakers, whose defaults are close to what HTTP/2 has in flight here.
const UNLIMITED: u32 = 1_000_000;

/// Its static configuration, in JSON, which it takes as well as YAML.
pub(super) fn config(case: Case, site: &Site<'_>) -> Value {
    let mut chain = json!({ "filters": [network(case)] });
    if let Some(group) = case.tls() {
        chain["transport_socket"] = extension(
            "envoy.transport_sockets.tls",
            "transport_sockets.tls.v3.DownstreamTlsContext",
            json!({ "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "ecdh_curves": [group.to_string()],
                },
                "tls_certificates": [{
                    "certificate_chain": { "filename": site.identity.certificate },
                    "private_key": { "filename": site.identity.key },
                }],
            } }),
        );
    }
    let origin = json!({ "endpoint": { "address": address(site.origin) } });
    json!({ "static_resources": {
        "listeners": [{
            "name": "front",
            "address": address(site.listen),
            "tcp_backlog_size": 4096,
            "filter_chains": [chain],
        }],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [{
                "max_connections": UNLIMITED,
                "max_pending_requests": UNLIMITED,
                "max_requests": UNLIMITED,
            }] },
            "load_assignment": {
                "cluster_name": "origin",
                "endpoints": [{ "lb_endpoints": [origin] }],
            },
        }],
    } })
}

/// What carries the bytes of a connection.
fn network(case: Case) -> Value {
    if case.layer_4() {
        return extension(
            "envoy.filters.network.tcp_proxy",
            "filters.network.tcp_proxy.v3.TcpProxy",
            json!({ "stat_prefix": "front", "cluster": "origin" }),
        );
    }
    let router = extension(
        "envoy.filters.http.router",
        "filters.http.router.v3.Router",
        json!({ "dynamic_stats": false, "suppress_envoy_headers": true }),
    );
    let route = json!({
        "match": { "prefix": "/" },
        "route": { "cluster": "origin", "timeout": "0s" },
    });
    extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "front",
            "codec_type": "AUTO",
            "generate_request_id": false,
            "http_filters": [router],
            "route_config": {
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }],
            },
        }),
    )
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } })
}

/// An extension, whose type is the last part of `kind`, with its settings.
fn extension(name: &str, kind: &str, mut settings: Value) -> Value {
    settings["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
    json!({ "name": name, "typed_config": settings })
}
