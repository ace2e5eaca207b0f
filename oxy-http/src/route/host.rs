//! Which virtual host a request is for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

use foldhash::fast::FixedState;

/// Finds virtual hosts by name. Hashes need no secret: what is hashed for keeps is the operator's alone.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<[u8]>, usize, FixedState>,
    /// What follows the star, with its dot.
    below: HashMap<Box<[u8]>, usize, FixedState>,
    /// Which numbers of dots the keys of `below` have, so that a long name costs no more look-ups than there are.
    dots: u128,
    any: Option<usize>,
}

/// Why a host was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostError {
    Bad,
    Port,
    Wildcard,
    Twice,
}

impl HostError {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Bad => "is not a host (names that are not ASCII are written as xn--)",
            Self::Port => "has a port; ports are ignored, and belong to the listener",
            Self::Wildcard => {
                "is no wildcard: one is *, or *. and a name, and stands for whole labels"
            }
            Self::Twice => "is there twice",
        }
    }
}

impl Hosts {
    /// `text` is for the virtual host number `of`.
    pub(super) fn insert(&mut self, text: &str, of: usize) -> Result<(), HostError> {
        if text == "*" {
            return match self.any.replace(of) {
                None => Ok(()),
                Some(_) => Err(HostError::Twice),
            };
        }
        let (map, name, below) = match text.strip_prefix('*') {
            Some(rest) => (&mut self.below, rest.strip_prefix('.'), rest),
            None => (&mut self.exact, Some(text), text),
        };
        let name = name.ok_or(HostError::Wildcard)?;
        if name.contains('*') {
            return Err(HostError::Wildcard);
        }
        let Some(parsed) = crate::h1::target::authority(name.as_bytes()) else {
            return Err(HostError::Bad);
        };
        if parsed.port.is_some() || name.ends_with(':') {
            return Err(HostError::Port);
        }
        let is_address = name.starts_with('[')
            || name
                .rsplit('.')
                .next()
                .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if parsed.empty || name.split('.').any(str::is_empty) && !name.ends_with('.') {
            return Err(HostError::Bad);
        }
        if below.len() > name.len() && is_address {
            return Err(HostError::Wildcard);
        }
        let key = read(below.as_bytes());
        if below.len() > name.len() {
            let dots = memchr::memchr_iter(b'.', &key).count();
            self.dots |= 1_u128.checked_shl(dots as u32).ok_or(HostError::Bad)?;
        }
        match map.insert(key.into(), of) {
            None => Ok(()),
            Some(_) => Err(HostError::Twice),
        }
    }

    /// The virtual host for `host`, as [`read`] gives it: the exact one, the one with the longest wildcard, or the one
    /// that is for all.
    pub(super) fn find(&self, host: &[u8]) -> Option<usize> {
        let wild = || {
            if self.dots == 0 {
                return None;
            }
            let mut left = memchr::memchr_iter(b'.', host).count();
            memchr::memchr_iter(b'.', host).find_map(|at| {
                let wanted = left < 128 && self.dots >> left & 1 == 1;
                left -= 1;
                if !wanted || at == 0 {
                    return None;
                }
                self.below.get(&host[at..]).copied()
            })
        };
        let exact = self.exact.get(host).copied();
        exact.or_else(wild).or(self.any)
    }
}

