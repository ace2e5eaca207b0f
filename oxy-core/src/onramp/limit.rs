//! How many connections a listener, and one source address of it, may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of one listener, shared by its workers: touched once per connection, never per request.
#[derive(Debug)]
pub(crate) struct Limit {
    total: usize,
    per_source: usize,
    open: AtomicUsize,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; dropped with the flow.
#[derive(Debug)]
pub(crate) struct Place {
    limit: Arc<Limit>,
    source: Option<IpAddr>,
}

impl Limit {
    /// Zero means no limit.
    pub(crate) fn new(total: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            per_source,
            open: AtomicUsize::new(0),
            sources: Mutex::default(),
        })
    }

    /// A place for a connection from `source`, if there is one.
    pub(crate) fn place(self: &Arc<Self>, source: Option<IpAddr>) -> Option<Place> {
        let open = self.open.fetch_add(1, Relaxed);
        // From here on, dropping the place gives back what was counted.
        let mut place = Place {
            limit: self.clone(),
            source: None,
        };
        if self.total != 0 && open >= self.total {
            return None;
        }
        if self.per_source != 0
            && let Some(source) = source.map(network)
        {
            let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.limit.open.fetch_sub(1, Relaxed);
        if let Some(source) = self.source {
            let mut sources = self
                .limit
                .sources
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
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
        let limit = Limit::new(3, 2);
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
        assert_eq!(limit.open.load(Relaxed), 0);
        assert!(limit.sources.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let limit = Limit::new(0, 1);
        let _held = limit.place(Some("2001:db8::1".parse().unwrap())).unwrap();
        assert!(limit.place(Some("2001:db8::2".parse().unwrap())).is_none());
        assert!(
            limit
                .place(Some("2001:db8:0:1::1".parse().unwrap()))
                .is_some()
        );
    }
}
