//! TLS for the Oxy proxy framework, by rustls and aws-lc-rs.
//!
//! [`TlsServer`] lifts streams that come in to their plaintext, which is a flow again; [`TlsOfframp`] goes out through TLS.
//! [`CertStore`] holds certificates and reads their files again while the server runs; `Mint` (feature `mint`) makes
//! certificates.
//!
//! ```no_run
//! use oxy_core::{Proxy, Result};
//! use oxy_tls::{CertFiles, ProxyTls, ServerOptions, TlsServer};
//!
//! fn main() -> Result<()> {
//!     let mut options = ServerOptions::default();
//!     options.certificates = vec![CertFiles::new("cert.pem", "key.pem")];
//!     let tls = TlsServer::new(options)?;
//!     Proxy::new(()).listen("127.0.0.1:8443").tls(tls).to("127.0.0.1:9000").run()
//! }
//! ```

mod certs;
mod client;
mod facts;
mod handshake;
mod io;
#[cfg(feature = "mint")]
mod mint;
mod offramp;
mod provider;
mod proxy;
mod seal;
mod server;
mod session;
mod stats;

pub use certs::{CertFiles, CertStore};
pub use client::{ClientOptions, TlsClient};
pub use io::TlsIo;
#[cfg(feature = "mint")]
pub use mint::Mint;
pub use offramp::TlsOfframp;
pub use provider::TlsVersion;
pub use proxy::ProxyTls;
pub use rustls::sign::CertifiedKey;
pub use server::{ClientAuth, ClientAuthMode, ServerOptions, TlsServer};
pub use stats::{Outcome, Stats};
