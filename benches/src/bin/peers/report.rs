//! From samples to figures: medians, ratios paired by round, and verdicts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Options;
use crate::bars::{self, Bar};
use crate::case::Case;
use crate::figure::Figure;
use crate::load::Sample;
use crate::machine::Machine;
use crate::proxy::Peer;
use crate::syscalls::Syscalls;
use crate::table;
use crate::variant::Entrant;

/// A row below this share of the best peer's throughput fails unless its core was
/// [`SATURATED`]: processor time for each request flatters a proxy that has stalled.
const COLLAPSED: f64 = 0.5;

/// A proxy that has work to do for this many percent of the time has not stalled; it is slow.
const SATURATED: f64 = 90.0;

/// A proxy that answers less than this share of what is offered has a queue that grows, and its latency tells how long
/// the window was.
const KEPT_UP: f64 = 0.95;

/// Descriptors beyond the clients' that an idle proxy may hold.
const MAX_EXTRA_FILES: usize = 512;

/// One peer in one variant of a case.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) entrant: Entrant,
    /// By round.
    samples: Vec<Result<Sample, String>>,
    /// Why it was not measured.
    pub(crate) left_out: Option<String>,
    /// Why its figures count for nothing.
    pub(crate) failure: Option<String>,
    /// Its system calls, if they were counted.
    pub(crate) syscalls: Option<Result<Syscalls, String>>,
}

impl Row {
    /// A measured one.
    pub(crate) fn new(case: Case, entrant: Entrant, samples: Vec<Result<Sample, String>>) -> Self {
        let failure = samples.iter().find_map(|sample| match sample {
            Err(error) => Some(error.clone()),
            Ok(sample) if sample.wrong > 0 => Some(format!("{} wrong answers", sample.wrong)),
            Ok(sample) if sample.errors > 0 => Some(format!("{} broken exchanges", sample.errors)),
            Ok(sample) if sample.requests == 0 => Some("no answers".into()),
            Ok(sample) if kept_up(sample) < KEPT_UP => Some(format!(
                "it kept up with {:.0}% of what was offered",
                kept_up(sample) * 100.0
            )),
            Ok(sample) => sample
                .extra_files
                .filter(|&extra| extra > MAX_EXTRA_FILES)
                .map(|extra| format!("{extra} descriptors beyond the idle clients'")),
        });
        Self {
            case,
            entrant,
            samples,
            left_out: None,
            failure,
            syscalls: None,
        }
    }

    /// One that was not measured.
    pub(crate) fn left_out(case: Case, entrant: Entrant, reason: String) -> Self {
        Self {
            case,
            entrant,
            samples: Vec::new(),
            left_out: Some(reason),
            failure: None,
            syscalls: None,
        }
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, figure: Figure) -> Option<f64> {
        median(self.by_round(figure).flatten().collect())
    }

    /// The median of `self / other` over the rounds that both have.
    pub(crate) fn over(&self, other: &Self, figure: Figure) -> Option<f64> {
        let pairs = self.by_round(figure).zip(other.by_round(figure));
        median(
            pairs
                .filter_map(|(own, other)| Some(own? / other?))
                .filter(|r| r.is_finite())
                .collect(),
        )
    }

    fn by_round(&self, figure: Figure) -> impl Iterator<Item = Option<f64>> {
        self.samples
            .iter()
            .map(move |sample| figure.of(sample.as_ref().ok()?))
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) runs: u32,
    pub(crate) seconds: f64,
    versions: BTreeMap<Peer, Result<String, String>>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Judges `rows` against each other.
    pub(crate) fn new(
        machine: Machine,
        options: &Options,
        versions: BTreeMap<Peer, Result<String, String>>,
        mut rows: Vec<Row>,
    ) -> Self {
        let mut best: BTreeMap<Case, f64> = BTreeMap::new();
        for row in rows
            .iter()
            .filter(|row| row.failure.is_none() && !row.entrant.peer.is_floor())
        {
            let best = best.entry(row.case).or_default();
            *best = best.max(row.median(Figure::Rate).unwrap_or(0.0));
        }
        for row in rows.iter_mut().filter(|row| Figure::Rate.applies(row.case)) {
            let share = row.median(Figure::Rate).unwrap_or(0.0)
                / best.get(&row.case).copied().unwrap_or(f64::INFINITY);
            let busy =
                [Figure::Ran, Figure::Waited].map(|figure| row.median(figure).unwrap_or(0.0));
            let measured = row.failure.is_none() && row.left_out.is_none();
            if measured && share < COLLAPSED && busy.iter().sum::<f64>() < SATURATED {
                row.failure = Some(format!(
                    "throughput is {:.0}% of the best peer's, with an idle core",
                    share * 100.0
                ));
            }
        }
        Self {
            machine,
            runs: options.runs,
            seconds: options.seconds,
            versions,
            rows,
        }
    }

