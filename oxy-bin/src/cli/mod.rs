//! The command line.

mod args;
mod exit;
mod one_liner;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::serve::{self, Greeting};
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
            run(plan, Greeting::Tour)
        }
        Some(Command::Run { config }) => run(settings::load(&config), Greeting::Addresses),
        Some(Command::Check { config }) => check(&config),
        Some(Command::Config { what }) => {
            let text = match what {
                Config::Reference => settings::reference::text(),
                Config::Default => DEFAULTS.to_owned(),
            };
            exit::print(&text)
        }
        Some(Command::Reverse(args)) => run(one_liner::reverse(args), Greeting::Addresses),
        Some(Command::Forward(args)) => run(one_liner::forward(args), Greeting::Addresses),
        Some(Command::Tcp(args)) => run(one_liner::tcp(args), Greeting::Addresses),
        Some(Command::Udp(args)) => run(one_liner::udp(args), Greeting::Addresses),
    }
}

fn run(plan: Result<Plan, SettingsError>, greeting: Greeting) -> Result<Exit, Exit> {
    let plan = plan.map_err(|error| Exit::settings(&error))?;
    log_to_stderr();
    match serve::run(plan, greeting) {
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
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,oxy=info,oxy_core=info,oxy_http=info"));
    // It fails only where a program that calls this library has set one up before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
