//! What a route says about how its requests are carried: time-outs, tries, limits. Plain data; what is not said is
//! inherited.

use std::time::Duration;

/// How long the steps of a route's exchanges may take. What is left out is as the listener has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RouteTimeouts {
    /// From the request's end to the response's header section, all tries together. Default: the listener's.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSpan"))]
    pub first_byte: Option<Duration>,
    /// From the request's first byte to the response's last; `0s` is no limit. Default: none, because a download takes
    /// as long as it takes.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSpan"))]
    pub request: Option<Duration>,
    /// Silence within a body, on either side. Default: the listener's.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSpan"))]
    pub body: Option<Duration>,
    /// How long one try may take until the response's header section, before the next is made. Default: as long as
    /// `first_byte` leaves, because a slow origin is not helped by asking it twice.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSpan"))]
    pub per_try: Option<Duration>,
}

/// When a request is tried again, beyond what is always safe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct RouteRetries {
    /// Tries after the first. Default: the listener's.
    pub max: Option<u32>,
    /// What is worth another try. Default: `connect_failure` and `refused_stream`, because only those say that the
    /// origin has done nothing yet.
    pub on: Option<Vec<RetryOn>>,
    /// Further statuses that are worth another try. Default: none.
    pub statuses: Vec<u16>,
    /// What gRPC statuses are worth another try; they are read from responses that have no body. Default: none.
    pub grpc: Vec<RetryGrpc>,
    /// The wait before each try.
    pub backoff: Backoff,
}

impl RouteRetries {
    /// Whether `failure` is worth another try. [`RetryOn::ServerError`] and [`RetryOn::GatewayError`] are asked about
    /// through [`RouteRetries::on_status`].
    pub fn on_failure(&self, failure: RetryOn) -> bool {
        match &self.on {
            Some(on) => on.contains(&failure),
            None => matches!(failure, RetryOn::ConnectFailure | RetryOn::RefusedStream),
        }
    }

    /// Whether a response with `status` is worth another try.
    pub fn on_status(&self, status: u16) -> bool {
        let on = self.on.as_deref().unwrap_or_default();
        on.contains(&RetryOn::ServerError) && (500..=599).contains(&status)
            || on.contains(&RetryOn::GatewayError) && (502..=504).contains(&status)
            || self.statuses.contains(&status)
    }

    /// Whether a response with this `grpc-status` is worth another try.
    pub fn on_grpc(&self, code: u32) -> bool {
        self.grpc.iter().any(|retry| retry.code() == code)
    }
}

/// What is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum RetryOn {
    /// No connection could be opened.
    ConnectFailure,
    /// The connection or the stream broke before the response's header section came.
    Reset,
    /// The origin said that it did not look at the request (`REFUSED_STREAM`, or a GOAWAY before it).
    RefusedStream,
    /// A try took longer than `per_try`.
    PerTryTimeout,
    /// Any 5xx.
    #[cfg_attr(feature = "settings", serde(rename = "5xx"))]
    ServerError,
    /// 502, 503 and 504.
    GatewayError,
}

/// A gRPC status that is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum RetryGrpc {
    /// 1.
    Cancelled,
    /// 4.
    DeadlineExceeded,
    /// 8.
    ResourceExhausted,
    /// 13.
    Internal,
    /// 14.
    Unavailable,
}

impl RetryGrpc {
    /// The number in `grpc-status`.
    pub const fn code(self) -> u32 {
        match self {
            Self::Cancelled => 1,
            Self::DeadlineExceeded => 4,
            Self::ResourceExhausted => 8,
            Self::Internal => 13,
            Self::Unavailable => 14,
        }
    }
}

/// The wait before a try.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Backoff {
    /// The most that is waited before the first try again; it doubles with each. Default: 25 ms, which lets a restart
    /// of one process pass unseen.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub base: Duration,
    /// The most that is waited before any. Default: 250 ms, because a client waits with us.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}

