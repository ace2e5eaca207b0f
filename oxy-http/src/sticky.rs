//! Keeping a client with one endpoint by a cookie (RFC 6265).

use std::time::Duration;

use http::HeaderValue;
use oxy_core::cluster::EndpointId;

use crate::h1::token;

/// A cookie that names the endpoint which a client has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct StickyCookie {
    /// Its name, a token. Default: `oxy_endpoint`.
    pub name: String,
    /// For how long a client keeps it; none is until the client ends. Default: none, because what is kept longer than a
    /// session is rarely with the endpoint.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::MaybeSpan"))]
    pub ttl: Option<Duration>,
    /// The paths that it is sent with. Default: `/`, all of them.
    pub path: String,
}

impl Default for StickyCookie {
    fn default() -> Self {
        Self {
            name: "oxy_endpoint".into(),
            ttl: None,
            path: "/".into(),
        }
    }
}

impl StickyCookie {
    /// The endpoint that is named in `cookies`, the values of Cookie fields.
    pub(crate) fn find<'a>(&self, cookies: impl Iterator<Item = &'a [u8]>) -> Option<EndpointId> {
        cookies
            .flat_map(|cookies| cookies.split(|&byte| byte == b';'))
            .find_map(|cookie| {
                let value = token::trim(cookie).strip_prefix(self.name.as_bytes())?;
                std::str::from_utf8(value.strip_prefix(b"=")?)
                    .ok()?
                    .parse()
                    .ok()
            })
    }

    /// The value of Set-Cookie that names `endpoint`.
    pub(crate) fn value(&self, endpoint: EndpointId, secure: bool) -> HeaderValue {
        let age = match self.ttl {
            Some(ttl) => format!("; Max-Age={}", ttl.as_secs()),
            None => String::new(),
        };
        let secure = if secure { "; Secure" } else { "" };
        let text = format!(
            "{}={endpoint}; Path={}{age}; HttpOnly; SameSite=Lax{secure}",
            self.name, self.path
        );
        // The settings may have had something in them that no field can have.
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_found_again() {
        let sticky = StickyCookie::default();
        let endpoint = EndpointId::of(&"127.0.0.1:80".parse().unwrap());
        let told = sticky.value(endpoint, true);
        let told = told.to_str().unwrap();
        assert!(
            told.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"),
            "{told}"
        );
        let cookie = told.split(';').next().unwrap();
        let cookies = format!("a=b; {cookie};c=d");
        let find = |cookies: &str| sticky.find([&b"x=y"[..], cookies.as_bytes()].into_iter());
        assert_eq!(find(&cookies), Some(endpoint));
        assert_eq!(find("oxy_endpoint=; oxy_endpoint2=1"), None);
        assert_eq!(find("oxy_endpoint=nonsense"), None);
    }
}
