//! `HAProxy`, set up as somebody who knows it would.

use super::Site;
use crate::case::Case;

/// The same for both layers, but for the mode. `maxconn` is what 20,000 descriptors
/// allow: two for each connection and half of one for its pipe. `splice-auto` never
/// chose to splice here, and the default pipe of 64 KiB costs three times as much for
/// each MiB, so both are said outright.
pub(super) fn config(case: Case, site: &Site<'_>) -> String {
    let Site {
        listen,
        origin,
        identity,
        ..
    } = site;
    let (mode, reuse) = if case.layer_4() {
        ("tcp", "")
    } else {
        (
            "http",
            "    http-reuse always\n    timeout http-keep-alive 75s\n",
        )
    };
    let pool = if case.layer_4() {
        String::new()
    } else {
        let upstreams = case.upstreams();
        format!(" pool-max-conn {upstreams} pool-purge-delay 60s")
    };
    let bind = match (case.tls(), case.streams()) {
        (Some(_), _) => format!(" ssl crt {} alpn h2,http/1.1", identity.both.display()),
        (None, Some(_)) => " proto h2".into(),
        (None, None) => String::new(),
    };
    format!(
        "global\n    nbthread 1\n    maxconn 7000\n    tune.pipesize 1048576\n\
         defaults\n    mode {mode}\n    option splice-request\n    option splice-response\n{reuse}    \
         timeout connect 5s\n    timeout client 75s\n    timeout server 75s\n\
         frontend front\n    bind {listen} backlog 4096{bind}\n    default_backend back\n\
         backend back\n    server origin {origin}{pool}\n"
    )
}
