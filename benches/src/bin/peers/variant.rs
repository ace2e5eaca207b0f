//! What the rows of a case differ in besides the proxy, where it is about how a proxy scales.

use crate::case::Case;
use crate::proxy::Peer;

/// One thing that there is so much of, while all else is as the case has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// The case as it is.
    Plain,
    /// Workers of the proxy.
    Workers(usize),
    /// Connections that rest beside those that work.
    Resting(usize),
    /// Connections that work.
    Connections(usize),
    /// Routes that the proxy chooses from.
    Routes(usize),
    /// What the proxy writes of each request.
    AccessLog(Format),
}

/// How an access log is written, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    Off,
    Text,
    Json,
}

impl Format {
    /// As settings have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Who has a row in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entrant {
    pub(crate) peer: Peer,
    pub(crate) variant: Variant,
}

impl Variant {
    /// What makes a row of it, if anything does.
    fn label(self) -> Option<String> {
        let some = |count: usize, one: &str, more: &str| {
            let what = if count == 1 { one } else { more };
            Some(format!("{count} {what}"))
        };
        match self {
            Self::Plain => None,
            Self::Workers(count) => some(count, "worker", "workers"),
            Self::Resting(count) => Some(format!("{count} idle beside")),
            Self::Connections(count) => some(count, "connection", "connections"),
            Self::Routes(count) => some(count, "route", "routes"),
            Self::AccessLog(format) => Some(format!("log {}", format.name())),
        }
    }
}

impl Entrant {
    /// A proxy in a case of one variant.
    #[cfg(test)]
    pub(crate) fn plain(peer: Peer) -> Self {
        Self {
            peer,
            variant: Variant::Plain,
        }
    }

    /// A proxy in the first variant of a case, which the others are held against.
    pub(crate) fn first(case: Case, peer: Peer) -> Self {
        let variant = case.variants().first().copied();
        Self {
            peer,
            variant: variant.unwrap_or(Variant::Plain),
        }
    }

    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        match self.variant.label() {
            None => self.peer.name().to_owned(),
            Some(label) => format!("{}, {label}", self.peer.name()),
        }
    }

    /// Workers of the proxy.
    pub(crate) fn workers(self) -> usize {
        match self.variant {
            Variant::Workers(count) => count,
            _ => 1,
        }
    }

    /// Connections that rest beside those that work.
    pub(crate) fn resting(self) -> usize {
        match self.variant {
            Variant::Resting(count) => count,
            _ => 0,
        }
    }

    /// Connections that work.
    pub(crate) fn connections(self, case: Case) -> usize {
        match self.variant {
            Variant::Connections(count) => count,
            _ => case.connections(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Entrant, Variant};
    use crate::case::Case;
    use crate::proxy::Peer;

    #[test]
    fn names_tell_rows_apart() {
        for case in Case::DEFAULT {
            let names = case.variants().iter().map(|&variant| {
                let peer = Peer::Oxy;
                Entrant { peer, variant }.name()
            });
            let names: std::collections::BTreeSet<_> = names.collect();
            assert_eq!(names.len(), case.variants().len());
        }
        assert_eq!(Entrant::plain(Peer::Nginx).name(), "nginx");
        let one = Entrant::first(Case::Workers, Peer::Oxy);
        assert_eq!(one.name(), "oxy, 1 worker");
    }

    #[test]
    fn a_variant_changes_one_thing() {
        let entrant = Entrant {
            peer: Peer::Oxy,
            variant: Variant::Connections(1000),
        };
        assert_eq!(entrant.connections(Case::Connections), 1000);
        assert_eq!((entrant.workers(), entrant.resting()), (1, 0));
        let plain = Entrant::plain(Peer::Oxy);
        assert_eq!(plain.connections(Case::Get1k), 64);
    }
}