    /// The cases, in order.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases: Vec<_> = self.rows.iter().map(|row| row.case).collect();
        cases.dedup();
        cases
    }

    /// The row of a peer, the first one if it has several.
    pub(crate) fn row(&self, case: Case, peer: Peer) -> Option<&Row> {
        let entrant = Entrant::first(case, peer);
        self.rows
            .iter()
            .find(|row| row.case == case && row.entrant == entrant)
    }

    /// The `x` of a row: Oxy's figure as a multiple of the row's, or where the case is about how a proxy scales, the row's
    /// as a multiple of that of the same proxy's first row.
    pub(crate) fn ratio(&self, row: &Row, figure: Figure) -> Option<f64> {
        if row.case.scales() {
            return row.over(self.row(row.case, row.entrant.peer)?, figure);
        }
        self.row(row.case, Peer::Oxy)?.over(row, figure)
    }

    /// The peers and what they call themselves.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (Peer, &str)> {
        self.versions.iter().map(|(&peer, version)| match version {
            Ok(text) | Err(text) => (peer, text.as_str()),
        })
    }

    /// Oxy against what is asked of it.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        bars::judge(self)
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        table::render(self, table::Style::Text)
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        table::render(self, table::Style::Markdown)
    }

    /// For a program.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = Figure::ALL
                .into_iter()
                .filter(|figure| figure.applies(row.case));
            let figures = figures.map(|figure| {
                let ratio = figure.compares().then(|| self.ratio(row, figure));
                let value = json!({ "median": row.median(figure), "x": ratio.flatten() });
                (figure.name(row.case), value)
            });
            json!({
                "case": row.case.name(),
                "peer": row.entrant.peer.name(),
                "row": row.entrant.name(),
                "figures": figures.collect::<serde_json::Map<_, _>>(),
                "left_out": row.left_out,
                "failure": row.failure,
                "syscalls": row.syscalls.as_ref().map(|counted| match counted {
                    Ok(counted) => json!(counted),
                    Err(error) => json!({ "error": error }),
                }),
                "rounds": row.samples.iter().map(|sample| match sample {
                    Ok(sample) => json!(sample),
                    Err(error) => json!({ "error": error }),
                }).collect::<Vec<_>>(),
            })
        });
        json!({
            "machine": self.machine,
            "runs": self.runs,
            "seconds": self.seconds,
            "versions": self.versions()
                .map(|(peer, version)| (peer.name().to_owned(), json!(version)))
                .collect::<serde_json::Map<_, _>>(),
            "rows": rows.collect::<Vec<_>>(),
            "bars": self.bars(),
        })
    }
}

/// The share of what was offered that was answered.
fn kept_up(sample: &Sample) -> f64 {
    sample
        .offered
        .map_or(1.0, |rate| sample.requests as f64 / sample.seconds / rate)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values.get(middle).copied()
    } else {
        Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, median};
    use crate::case::Case;
    use crate::figure::Figure;
    use crate::load::Sample;
    use crate::proxy::Peer;
    use crate::variant::Entrant;

    fn row(peer: Peer, cpu_us: &[u64]) -> Row {
        let sample = |&us: &u64| {
            Ok(Sample {
                requests: 1,
                seconds: 1.0,
                cpu_ns: us * 1000,
                ..Sample::default()
            })
        };
        Row::new(
            Case::Get1k,
            Entrant::plain(peer),
            cpu_us.iter().map(sample).collect(),
        )
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
    }

    #[test]
    fn ratios_are_paired_by_round() {
        let oxy = row(Peer::Oxy, &[10, 40, 10]);
        let nginx = row(Peer::Nginx, &[20, 80, 5]);
        assert_eq!(oxy.over(&nginx, Figure::Cpu), Some(0.5));
    }

    #[test]
    fn a_queue_that_grows_fails_the_row() {
        let offered = |requests| {
            vec![Ok(Sample {
                requests,
                seconds: 1.0,
                offered: Some(100.0),
                ..Sample::default()
            })]
        };
        let oxy = Entrant::plain(Peer::Oxy);
        let row = |requests| Row::new(Case::Rate1k, oxy, offered(requests));
        assert!(row(90).failure.is_some());
        assert_eq!(row(99).failure, None);
    }

    #[test]
    fn a_failed_round_fails_the_row() {
        let samples = vec![
            Ok(Sample {
                requests: 9,
                ..Sample::default()
            }),
            Err("stuck".into()),
        ];
        assert_eq!(
            Row::new(Case::Get1k, Entrant::plain(Peer::Oxy), samples)
                .failure
                .as_deref(),
            Some("stuck")
        );
    }
}
