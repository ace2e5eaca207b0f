//! nginx, set up as somebody who knows it would.

use super::Site;
use crate::case::Case;

/// One process instead of a master and a worker: the event loop is the same, and
/// the process that is measured and killed is the one that was started.
pub(super) fn config(case: Case, site: &Site<'_>, buffered: bool) -> String {
    let module = match &site.programs.nginx_stream {
        Some(module) if case.layer_4() => format!("load_module {};\n", module.display()),
        _ => String::new(),
    };
    let body = if case.layer_4() {
        stream(site)
    } else {
        http(case, site, buffered)
    };
    // Its table is allocated at the start; only where a case needs it, it is as large as descriptors allow.
    let table = if case.scales() { 20_000 } else { 16_384 };
    format!(
        "{module}daemon off;\n\
         master_process off;\n\
         worker_processes 1;\n\
         worker_rlimit_nofile 20000;\n\
         pid nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections {table}; use epoll; multi_accept on; }}\n\
         {body}"
    )
}

fn http(case: Case, site: &Site<'_>, buffered: bool) -> String {
    let Site {
        listen,
        origin,
        identity,
        ..
    } = site;
    let tls = match case.tls() {
        // TLS 1.3 is not among the defaults of this nginx. `auto` allows every group that OpenSSL has.
        Some(_) => format!(
            "ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_ecdh_curve auto;\n\
             ssl_certificate {};\n\
             ssl_certificate_key {};\n",
            identity.certificate.display(),
            identity.key.display()
        ),
        None => String::new(),
    };
    let ssl = if case.tls().is_some() { " ssl" } else { "" };
    let (http2, http2_on) = match (case.streams(), site.programs.nginx_http2_on) {
        (None, _) => ("", ""),
        (Some(_), false) => (" http2", ""),
        (Some(_), true) => ("", "http2 on;\n"),
    };
    // Never through a file: neither row is about disks. The unbuffered row passes on
    // what one read took; of 16, 64 and 256 KiB the last did best over all cases.
    let buffering = if buffered {
        "proxy_buffering on;\n\
         proxy_max_temp_file_size 0;\n\
         client_body_buffer_size 2m;\n"
    } else {
        "proxy_buffering off;\n\
         proxy_request_buffering off;\n\
         proxy_buffer_size 256k;\n\
         proxy_buffers 4 256k;\n\
         client_body_buffer_size 256k;\n"
    };
    let upstreams = case.upstreams();
    format!(
        "http {{\n\
         access_log off;\n\
         sendfile on;\n\
         tcp_nodelay on;\n\
         keepalive_timeout 75s;\n\
         keepalive_requests 1000000000;\n\
         client_max_body_size 0;\n\
         client_body_temp_path client_body;\n\
         proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         {buffering}\
         upstream origin {{ server {origin}; keepalive {upstreams}; keepalive_requests 1000000000; }}\n\
         server {{\n\
         listen {listen}{ssl}{http2} backlog=4096;\n\
         {http2_on}{tls}\
         location / {{\n\
         proxy_pass http://origin;\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n\
         }}\n}}\n}}\n"
    )
}

fn stream(site: &Site<'_>) -> String {
    let Site { listen, origin, .. } = site;
    format!(
        "stream {{\n\
         access_log off;\n\
         tcp_nodelay on;\n\
         proxy_buffer_size 64k;\n\
         server {{ listen {listen} backlog=4096; proxy_pass {origin}; }}\n}}\n"
    )
}
