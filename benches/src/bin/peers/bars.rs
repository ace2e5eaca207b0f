//! What is asked of Oxy.

use serde::Serialize;

use crate::case::Case;
use crate::figure::Figure;
use crate::proxy::Peer;
use crate::report::{Report, Row};

/// A limit, and where Oxy stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bar {
    /// What is limited.
    pub(crate) name: String,
    /// The most that it may be.
    pub(crate) limit: f64,
    /// Whether it has to be below that.
    pub(crate) below: bool,
    /// What it is.
    pub(crate) value: Option<f64>,
    /// Whether Oxy is within the limit. Not if there is nothing to compare.
    pub(crate) met: bool,
}

/// Whose figure Oxy's is held against.
#[derive(Debug, Clone, Copy)]
enum Against {
    /// The best of all that were measured, but for the relays.
    Best,
    /// The better of both set-ups of nginx: the one that suits the case.
    Nginx,
    Haproxy,
    Relay,
}

impl Against {
    fn includes(self, peer: Peer) -> bool {
        match self {
            Self::Best => peer != Peer::Oxy && !peer.is_floor(),
            Self::Nginx => matches!(peer, Peer::Nginx | Peer::NginxUnbuffered),
            Self::Haproxy => peer == Peer::Haproxy,
            Self::Relay => peer == Peer::Relay,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Best => "the best peer",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Relay => "relay",
        }
    }
}

/// So many times the other's figure.
#[derive(Debug, Clone, Copy)]
enum Limit {
    AtMost(f64),
    Below(f64),
}

use Against::{Best, Haproxy, Nginx, Relay};
use Limit::{AtMost, Below};

/// Figures of Oxy as multiples of others'.
const RATIOS: [(Case, Figure, Against, Limit); 15] = [
    (Case::Get1k, Figure::Cpu, Best, AtMost(0.88)),
    (Case::Get1k, Figure::Cpu, Relay, AtMost(1.2)),
    (Case::Get64k, Figure::Cpu, Best, AtMost(0.78)),
    (Case::Get1m, Figure::Cpu, Best, Below(1.0)),
    (Case::Get1m, Figure::Cpu, Nginx, AtMost(0.65)),
    (Case::Post1m, Figure::Cpu, Best, Below(1.0)),
    (Case::Post1m, Figure::Cpu, Nginx, AtMost(0.55)),
    (Case::Conn, Figure::Cpu, Best, AtMost(1.0)),
    (Case::L41m, Figure::Cpu, Haproxy, AtMost(1.0)),
    (Case::TlsHandshake, Figure::Cpu, Best, AtMost(0.95)),
    (Case::TlsGet1k, Figure::Cpu, Best, AtMost(0.95)),
    (Case::TlsGet1m, Figure::Cpu, Best, AtMost(0.95)),
    (Case::H2Get1k, Figure::Cpu, Best, AtMost(1.0)),
    (Case::Half1k, Figure::P99, Best, Below(1.0)),
    (Case::TlsHalf1k, Figure::P99, Best, Below(1.0)),
];

/// Resident KiB of an idle connection, at most.
const IDLE: [(Case, f64); 2] = [(Case::Idle, 1.5), (Case::TlsIdle, 8.0)];

/// The bars of the cases that were measured.
pub(crate) fn judge(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for case in report.cases() {
        let Some(oxy) = report.row(case, Peer::Oxy) else {
            continue;
        };
        let asked = RATIOS.iter().filter(|(of, ..)| *of == case);
        bars.extend(asked.map(|&(_, figure, against, limit)| {
            let rows = report.rows.iter().filter(|row| row.case == case);
            ratio(oxy, rows, figure, against, limit)
        }));
        let asked = IDLE.iter().filter(|(of, _)| *of == case);
        bars.extend(asked.map(|&(_, limit)| {
            let value = oxy.median(Figure::Idle);
            Bar {
                name: format!("{} KiB of a connection", case.name()),
                limit,
                below: false,
                value,
                met: oxy.failure.is_none() && value.is_some_and(|value| value <= limit),
            }
        }));
    }
    bars
}

/// Against the row that Oxy does worst against: the best of them.
fn ratio<'a>(
    oxy: &Row,
    rows: impl Iterator<Item = &'a Row>,
    figure: Figure,
    against: Against,
    limit: Limit,
) -> Bar {
    let worst = rows
        .filter(|row| against.includes(row.peer))
        .filter(|row| row.failure.is_none() && row.left_out.is_none())
        .filter_map(|row| Some((row.oxy_ratio(oxy, figure)?, row.peer)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let (limit, below) = match limit {
        AtMost(limit) => (limit, false),
        Below(limit) => (limit, true),
    };
    let within = |value: f64| {
        if below { value < limit } else { value <= limit }
    };
    let whom = match worst {
        Some((_, peer)) if peer.name() != against.name() => {
            format!("{}, {}", against.name(), peer.name())
        }
        _ => against.name().to_owned(),
    };
    let what = match figure {
        Figure::Cpu => "cpu".to_owned(),
        _ => figure.name(oxy.case),
    };
    Bar {
        name: format!("{} {what}, times {whom}", oxy.case.name()),
        limit,
        below,
        value: worst.map(|(ratio, _)| ratio),
        met: oxy.failure.is_none() && worst.is_some_and(|(ratio, _)| within(ratio)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Against, Limit, ratio};
    use crate::case::Case;
    use crate::figure::Figure;
    use crate::load::Sample;
    use crate::proxy::Peer;
    use crate::report::Row;

    fn row(peer: Peer, us: u64) -> Row {
        let sample = Sample {
            requests: 1,
            seconds: 1.0,
            cpu_ns: us * 1000,
            ..Sample::default()
        };
        Row::new(Case::Get1m, peer, vec![Ok(sample)])
    }

    #[test]
    fn the_best_peer_is_no_relay() {
        let oxy = row(Peer::Oxy, 100);
        let rows = [
            row(Peer::Nginx, 200),
            row(Peer::Caddy, 125),
            row(Peer::SpliceRelay, 10),
        ];
        let bar = ratio(
            &oxy,
            rows.iter(),
            Figure::Cpu,
            Against::Best,
            Limit::AtMost(0.8),
        );
        assert_eq!(bar.value, Some(0.8));
        assert!(bar.met);
        assert_eq!(bar.name, "get-1m cpu, times the best peer, caddy");
    }

    #[test]
    fn below_is_not_at_most() {
        let (oxy, rows) = (row(Peer::Oxy, 100), [row(Peer::Haproxy, 100)]);
        let judge = |limit| ratio(&oxy, rows.iter(), Figure::Cpu, Against::Haproxy, limit).met;
        assert!(judge(Limit::AtMost(1.0)));
        assert!(!judge(Limit::Below(1.0)));
    }

    #[test]
    fn what_is_missing_or_failed_meets_no_bar() {
        let oxy = row(Peer::Oxy, 100);
        let mut failed = row(Peer::Relay, 200);
        failed.failure = Some("stuck".into());
        for rows in [vec![], vec![failed]] {
            let limit = Limit::AtMost(2.0);
            let bar = ratio(&oxy, rows.iter(), Figure::Cpu, Against::Relay, limit);
            assert_eq!((bar.value, bar.met), (None, false));
        }
    }
}
