//! What is measured.

use clap::ValueEnum;

use crate::load::{Group, Method, Shape};
use crate::prompt;
use crate::proxy::Peer;
use crate::variant::Format::{Json, Off, Text};
use crate::variant::Variant;

/// A kind of load, the same for every peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Case {
    /// GET of 1 KiB, 64 keep-alive connections.
    #[value(name = "get-1k")]
    Get1k,
    /// GET of 64 KiB, 32 keep-alive connections.
    #[value(name = "get-64k")]
    Get64k,
    /// GET of 1 MiB, 8 keep-alive connections.
    #[value(name = "get-1m")]
    Get1m,
    /// POST of 1 MiB, 8 keep-alive connections.
    #[value(name = "post-1m")]
    Post1m,
    /// GET of 1 KiB, each on a new connection, 64 at a time.
    Conn,
    /// GET of 1 MiB through a layer 4 proxy, 8 connections.
    #[value(name = "l4-1m")]
    L41m,
    /// Memory of 5,000 connections that have made one request each.
    Idle,
    /// GET of 1 KiB, each on a new TLS connection with a full handshake, 64 at a time.
    TlsHandshake,
    /// The same with the post-quantum key exchange.
    TlsHandshakePq,
    /// GET of 1 KiB over TLS, 64 keep-alive connections.
    #[value(name = "tls-get-1k")]
    TlsGet1k,
    /// GET of 1 MiB over TLS, 8 keep-alive connections.
    #[value(name = "tls-get-1m")]
    TlsGet1m,
    /// POST of 1 MiB over TLS, 8 keep-alive connections.
    #[value(name = "tls-post-1m")]
    TlsPost1m,
    /// Memory of 5,000 TLS connections that have made one request each.
    TlsIdle,
    /// GET of 1 KiB over HTTP/2 over TLS, 16 connections with 32 streams each.
    #[value(name = "h2-get-1k")]
    H2Get1k,
    /// GET of 1 KiB over HTTP/2 in clear, 16 connections with 32 streams each.
    #[value(name = "h2c-get-1k")]
    H2cGet1k,
    /// GET of 1 KiB at a fixed rate (`--rate`), 64 keep-alive connections.
    #[value(name = "rate-1k")]
    Rate1k,
    /// GET of 1 KiB at half of what the slowest peer can do, 64 keep-alive connections.
    #[value(name = "half-1k")]
    Half1k,
    /// The same over TLS.
    #[value(name = "tls-half-1k")]
    TlsHalf1k,
    /// get-1k through 1 and 2 workers of Oxy; proxy, origin and load share both cores.
    Workers,
    /// GET of 1 KiB, 100 keep-alive connections, alone and beside 18,000 idle ones.
    BesideIdle,
    /// GET of 1 KiB, 10 to 8,000 keep-alive connections.
    Connections,
    /// get-1k through 1 and 10,000 routes of Oxy.
    Routes,
    /// get-1k without and with Oxy's access log.
    AccessLog,
}

/// Where the rate of a case comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// From `--rate`.
    Asked,
    /// From this case: each round runs it first, and offers half of what the slowest peer could do.
    HalfOf(Case),
}

