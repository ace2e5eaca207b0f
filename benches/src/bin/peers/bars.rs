//! What is asked of Oxy.

use serde::Serialize;

use crate::case::Case;
use crate::proxy::Peer;
use crate::report::{Figure, Report};

/// A limit, and where Oxy stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bar {
    /// What is limited.
    pub(crate) name: String,
    /// The most that it may be.
    pub(crate) limit: f64,
    /// What it is.
    pub(crate) value: Option<f64>,
    /// Whether Oxy is within the limit. Not if there is nothing to compare.
    pub(crate) met: bool,
}

/// Processor time of a request, at most so many times a peer's. Both set-ups of
/// nginx count, so that Oxy is held against the one that suits the case.
const CPU: [(Case, &[Peer], f64); 6] = [
    (Case::Get1k, &[Peer::Nginx, Peer::NginxUnbuffered], 1.0),
    (Case::Get1k, &[Peer::Relay], 1.3),
    (Case::Get64k, &[Peer::Nginx, Peer::NginxUnbuffered], 0.85),
    (Case::Get1m, &[Peer::Nginx, Peer::NginxUnbuffered], 0.75),
    (Case::Post1m, &[Peer::Nginx, Peer::NginxUnbuffered], 0.75),
    (Case::Conn, &[Peer::Nginx, Peer::NginxUnbuffered], 1.1),
];

/// Resident bytes of an idle connection, at most.
const IDLE_BYTES: f64 = 2048.0;

/// The bars of the cases that were measured.
pub(crate) fn judge(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for case in report.cases() {
        let Some(oxy) = report.row(case, Peer::Oxy) else {
            continue;
        };
        for (_, peers, limit) in CPU.iter().filter(|(of, ..)| *of == case) {
            let ratios = peers
                .iter()
                .filter_map(|&peer| report.row(case, peer))
                .filter(|row| row.failure.is_none() && row.left_out.is_none())
                .filter_map(|row| Some((row.oxy_ratio(oxy, Figure::Cpu)?, row.peer)));
            let worst = ratios.max_by(|a, b| a.0.total_cmp(&b.0));
            let peer = worst.map_or(peers[0], |(_, peer)| peer);
            bars.push(Bar {
                name: format!("{} cpu, times {}", case.name(), peer.name()),
                limit: *limit,
                value: worst.map(|(ratio, _)| ratio),
                met: oxy.failure.is_none() && worst.is_some_and(|(ratio, _)| ratio <= *limit),
            });
        }
        if case == Case::Idle {
            let value = oxy.median(Figure::Idle);
            bars.push(Bar {
                name: "bytes of an idle connection".into(),
                limit: IDLE_BYTES,
                value,
                met: oxy.failure.is_none() && value.is_some_and(|bytes| bytes <= IDLE_BYTES),
            });
        }
    }
    bars
}
