//! The field names that a proxy acts upon.

use http::header::HeaderName;

use super::token;

macro_rules! known {
    ($($len:literal: $($variant:ident $lower:literal $wire:literal),+;)+) => {
        /// The field names that a proxy acts upon; all others are [`Known::Other`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known {
            /// A field that the proxy only passes on.
            #[default]
            Other,
            $($(#[doc = concat!("`", $wire, "`.")] $variant,)+)+
        }

        impl Known {
            /// Which of them `name`, a token, is, whatever its case (RFC 9110 section 5.1).
            pub fn of(name: &[u8]) -> Self {
                match name.len() {
                    $($len => {
                        $(if token::is_word(name, $lower.as_bytes()) {
                            return Self::$variant;
                        })+
                        Self::Other
                    })+
                    _ => Self::Other,
                }
            }

            /// The name as it is written to an HTTP/1.1 connection; empty for [`Known::Other`].
            pub const fn wire(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $($(Self::$variant => $wire,)+)+
                }
            }

            /// How a line with the name begins on an HTTP/1.1 connection.
            pub(crate) const fn opening(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $($(Self::$variant => concat!($wire, ": "),)+)+
                }
            }

            /// The name as the `http` crate knows it; none for [`Known::Other`].
            pub const fn header_name(self) -> Option<HeaderName> {
                match self {
                    Self::Other => None,
                    $($(Self::$variant => Some(HeaderName::from_static($lower)),)+)+
                }
            }
        }

        #[cfg(test)]
        const ALL: &[(Known, &str)] = &[$($((Known::$variant, $lower),)+)+];
    };
}

known! {
    2: Te "te" "TE";
    3: Via "via" "Via";
    4: Host "host" "Host", Date "date" "Date";
    6: Expect "expect" "Expect", Server "server" "Server";
    7: Trailer "trailer" "Trailer", Upgrade "upgrade" "Upgrade";
    9: Forwarded "forwarded" "Forwarded";
    10: Connection "connection" "Connection", EarlyData "early-data" "Early-Data", KeepAlive "keep-alive" "Keep-Alive";
    12: MaxForwards "max-forwards" "Max-Forwards";
    13: Authorization "authorization" "Authorization";
    14: ContentLength "content-length" "Content-Length", Http2Settings "http2-settings" "HTTP2-Settings";
    15: XForwardedFor "x-forwarded-for" "X-Forwarded-For";
    16: ProxyConnection "proxy-connection" "Proxy-Connection", XForwardedHost "x-forwarded-host" "X-Forwarded-Host";
    17: TransferEncoding "transfer-encoding" "Transfer-Encoding", XForwardedProto "x-forwarded-proto" "X-Forwarded-Proto";
    18: ProxyAuthenticate "proxy-authenticate" "Proxy-Authenticate";
    19: ProxyAuthorization "proxy-authorization" "Proxy-Authorization";
    25: ProxyAuthenticationInfo "proxy-authentication-info" "Proxy-Authentication-Info";
}

impl Known {
    /// Whether it is about one connection and goes no further (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2), whoever sends it.
    #[inline]
    pub(crate) const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Whether a Connection field may not have this one removed. RFC 9110 section 7.6.1 forbids senders to name a
    /// field that is meant for all recipients; these are the ones with which a client could otherwise change the
    /// message's framing, its routing, or what the proxies on its way have said about it.
    pub const fn is_protected(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Expect
                | Self::MaxForwards
                | Self::Via
                | Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedProto
                | Self::Date
        )
    }
}

/// Which known fields a head has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// Notes `known`.
    pub const fn add(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }

    /// Whether `known` was noted.
    pub const fn has(self, known: Known) -> bool {
        self.0 & (1 << known as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for &(known, name) in ALL {
            assert_eq!(Known::of(name.as_bytes()), known);
            assert_eq!(Known::of(name.to_uppercase().as_bytes()), known);
            assert_eq!(Known::of(known.wire().as_bytes()), known);
            assert_eq!(known.opening(), format!("{}: ", known.wire()));
            assert_eq!(known.header_name().unwrap().as_str(), name);
            assert_eq!(Known::of(format!("{name}x").as_bytes()), Known::Other);
        }
        assert_eq!(Known::of(b""), Known::Other);
        assert_eq!(Known::of(b"x-foo"), Known::Other);
        assert!((ALL.len() as u32) < u64::BITS);
    }

    #[test]
    fn seen_is_a_set() {
        let mut seen = Seen::default();
        seen.add(Known::Via);
        assert!(seen.has(Known::Via) && !seen.has(Known::Host));
    }
}
