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

/// Processor time of each further row of Oxy's as a multiple of the first row's, in the cases about how it scales.
const SCALING: [(Case, f64); 5] = [
    (Case::Workers, 1.08),
    (Case::BesideIdle, 1.05),
    (Case::Connections, 1.15),
    (Case::Routes, 1.15),
    (Case::AccessLog, 1.05),
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
        let asked = SCALING.iter().filter(|(of, _)| *of == case);
        bars.extend(asked.flat_map(|&(_, limit)| {
            let rows = report.rows.iter().filter(|row| row.case == case);
            let further = rows.filter(|row| row.entrant != oxy.entrant);
            let further = further.filter(|row| row.entrant.peer == Peer::Oxy);
            further.map(move |row| scaling(oxy, row, limit))
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

/// A further row against the first one.
fn scaling(first: &Row, row: &Row, limit: f64) -> Bar {
    let value = row.over(first, Figure::Cpu);
    let failed = [first, row].iter().any(|row| row.failure.is_some());
    Bar {
        name: format!(
            "{} cpu, {}, times {}",
            row.case.name(),
            row.entrant.name(),
            first.entrant.name()
        ),
        limit,
        below: false,
        value,
        met: !failed && value.is_some_and(|value| value <= limit),
    }
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
        .filter(|row| against.includes(row.entrant.peer))
        .filter(|row| row.failure.is_none() && row.left_out.is_none())
        .filter_map(|row| Some((oxy.over(row, figure)?, row.entrant.peer)))
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
    use super::{Against, Limit, ratio, scaling};
    use crate::case::Case;
    use crate::figure::Figure;
    use crate::load::Sample;
    use crate::proxy::Peer;
    use crate::report::Row;
    use crate::variant::{Entrant, Variant};

    fn row(peer: Peer, us: u64) -> Row {
        row_of(Case::Get1m, Entrant::plain(peer), us)
    }

    fn row_of(case: Case, entrant: Entrant, us: u64) -> Row {
        let sample = Sample {
            requests: 1,
            seconds: 1.0,
            cpu_ns: us * 1000,
            ..Sample::default()
        };
        Row::new(case, entrant, vec![Ok(sample)])
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
    fn a_further_row_is_held_against_the_first() {
        let row = |count, us| {
            let variant = Variant::Routes(count);
            let peer = Peer::Oxy;
            row_of(Case::Routes, Entrant { peer, variant }, us)
        };
        let bar = scaling(&row(1, 100), &row(10_000, 115), 1.15);
        assert!(bar.met);
        assert_eq!(
            bar.name,
            "routes cpu, oxy, 10000 routes, times oxy, 1 route"
        );
        assert!(!scaling(&row(1, 100), &row(10_000, 116), 1.15).met);
        let mut failed = row(1, 100);
        failed.failure = Some("stuck".into());
        assert!(!scaling(&failed, &row(10_000, 100), 1.15).met);
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
