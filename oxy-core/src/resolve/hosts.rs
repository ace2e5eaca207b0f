//! The static host table (hosts(5)).

use std::collections::HashMap;
use std::net::IpAddr;

use crate::target::HostName;

/// The file is administered by hand; one that is larger than this is not read to its end.
const MAX_LINES: usize = 100_000;

/// The names of `/etc/hosts`. A file that is not there, or cannot be read, has none.
pub(super) fn read() -> HashMap<HostName, Vec<IpAddr>> {
    std::fs::read("/etc/hosts")
        .map(|bytes| parse(&String::from_utf8_lossy(&bytes)))
        .unwrap_or_default()
}

/// What cannot be understood is passed over, as everybody does who reads this file.
fn parse(text: &str) -> HashMap<HostName, Vec<IpAddr>> {
    let mut hosts: HashMap<HostName, Vec<IpAddr>> = HashMap::new();
    for line in text.lines().take(MAX_LINES) {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        for name in words.filter_map(|word| word.parse().ok()) {
            let addrs = hosts.entry(name).or_default();
            if !addrs.contains(&ip) {
                addrs.push(ip);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_passed_over() {
        let hosts = parse(
            "# comment\n127.0.0.1 localhost\n::1\tLOCALHOST ip6-localhost # too\n\n\
             10.0.0.1 db db.internal\n10.0.0.2 db\n10.0.0.1 db\nnonsense db\n10.0.0.3 b\u{e4}d ok\nfe80::1%lo0 zone\n10.0.0.4",
        );
        let addrs = |name: &str| -> Vec<String> {
            hosts
                .get(name)
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(addrs("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(addrs("ip6-localhost"), ["::1"]);
        assert_eq!(addrs("db"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(addrs("db.internal"), ["10.0.0.1"]);
        assert_eq!(addrs("ok"), ["10.0.0.3"]);
        assert_eq!(hosts.len(), 5);
    }
}
