//! How many connections a listener, and one source address of it, may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limits of one listener, and what is counted against them. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    total: usize,
    per_source: usize,
    counts: Arc<Counts>,
}

/// The counts of one listener, shared by its workers: touched once per connection, never per request. Whoever takes the
/// listener's sockets over goes on counting here.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    open: AtomicUsize,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; dropped with the flow.
#[derive(Debug)]
pub(crate) struct Place {
    counts: Arc<Counts>,
    source: Option<IpAddr>,
}

impl Limit {
    /// Zero means no limit.
    pub(crate) fn new(total: usize, per_source: usize, counts: Arc<Counts>) -> Self {
        Self {
            total,
            per_source,
            counts,
        }
    }

    /// What is counted, for the limits of whoever comes after.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// A place for a connection from `source`, if there is one.
    pub(crate) fn place(&self, source: Option<IpAddr>) -> Option<Place> {
        let open = self.counts.open.fetch_add(1, Relaxed);
        // From here on, dropping the place gives back what was counted.
        let mut place = Place {
            counts: self.counts.clone(),
            source: None,
        };
        if self.total != 0 && open >= self.total {
            return None;
        }
        if self.per_source != 0
            && let Some(source) = source.map(network)
        {
            let mut sources = self.counts.sources();
            let count = sources.entry(source).or_insert(0);
            if *count >= self.per_source {
                return None;
            }
            *count += 1;
            drop(sources);
            place.source = Some(source);
        }
        Some(place)
    }
}

impl Counts {
    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One customer of a provider holds a /64 of IPv6 at least: counting single addresses would count nothing.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Relaxed);
        if let Some(source) = self.source {
            let mut sources = self.counts.sources();
            if let Some(count) = sources.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    sources.remove(&source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let limit = Limit::new(3, 2, Arc::default());
        let (one, two) = (
            Some("192.0.2.1".parse().unwrap()),
            Some("192.0.2.2".parse().unwrap()),
        );
        let first = limit.place(one).unwrap();
        let second = limit.place(one).unwrap();
        assert!(limit.place(one).is_none(), "two per source");
        let third = limit.place(two).unwrap();
        assert!(limit.place(two).is_none(), "three in all");
        drop(first);
        drop(limit.place(two).unwrap());
        drop((second, third));
        assert_eq!(limit.counts.open.load(Relaxed), 0);
        assert!(limit.counts.sources().is_empty());
    }

    #[test]
    fn new_limits_go_on_counting() {
        let old = Limit::new(1, 1, Arc::default());
        let source = Some("192.0.2.1".parse().unwrap());
        let held = old.place(source).unwrap();
        let new = Limit::new(2, 1, old.counts.clone());
        assert!(new.place(source).is_none(), "it holds one already");
        let _other = new.place(None).unwrap();
        assert!(new.place(None).is_none());
        drop(held);
        assert!(new.place(source).is_some());
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let limit = Limit::new(0, 1, Arc::default());
        let _held = limit.place(Some("2001:db8::1".parse().unwrap())).unwrap();
        assert!(limit.place(Some("2001:db8::2".parse().unwrap())).is_none());
        assert!(
            limit
                .place(Some("2001:db8:0:1::1".parse().unwrap()))
                .is_some()
        );
    }
}
