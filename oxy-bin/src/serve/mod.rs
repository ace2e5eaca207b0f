//! From a plan to proxies that run.

mod app;
mod authority;
mod descriptors;
mod greeting;
mod identity;
mod reloads;
mod stage;
mod switch;
mod tender;
mod vacant;
mod ways;

use std::path::PathBuf;
use std::sync::Arc;

use oxy_core::{Result, Running, Server, Signals};

use crate::access_log::AccessLog;
use crate::admin;
use crate::metrics::{self, Metrics, Observed};
use crate::settings::{self, ADMIN, Plan, story};
pub(crate) use greeting::Greeting;
use greeting::{Place, What};
pub(crate) use reloads::Reloads;
use stage::Stage;

/// Where settings come from, and can be read again.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// Nowhere: only certificates can.
    Fixed,
}

/// Runs `plan` until a signal, and again what `source` says whenever it is asked to.
pub(crate) fn run(plan: Plan, greeting: Greeting, source: Source) -> Result<()> {
    let signals = Signals::catch()?.with_hangup()?;
    descriptors::raise_limit();
    if let Some(address) = &plan.admin {
        vacant::check(address)?;
    }
    let threads = metrics::shards(plan.workers);
    let (log, writer) = AccessLog::open(&plan.access_log, threads)?.unzip();
    let counts = log.as_ref().map(|log| log.counts().clone());
    let (observed, reloads) = (Arc::new(Observed::default()), Arc::new(Reloads::default()));
    let mut server = Server::new().drain_timeout(plan.drain_timeout);
    if let Some(workers) = plan.workers {
        server = server.workers(workers);
    }
    let mut stage = Stage::new(threads, log, plan.admin.as_ref().map(|_| observed.clone()));
    let running = server.start()?;
    stage.apply(plan.clone(), &running)?;
    let admin = match plan.admin.clone() {
        Some(listen) => {
            let metrics = Metrics::new(observed, reloads.clone(), counts);
            Some(admin::start(listen, metrics, &running)?)
        }
        None => None,
    };
    let places = places(&running, &plan, &stage, admin.as_ref());
    greeting.say(&places, &plan.access_log);
    let outcome = signals.serve_with(running, move |running| {
        reloads.one(|| reload(&mut stage, &plan, &source, running));
    });
    // It has nothing left to do; whether its own clients were cut is nobody's concern.
    if let Some(admin) = admin {
        let _ = admin.stop();
    }
    if let Some(writer) = writer {
        writer.finish();
    }
    outcome
}

/// Reads the settings again and puts them in force, all or nothing; `first` are those that it was started with. Says what
/// has changed, or what is wrong.
fn reload(
    stage: &mut Stage,
    first: &Plan,
    source: &Source,
    running: &Running,
) -> std::result::Result<String, String> {
    let plan = match source {
        Source::File(path) => settings::load(path).map_err(|error| {
            tracing::error!("not reloaded: {error}");
            error.to_string()
        })?,
        Source::Fixed => first.clone(),
    };
    let mut late = Vec::new();
    for (name, is_other) in [
        ("workers", plan.workers != first.workers),
        ("drain_timeout", plan.drain_timeout != first.drain_timeout),
        ("admin", plan.admin != first.admin),
        ("access_log", plan.access_log != first.access_log),
    ] {
        if is_other {
            late.push(name);
        }
    }
    match stage.apply(plan, running) {
        Ok(mut summary) => {
            tracing::info!("reloaded: {summary}");
            if !late.is_empty() {
                let late = late.join(", ");
                let ignored = format!(
                    "only a restart changes {late}: what the file says of it is not in force"
                );
                tracing::warn!("{ignored}");
                summary = format!("{summary}\nwarning: {ignored}");
            }
            Ok(summary)
        }
        Err(error) => {
            let story = story(&error);
            tracing::error!("not reloaded: {story}");
            Err(story)
        }
    }
}

fn places(running: &Running, plan: &Plan, stage: &Stage, admin: Option<&Running>) -> Vec<Place> {
    let mut places = Vec::new();
    let addresses = running.addresses();
    for listener in &plan.listeners {
        for (of, address) in &addresses {
            if **of == *listener.name {
                places.push(Place {
                    name: listener.name.clone(),
                    what: What::of(listener),
                    address: address.clone(),
                    authority: stage.authority(&listener.name),
                });
            }
        }
    }
    let admin = admin.into_iter().flat_map(Running::addresses);
    places.extend(admin.map(|(_, address)| Place {
        name: ADMIN.into(),
        what: What::Admin,
        address,
        authority: None,
    }));
    places
}
