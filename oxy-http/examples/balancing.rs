//! A load-balancing policy of one's own: the endpoint that has answered fastest so far, but each one has to have been
//! tried, and none is given more than eight requests at a time while another is idle.
//! `curl http://127.0.0.1:8000/` with origins on the ports 9001 and 9002, for example `python3 -m http.server 9001`.
use oxy_core::cluster::{
    AnyBalance, Balance, BalanceSpec, Candidates, Cluster, ClusterSpec, EndpointSpec, Want,
};
use oxy_core::{Result, Target};
use oxy_http::{Http, Upstream};

pub(crate) struct Fastest;

impl Balance for Fastest {
    /// Health, priorities and what was tried before have been regarded: any of the candidates may be chosen.
    fn choose(&mut self, candidates: &Candidates<'_>, _: &Want<'_>) -> Option<usize> {
        let cost = |position: &usize| {
            let candidate = candidates.at(*position)?;
            let latency = candidate.latency().unwrap_or_default();
            Some((candidate.in_flight() / 8, latency))
        };
        (0..candidates.len()).min_by_key(cost)
    }
}

pub(crate) fn upstream(endpoints: impl IntoIterator<Item = Target>) -> Result<Upstream> {
    let endpoints = endpoints.into_iter().map(EndpointSpec::new);
    let mut spec = ClusterSpec::new("web", endpoints);
    // Each worker has one of its own.
    spec.balance = BalanceSpec::Custom(AnyBalance::new(|_worker| Fastest));
    Ok(Upstream::new(Cluster::new(spec)?))
}

fn main() -> Result<()> {
    let endpoints = [9001, 9002].map(|port| Target::tcp([127, 0, 0, 1], port));
    Http::new(())
        .upstream(upstream(endpoints)?)
        .run("127.0.0.1:8000")
}
