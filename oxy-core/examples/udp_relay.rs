//! Relays UDP sessions to a server, each client by a socket of its own.
//!
//! `cargo run -p oxy-core --example udp_relay udp:127.0.0.1:5300 1.1.1.1:53`, and `dig @127.0.0.1 -p 5300 example.com`;
//! or with `nc -u -l 5301` as the server (`127.0.0.1:5301`), `nc -u 127.0.0.1 5300`.
use oxy_core::{Error, FlowHooks, FlowInfo, Proxy, Result, Summary};

pub(crate) struct Log;

impl FlowHooks for Log {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}

    fn on_close(&self, (): &(), end: &Summary) {
        let (peer, how) = (end.info.peer, end.ended.name());
        println!("{peer:?} {how}: {} in, {} out", end.received, end.sent);
    }
}

pub(crate) fn proxy(listen: &str, to: &str) -> Proxy<Log> {
    Proxy::new(Log).listen(listen).to(to)
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().collect();
    let [_, listen, to] = &args[..] else {
        return Err(Error::app("usage: udp_relay udp:IP:PORT HOST:PORT"));
    };
    proxy(listen, to).run()
}
