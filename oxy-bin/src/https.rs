//! Origins that are spoken to through TLS.

use oxy_core::cluster::{Cluster, ClusterSpec};
use oxy_core::offramp::AnyOfframp;
use oxy_core::{Error, ErrorKind, Result, Target};
use oxy_http::{Protocol, Upstream};
use oxy_tls::{ClientOptions, TlsClient, TlsOfframp};

/// An origin that is spoken to through TLS, in HTTP/2 if it can and in HTTP/1.1 otherwise: `https://HOST[:PORT]`. Its
/// certificate must be by an authority of the platform's. The upstream goes by the origin's host and port.
///
/// # Errors
///
/// `Malformed` for a text that is none; `Tls` where the platform has no authorities.
pub fn https(origin: &str) -> Result<Upstream> {
    https_with(origin, ClientOptions::default())
}

/// [`https`], with options: authorities, a certificate of our own. Its application protocols are those of the origin's
/// version of HTTP.
///
/// # Errors
///
/// As [`https`], and `Tls` for a file that cannot be used.
pub fn https_with(origin: &str, options: ClientOptions) -> Result<Upstream> {
    let bad = || Error::local(ErrorKind::Malformed).context("an origin is https://HOST[:PORT]");
    let rest = origin.strip_prefix("https://").ok_or_else(bad)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let host = authority.rsplit(']').next().unwrap_or(authority);
    let target = if host.contains(':') {
        authority.parse::<Target>()?
    } else {
        // RFC 9110 section 4.2.2.
        format!("{authority}:443").parse()?
    };
    if !matches!(target, Target::Tcp { .. }) {
        return Err(bad());
    }
    let cluster = Cluster::new(ClusterSpec::new(target.to_string(), [target]))?;
    let client = TlsClient::new(with_alpn(options, Protocol::Auto))?;
    Ok(secure(Upstream::new(cluster), client))
}

/// `upstream`, spoken to through TLS.
pub(crate) fn secure(upstream: Upstream, client: TlsClient) -> Upstream {
    upstream.secure(move |offramp| AnyOfframp::new(TlsOfframp::new(offramp, client.clone())))
}

/// `options` that offer what is spoken in `protocol`, unless they say otherwise.
pub(crate) fn with_alpn(mut options: ClientOptions, protocol: Protocol) -> ClientOptions {
    if options.alpn == ClientOptions::default().alpn {
        let offered: &[&str] = match protocol {
            Protocol::Http1 => &["http/1.1"],
            Protocol::Http2 => &["h2"],
            _ => &["h2", "http/1.1"],
        };
        options.alpn = offered.iter().map(|&name| name.into()).collect();
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_with_their_ports() {
        let mut options = ClientOptions::default();
        options.insecure_skip_verify = true;
        for (origin, name) in [
            ("https://a.example", "a.example:443"),
            ("https://a.example:8443/", "a.example:8443"),
            ("https://[::1]", "[::1]:443"),
            ("https://[::1]:1", "[::1]:1"),
        ] {
            let upstream = https_with(origin, options.clone()).unwrap();
            assert_eq!(&**upstream.cluster().name(), name, "{origin}");
        }
        for bad in [
            "a.example",
            "http://a",
            "https://",
            "https://a/b",
            "https://unix:/a",
        ] {
            assert!(https_with(bad, options.clone()).is_err(), "{bad}");
        }
    }
}
