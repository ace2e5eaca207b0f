//! Choices by key: [`Table`], of either kind.

use super::{maglev, ring};
use crate::cluster::endpoint::EndpointId;
use crate::cluster::rng::mix;
use crate::cluster::spec::{BalanceSpec, ClusterSpec, TableOptions};

/// Which endpoint of a level a key belongs to, whoever is well. All workers share it.
#[derive(Debug)]
pub(crate) struct Table {
    /// What it was made for, in the order of the level's members.
    of: Vec<(EndpointId, u32)>,
    options: TableOptions,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Maglev(Vec<u32>),
    Ring(Vec<(u64, u32)>),
}

/// How many places a key tries for an endpoint that may be used. With half of them ill, one key in 65,536 gets further, to
/// [`Table::find`]'s caller.
const TRIES: usize = 16;

impl Table {
    pub(crate) fn new(of: Vec<(EndpointId, u32)>, spec: &ClusterSpec) -> Self {
        let kind = match spec.balance {
            BalanceSpec::RingHash => Kind::Ring(ring::build(&of, spec.tables.ring_points)),
            _ => Kind::Maglev(maglev::build(&of, spec.tables.maglev_size)),
        };
        Self {
            of,
            options: spec.tables.clone(),
            kind,
        }
    }

    /// Whether it is the one for these endpoints.
    pub(crate) fn is_of(&self, of: &[(EndpointId, u32)], spec: &ClusterSpec) -> bool {
        let is_ring = matches!(self.kind, Kind::Ring(_));
        self.of == of
            && self.options == spec.tables
            && is_ring == (spec.balance == BalanceSpec::RingHash)
    }

    /// The member of the level that `key` belongs to, among those that `fits` lets pass. `None` when none was found nearby.
    pub(crate) fn find(&self, key: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let mut key = mix(key);
        match &self.kind {
            Kind::Maglev(entries) => {
                // A further hash spreads an ill endpoint's keys over all others; the entry next to it would too.
                for _ in 0..TRIES {
                    let entry = key.checked_rem(entries.len() as u64)?;
                    let member = entries[entry as usize] as usize;
                    if fits(member) {
                        return Some(member);
                    }
                    key = mix(key.wrapping_add(1));
                }
                None
            }
            Kind::Ring(points) => {
                let start = points.partition_point(|(point, _)| *point < key);
                let mut last = None;
                let mut tries = 0;
                for (_, member) in points[start..].iter().chain(&points[..start]) {
                    if last == Some(*member) {
                        continue;
                    }
                    last = Some(*member);
                    if fits(*member as usize) {
                        return Some(*member as usize);
                    }
                    tries += 1;
                    if tries == TRIES {
                        break;
                    }
                }
                None
            }
        }
    }
}
