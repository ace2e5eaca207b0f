//! What a proxy says about itself and about its clients.

use std::fmt;
use std::str::FromStr;

use crate::h1::token;

/// What is added to the messages that pass, and what is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ForwardPolicy {
    /// The name under which the proxy enters itself in Via (RFC 9110 section 7.6.3). `oxy` by default; with none there
    /// is no Via and no loop is found.
    pub via: Option<Pseudonym>,
    /// What tells this proxy from all others of the same name: it is appended to `via`, and a request whose Via
    /// already has both is refused with 508. It should not be guessable, or a client could have its requests refused
    /// elsewhere. By default each proxy draws one at random when it is built.
    pub instance: Option<Pseudonym>,
    /// What is done with X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host. `Replace` by default: a proxy that
    /// faces the internet cannot believe what its clients say about themselves.
    pub x_forwarded: Forwarding,
    /// What is done with Forwarded (RFC 7239). `Remove` by default: hardly any origin reads it, so that a client's own
    /// is more likely to fool one than ours is to help.
    pub forwarded: Forwarding,
    /// Whether an origin is sent the client's Host (the default) rather than its own name.
    pub preserve_host: bool,
    /// Whether Proxy-Authorization, Proxy-Authenticate and Proxy-Authentication-Info are passed on. They are meant for
    /// the next proxy only (RFC 9110 section 11.7), so that this is for a proxy which leaves authentication to the one
    /// behind it. Off by default.
    pub pass_proxy_auth: bool,
    /// Whether an origin is sent the path in its normal form (RFC 3986 section 6.2.2): without dot segments, and without
    /// escapes that are not needed. Hooks see the path as it came. Off by default: what is signed, or means something to
    /// one origin only, passes as it is.
    pub normalise_path: bool,
}

impl Default for ForwardPolicy {
    fn default() -> Self {
        Self {
            via: Some(Pseudonym("oxy".into())),
            instance: None,
            x_forwarded: Forwarding::Replace,
            forwarded: Forwarding::Remove,
            preserve_host: true,
            pass_proxy_auth: false,
            normalise_path: false,
        }
    }
}

/// What is done with what earlier proxies, or a client, say about where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "snake_case")
)]
pub enum Forwarding {
    /// It is passed on untouched, and nothing is added.
    Keep,
    /// It is believed: our own entry is appended, and a scheme or host that is there stays.
    Append,
    /// It is dropped, and our own takes its place.
    Replace,
    /// It is dropped.
    Remove,
}

/// A name for a proxy: a token (RFC 9110 section 7.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym(String);

impl Pseudonym {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAToken;

impl fmt::Display for NotAToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pseudonym has letters, digits and punctuation like - . _ only")
    }
}

impl std::error::Error for NotAToken {}

impl TryFrom<String> for Pseudonym {
    type Error = NotAToken;

    fn try_from(text: String) -> Result<Self, NotAToken> {
        if token::is_token(text.as_bytes()) {
            Ok(Self(text))
        } else {
            Err(NotAToken)
        }
    }
}

impl FromStr for Pseudonym {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        text.to_owned().try_into()
    }
}

impl From<Pseudonym> for String {
    fn from(name: Pseudonym) -> Self {
        name.0
    }
}

impl ForwardPolicy {
    /// The parts that make up our name in Via.
    pub(super) fn received_by(&self) -> Option<[&[u8]; 3]> {
        let via = self.via.as_ref()?.0.as_bytes();
        Some(match &self.instance {
            Some(instance) => [via, b"-", instance.0.as_bytes()],
            None => [via, b"", b""],
        })
    }

    /// Whether `element` of a Via field is our own.
    pub(super) fn is_ours(&self, element: &[u8]) -> bool {
        let (Some(via), Some(instance)) = (&self.via, &self.instance) else {
            return false;
        };
        let mut words = element
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty());
        words
            .nth(1)
            .and_then(|name| name.strip_suffix(instance.0.as_bytes()))
            .and_then(|name| name.strip_suffix(b"-"))
            .is_some_and(|name| name == via.0.as_bytes())
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "settings")]
oxy_core::settings_by_text!(Pseudonym, "Pseudonym", "a name for a proxy");