/// The host in an authority, as hosts are compared: in lower case, without port, userinfo and the dot of the root; an
/// IPv6 address in brackets, in its short form. Copied only where that changes it.
pub(super) fn read(authority: &[u8]) -> Cow<'_, [u8]> {
    let host = match memchr::memrchr(b'@', authority) {
        Some(at) => &authority[at + 1..],
        None => authority,
    };
    if host.first() == Some(&b'[') {
        let address = memchr::memchr(b']', host)
            .and_then(|end| std::str::from_utf8(&host[1..end]).ok())
            .and_then(|text| text.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Cow::Owned(format!("[{address}]").into_bytes()),
            None => Cow::Borrowed(&[]),
        };
    }
    let end = memchr::memchr(b':', host).unwrap_or(host.len());
    let host = &host[..end];
    let host = match host {
        [name @ .., b'.'] if !name.is_empty() => name,
        name => name,
    };
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[&str]) -> Hosts {
        let mut hosts = Hosts::default();
        for (of, text) in list.iter().enumerate() {
            hosts.insert(text, of).unwrap();
        }
        hosts
    }

    fn find(hosts: &Hosts, authority: &str) -> Option<usize> {
        hosts.find(&read(authority.as_bytes()))
    }

    #[test]
    fn the_exact_one_then_the_longest_wildcard_then_all() {
        let list = [
            "*",
            "*.com",
            "*.example.com",
            "www.example.com",
            "*.a.b.example.com",
            "example.com",
            "192.0.2.1",
            "[2001:DB8:0::1]",
            "Mixed.Example",
            "rooted.example.",
        ];
        let hosts = hosts(&list);
        for (authority, expected) in [
            ("www.example.com", "www.example.com"),
            ("WWW.EXAMPLE.com:8080", "www.example.com"),
            ("www.example.com.", "www.example.com"),
            ("www.example.com.:80", "www.example.com"),
            ("user@www.example.com", "www.example.com"),
            ("example.com", "example.com"),
            ("x.example.com", "*.example.com"),
            ("x.y.example.com", "*.example.com"),
            ("a.b.example.com", "*.example.com"),
            ("x.a.b.example.com", "*.a.b.example.com"),
            ("X.Y.A.B.Example.Com:1", "*.a.b.example.com"),
            ("notexample.com", "*.com"),
            ("com", "*"),
            (".example.com", "*.com"),
            (".com", "*"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:db8::1]", "[2001:DB8:0::1]"),
            ("[2001:0db8:0:0::1]:443", "[2001:DB8:0::1]"),
            ("[2001:db8::2]", "*"),
            ("mixed.example", "Mixed.Example"),
            ("rooted.example", "rooted.example."),
            ("", "*"),
            (".", "*"),
            ("[", "*"),
            ("other", "*"),
        ] {
            assert_eq!(
                find(&hosts, authority).map(|of| list[of]),
                Some(expected),
                "{authority}"
            );
        }
    }

    #[test]
    fn none_may_fit() {
        let hosts = hosts(&["*.example.com"]);
        assert_eq!(find(&hosts, "example.com"), None);
        assert_eq!(find(&hosts, "a.example.org"), None);
        assert_eq!(find(&hosts, "badexample.com"), None);
        assert_eq!(find(&hosts, "a.example.com"), Some(0));
        let labels = "a.".repeat(300) + "example.com";
        assert_eq!(find(&hosts, &labels), Some(0));
    }

    #[test]
    fn what_is_no_host() {
        for (text, error) in [
            ("", HostError::Bad),
            ("a b", HostError::Bad),
            ("b\u{fc}cher.example", HostError::Bad),
            ("a..b", HostError::Bad),
            ("http://a", HostError::Bad),
            ("a:80", HostError::Port),
            ("a:", HostError::Port),
            ("*.a:80", HostError::Port),
            ("*a.b", HostError::Wildcard),
            ("a.*", HostError::Wildcard),
            ("*.*.a", HostError::Wildcard),
            ("**", HostError::Wildcard),
            ("*.0.0.1", HostError::Wildcard),
            ("*.[::1]", HostError::Wildcard),
        ] {
            assert_eq!(Hosts::default().insert(text, 0), Err(error), "{text}");
        }
        let mut hosts = hosts(&["a.example", "*.example", "*"]);
        for twice in ["A.Example.", "*.EXAMPLE", "*"] {
            assert_eq!(hosts.insert(twice, 1), Err(HostError::Twice), "{twice}");
        }
    }
}
