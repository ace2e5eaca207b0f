//! TLS that is not ours to read: connections that are passed on by the name that their clients ask for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oxy_core::cluster::{self, Balancer, Cluster};
use oxy_core::live::Reader;
use oxy_core::offramp::AnyOfframp;
use oxy_core::{Error, ErrorKind, Flow, Live, Result, Verdict};

use super::ways::Via;
use crate::metrics::thread_number;
use crate::settings::Pass;

pub(super) use oxy_core::cluster::Held;

/// Decides about connections by the name in their first message. Clones are the same one.
#[derive(Clone)]
pub(super) struct Switch(Arc<Inner>);

struct Inner {
    live: Live<Table>,
    timeout: Duration,
    /// What goes elsewhere has nowhere to go.
    closed: bool,
    /// One for each thread; more of them share.
    desks: Box<[Desk]>,
}

/// What one thread works with.
struct Desk {
    reader: Reader<Table>,
    offramp: AnyOfframp,
}

/// Which names go where.
pub(super) struct Table {
    exact: HashMap<String, usize>,
    /// By what follows the star.
    wildcard: HashMap<String, usize>,
    ways: Vec<Way>,
}

struct Way {
    /// One for each thread.
    balancers: Box<[Balancer]>,
    via: Option<Via>,
}

impl Switch {
    /// A switch by `table`, with a way out for each thread.
    pub(super) fn new(
        table: Table,
        offramps: Vec<AnyOfframp>,
        timeout: Duration,
        closed: bool,
    ) -> Self {
        let live = Live::new(table);
        let desks = offramps.into_iter().map(|offramp| Desk {
            reader: live.reader(),
            offramp,
        });
        Self(Arc::new(Inner {
            desks: desks.collect(),
            live,
            timeout,
            closed,
        }))
    }

    /// Connections from now on go by `table`.
    pub(super) fn publish(&self, table: Table) {
        self.0.live.publish(table);
    }

    /// What is to become of `flow`, and what is to be held until it ends.
    pub(super) async fn decide(&self, flow: &mut Flow) -> Result<(Verdict, Option<Held>)> {
        let inner = &*self.0;
        flow.sniff(inner.timeout).await?;
        let hello = flow.info.facts.client_hello.get();
        let name = hello.and_then(|hello| hello.server_name.as_deref());
        let seat = thread_number() % inner.desks.len();
        let Desk { reader, offramp } = &inner.desks[seat];
        let way = reader.with(|table| {
            let way = &table.ways[table.find(name?)?];
            Some((way.balancers[seat].clone(), way.via.clone()))
        });
        let Some((balancer, via)) = way else {
            let verdict = if inner.closed {
                let what = "not for a name that is passed on here";
                Verdict::Refuse(Error::down(ErrorKind::Denied).context(what))
            } else {
                Verdict::Continue
            };
            return Ok((verdict, None));
        };
        let offramp = match via {
            Some(via) => via(offramp.clone()),
            None => offramp.clone(),
        };
        let (far, held) = cluster::open(&balancer, &offramp, flow).await?;
        let target = far.target.clone();
        flow.far = Some(far);
        Ok((Verdict::Route(target), Some(held)))
    }
}

impl Table {
    /// The table of `passes`, to the clusters that `find` gives, for so many threads.
    pub(super) fn new(
        passes: &[Pass],
        threads: usize,
        find: impl Fn(&str) -> Option<(Arc<Cluster>, Option<Via>)>,
    ) -> Self {
        let mut table = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            ways: Vec::new(),
        };
        for pass in passes {
            let Some((cluster, via)) = find(&pass.cluster) else {
                continue;
            };
            for name in &pass.names {
                match name.strip_prefix("*.") {
                    Some(rest) => table.wildcard.insert(rest.into(), table.ways.len()),
                    None => table.exact.insert(name.clone(), table.ways.len()),
                };
            }
            table.ways.push(Way {
                balancers: (0..threads).map(|seat| cluster.balancer(seat)).collect(),
                via,
            });
        }
        table
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(found) = self.exact.get(name) {
            return Some(*found);
        }
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(found) = self.wildcard.get(above) {
                return Some(*found);
            }
            rest = above;
        }
        None
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switch")
    }
}

#[cfg(test)]
mod tests {
    use oxy_core::cluster::{ClusterSpec, EndpointSpec};

    use super::*;

    #[test]
    fn the_exact_name_wins_then_the_longest_wildcard() {
        let pass = |names: &[&str]| Pass {
            names: names.iter().map(|&name| name.into()).collect(),
            cluster: "any".into(),
        };
        let passes = [
            pass(&["*.example"]),
            pass(&["*.b.example", "c.example"]),
            pass(&["a.b.example"]),
        ];
        let cluster = Cluster::new(ClusterSpec::new("any", Vec::<EndpointSpec>::new())).unwrap();
        let table = Table::new(&passes, 1, |_| Some((cluster.clone(), None)));
        for (name, way) in [
            ("a.b.example", Some(2)),
            ("a.b.example.", Some(2)),
            ("x.b.example", Some(1)),
            ("x.y.b.example", Some(1)),
            ("b.example", Some(0)),
            ("c.example", Some(1)),
            ("x.c.example", Some(0)),
            ("example", None),
            ("example.org", None),
            ("", None),
        ] {
            assert_eq!(table.find(name), way, "{name}");
        }
    }
}