impl Case {
    /// What runs when no case is named: all but the one that needs a rate chosen.
    pub(crate) const DEFAULT: [Self; 22] = [
        Self::Get1k,
        Self::Get64k,
        Self::Get1m,
        Self::Post1m,
        Self::Conn,
        Self::L41m,
        Self::Idle,
        Self::TlsHandshake,
        Self::TlsHandshakePq,
        Self::TlsGet1k,
        Self::TlsGet1m,
        Self::TlsPost1m,
        Self::TlsIdle,
        Self::H2Get1k,
        Self::H2cGet1k,
        Self::Half1k,
        Self::TlsHalf1k,
        Self::Workers,
        Self::BesideIdle,
        Self::Connections,
        Self::Routes,
        Self::AccessLog,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get1k => "get-1k",
            Self::Get64k => "get-64k",
            Self::Get1m => "get-1m",
            Self::Post1m => "post-1m",
            Self::Conn => "conn",
            Self::L41m => "l4-1m",
            Self::Idle => "idle",
            Self::TlsHandshake => "tls-handshake",
            Self::TlsHandshakePq => "tls-handshake-pq",
            Self::TlsGet1k => "tls-get-1k",
            Self::TlsGet1m => "tls-get-1m",
            Self::TlsPost1m => "tls-post-1m",
            Self::TlsIdle => "tls-idle",
            Self::H2Get1k => "h2-get-1k",
            Self::H2cGet1k => "h2c-get-1k",
            Self::Rate1k => "rate-1k",
            Self::Half1k => "half-1k",
            Self::TlsHalf1k => "tls-half-1k",
            Self::Workers => "workers",
            Self::BesideIdle => "beside-idle",
            Self::Connections => "connections",
            Self::Routes => "routes",
            Self::AccessLog => "access-log",
        }
    }

    /// What its rows differ in besides the proxy. Where there is more than one, the case is about how a proxy scales, and
    /// its rows are held against the first one of the same proxy.
    pub(crate) fn variants(self) -> &'static [Variant] {
        match self {
            Self::Workers => &[Variant::Workers(1), Variant::Workers(2)],
            Self::BesideIdle => &[Variant::Resting(0), Variant::Resting(18_000)],
            Self::Connections => &[
                Variant::Connections(10),
                Variant::Connections(100),
                Variant::Connections(1000),
                Variant::Connections(MOST_CONNECTIONS),
            ],
            Self::Routes => &[Variant::Routes(1), Variant::Routes(ROUTES)],
            Self::AccessLog => &[
                Variant::AccessLog(Off),
                Variant::AccessLog(Text),
                Variant::AccessLog(Json),
            ],
            _ => &[Variant::Plain],
        }
    }

    /// Whether it is about how a proxy scales.
    pub(crate) fn scales(self) -> bool {
        self.variants().len() > 1
    }

    /// Whether a peer has rows in it. How a proxy scales is asked of Oxy; where the kernel has a large part in it, nginx
    /// shows that part.
    pub(crate) fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::BesideIdle | Self::Connections => matches!(peer, Peer::Oxy | Peer::Nginx),
            _ => !self.scales() || peer == Peer::Oxy,
        }
    }

    /// Whether proxy, origin and load share all cores that there are, rather than the proxy having one of its own.
    pub(crate) fn shares_cores(self) -> bool {
        self == Self::Workers
    }

    /// What makes proxy, origin and load run promptly, in front of their commands, where latency is what is looked at.
    pub(crate) fn priority(self) -> &'static [&'static str] {
        match self.shape() {
            Shape::Rate => prompt::prefix(),
            _ => &[],
        }
    }

    /// How many routes its requests are spread over, if they are.
    pub(crate) fn routes(self) -> Option<usize> {
        (self == Self::Routes).then_some(ROUTES)
    }

    /// What a reader of its table has to know: what both ends have agreed on, and what rows are held against.
    pub(crate) fn note(self) -> Option<String> {
        let mut said = Vec::new();
        if let Some(group) = self.tls() {
            said.push(format!(
                "TLS 1.3, TLS_AES_128_GCM_SHA256, {group}, ECDSA P-256 certificate"
            ));
        }
        if let Some(streams) = self.streams() {
            let connections = self.connections();
            said.push(format!(
                "HTTP/2 with {connections} connections of {streams} streams, HTTP/1.1 to the origin"
            ));
        }
        if matches!(self, Self::TlsHandshake | Self::TlsHandshakePq) {
            said.push("a full handshake and one GET for each request, no resumption".into());
        }
        if matches!(self.offer(), Some(Offer::HalfOf(_))) {
            said.push(
                "the same rate for all: half of what the slowest can do in that round".into(),
            );
        }
        match self {
            Self::Workers => said.push("proxy, origin and load share both cores".into()),
            Self::Routes => said.push(format!(
                "the requests are for {ROUTES} hosts and prefixes in turn, whatever the proxy tells apart"
            )),
            _ => {}
        }
        if !self.priority().is_empty() {
            said.push("proxy, origin and load with real-time priority".into());
        }
        if self.scales() {
            said.push(
                "x is the row's figure as a multiple of the first row's of that proxy".into(),
            );
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Whether the proxies run as layer 4 proxies.
    pub(crate) fn layer_4(self) -> bool {
        self == Self::L41m
    }

    /// The key exchange of clients that speak TLS.
    pub(crate) fn tls(self) -> Option<Group> {
        match self {
            Self::TlsHandshakePq => Some(Group::X25519Mlkem768),
            Self::TlsHandshake
            | Self::TlsGet1k
            | Self::TlsGet1m
            | Self::TlsPost1m
            | Self::TlsIdle
            | Self::TlsHalf1k
            | Self::H2Get1k => Some(Group::X25519),
            _ => None,
        }
    }

    /// The streams of each connection of clients that speak HTTP/2.
    pub(crate) fn streams(self) -> Option<usize> {
        matches!(self, Self::H2Get1k | Self::H2cGet1k).then_some(32)
    }

    /// Connections to the origin that a proxy may keep: as many as there are requests in flight.
    pub(crate) fn upstreams(self) -> usize {
        match (self, self.streams()) {
            (_, Some(streams)) => self.connections() * streams,
            (Self::Connections, None) => self.connections(),
            _ => 128,
        }
    }

    /// How requests are offered.
    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Conn | Self::TlsHandshake | Self::TlsHandshakePq => Shape::Fresh,
            Self::Idle | Self::TlsIdle => Shape::Idle,
            Self::Rate1k | Self::Half1k | Self::TlsHalf1k => Shape::Rate,
            _ => Shape::Closed,
        }
    }

    /// Where its rate comes from, if it has one.
    pub(crate) fn offer(self) -> Option<Offer> {
        match self {
            Self::Rate1k => Some(Offer::Asked),
            Self::Half1k => Some(Offer::HalfOf(Self::Get1k)),
            Self::TlsHalf1k => Some(Offer::HalfOf(Self::TlsGet1k)),
            _ => None,
        }
    }

    /// What is counted: a MiB in bulk, where that is one request, and a request otherwise.
    pub(crate) fn unit(self) -> &'static str {
        if self.size() == 1 << 20 { "MiB" } else { "req" }
    }

    /// What is asked for.
    pub(crate) fn method(self) -> Method {
        if matches!(self, Self::Post1m | Self::TlsPost1m) {
            Method::Post
        } else {
            Method::Get
        }
    }

    /// Length of the body.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Get64k => 64 << 10,
            Self::Get1m | Self::Post1m | Self::L41m | Self::TlsGet1m | Self::TlsPost1m => 1 << 20,
            _ => 1 << 10,
        }
    }

    /// Connections open at a time, the most if rows differ in it.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Get1m | Self::Post1m | Self::L41m | Self::TlsGet1m | Self::TlsPost1m => 8,
            Self::H2Get1k | Self::H2cGet1k => 16,
            Self::Get64k => 32,
            Self::Idle | Self::TlsIdle => 5000,
            Self::BesideIdle => 100,
            Self::Connections => MOST_CONNECTIONS,
            _ => 64,
        }
    }
}

