//! Binding where something may listen already: sockets outlive the proxies that they were bound for.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::ListenAddr;
use crate::{Error, Result, Side};

/// What an on-ramp leaves to the one that takes its address over: its sockets, in a form that the two agree on. The
/// process keeps it for as long as the on-ramp is in service; where its last reference goes, the sockets are closed.
pub type Kept = Arc<dyn Any + Send + Sync>;

/// For whom, and in whose place, something is bound.
#[derive(Debug)]
pub struct Site<'a> {
    /// The name of the listener.
    pub name: &'a Arc<str>,
    /// How many workers there are: each gets a share.
    pub workers: usize,
    pub(crate) places: &'a mut Places,
}

/// Who listens where.
#[derive(Debug, Default)]
pub(crate) struct Places(HashMap<ListenAddr, Place>);

enum Place {
    /// By this name, which stays.
    Taken(Arc<str>),
    /// By one that goes.
    Free(Option<Kept>),
}

impl Site<'_> {
    /// Claims `address`, before it is bound, and gives what was kept of the on-ramp that has it now and goes, if it is of
    /// type `T`. With it, no connection that waits to be accepted is lost.
    ///
    /// An error (`AddrInUse`) if a listener has the address that stays: the kernel would not say so, as it lets sockets of
    /// one user share a port. Port 0 needs no claim, as it is another port each time.
    pub fn claim<T: Any + Send + Sync>(&mut self, address: &ListenAddr) -> Result<Option<Arc<T>>> {
        let claim = Place::Taken(self.name.clone());
        match self.places.0.insert(address.clone(), claim) {
            None | Some(Place::Free(None)) => Ok(None),
            Some(Place::Free(Some(kept))) => Ok(kept.downcast().ok()),
            Some(Place::Taken(name)) => {
                let used = format!("{address}: listener {name:?} listens there");
                let used = io::Error::new(io::ErrorKind::AddrInUse, used);
                Err(Error::io(Side::Local, used).context("listening"))
            }
        }
    }
}

impl Places {
    /// `address` is that of the listener `name`, which stays.
    pub(crate) fn taken(&mut self, address: ListenAddr, name: Arc<str>) {
        self.0.insert(address, Place::Taken(name));
    }

    /// `address` is that of a listener that goes.
    pub(crate) fn free(&mut self, address: ListenAddr, kept: Option<Kept>) {
        self.0.insert(address, Place::Free(kept));
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken(name) => write!(f, "Taken({name})"),
            Self::Free(_) => f.write_str("Free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_claimed_once() {
        let (name, address) = ("new".into(), "127.0.0.1:80".parse().unwrap());
        let mut places = Places::default();
        places.free("127.0.0.1:81".parse().unwrap(), Some(Arc::new(7_u8)));
        places.free("127.0.0.1:82".parse().unwrap(), Some(Arc::new(7_u8)));
        places.taken("127.0.0.1:83".parse().unwrap(), "old".into());
        let mut site = Site {
            name: &name,
            workers: 1,
            places: &mut places,
        };
        assert_eq!(site.claim::<u8>(&address).unwrap(), None);
        let error = format!("{:?}", site.claim::<u8>(&address).unwrap_err());
        assert!(error.contains("\"new\" listens there"), "{error}");
        let kept = site.claim::<u8>(&"127.0.0.1:81".parse().unwrap()).unwrap();
        assert_eq!(kept.as_deref(), Some(&7));
        let other = site.claim::<u16>(&"127.0.0.1:82".parse().unwrap()).unwrap();
        assert_eq!(other, None, "of another kind");
        let error = site.claim::<u8>(&"127.0.0.1:83".parse().unwrap());
        assert!(format!("{:?}", error.unwrap_err()).contains("\"old\""));
    }
}
