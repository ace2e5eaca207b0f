//! Moving bytes between the two sides of a flow.

mod datagram;
mod low_water;
pub mod splice;
mod stream;
mod transfer;

use std::time::Duration;

pub use datagram::datagrams;
pub use stream::stream;
pub use transfer::{Fault, Transfer};

/// How flows are relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RelayOptions {
    /// Time without a byte either way after which a stream is cut. Default: 1 h: tunnels may be silent for long, and TCP
    /// keep-alive finds the dead ones.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub idle: Duration,
    /// The same, once one side has said that it sends no more. Default: none, for `idle` to hold: a download whose client
    /// closes its sending side first is an ordinary thing, and may pause like any other.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSpan"))]
    pub half_closed: Option<Duration>,
    /// The time that a stream may take in all. Default: none, as tunnels live as long as they are used.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::MaybeSpan"))]
    pub total: Option<Duration>,
    /// Whether fast transfers raise their socket's low-water mark (`SO_RCVLOWAT`) in order to be woken up less often, a
    /// quarter of the CPU time of bulk. A sender that suddenly stops can have its last bytes held back for up to 0.2 s,
    /// once. Default: true.
    pub low_water: bool,
    /// Time without a datagram either way after which a session of datagrams is over. Default: 60 s: UDP has no end, this
    /// is it; twice QUIC's customary idle time, and more than twice the 25 s at which `WireGuard` and WebRTC keep their
    /// mappings alive.
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub datagram_idle: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3600),
            half_closed: None,
            total: None,
            low_water: true,
            datagram_idle: Duration::from_secs(60),
        }
    }
}