impl Backoff {
    /// The wait before the try number `again` after the first (from 1), drawn evenly from nothing to the most by
    /// `random`, so that clients that failed together do not come back together.
    pub fn wait(&self, again: u32, random: u64) -> Duration {
        let doubled = 1_u32
            .checked_shl(again.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let most = self.base.saturating_mul(doubled).min(self.max);
        let micros = most.as_micros().min(u128::from(u64::MAX));
        Duration::from_micros(((micros * u128::from(random)) >> 64) as u64)
    }
}

/// Asking a second origin while the first one keeps us waiting; the first answer is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Hedge {
    /// How long the first may keep us waiting. Default: 1 s, because below what slow requests usually take, hedging
    /// doubles the load.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Span"))]
    pub after: Duration,
    /// How many more are asked, one after each `after`. Default: 1.
    pub max: u32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(1),
            max: 1,
        }
    }
}

/// What a route says about how its requests are carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoutePolicy {
    /// How long the steps may take.
    pub timeouts: RouteTimeouts,
    /// When a request is tried again; none is as the listener has it.
    pub retry: Option<RouteRetries>,
    /// Whether and when a second origin is asked; none is never.
    pub hedge: Option<Hedge>,
    /// Bytes of a request body, after which 413 is answered; 0 is no limit, none is as the listener has it.
    pub max_request_body: Option<usize>,
    /// Whether the protocol may be changed (WebSocket and other upgrades); none is as the listener has it.
    pub upgrade: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_are_tried_again() {
        let retries = |on: &[RetryOn], statuses: &[u16]| RouteRetries {
            on: Some(on.to_vec()),
            statuses: statuses.to_vec(),
            ..RouteRetries::default()
        };
        let none = RouteRetries::default();
        let server = retries(&[RetryOn::ServerError], &[]);
        let gateway = retries(&[RetryOn::GatewayError], &[409]);
        for (status, expected) in [
            (200, [false, false, false]),
            (409, [false, false, true]),
            (499, [false, false, false]),
            (500, [false, true, false]),
            (501, [false, true, false]),
            (502, [false, true, true]),
            (503, [false, true, true]),
            (504, [false, true, true]),
            (505, [false, true, false]),
            (600, [false, false, false]),
        ] {
            let got = [&none, &server, &gateway].map(|policy| policy.on_status(status));
            assert_eq!(got, expected, "{status}");
        }
    }

    #[test]
    fn failures_that_are_tried_again() {
        let none = RouteRetries::default();
        assert!(none.on_failure(RetryOn::ConnectFailure));
        assert!(none.on_failure(RetryOn::RefusedStream));
        assert!(!none.on_failure(RetryOn::Reset));
        let reset = RouteRetries {
            on: Some(vec![RetryOn::Reset]),
            grpc: vec![RetryGrpc::Unavailable, RetryGrpc::Cancelled],
            ..none
        };
        assert!(reset.on_failure(RetryOn::Reset));
        assert!(!reset.on_failure(RetryOn::ConnectFailure));
        assert!(reset.on_grpc(14) && reset.on_grpc(1));
        assert!(!reset.on_grpc(13) && !reset.on_grpc(0));
    }

    #[test]
    fn waits_double_up_to_the_most() {
        let backoff = Backoff::default();
        let longest = [1, 2, 3, 4, 5, 40, u32::MAX].map(|again| {
            assert_eq!(backoff.wait(again, 0), Duration::ZERO);
            backoff.wait(again, u64::MAX).as_micros()
        });
        assert_eq!(
            longest,
            [24_999, 49_999, 99_999, 199_999, 249_999, 249_999, 249_999]
        );
        assert_eq!(
            backoff.wait(1, u64::MAX / 2 + 1),
            Duration::from_micros(12_500)
        );
        assert_eq!(
            backoff.wait(0, u64::MAX / 2 + 1),
            Duration::from_micros(12_500)
        );
    }
}