/// With as many to the origin, what 20,000 descriptors allow.
const MOST_CONNECTIONS: usize = 8000;

/// As many as a large installation has.
const ROUTES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::{Case, Offer};
    use crate::load::Shape;
    use crate::proxy::Peer;

    #[test]
    fn a_rate_has_an_origin() {
        for case in Case::DEFAULT {
            assert_eq!(case.shape() == Shape::Rate, case.offer().is_some());
            if let Some(Offer::HalfOf(saturated)) = case.offer() {
                assert_eq!(saturated.shape(), Shape::Closed);
                assert_eq!(saturated.tls(), case.tls());
                assert_eq!(saturated.connections(), case.connections());
            }
        }
    }

    #[test]
    fn who_is_asked_how_it_scales() {
        assert!(Case::Get1k.concerns(Peer::Envoy) && !Case::Get1k.scales());
        assert!(Case::Connections.concerns(Peer::Nginx));
        assert!(!Case::Workers.concerns(Peer::Nginx));
        assert!(Case::DEFAULT.iter().all(|case| case.concerns(Peer::Oxy)));
    }

    #[test]
    fn bulk_counts_in_mib() {
        assert_eq!(Case::TlsPost1m.unit(), "MiB");
        assert_eq!(Case::Get64k.unit(), "req");
    }
}
