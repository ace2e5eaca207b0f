//! The command line.

mod args;
mod exit;
mod one_liner;
mod reload;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::serve::{self, Greeting, Source};
use crate::settings::{self, DEFAULTS, Plan, SettingsError};
use args::{Cli, Command, Config};
use exit::Exit;

/// Does what the process's arguments ask for.
pub fn main() -> ExitCode {
    // Clap ends the process by itself, with 2, when it does not understand the arguments.
    let cli = Cli::parse();
    act(cli).unwrap_or_else(|exit| exit).into()
}

fn act(cli: Cli) -> Result<Exit, Exit> {
    match cli.command {
        None => {
            let plan = settings::parse("defaults", DEFAULTS, []);
            run(plan, Greeting::Tour, Source::Fixed)
        }
        Some(Command::Run { config }) => {
            // What has been read from the standard input cannot be read again.
            let source = match config.to_str() {
                Some("-") => Source::Fixed,
                _ => Source::File(config.clone()),
            };
            run(settings::load(&config), Greeting::Addresses, source)
        }
        Some(Command::Check { config }) => check(&config),
        Some(Command::Config { what }) => {
            let text = match what {
                Config::Reference => settings::reference::text(),
                Config::Default => DEFAULTS.to_owned(),
            };
            exit::print(&text)
        }
        Some(Command::Reload(args)) => reload::reload(&args),
        Some(Command::Reverse(args)) => one_line(one_liner::reverse(args)),
        Some(Command::Forward(args)) => one_line(one_liner::forward(args)),
        Some(Command::Tcp(args)) => one_line(one_liner::tcp(args)),
        Some(Command::Udp(args)) => one_line(one_liner::udp(args)),
    }
}

fn one_line(plan: Result<Plan, SettingsError>) -> Result<Exit, Exit> {
    run(plan, Greeting::Addresses, Source::Fixed)
}

fn run(
    plan: Result<Plan, SettingsError>,
    greeting: Greeting,
    source: Source,
) -> Result<Exit, Exit> {
    let plan = plan.map_err(|error| Exit::settings(&error))?;
    log_to_stderr();
    match serve::run(plan, greeting, source) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Exit::failed(&error)),
    }
}

fn check(config: &Path) -> Result<Exit, Exit> {
    let plan = settings::load(config).map_err(|error| Exit::settings(&error))?;
    let listeners = plan.listeners.len();
    exit::print(&format!(
        "{}: fine, {listeners} listeners\n",
        config.display()
    ))
}

/// Diagnostics of the process itself; what it does for its clients goes to the access log.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,oxy=info,oxy_core=info,oxy_http=info,oxy_tls=info")
    });
    // It fails only where a program that calls this library has set one up before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
