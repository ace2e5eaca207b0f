//! What requests are for where they are spread over many routes: the load asks for it, the proxy chooses by it, and the
//! origin takes no notice of it.

/// Prefixes of one host. With 10,000 routes there are as many hosts, so that neither is a short list.
const PREFIXES: usize = 100;

/// What the first segment of such a path begins with.
const SEGMENT: &str = "route-";

/// The host of route `number`.
pub(crate) fn host(number: usize) -> String {
    format!("site-{}.test", number / PREFIXES)
}

/// What the paths of route `number` begin with.
pub(crate) fn prefix(number: usize) -> String {
    format!("/{SEGMENT}{}", number % PREFIXES)
}

/// What follows such a prefix, or the whole path if it has none.
pub(crate) fn beyond_prefix(path: &str) -> &str {
    let segment = path
        .strip_prefix('/')
        .filter(|rest| rest.starts_with(SEGMENT));
    segment
        .and_then(|rest| rest.find('/').map(|end| &rest[end..]))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{beyond_prefix, host, prefix};

    #[test]
    fn no_two_routes_are_the_same() {
        let all: std::collections::BTreeSet<_> = (0..10_000)
            .map(|number| (host(number), prefix(number)))
            .collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn only_such_a_prefix_is_taken_away() {
        assert_eq!(
            beyond_prefix(&format!("{}/b/1024/7", prefix(123))),
            "/b/1024/7"
        );
        assert_eq!(beyond_prefix("/b/1024/7"), "/b/1024/7");
        assert_eq!(beyond_prefix("/route-1"), "/route-1");
        assert_eq!(beyond_prefix(""), "");
    }
}
