//! Addresses as people write them.

use std::fmt;
use std::str::FromStr;

use oxy_core::Target;
use oxy_core::onramp::ListenAddr;
use oxy_core::target::TargetError;

/// Where to listen: as [`ListenAddr`] reads it, and `http://IP:PORT` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen(pub ListenAddr);

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A target: as [`Target`] reads it, and `http://HOST[:PORT]` too.
    Target(Target),
    /// The origin that oxy brings along.
    Builtin,
}

/// Why a text is no address.
#[derive(Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

/// The text without `http://` and what may follow an authority.
fn authority(text: &str) -> Result<Option<&str>, AddressError> {
    if text.starts_with("https://") {
        return Err(AddressError(
            "TLS is not spoken here yet; use http://".into(),
        ));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Ok(None);
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(AddressError(
            "paths are passed on as they are: give the host and port only".into(),
        ));
    }
    Ok(Some(rest))
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = authority(text)?.unwrap_or(text);
        let expected = || AddressError("expected IP:PORT, :PORT or unix:PATH".into());
        text.parse()
            .map(Self)
            .map_err(|_: oxy_core::Error| expected())
    }
}

impl FromStr for To {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text == "builtin" {
            return Ok(Self::Builtin);
        }
        let target: Result<Target, TargetError> = match authority(text)? {
            // RFC 9110 section 4.2.1: the default port of http is 80.
            Some(host) => match host.parse() {
                Err(TargetError::Port) => format!("{host}:80").parse(),
                other => other,
            },
            None => text.parse(),
        };
        target
            .map(Self::Target)
            .map_err(|e| AddressError(e.to_string()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => target.fmt(f),
            Self::Builtin => f.write_str("builtin"),
        }
    }
}

oxy_core::settings_by_text!(Listen, "Listen", "an address to listen on");
oxy_core::settings_by_text!(To, "To", "a place to go to");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        for (text, read) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://127.0.0.1:9000/", "127.0.0.1:9000"),
            ("http://Example.com", "example.com:80"),
            ("http://[::1]", "[::1]:80"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("builtin", "builtin"),
        ] {
            assert_eq!(text.parse::<To>().unwrap().to_string(), read, "{text}");
        }
        for bad in [
            "",
            "9000",
            "localhost",
            "https://a",
            "http://a/b",
            "http://a?b",
            "http://a:b",
        ] {
            assert!(bad.parse::<To>().is_err(), "{bad}");
        }
    }

    #[test]
    fn listening_places_too() {
        for (text, read) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            (":8080", "[::]:8080"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("unix:/tmp/x", "unix:/tmp/x"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), read, "{text}");
        }
        assert!("example.com:80".parse::<Listen>().is_err());
    }
}
