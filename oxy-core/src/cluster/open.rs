//! Opening the far side of a flow at one of a cluster's endpoints.

use std::net::IpAddr;

use tokio::time::Instant;

use super::balancer::Balancer;
use super::endpoint::EndpointId;
use super::pick::{Connection, Pick, Verdict};
use super::rng::hash_key;
use super::want::Want;
use crate::carrier::Carrier;
use crate::error::{Error, ErrorKind, Result, Retry, Side};
use crate::flow::{Far, Flow};
use crate::offramp::AnyOfframp;
use crate::target::Target;

/// How many endpoints are tried. Each may take the whole time for connecting, and a client waits for about as long as three
/// of them.
const TRIES: usize = 3;

/// What counts as under way at an endpoint until it is dropped.
#[derive(Debug)]
pub struct Held(
    #[expect(dead_code, reason = "held")] Pick,
    #[expect(dead_code, reason = "held")] Connection,
);

/// Opens the far side for `flow`, whose client's address is the key. Where connecting fails, which sends nothing, another
/// endpoint is tried.
///
/// # Errors
///
/// That of the last endpoint that was tried, or of [`Balancer::pick_when_ready`] if there was none.
pub async fn open(balancer: &Balancer, offramp: &AnyOfframp, flow: &Flow) -> Result<(Far, Held)> {
    let key = flow.info.peer.map(|peer| match peer.ip().to_canonical() {
        IpAddr::V4(ip) => hash_key(&ip.octets()),
        IpAddr::V6(ip) => hash_key(&ip.octets()),
    });
    let want = Want {
        key,
        ..Want::default()
    };
    let mut pick = balancer.pick_when_ready(&want).await?;
    let mut tried = [pick.id(); TRIES];
    let mut count = 1;
    loop {
        let target = target(&pick, flow);
        let error = match connect(pick, &target, offramp, flow).await {
            Ok(opened) => {
                flow.info.routed(target);
                return Ok(opened);
            }
            Err(error) => error,
        };
        let other = if count < TRIES && is_worth_another(&error) {
            another(balancer, want, &tried[..count])
        } else {
            None
        };
        let Some(other) = other else {
            flow.info.routed(target);
            return Err(error);
        };
        tracing::debug!(flow = %flow.info.id, ?error, to = %other.target(), "another endpoint");
        tried[count] = other.id();
        count += 1;
        pick = other;
    }
}

/// A bare "host:port" reads as TCP's; what a flow of datagrams goes to is UDP's.
fn target(pick: &Pick, flow: &Flow) -> Target {
    match (pick.target().clone(), &flow.carrier) {
        (Target::Tcp { host, port }, Carrier::Datagrams(_)) => Target::Udp { host, port },
        (target, _) => target,
    }
}

/// An endpoint that was not tried, if there is one and the retry budget has room.
fn another(balancer: &Balancer, want: Want<'_>, tried: &[EndpointId]) -> Option<Pick> {
    let pick = balancer.pick(&want.retry(tried)).ok()?;
    (!tried.contains(&pick.id())).then_some(pick)
}

async fn connect(
    mut pick: Pick,
    target: &Target,
    offramp: &AnyOfframp,
    flow: &Flow,
) -> Result<(Far, Held)> {
    let connection = pick.connection()?;
    let begun = Instant::now();
    let endpoint = pick.endpoint().clone();
    let opening = offramp.open_as(target, endpoint.host(), &flow.info);
    match opening.await {
        Ok(far) => {
            pick.note(Verdict::Success, Some(begun.elapsed()));
            Ok((far, Held(pick, connection)))
        }
        Err(error) => {
            let is_its_fault = error.side() == Side::Up && error.kind() != ErrorKind::Denied;
            let verdict = if is_its_fault {
                Verdict::Failure
            } else {
                Verdict::Cancelled
            };
            pick.finish(verdict, None);
            Err(error)
        }
    }
}

/// Whether another endpoint may fare better: what is refused for reasons of ours is refused there, too.
fn is_worth_another(error: &Error) -> bool {
    error.retryable() == Retry::Safe && error.side() == Side::Up
}
