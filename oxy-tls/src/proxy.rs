//! TLS in a [`Proxy`].

use oxy_core::{FlowHooks, Proxy};

use crate::server::TlsServer;

/// Adds TLS to a [`Proxy`].
pub trait ProxyTls {
    /// Streams that come in are TLS, unless a hook decides otherwise; what is done with them is done with their plaintext.
    #[must_use]
    fn tls(self, tls: TlsServer) -> Self;
}

impl<A: FlowHooks> ProxyTls for Proxy<A> {
    fn tls(self, tls: TlsServer) -> Self {
        self.lift(tls)
    }
}
