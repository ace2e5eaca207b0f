//! What keeps a client with one origin.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use twox_hash::XxHash64;

use super::conditions::{decoded, parameters};
use super::spec::HashSpec;
use super::text;
use super::view::View;
use crate::h1::token;

/// What a request is hashed by, all that it has of these.
#[derive(Clone, Debug, Default)]
pub(super) struct HashBy(Vec<(Source, bool)>);

#[derive(Clone, Debug)]
enum Source {
    Header(HeaderName),
    Cookie(Box<str>, Option<Duration>),
    Query(Box<[u8]>),
    Address,
}

/// What keeps a client with one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sticky {
    /// The hash, the same in every process and on every machine; none if the request has nothing to be hashed by.
    pub key: Option<u64>,
    /// What Set-Cookie is to be added to the response with.
    pub set_cookie: Option<HeaderValue>,
}

impl HashBy {
    pub(super) fn read(list: &[HashSpec]) -> Result<Self, String> {
        let sources = list
            .iter()
            .map(|spec| Ok((Source::read(spec)?, spec.terminal)));
        sources.collect::<Result<_, String>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash of `view`; `random` makes the value of a cookie that has to be given.
    pub(super) fn sticky(&self, view: &dyn View, random: u64) -> Sticky {
        let mut sticky = Sticky::default();
        for (source, terminal) in &self.0 {
            let found = source.hash(view).or_else(|| match source {
                // A second cookie would only repeat the first one's number.
                Source::Cookie(name, Some(ttl)) if sticky.set_cookie.is_none() => {
                    let value = format!("{random:016x}");
                    sticky.set_cookie = cookie(name, &value, *ttl, view.is_https());
                    Some(of(value.as_bytes()))
                }
                _ => None,
            });
            if let Some(found) = found {
                // Turned, so that the order counts and two of the same do not come to nothing.
                let before = sticky.key.unwrap_or_default();
                sticky.key = Some(before.rotate_left(1) ^ found);
                if *terminal {
                    break;
                }
            }
        }
        sticky
    }
}

impl Source {
    fn read(spec: &HashSpec) -> Result<Self, String> {
        let source = match (&spec.header, &spec.cookie, &spec.query, spec.source_ip) {
            (Some(name), None, None, false) => Self::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| format!("{name:?} is not the name of a field"))?,
            ),
            (None, Some(name), None, false) => {
                if !token::is_token(name.as_bytes()) {
                    return Err(format!("{name:?} is not the name of a cookie"));
                }
                return Ok(Self::Cookie(name.as_str().into(), spec.ttl));
            }
            (None, None, Some(name), false) => Self::Query(name.as_bytes().into()),
            (None, None, None, true) => Self::Address,
            _ => {
                return Err(
                    "a hash is by exactly one of header, cookie, query and source_ip".into(),
                );
            }
        };
        match spec.ttl {
            Some(_) => Err("only a cookie has a ttl".into()),
            None => Ok(source),
        }
    }

    fn hash(&self, view: &dyn View) -> Option<u64> {
        match self {
            Self::Header(name) => {
                let mut hash = None;
                view.values(name, &mut |value| {
                    hash = Some(hash.unwrap_or(0_u64).rotate_left(1) ^ of(value));
                    true
                });
                hash
            }
            Self::Cookie(name, _) => cookie_value(view, name.as_bytes()).map(of),
            Self::Query(wanted) => {
                let query = text::query(view.path())?;
                let (_, value) =
                    parameters(query).find(|(name, _)| decoded(name).eq(wanted.iter().copied()))?;
                Some(of(&decoded(value).collect::<Vec<_>>()))
            }
            Self::Address => match view.client_ip()?.to_canonical() {
                IpAddr::V4(address) => Some(of(&address.octets())),
                IpAddr::V6(address) => Some(of(&address.octets())),
            },
        }
    }
}

/// The value of the cookie `name` (RFC 6265 section 4.2.1).
fn cookie_value<'a>(view: &'a dyn View, name: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    view.values(&header::COOKIE, &mut |line| {
        found = line.split(|&byte| byte == b';').find_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            (token::trim(&pair[..at]) == name).then(|| token::trim(&pair[at + 1..]))
        });
        found.is_none()
    });
    found
}

/// A cookie that scripts cannot read (RFC 6265 section 4.1).
fn cookie(name: &str, value: &str, ttl: Duration, is_https: bool) -> Option<HeaderValue> {
    let age = match ttl.as_secs() {
        0 if ttl.is_zero() => String::new(),
        seconds => format!("; Max-Age={}", seconds.max(1)),
    };
    let secure = if is_https { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/{age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// A hash that is the same everywhere and for ever. Clients can choose what it comes to; all that gets them is an origin.
fn of(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}
