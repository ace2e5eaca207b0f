//! Listeners, as a file has them.

use std::time::Duration;

use oxy_core::offramp::{DialOptions, EgressPolicy};
use oxy_core::onramp::{StreamOptions, UdpOptions};
use oxy_core::relay::RelayOptions;
use oxy_core::resolve::ResolveOptions;
use oxy_core::settings::Span;
use oxy_http::HttpOptions;
use oxy_http::route::{RouteSpec, VirtualHostSpec};
use oxy_tls::ServerOptions;
use oxy_tunnel::proxy_protocol::ProxyProtocolOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::one_or_many::one_or_many;
use super::{Listen, Located, To};

/// A listener: addresses, and exactly one of `http`, `tcp` and `udp`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// What it is called in logs and metrics. Default: its kind, with its place in the list from the second of a kind
    /// on.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it listens: `IP:PORT`, `:PORT` (all addresses), or `unix:PATH` for streams; port 0 is any free one.
    #[schemars(example = ["127.0.0.1:8080"])]
    pub listen: Vec<Listen>,
    /// Serve HTTP: HTTP/1.1, and HTTP/2 where the client begins with it or agrees to it in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
    /// Relay TCP (and Unix) streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSettings>,
    /// Relay UDP datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpSettings>,
    /// Connections are TLS, and what is done with them is done with their plaintext. Default: they are not. Not with
    /// `udp`.
    #[serde(default)]
    pub tls: Option<Located<ServerOptions>>,
    /// Host names and addresses for which a certificate is made when oxy starts, by an authority that lives as long as the
    /// process and whose own certificate is put into a file that oxy names then: for trials, in place of
    /// `tls.certificates`. Default: none.
    #[serde(default)]
    pub mint: Vec<String>,
    /// Connections begin with a header of the PROXY protocol, which says for whom they are. Default: they do not. Not with
    /// `udp`.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocolOptions>,
    /// How connections are taken in. Not with `udp`.
    #[serde(default)]
    pub stream: Option<StreamOptions>,
    /// How sessions of datagrams are taken in. Only with `udp`.
    #[serde(default)]
    pub datagram: Option<UdpOptions>,
    /// How streams and datagrams are relayed, those in tunnels too.
    #[serde(default)]
    pub relay: RelayOptions,
    /// Which addresses may be dialled. Default: all of them, as it is these settings that name them; with
    /// `http.forward`, where clients name them, what is written here as each setting's default.
    #[serde(default)]
    pub egress: Option<EgressPolicy>,
    /// How sockets towards targets are opened.
    #[serde(default)]
    pub dial: DialOptions,
    /// How names are resolved.
    #[serde(default)]
    pub resolve: ResolveOptions,
}

/// What an HTTP listener does: one of `to`, `cluster`, `routes` and `forward`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Reverse proxy: the origins, by turns. `HOST:PORT`, `http://HOST[:PORT]`, `h2c://HOST[:PORT]` (HTTP/2 in clear
    /// text), `https://HOST[:PORT]`, `unix:PATH`, or `builtin` for the small origin that oxy brings along; all of one
    /// scheme. What else is to be said of them is said of a cluster.
    pub to: Vec<To>,
    /// Reverse proxy: the cluster that requests go to.
    pub cluster: Option<Located<String>>,
    /// Reverse proxy: requests for these hosts go by their routes, to clusters.
    pub routes: Vec<Located<HostSettings>>,
    /// Forward proxy: requests go where they ask to go, CONNECT too. Default: false.
    pub forward: bool,
    /// The field in which origins are told who a client is by its verified certificate (see `tls.client_auth`), as Envoy's
    /// `x-forwarded-client-cert` has it: `Hash=..;Subject="..";URI=..;DNS=..`. A client's own field of that name is removed,
    /// whether it has a certificate or not. Routes may ask for it. Default: none, and nothing is told or removed.
    #[schemars(example = &"x-forwarded-client-cert")]
    pub client_identity: Option<Located<String>>,
    /// TLS connections for these names are not served here but passed on as they are, by the name that the client asks
    /// for. Only with `tls`.
    pub pass_through: Vec<Located<PassSettings>>,
    /// How HTTP is served and forwarded.
    pub options: HttpOptions,
}

/// Hosts, and the routes of their requests.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// The hosts: a name, an IP address, `*.example.com` for every name below it at whatever depth (but not
    /// `example.com` itself), or `*` for all. The exact one wins, then the longest wildcard; ports are ignored.
    /// Default: `*`, because a proxy for one site needs no more.
    #[serde(deserialize_with = "one_or_many")]
    pub hosts: Vec<String>,
    /// The routes. The most specific path wins, whatever the order: literal segments before `{names}`, those before
    /// the rest of a prefix, then regular expressions, then what takes every path. Among routes of one path the first
    /// whose conditions hold wins.
    pub routes: Vec<Located<RouteSpec>>,
    /// Whether a path with an escaped slash or backslash (`%2F`, `%5C`, or `\`) is refused with 400. To be set where an
    /// origin takes those for slashes, as it would then see another path than the one that was routed. Default: false,
    /// because names in paths may hold slashes.
    pub refuse_escaped_slashes: bool,
}

impl HostSettings {
    /// What the router makes a table of.
    pub(super) fn spec(&self) -> VirtualHostSpec {
        let mut spec = VirtualHostSpec::new(self.hosts.iter().cloned());
        spec.routes = self
            .routes
            .iter()
            .map(|route| route.value.clone())
            .collect();
        spec.refuse_escaped_slashes = self.refuse_escaped_slashes;
        spec
    }
}

/// Where a TCP listener's streams go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpSettings {
    /// The targets, by turns: `HOST:PORT` or `unix:PATH`. With `sni`, those of all other connections.
    #[schemars(example = ["127.0.0.1:9000"])]
    pub to: Vec<To>,
    /// A cluster instead of `to`.
    pub cluster: Option<Located<String>>,
    /// TLS connections for these names are passed on as they are, by the name that the client asks for (SNI). Those for
    /// other names, and what is no TLS, go to `to` or `cluster`, through `tls` if that is there, or are refused if there is
    /// neither.
    pub sni: Vec<Located<PassSettings>>,
    /// How long a client may take until it has asked for a name, where one is looked for; what says nothing for so long
    /// is no TLS. Default: 10 s, as long as a handshake may take.
    #[serde(with = "Span")]
    pub sni_timeout: Duration,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            cluster: None,
            sni: Vec::new(),
            sni_timeout: Duration::from_secs(10),
        }
    }
}

/// Names, and where connections for them are passed on to: one of `to` and `cluster`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassSettings {
    /// The names that clients ask for: exact ones, and `*.example.com` for every name below it at whatever depth. The exact
    /// one wins, then the longest wildcard.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(example = ["a.example", "*.b.example"])]
    pub names: Vec<String>,
    /// The targets, by turns: `HOST:PORT` or `unix:PATH`.
    pub to: Vec<To>,
    /// A cluster instead of `to`.
    pub cluster: Option<Located<String>>,
}

/// Where a UDP listener's sessions go: one of `to` and `cluster`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UdpSettings {
    /// The targets, by turns: `HOST:PORT`.
    #[schemars(example = ["127.0.0.1:9000"])]
    pub to: Vec<To>,
    /// A cluster instead of `to`.
    pub cluster: Option<Located<String>>,
}
