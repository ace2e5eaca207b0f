//! Pingora with as little of its own as it takes: one thread, one origin, what its guide shows otherwise.
//!
//! `oxy-bench-pingora LISTEN ORIGIN KEPT [--tls CERTIFICATE KEY] [--h2c]`, where `KEPT` is how many
//! connections to the origin it may keep; `--version` says whose proxy it is.

use std::error::Error;
use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// What it is built from, Pingora's version among it.
const LOCKED: &str = include_str!("../Cargo.lock");

/// What is asked for on the command line.
#[derive(Debug)]
struct Arguments {
    listen: String,
    origin: SocketAddr,
    kept: usize,
    tls: Option<(String, String)>,
    h2c: bool,
}

/// Everything goes to one origin.
struct Proxy {
    origin: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--version") {
        println!(
            "pingora {}, rustls with ring",
            version("pingora-proxy").unwrap_or("?")
        );
        return Ok(());
    }
    serve(parse(words).ok_or("LISTEN ORIGIN KEPT [--tls CERTIFICATE KEY] [--h2c]")?)
}

/// The version of a package, which the lock file has in the line after its name.
fn version(package: &str) -> Option<&'static str> {
    let (_, after) = LOCKED.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split('"').next()
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        listen: words.next()?,
        origin: words.next()?.parse().ok()?,
        kept: words.next()?.parse().ok()?,
        tls: None,
        h2c: false,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--tls" => arguments.tls = Some((words.next()?, words.next()?)),
            "--h2c" => arguments.h2c = true,
            _ => return None,
        }
    }
    Some(arguments)
}

/// Until it is killed.
fn serve(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let settings = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: arguments.kept,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let proxy = Proxy {
        origin: arguments.origin,
    };
    let mut service = http_proxy_service(&server.configuration, proxy);
    if arguments.h2c {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        if let Some(logic) = service.app_logic_mut() {
            logic.server_options = Some(options);
        }
    }
    match arguments.tls {
        Some((certificate, key)) => {
            let mut tls = TlsSettings::intermediate(&certificate, &key)?;
            tls.enable_h2();
            service.add_tls_with_settings(&arguments.listen, None, tls);
        }
        None => service.add_tcp(&arguments.listen),
    }
    server.add_service(service);
    server.run_forever()
}
