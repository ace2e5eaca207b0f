//! Addresses as people write them.

use std::fmt;
use std::str::FromStr;

use oxy_core::Target;
use oxy_core::onramp::ListenAddr;
use oxy_core::target::TargetError;

/// Where to listen: as [`ListenAddr`] reads it, and `http://IP:PORT` and `https://IP:PORT` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: ListenAddr,
    /// What the scheme says of TLS, if there is one.
    pub secure: Option<bool>,
}

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A target: as [`Target`] reads it, and `http://HOST[:PORT]` too.
    Target(Target),
    /// An origin that speaks HTTP/2 in clear text: `h2c://HOST[:PORT]`.
    H2c(Target),
    /// An origin that is spoken to through TLS: `https://HOST[:PORT]`.
    Https(Target),
    /// The origin that oxy brings along.
    Builtin,
}

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    H2c,
    Https,
}

impl To {
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Target(_) | Self::Builtin => Scheme::Http,
            Self::H2c(_) => Scheme::H2c,
            Self::Https(_) => Scheme::Https,
        }
    }

    /// The place; none if that is known only once it runs.
    pub(crate) fn target(&self) -> Option<&Target> {
        match self {
            Self::Target(target) | Self::H2c(target) | Self::Https(target) => Some(target),
            Self::Builtin => None,
        }
    }
}

impl Scheme {
    /// Schemes with their default ports. RFC 9110 sections 4.2.1 and 4.2.2; h2c is http in another version.
    const ALL: [(&str, Self, u16); 3] = [
        ("http://", Self::Http, 80),
        ("h2c://", Self::H2c, 80),
        ("https://", Self::Https, 443),
    ];

    /// The scheme of `text` with its default port, and what follows it.
    fn split(text: &str) -> Result<Option<(Self, u16, &str)>, AddressError> {
        let found = Self::ALL
            .iter()
            .find_map(|(name, scheme, port)| Some((*scheme, *port, text.strip_prefix(name)?)));
        let Some((scheme, port, rest)) = found else {
            return Ok(None);
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(AddressError(
                "paths are passed on as they are: give the host and port only".into(),
            ));
        }
        Ok(Some((scheme, port, rest)))
    }
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

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (secure, text) = match Scheme::split(text)? {
            Some((Scheme::Http, _, rest)) => (Some(false), rest),
            Some((Scheme::Https, _, rest)) => (Some(true), rest),
            Some((Scheme::H2c, ..)) => {
                return Err(AddressError(
                    "HTTP/2 in clear text is spoken wherever HTTP is: give http:// or none".into(),
                ));
            }
            None => (None, text),
        };
        let expected = || AddressError("expected IP:PORT, :PORT or unix:PATH".into());
        let address = text.parse().map_err(|_: oxy_core::Error| expected())?;
        Ok(Self { address, secure })
    }
}

impl FromStr for To {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text == "builtin" {
            return Ok(Self::Builtin);
        }
        let wrong = |e: TargetError| AddressError(e.to_string());
        let Some((scheme, port, host)) = Scheme::split(text)? else {
            return text.parse().map(Self::Target).map_err(wrong);
        };
        let target: Target = match host.parse() {
            Err(TargetError::Port) => format!("{host}:{port}").parse(),
            other => other,
        }
        .map_err(wrong)?;
        if !matches!(target, Target::Tcp { .. }) {
            return Err(AddressError(
                "expected a host after the scheme, and perhaps a port".into(),
            ));
        }
        Ok(match scheme {
            Scheme::Http => Self::Target(target),
            Scheme::H2c => Self::H2c(target),
            Scheme::Https => Self::Https(target),
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secure {
            Some(true) => write!(f, "https://{}", self.address),
            _ => self.address.fmt(f),
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => target.fmt(f),
            Self::H2c(target) => write!(f, "h2c://{target}"),
            Self::Https(target) => write!(f, "https://{target}"),
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
            ("h2c://a:50051", "h2c://a:50051"),
            ("https://a", "https://a:443"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
            ("builtin", "builtin"),
        ] {
            assert_eq!(text.parse::<To>().unwrap().to_string(), read, "{text}");
        }
        for bad in [
            "",
            "9000",
            "localhost",
            "https://a/b",
            "https://",
            "https://unix:/a",
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
            ("https://:8443", "https://[::]:8443"),
            ("https://127.0.0.1:0/", "https://127.0.0.1:0"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), read, "{text}");
        }
        assert!("example.com:80".parse::<Listen>().is_err());
        assert!("h2c://127.0.0.1:80".parse::<Listen>().is_err());
    }
}
