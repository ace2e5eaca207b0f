//! TLS termination where the program chooses each client's certificate by the name that it asks for.
//! `curl -k --resolve a.example.com:8443:127.0.0.1 https://a.example.com:8443/` goes on as plain HTTP to port 9000.
use std::sync::Arc;

use oxy_core::sniff::ClientHello;
use oxy_core::{Error, ErrorKind, Proxy, Result};
use oxy_tls::{CertifiedKey, Mint, ProxyTls, ServerOptions, TlsServer};

/// A certificate for every name under `example.com`, made when it is first asked for, and none for others.
pub(crate) fn choose(mint: &Mint, hello: &ClientHello) -> Result<Arc<CertifiedKey>> {
    match hello.server_name.as_deref() {
        Some(name) if name.ends_with(".example.com") => mint.leaf(&[name]),
        _ => Err(Error::down(ErrorKind::Denied).context("a name that is not ours")),
    }
}

fn main() -> Result<()> {
    let mint = Mint::new()?;
    let mut options = ServerOptions::default();
    options.alpn = vec!["http/1.1".into()];
    let tls = TlsServer::with_resolver(options, move |hello| choose(&mint, hello))?;
    Proxy::new(())
        .listen("127.0.0.1:8443")
        .tls(tls)
        .to("127.0.0.1:9000")
        .run()
}
