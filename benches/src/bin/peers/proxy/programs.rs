//! Which programs are run, and what they can do.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::envoy;
use crate::oxy::Oxy;

/// The first OpenSSL with ML-KEM.
const OPENSSL_WITH_MLKEM: (u32, u32) = (3, 5);

/// Where the proxies are, and what had to be asked of them once.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Nothing if something else is in its place.
    pub(super) oxy: Option<PathBuf>,
    pub(super) envoy: PathBuf,
    /// Whether they can do the post-quantum key exchange.
    pub(super) nginx_mlkem: bool,
    pub(super) haproxy_mlkem: bool,
}

impl Programs {
    /// Looks for them.
    pub(crate) fn find(oxy: &Oxy, envoy: Option<&Path>) -> Self {
        Self {
            oxy: oxy.program.clone(),
            envoy: envoy::find(envoy),
            nginx_mlkem: has_mlkem("nginx", "-V"),
            haproxy_mlkem: has_mlkem("haproxy", "-vv"),
        }
    }
}

/// Whether a program runs with an OpenSSL that has ML-KEM, by what it prints.
fn has_mlkem(program: &str, flag: &str) -> bool {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return false;
    };
    let text = [output.stdout, output.stderr].concat();
    openssl(&String::from_utf8_lossy(&text)).is_some_and(|found| found >= OPENSSL_WITH_MLKEM)
}

/// The version that it runs with, which is named after the one that it was built with.
fn openssl(text: &str) -> Option<(u32, u32)> {
    let versions = text.match_indices("OpenSSL ").filter_map(|(at, name)| {
        let mut numbers = text[at + name.len()..].split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.last()
}

#[cfg(test)]
mod tests {
    use super::openssl;

    #[test]
    fn finds_the_version_that_runs() {
        let nginx = "built with OpenSSL 3.0.22 25 Aug 2026 (running with OpenSSL 3.5.1 1 Jul 2026)";
        assert_eq!(openssl(nginx), Some((3, 5)));
        let haproxy = "Running on OpenSSL version : OpenSSL 3.0.19 27 Jan 2026\nOpenSSL library supports SNI : yes";
        assert_eq!(openssl(haproxy), Some((3, 0)));
        assert_eq!(openssl("built with LibreSSL 4.0.0"), None);
    }
}
