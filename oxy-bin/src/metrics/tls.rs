//! Handshakes and certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use oxy_tls::{Outcome, Stats};

use super::exposition::Page;
use super::observed::Shown;

/// Writes how handshakes have ended, and when certificates end.
pub(super) fn write(page: &mut Page, shown: &Shown) {
    const SERVER: &str = "oxy_tls_handshakes_total";
    page.family(
        SERVER,
        "counter",
        "TLS handshakes with clients, by how they have ended.",
    );
    for (listener, tls) in &shown.tls {
        outcomes(page, SERVER, ("listener", listener), tls.server.stats());
    }
    const CLIENT: &str = "oxy_tls_upstream_handshakes_total";
    page.family(
        CLIENT,
        "counter",
        "TLS handshakes with origins, by how they have ended.",
    );
    for (cluster, client) in &shown.clusters {
        if let Some(client) = client {
            outcomes(page, CLIENT, ("cluster", cluster.name()), client.stats());
        }
    }
    const EXPIRY: &str = "oxy_tls_certificate_expiry_timestamp_seconds";
    page.family(
        EXPIRY,
        "gauge",
        "When a certificate ends, in seconds since 1970: the first of those for a name.",
    );
    for (listener, tls) in &shown.tls {
        let mut last = None;
        // Sorted by name, then by time.
        for (name, ends) in tls.certificates.expiries() {
            if last.as_ref() != Some(&name) {
                let labels = [("listener", listener.as_str()), ("name", name.as_str())];
                page.sample(EXPIRY, &labels, seconds(ends));
            }
            last = Some(name);
        }
    }
}

fn outcomes(page: &mut Page, name: &str, of: (&str, &str), stats: &Stats) {
    for outcome in Outcome::ALL {
        let count = stats.count(outcome);
        // Those that go on being none are many; the two good ones are always there.
        if count > 0 || matches!(outcome, Outcome::Full | Outcome::Resumed) {
            page.sample(name, &[of, ("outcome", outcome.name())], count);
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
