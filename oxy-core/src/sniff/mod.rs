//! Looking at what a flow carries without consuming it.

/// What a TLS client said first (RFC 8446 section 4.1.2), as far as a proxy needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name that it asks for (RFC 6066 section 3), lower-cased.
    pub server_name: Option<String>,
    /// The protocols that it offers (RFC 7301), in its order.
    pub alpn: Vec<Vec<u8>>,
}
