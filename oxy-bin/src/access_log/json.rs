//! Lines for machines. The names are those of OpenTelemetry's HTTP and network conventions where it has one.

use std::net::IpAddr;
use std::time::SystemTime;

use http::Version;
use oxy_core::{Ended, FlowInfo, Summary};
use oxy_http::ExchangeSummary;
use serde::Serialize;

use super::time::Stamp;
use super::{
    HOST_MAX, METHOD_MAX, PATH_MAX, alpn, clipped, host, path, server_name, side, tls_version,
};

#[derive(Serialize)]
struct Common<'a> {
    time: String,
    listener: &'a str,
    flow: u64,
    #[serde(rename = "client.address", skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(rename = "client.port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(
        rename = "tls.protocol.version",
        skip_serializing_if = "Option::is_none"
    )]
    tls: Option<&'static str>,
    #[serde(
        rename = "tls.client.server_name",
        skip_serializing_if = "Option::is_none"
    )]
    server_name: Option<&'a str>,
    #[serde(rename = "tls.next_protocol", skip_serializing_if = "Option::is_none")]
    alpn: Option<String>,
    #[serde(rename = "tls.resumed", skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(rename = "error.side", skip_serializing_if = "Option::is_none")]
    error_side: Option<&'static str>,
}

#[derive(Serialize)]
struct Exchange<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    #[serde(rename = "http.request.method")]
    method: &'a str,
    #[serde(rename = "url.path")]
    path: &'a str,
    #[serde(rename = "server.address")]
    host: &'a str,
    #[serde(rename = "network.protocol.version")]
    version: &'static str,
    #[serde(rename = "http.response.status_code")]
    status: u16,
    #[serde(rename = "http.request.body.size")]
    received: u64,
    #[serde(rename = "http.response.body.size")]
    sent: u64,
    /// In seconds.
    duration: f64,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<f64>,
    reused: bool,
    retries: u32,
}

#[derive(Serialize)]
struct Flow<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    layer: &'static str,
    received: u64,
    sent: u64,
    /// In seconds.
    duration: f64,
    ended: &'static str,
}

impl<'a> Common<'a> {
    fn of(now: SystemTime, info: &'a FlowInfo) -> Self {
        let facts = info.tls();
        Self {
            time: Stamp(now).to_string(),
            listener: &info.listener,
            flow: info.id.get(),
            address: info.peer.map(|peer| peer.ip()),
            port: info.peer.map(|peer| peer.port()),
            tls: facts.map(tls_version),
            server_name: server_name(info),
            alpn: facts.and_then(alpn),
            resumed: facts.map(|facts| facts.resumed),
            upstream: None,
            error: None,
            error_side: None,
        }
    }
}

pub(super) fn exchange(now: SystemTime, info: &FlowInfo, summary: &ExchangeSummary<'_>) -> Vec<u8> {
    line(&Exchange {
        common: Common {
            upstream: summary.upstream.map(ToString::to_string),
            error: summary.error.map(|(kind, _)| kind.name()),
            error_side: summary.error.map(|(_, at)| side(at)),
            ..Common::of(now, info)
        },
        method: clipped(summary.method, METHOD_MAX),
        path: clipped(path(summary.target), PATH_MAX),
        host: clipped(host(summary.host), HOST_MAX),
        version: match summary.version {
            Version::HTTP_09 => "0.9",
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        },
        status: summary.status,
        received: summary.received,
        sent: summary.sent,
        duration: summary.took.as_secs_f64(),
        first_byte: summary.first_byte.map(|first| first.as_secs_f64()),
        reused: summary.reused,
        retries: summary.retries,
    })
}

pub(super) fn flow(now: SystemTime, summary: &Summary) -> Vec<u8> {
    let info = &summary.info;
    let (error, error_side) = match summary.ended {
        Ended::Failed(kind, at) => (Some(kind.name()), Some(side(at))),
        Ended::Done | Ended::Cut => (None, None),
    };
    line(&Flow {
        common: Common {
            upstream: info.target().map(ToString::to_string),
            error,
            error_side,
            ..Common::of(now, info)
        },
        layer: info.layer.name(),
        received: summary.received,
        sent: summary.sent,
        duration: summary.lived.as_secs_f64(),
        ended: summary.ended.name(),
    })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // It fails only for maps whose keys are not strings.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}
