//! A reverse proxy in a few lines.
//!
//! `cargo run -p oxy-http --example reverse -- 127.0.0.1:8080 127.0.0.1:9000`, then `curl http://127.0.0.1:8080/`.
use oxy_core::Proxy;
use oxy_http::{Http, HttpProxy};

fn main() -> oxy_core::Result<()> {
    let mut args = std::env::args().skip(1);
    let (listen, to) = (
        args.next().unwrap_or_default(),
        args.next().unwrap_or_default(),
    );
    Proxy::new(())
        .workers(1)
        .listen(listen.as_str())
        .http(Http::new(()).to(to))
        .run()
}
