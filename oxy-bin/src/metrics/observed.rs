//! What is in force, as it is shown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxy_core::cluster::Cluster;
use oxy_tls::TlsClient;

use super::Books;
use crate::settings::Tls;

/// What is in force, as it is shown: a reload replaces it.
#[derive(Debug, Default)]
pub(crate) struct Observed(Mutex<Shown>);

#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) books: Vec<Arc<Books>>,
    /// By their listeners.
    pub(super) tls: Vec<(String, Tls)>,
    pub(super) clusters: Vec<(Arc<Cluster>, Option<TlsClient>)>,
}

impl Observed {
    /// Shows this from now on.
    pub(crate) fn show(
        &self,
        books: Vec<Arc<Books>>,
        tls: Vec<(String, Tls)>,
        clusters: Vec<(Arc<Cluster>, Option<TlsClient>)>,
    ) {
        *self.shown() = Shown {
            books,
            tls,
            clusters,
        };
    }

    /// The clusters.
    pub(crate) fn clusters(&self) -> Vec<Arc<Cluster>> {
        let shown = self.shown();
        shown
            .clusters
            .iter()
            .map(|(cluster, _)| cluster.clone())
            .collect()
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
