//! Caddy, without what looks after certificates and its own configuration.

use super::Site;
use crate::case::Case;

/// It keeps 32 connections to an origin by default, fewer than there are requests in flight. Without `compression off` it
/// asks the origin for gzip and undoes it for clients that did not.
pub(super) fn config(case: Case, site: &Site<'_>) -> String {
    let Site {
        listen,
        origin,
        identity,
        dir,
        ..
    } = site;
    let (scheme, tls) = match case.tls() {
        Some(group) => (
            "https",
            format!(
                "    tls {} {} {{\n        protocols tls1.2 tls1.3\n        curves {}\n    }}\n",
                identity.certificate.display(),
                identity.key.display(),
                group.to_string().to_lowercase()
            ),
        ),
        None => ("http", String::new()),
    };
    let clear = if case.tls().is_none() && case.streams().is_some() {
        " h2c"
    } else {
        ""
    };
    let (ip, port, upstreams) = (listen.ip(), listen.port(), case.upstreams());
    format!(
        "{{\n    admin off\n    auto_https off\n    persist_config off\n    \
         storage file_system {}\n    log {{\n        level ERROR\n    }}\n    \
         servers {{\n        protocols h1 h2{clear}\n    }}\n}}\n\
         {scheme}://:{port} {{\n    bind {ip}\n{tls}    reverse_proxy {origin} {{\n        \
         transport http {{\n            keepalive_idle_conns_per_host {upstreams}\n            \
         compression off\n        }}\n    }}\n}}\n",
        dir.display()
    )
}
