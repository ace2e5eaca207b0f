//! The grammar of request targets and authorities (RFC 9112 section 3.2, RFC 3986).
//!
//! Whatever passes here is also taken by [`http::Uri`], so that a request can always be built from its index.

use std::net::Ipv6Addr;

use super::index::{RequestIndex, Span, TargetForm};
use super::reject::Reject;

/// Reads the target at `span`, for a request with `method`, into `index`.
pub(crate) fn read(
    head: &[u8],
    span: Span,
    method: &[u8],
    index: &mut RequestIndex,
) -> Result<(), Reject> {
    let target = span.of(head);
    let start = span.range().start;
    let end = span.range().end;
    if method == b"CONNECT" {
        if !matches!(
            authority(target),
            Some(Authority {
                port: Some(_),
                empty: false
            })
        ) {
            return Err(Reject::malformed("CONNECT needs host:port"));
        }
        index.form = TargetForm::Authority;
        index.target_authority = span;
        index.path = Span::new(end, end);
        return Ok(());
    }
    index.target_authority = Span::new(start, start);
    if target.first() == Some(&b'/') {
        index.form = TargetForm::Origin;
        index.path = span;
        return path(target);
    }
    if target == b"*" {
        if method != b"OPTIONS" {
            return Err(Reject::malformed("* is for OPTIONS only"));
        }
        index.form = TargetForm::Asterisk;
        index.path = span;
        return Ok(());
    }
    let scheme = match target {
        _ if starts_with(target, b"http://") => 7,
        _ if starts_with(target, b"https://") => 8,
        _ => return Err(Reject::malformed("not a request target")),
    };
    let rest = &target[scheme..];
    let length = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    // No userinfo: RFC 9110 section 4.2.4 has it treated as an error, as it is used to fool the eye.
    if !matches!(
        authority(&rest[..length]),
        Some(Authority { empty: false, .. })
    ) {
        return Err(Reject::malformed("bad authority in the target"));
    }
    index.form = TargetForm::Absolute;
    index.target_https = scheme == 8;
    index.target_authority = Span::new(start + scheme, start + scheme + length);
    index.path = Span::new(start + scheme + length, end);
    path(&rest[length..])
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.len() > prefix.len() && text[..prefix.len()].eq_ignore_ascii_case(prefix)
}

/// Checks a path with its query. A fragment is never sent (RFC 9110 section 7.1), and what is not ASCII has to be
/// percent-encoded; characters that only browsers' URLs know (`|`, `{`) pass, because origins see them every day.
pub(crate) fn path(text: &[u8]) -> Result<(), Reject> {
    let mut bytes = text.iter();
    for &byte in bytes.by_ref() {
        if byte == b'?' {
            break;
        }
        if CHARS[byte as usize] & PATH == 0 {
            return Err(Reject::malformed("bad character in the path"));
        }
    }
    if bytes.all(|&byte| CHARS[byte as usize] & QUERY != 0) {
        Ok(())
    } else {
        Err(Reject::malformed("bad character in the query"))
    }
}

const PATH: u8 = 1;
const QUERY: u8 = 2;
const HOST: u8 = 4;

/// Which byte may stand where. `PATH` and `QUERY` are what `http::Uri` takes, without what is not ASCII; `HOST` is
/// RFC 3986 reg-name without percent-encoding, which `http::Uri` refuses and DNS does not know.
const CHARS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        let mut class = 0;
        if matches!(byte, b'!' | b'"' | 0x24..=0x3b | b'=' | 0x40..=0x5f | 0x61..=0x7e) {
            class |= PATH;
        }
        if matches!(byte, b'!' | 0x24..=0x3b | b'=' | 0x3f..=0x7e) {
            class |= QUERY;
        }
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            )
        {
            class |= HOST;
        }
        table[byte as usize] = class;
        byte += 1;
    }
    table
};

/// What was found in an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// The port, if there is one with digits.
    pub(crate) port: Option<u16>,
    /// Whether the host is empty.
    pub(crate) empty: bool,
}

