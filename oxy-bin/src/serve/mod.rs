//! From a plan to proxies that run.

mod descriptors;
mod greeting;
mod memory;
mod vacant;
mod watch;

use std::sync::Arc;

use oxy_core::{FlowHooks, Proxy, Result, Running, Server, Signals, Target};
use oxy_http::{Http, HttpHooks, HttpProxy};

use crate::access_log::AccessLog;
use crate::metrics::{self, Books, Metrics};
use crate::settings::{ADMIN, Kind, Listener, Plan, To};
use crate::{admin, origin};
pub(crate) use greeting::Greeting;
use greeting::{Place, What};
use watch::Watch;

/// Runs `plan` until a signal.
pub(crate) fn run(plan: Plan, greeting: Greeting) -> Result<()> {
    let signals = Signals::catch()?;
    descriptors::raise_limit();
    let listening = plan.listeners.iter().flat_map(|listener| &listener.listen);
    for address in listening.chain(&plan.admin) {
        vacant::check(address)?;
    }
    // What is behind a listener must outlive it, so that what has begun can end.
    let origin = plan.needs_builtin().then(origin::start).transpose()?;
    let (origin, builtin) = origin.unzip();
    let (log, writer) = AccessLog::open(&plan.access_log)?.unzip();

    let mut server = Server::new().drain_timeout(plan.drain_timeout);
    if let Some(workers) = plan.workers {
        server = server.workers(workers);
    }
    let threads = metrics::shards(plan.workers);
    let (mut all_books, mut kinds) = (Vec::new(), Vec::new());
    for listener in plan.listeners {
        kinds.push((listener.name.clone(), What::from(&listener.kind)));
        let is_http = !matches!(listener.kind, Kind::Relay(_));
        let books = plan.admin.as_ref().map(|_| {
            let books = Arc::new(Books::new(&listener.name, is_http, threads));
            all_books.push(books.clone());
            books
        });
        server = if books.is_none() && log.is_none() {
            // Nobody looks: hooks that do nothing cost nothing.
            server.with(proxy(listener, (), builtin.as_ref()))
        } else {
            let watch = Watch {
                books,
                log: log.clone(),
                is_http,
            };
            server.with(proxy(listener, watch, builtin.as_ref()))
        };
    }
    let running = server.start()?;
    let metrics = Metrics::new(all_books, log.map(|log| log.counts().clone()));
    let admin = match plan.admin {
        Some(listen) => Some(admin::start(listen, metrics, &running)?),
        None => None,
    };

    greeting.say(&places(&running, &kinds, admin.as_ref()), &plan.access_log);
    let trimming = memory::trim_after_bursts(running.workers().to_vec());
    let outcome = signals.serve_until(running);
    drop(trimming);
    // They have nothing left to do; whether their own clients were cut is nobody's concern.
    for helper in admin.into_iter().chain(origin) {
        let _ = helper.stop();
    }
    if let Some(writer) = writer {
        writer.finish();
    }
    outcome
}

/// What `listener` is, with `app` for its hooks.
fn proxy<A>(listener: Listener, app: A, builtin: Option<&Target>) -> Proxy<A>
where
    A: FlowHooks + HttpHooks<A::Conn> + Clone,
{
    let Listener {
        name,
        listen,
        kind,
        stream,
        datagram,
        relay,
        egress,
        dial,
        resolve,
    } = listener;
    let mut proxy = Proxy::new(app.clone())
        .name(&name)
        .stream_options(stream)
        .udp_options(datagram)
        .relay(relay)
        .egress(egress, dial, resolve);
    for address in listen {
        proxy = proxy.listen(address);
    }
    match kind {
        Kind::Reverse(to, options) => {
            let http = Http::new(app).options(*options);
            proxy.http(targets(to, builtin).fold(http, Http::to))
        }
        Kind::Forward(options) => proxy.http(Http::new(app).forward().options(*options)),
        Kind::Relay(to) => targets(to, builtin).fold(proxy, Proxy::to),
    }
}

fn targets(to: Vec<To>, builtin: Option<&Target>) -> impl Iterator<Item = Target> {
    to.into_iter().filter_map(move |to| match to {
        To::Target(target) => Some(target),
        To::Builtin => builtin.cloned(),
    })
}

fn places(running: &Running, kinds: &[(String, What)], admin: Option<&Running>) -> Vec<Place> {
    let mut places = Vec::new();
    let addresses = running.addresses();
    for (name, what) in kinds {
        for (of, address) in &addresses {
            if **of == **name {
                places.push(Place {
                    name: name.clone(),
                    what: *what,
                    address: address.clone(),
                });
            }
        }
    }
    let admin = admin.into_iter().flat_map(Running::addresses);
    places.extend(admin.map(|(_, address)| Place {
        name: ADMIN.into(),
        what: What::Admin,
        address,
    }));
    places
}
