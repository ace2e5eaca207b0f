//! Which programs are run, and what they can do.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Peer, crates};
use crate::Options;
use crate::oxy::Oxy;

/// The first OpenSSL with ML-KEM.
const OPENSSL_WITH_MLKEM: (u32, u32) = (3, 5);

/// The first nginx whose `listen` does not want to be told of HTTP/2: 1.25.1, and 1.25.0 was no stable one.
const NGINX_WITH_HTTP2_ON: (u32, u32) = (1, 25);

/// Where Debian's `libnginx-mod-stream` puts the module.
const STREAM_MODULE: &str = "usr/lib/nginx/modules/ngx_stream_module.so";

/// Where the proxies are, and what had to be asked of them once.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Nothing if something else is in its place.
    pub(super) oxy: Option<PathBuf>,
    pub(super) envoy: PathBuf,
    pub(super) caddy: PathBuf,
    /// Or why there is none.
    pub(super) pingora: Result<PathBuf, String>,
    pub(super) hyper: Result<PathBuf, String>,
    /// Whether they can do the post-quantum key exchange.
    pub(super) nginx_mlkem: bool,
    pub(super) haproxy_mlkem: bool,
    /// Whether HTTP/2 is a directive of its own.
    pub(super) nginx_http2_on: bool,
    /// What makes a layer 4 proxy of it.
    pub(super) nginx_stream: Option<PathBuf>,
}

impl Programs {
    /// Looks for them.
    pub(crate) fn find(oxy: &Oxy, options: &Options) -> Self {
        let named = |peer| options.peers.contains(&peer);
        let nginx = printed("nginx", "-V");
        Self {
            oxy: oxy.program.clone(),
            envoy: find(options.envoy.as_deref(), "envoy"),
            caddy: find(options.caddy.as_deref(), "caddy"),
            pingora: crates::find(options.pingora.as_deref(), "pingora", named(Peer::Pingora)),
            hyper: crates::find(options.hyper.as_deref(), "hyper", named(Peer::Hyper)),
            nginx_mlkem: has_mlkem(&nginx),
            haproxy_mlkem: has_mlkem(&printed("haproxy", "-vv")),
            nginx_http2_on: version(&nginx, "nginx/")
                .is_some_and(|found| found >= NGINX_WITH_HTTP2_ON),
            nginx_stream: nginx_stream(),
        }
    }
}

/// The one that is asked for, or that is where one would look: at a variable of its name, where the README's commands
/// put it, and on the path.
fn find(asked: Option<&Path>, name: &str) -> PathBuf {
    let installed = format!("../target/{name}/bin/{name}");
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(installed);
    match (asked, env::var_os(name.to_uppercase())) {
        (Some(asked), _) => asked.to_owned(),
        (None, Some(named)) => named.into(),
        (None, None) if installed.exists() => installed,
        (None, None) => name.into(),
    }
}

/// The module next to the nginx that is run: below the root that `newest-peers.sh` unpacks, or below the system's. One
/// is of no use to the other.
fn nginx_stream() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let bin = env::split_paths(&path).find(|bin| bin.join("nginx").exists())?;
    let unpacked = bin.with_file_name("root");
    let root = if unpacked.is_dir() {
        unpacked
    } else {
        "/".into()
    };
    Some(root.join(STREAM_MODULE)).filter(|module| module.exists())
}

/// Everything that a program prints about itself.
fn printed(program: &str, flag: &str) -> String {
    Command::new(program)
        .arg(flag)
        .output()
        .map(|output| [output.stdout, output.stderr].concat())
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .unwrap_or_default()
}

/// Whether a program runs with an OpenSSL that has ML-KEM: the version that it runs with is named after the one that it
/// was built with.
fn has_mlkem(text: &str) -> bool {
    version(text, "OpenSSL ").is_some_and(|found| found >= OPENSSL_WITH_MLKEM)
}

/// The first two numbers of the last version that follows `name`.
fn version(text: &str, name: &str) -> Option<(u32, u32)> {
    let versions = text.match_indices(name).filter_map(|(at, name)| {
        let mut numbers = text[at + name.len()..].split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.last()
}

#[cfg(test)]
mod tests {
    use super::{has_mlkem, version};

    #[test]
    fn finds_the_version_that_runs() {
        let nginx = "built with OpenSSL 3.0.22 25 Aug 2026 (running with OpenSSL 3.5.1 1 Jul 2026)";
        assert_eq!(version(nginx, "OpenSSL "), Some((3, 5)));
        let haproxy = "Running on OpenSSL version : OpenSSL 3.0.19 27 Jan 2026\nOpenSSL library supports SNI : yes";
        assert_eq!(version(haproxy, "OpenSSL "), Some((3, 0)));
        let newer = "Running on SSL library version : OpenSSL 3.6.5 29 Sep 2026\nOpenSSL providers loaded : default";
        assert_eq!(version(newer, "OpenSSL "), Some((3, 6)));
        assert_eq!(version("built with LibreSSL 4.0.0", "OpenSSL "), None);
    }

    #[test]
    fn nginx_by_its_number() {
        let found = version("nginx version: nginx/1.30.6\nbuilt with", "nginx/");
        assert_eq!(found, Some((1, 30)));
    }

    #[test]
    fn no_program_can_nothing() {
        assert!(!has_mlkem(""));
    }
}