/// Reads `uri-host [ ":" port ]` (RFC 9110 section 7.2); none if `text` is not one.
pub(crate) fn authority(text: &[u8]) -> Option<Authority> {
    let (host, rest) = if text.first() == Some(&b'[') {
        let close = text.iter().position(|&byte| byte == b']')?;
        let address = std::str::from_utf8(&text[1..close]).ok()?;
        // No zone (RFC 6874) and no future version: neither means anything on another machine.
        address.parse::<Ipv6Addr>().ok()?;
        text.split_at(close + 1)
    } else {
        let end = text
            .iter()
            .position(|&byte| CHARS[byte as usize] & HOST == 0)
            .unwrap_or(text.len());
        text.split_at(end)
    };
    let port = match rest {
        [] => None,
        // An empty port is the scheme's own (RFC 3986 section 3.2.3), but a port without a host is nothing.
        [b':'] if !host.is_empty() => None,
        [b':', digits @ ..] if !host.is_empty() => Some(port(digits)?),
        _ => return None,
    };
    // `http::Uri` holds 64 KiB and a name in DNS 253 bytes: a kilobyte is enough for whatever else a host may be.
    (text.len() <= 1024).then_some(Authority {
        port,
        empty: host.is_empty(),
    })
}

fn port(digits: &[u8]) -> Option<u16> {
    u16::try_from(super::token::digits(digits)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in [
            "a",
            "a:80",
            "a.b-c_d:65535",
            "127.0.0.1",
            "[::1]",
            "[::1]:443",
            "[1:2:3:4:5:6:7:8]:80",
            "a:",
            "",
        ] {
            assert!(authority(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "a b",
            "a@b",
            "a:b",
            "a:99999",
            "a:+1",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[v1.a]",
            "::1",
            "a/b",
            "a?b",
            "a#b",
            "a%41",
            "<a>",
            "a\u{e9}",
            ":80",
            ":",
            "a:1:2",
            "a\0b",
        ] {
            assert!(authority(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    fn form(method: &str, target: &str) -> Option<TargetForm> {
        let mut index = RequestIndex::default();
        let span = Span::new(0, target.len());
        read(target.as_bytes(), span, method.as_bytes(), &mut index).ok()?;
        assert!(target.parse::<http::Uri>().is_ok(), "{target}");
        Some(index.form)
    }

    #[test]
    fn forms() {
        assert_eq!(form("GET", "/a/b?c=d&e"), Some(TargetForm::Origin));
        assert_eq!(form("GET", "//a"), Some(TargetForm::Origin));
        assert_eq!(form("GET", "http://a"), Some(TargetForm::Absolute));
        assert_eq!(form("GET", "HTTPS://a:1/?b"), Some(TargetForm::Absolute));
        assert_eq!(form("GET", "http://[::1]:80?b"), Some(TargetForm::Absolute));
        assert_eq!(form("OPTIONS", "*"), Some(TargetForm::Asterisk));
        assert_eq!(form("CONNECT", "a:443"), Some(TargetForm::Authority));
        for (method, bad) in [
            ("GET", "*"),
            ("GET", "a:80"),
            ("GET", "a/b"),
            ("GET", "?a"),
            ("GET", "ftp://a/"),
            ("GET", "http://"),
            ("GET", "http:///a"),
            ("GET", "http://u@a/"),
            ("GET", "http://a:99999/"),
            ("GET", "http://a#f"),
            ("GET", "/a#f"),
            ("GET", "/\u{e9}"),
            ("GET", "/a?\u{e9}"),
            ("GET", "/<"),
            ("CONNECT", "a"),
            ("CONNECT", "/a"),
            ("CONNECT", "http://a:1/"),
            ("CONNECT", "a:"),
        ] {
            assert_eq!(form(method, bad), None, "{method} {bad}");
        }
    }

    #[test]
    fn every_byte_that_passes_is_one_that_uri_takes() {
        for byte in 0..=255_u8 {
            for prefix in [&b"/"[..], b"/?", b"http://a", b"http://a/", b"http://a?"] {
                let target = [prefix, &[byte], b"b"].concat();
                let mut index = RequestIndex::default();
                if read(&target, Span::new(0, target.len()), b"GET", &mut index).is_ok() {
                    assert!(
                        http::Uri::try_from(&target[..]).is_ok(),
                        "{:?}",
                        String::from_utf8_lossy(&target)
                    );
                }
            }
        }
    }
}
