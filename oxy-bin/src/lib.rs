//! The Oxy proxy framework under one name, and what its binary adds to it.
//!
//! ```no_run
//! use oxy::prelude::*;
//!
//! fn main() -> oxy::Result<()> {
//!     Proxy::new(()).listen("127.0.0.1:8080").http(Http::new(()).to("127.0.0.1:9000")).run()
//! }
//! ```
//!
//! With TLS on both sides:
//!
//! ```no_run
//! use oxy::prelude::*;
//!
//! fn main() -> oxy::Result<()> {
//!     let mut options = ServerOptions::default();
//!     options.certificates = vec![CertFiles::new("cert.pem", "key.pem")];
//!     Proxy::new(())
//!         .listen("127.0.0.1:8443")
//!         .tls(TlsServer::new(options)?)
//!         .http(Http::new(()).upstream(oxy::https("https://origin.example")?))
//!         .run()
//! }
//! ```
//!
//! Programs that bring their own command line do without the feature `cli`, and then depend on the framework alone.

mod https;
pub mod prelude;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod settings;

#[cfg(feature = "cli")]
mod access_log;
#[cfg(feature = "cli")]
mod admin;
#[cfg(feature = "cli")]
mod metrics;
#[cfg(feature = "cli")]
mod origin;
#[cfg(feature = "cli")]
mod serve;

pub use https::{https, https_with};
pub use oxy_core as core;
pub use oxy_core::{Error, ErrorKind, Result};
pub use oxy_http as http;
pub use oxy_tls as tls;
pub use oxy_tunnel as tunnel;
