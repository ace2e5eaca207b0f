//! The measurement itself: rounds of every peer in turn.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use crate::Options;
use crate::case::Case;
use crate::identity::Identity;
use crate::load::{Sample, Shape};
use crate::machine::Machine;
use crate::oxy::Oxy;
use crate::proxy::{Peer, Programs, Site};
use crate::report::{Report, Row};
use oxy_benches::child::{Server, TempDir, free_address, output};

/// Measures everything that the options ask for.
pub(crate) async fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let peers = chosen(&options.peers, &Peer::ALL, Some(Peer::Oxy));
    let cases = chosen(&options.cases, &Case::DEFAULT, None);
    let oxy = Oxy::find(options)?;
    let programs = Programs::find(&oxy, options.envoy.as_deref());
    let dir = TempDir::new()?;
    let identity = Identity::mint(&dir.sub("identity")?)?;

    let origin_at = free_address()?;
    let itself = std::env::current_exe()?.display().to_string();
    let origin_cmd = [itself.clone(), "origin".into(), origin_at.to_string()];
    let origin = Server::start(
        &origin_cmd,
        options.load_cpu,
        origin_at,
        &dir.sub("origin")?,
    )
    .await?;

    let versions: BTreeMap<_, _> = peers
        .iter()
        .map(|&peer| (peer, peer.version(&programs)))
        .collect();
    let mut rows = Vec::new();
    for case in cases {
        let (fit, unfit): (Vec<Peer>, Vec<Peer>) = peers.iter().partition(|&&peer| {
            peer.unfit_for(case, &programs).is_none()
                && versions.get(&peer).is_some_and(Result::is_ok)
        });
        let mut samples: BTreeMap<Peer, Vec<Result<Sample, String>>> = BTreeMap::new();
        for round in 0..options.runs as usize {
            // Another one goes first in each round: no place in the order is an advantage.
            for turn in 0..fit.len() {
                let peer = fit[(turn + round) % fit.len()];
                eprintln!("{} round {} {}", case.name(), round + 1, peer.name());
                let sub = dir.sub(&format!("{}-{}-{round}", case.name(), peer.name()))?;
                let listen = free_address()?;
                let site = Site {
                    listen,
                    origin: origin_at,
                    dir: &sub,
                    oxy_cmd: &oxy.template,
                    identity: &identity,
                    programs: &programs,
                };
                let sample = one(options, &itself, case, peer, &site).await;
                if let Err(error) = &sample {
                    eprintln!("  failed: {error}");
                }
                samples.entry(peer).or_default().push(sample);
            }
        }
        rows.extend(
            samples
                .into_iter()
                .map(|(peer, samples)| Row::new(case, peer, samples)),
        );
        rows.extend(unfit.into_iter().map(|peer| {
            let missing = versions
                .get(&peer)
                .and_then(|version| version.clone().err());
            let reason = peer
                .unfit_for(case, &programs)
                .map(str::to_owned)
                .or(missing);
            Row::left_out(case, peer, reason.unwrap_or_default())
        }));
    }
    origin.stop().await?;
    Ok(Report::new(Machine::here(), options, versions, rows))
}

/// One peer, started afresh: what an earlier run left in its memory is not measured.
async fn one(
    options: &Options,
    itself: &str,
    case: Case,
    peer: Peer,
    site: &Site<'_>,
) -> Result<Sample, String> {
    let command = peer
        .prepare(case, site)
        .map_err(|error| error.to_string())?;
    let server = Server::start(&command, options.proxy_cpu, site.listen, site.dir).await?;
    let seconds = if case.shape() == Shape::Idle {
        options.seconds.max(3.0)
    } else {
        options.seconds
    };
    let mut load = vec![
        itself.to_owned(),
        "load".into(),
        format!("--target={}", site.listen),
        format!("--pid={}", server.pid()?),
        format!("--shape={}", name(&case.shape())),
        format!("--method={}", name(&case.method())),
        format!("--size={}", case.size()),
        format!("--connections={}", case.connections()),
        format!("--warmup={}", options.warmup),
        format!("--seconds={seconds}"),
        format!("--rate={}", options.rate),
    ];
    if let Some(group) = case.tls() {
        load.push(format!("--tls={}", name(&group)));
    }
    if let Some(streams) = case.streams() {
        load.push(format!("--streams={streams}"));
    }
    // Beyond the window: the start, and opening the idle connections.
    let limit = Duration::from_secs_f64(options.warmup + seconds + 45.0);
    let printed = output(&load, options.load_cpu, limit).await?;
    server.stop().await?;
    serde_json::from_slice(&printed).map_err(|error| error.to_string())
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

/// A value's name on the command line.
fn name(value: &impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}
