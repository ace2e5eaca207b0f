//! The measurement itself: rounds of every peer in turn.

use std::collections::BTreeMap;
use std::error::Error;

use oxy_benches::child::{Server, TempDir, free_address};

use crate::Options;
use crate::case::{Case, Offer};
use crate::identity::Identity;
use crate::load::{Sample, Shape};
use crate::machine::Machine;
use crate::oxy::Oxy;
use crate::proxy::{Peer, Programs, words};
use crate::report::{Report, Row};
use crate::turn::{Pace, Turns};
use crate::variant::Entrant;

/// Measures everything that the options ask for.
pub(crate) async fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let peers = chosen(&options.peers, &Peer::ALL, Some(Peer::Oxy));
    let cases = chosen(&options.cases, &Case::DEFAULT, None);
    let oxy = Oxy::find(options)?;
    let programs = Programs::find(&oxy, options);
    let dir = TempDir::new()?;
    let identity = Identity::mint(&dir.sub("identity")?)?;

    let origin_at = free_address()?;
    let itself = std::env::current_exe()?.display().to_string();
    let turns = Turns {
        options,
        itself: itself.clone(),
        origin: origin_at,
        oxy: &oxy,
        identity: &identity,
        programs: &programs,
        dir: &dir,
    };

    let versions: BTreeMap<_, _> = peers
        .iter()
        .map(|&peer| (peer, peer.version(&programs)))
        .collect();
    let mut rows = Vec::new();
    for case in cases {
        let cpus = options.load_cpus(case);
        let command = [itself.as_str(), "origin", &origin_at.to_string()];
        let origin_cmd = words(&[case.priority(), &command].concat());
        let origin = Server::start(&origin_cmd, &cpus, origin_at, &dir.sub("origin")?).await?;
        let (fit, unfit): (Vec<Entrant>, Vec<Entrant>) =
            entrants(case, &peers).partition(|entrant| {
                entrant.peer.unfit_for(case, &programs).is_none()
                    && versions.get(&entrant.peer).is_some_and(Result::is_ok)
            });
        let mut samples: BTreeMap<Entrant, Vec<Result<Sample, String>>> = BTreeMap::new();
        for round in 0..options.runs as usize {
            // Another one goes first in each round: no place in the order is an advantage.
            let mut order = fit.clone();
            order.rotate_left(round % fit.len().max(1));
            let name = format!("{} round {}", case.name(), round + 1);
            let rate = rate(&turns, case, &name, &order).await;
            for entrant in order {
                let sample = match &rate {
                    Ok(rate) => {
                        let pace = Pace::measured(case, options, *rate);
                        turns.take(&name, case, entrant, pace).await
                    }
                    Err(error) => Err(error.clone()),
                };
                if let Err(error) = &sample {
                    eprintln!("  failed: {error}");
                }
                samples.entry(entrant).or_default().push(sample);
            }
        }
        for (entrant, samples) in samples {
            let mut row = Row::new(case, entrant, samples);
            if options.syscalls && matches!(case.shape(), Shape::Closed | Shape::Fresh) {
                row.syscalls = Some(turns.count(case, entrant).await);
            }
            rows.push(row);
        }
        rows.extend(unfit.into_iter().map(|entrant| {
            let missing = versions
                .get(&entrant.peer)
                .and_then(|version| version.clone().err());
            let reason = entrant
                .peer
                .unfit_for(case, &programs)
                .map(str::to_owned)
                .or(missing);
            Row::left_out(case, entrant, reason.unwrap_or_default())
        }));
        origin.stop().await?;
    }
    Ok(Report::new(Machine::here(), options, versions, rows))
}

/// Who has a row in a case.
fn entrants(case: Case, peers: &[Peer]) -> impl Iterator<Item = Entrant> {
    let concerned = peers.iter().filter(move |&&peer| case.concerns(peer));
    concerned.flat_map(move |&peer| {
        let variants = case.variants().iter();
        variants.map(move |&variant| Entrant { peer, variant })
    })
}

/// What is offered in one round of a case, to all the same, if the case has a rate.
///
/// Half of what the slowest can do leaves none of them a queue of its own making. Half of what Oxy can do is more than
/// some can do at all, and what they would show is how long the window was.
async fn rate(
    turns: &Turns<'_>,
    case: Case,
    name: &str,
    order: &[Entrant],
) -> Result<Option<f64>, String> {
    let saturated = match case.offer() {
        None => return Ok(None),
        Some(Offer::Asked) => return Ok(Some(turns.options.rate)),
        Some(Offer::HalfOf(saturated)) => saturated,
    };
    let mut most = Vec::new();
    for &entrant in order.iter().filter(|entrant| !entrant.peer.is_floor()) {
        let name = format!("{name} saturation");
        let pace = Pace::probing(turns.options);
        match turns.take(&name, saturated, entrant, pace).await {
            Ok(sample) => most.push(sample.requests as f64 / sample.seconds),
            Err(error) => eprintln!("  failed: {error}"),
        }
    }
    half_of_least(&most)
        .map(Some)
        .ok_or_else(|| "nobody could be saturated".into())
}

/// Half of the least that anybody could do, of those that could do anything.
fn half_of_least(most: &[f64]) -> Option<f64> {
    let some = most.iter().copied().filter(|&rate| rate > 0.0);
    some.min_by(f64::total_cmp).map(|least| least / 2.0)
}

/// What was asked for, without repetitions and in order; everything if nothing was.
fn chosen<T: Copy + Ord>(asked: &[T], all: &[T], always: Option<T>) -> Vec<T> {
    let mut chosen = if asked.is_empty() {
        all.to_vec()
    } else {
        asked.to_vec()
    };
    chosen.extend(always);
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::half_of_least;

    #[test]
    fn who_did_nothing_sets_no_rate() {
        assert_eq!(half_of_least(&[900.0, 0.0, 400.0]), Some(200.0));
        assert_eq!(half_of_least(&[0.0]), None);
        assert_eq!(half_of_least(&[]), None);
    }
}
