//! How much of a message is read before it is refused.

/// Limits on the head of an HTTP/1.1 message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct HeadLimits {
    /// Most bytes of a head, start line and blank line included; more is refused with 431. Browsers stay below 16 KiB
    /// and origins that set many cookies below 32 KiB, so 64 KiB refuses nobody honest and bounds what a connection
    /// may make the proxy hold.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_head: usize,
    /// Most bytes of a request target; more is refused with 414. RFC 9112 section 3 asks for 8000 at least. No
    /// setting goes beyond 65000, because `http::Uri` cannot hold more.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_target: usize,
    /// Most fields of a head; more is refused with 431. 100 is what Apache allows and four times what browsers send.
    pub max_fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            max_head: 64 * 1024,
            max_target: 8 * 1024,
            max_fields: 100,
        }
    }
}

/// Limits on the framing of a chunked body. The body's own size is limited elsewhere, for every framing alike.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ChunkLimits {
    /// Most bytes of one chunk line (the size and its extensions). Extensions are hardly used: 1 KiB leaves room for a
    /// signature.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_line: u32,
    /// Most bytes of extensions in a whole body. They are thrown away (RFC 9112 section 7.1.1), so that a peer which
    /// sends them without end wastes our time and nothing else.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_extensions: u32,
    /// Most bytes of a trailer section; more is refused with 431. Trailers carry a status and a digest, not data.
    #[cfg_attr(feature = "settings", serde(with = "oxy_core::settings::Size"))]
    pub max_trailers: u32,
    /// Most fields of a trailer section; more is refused with 431.
    pub max_trailer_fields: u32,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            max_line: 1024,
            max_extensions: 64 * 1024,
            max_trailers: 8 * 1024,
            max_trailer_fields: 32,
        }
    }
}
