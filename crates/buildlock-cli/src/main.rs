//! The command `buildlock`. No rule of the lock is written here: it asks a store, and tells people
//! and scripts what it says.

mod cli;
mod commands;
mod exit;
mod manual;
mod place;
mod text;
mod typed;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Cli, Command, LogFormat};
use crate::commands::{build_supervisor, run};
use crate::exit::Failure;

fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::not_understood(&error),
    };
    tell_of_trouble(&global, &command);
    let result = match command {
        // What runs a command is two processes, and stays on one thread in each.
        Command::Run(options) => return run::main(&global, options),
        Command::BuildSupervisor(options) => return build_supervisor::main(options),
        Command::Serve(options) => commands::serve::main(&global, options),
        Command::Completions { shell } => commands::help::completions(shell),
        Command::Man { to } => commands::help::man(to.as_deref()),
        command => in_runtime(&global, command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(global.json, true),
    }
}

fn in_runtime(global: &cli::Global, command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Lock(options) => commands::lock::lock(global, options).await,
            Command::Renew(options) => commands::lock::renew(global, options).await,
            Command::Unlock(options) => commands::lock::unlock(global, options).await,
            Command::ForceUnlock(options) => commands::lock::force_unlock(global, options).await,
            Command::Status(options) => commands::status::status(global, options).await,
            Command::History(options) => commands::history::history(global, options).await,
            Command::Projects(options) => commands::projects::projects(global, options).await,
            Command::SignIn => commands::sign_in::sign_in(global).await,
            Command::Keys(options) => commands::keys::keys(global, options).await,
            Command::Migrate(options) => commands::migrate::migrate(global, options).await,
            Command::Doctor => commands::store::doctor(global).await,
            Command::Run(_)
            | Command::Serve(_)
            | Command::BuildSupervisor(_)
            | Command::Completions { .. }
            | Command::Man { .. } => Ok(()),
        }
    })
}

/// Warnings of the library go to standard error, and what a server does; RUST_LOG asks for more.
fn tell_of_trouble(global: &cli::Global, command: &Command) {
    let level = match command {
        _ if global.quiet => LevelFilter::ERROR,
        Command::Serve(_) => LevelFilter::INFO,
        _ => LevelFilter::WARN,
    };
    let wanted = std::env::var("RUST_LOG").ok().and_then(|wanted| wanted.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(level));
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match command {
        Command::Serve(cli::Serve { log_format: LogFormat::Json, .. }) => {
            log.json().flatten_event(true).finish().with(filter).init();
        }
        Command::Serve(_) => log.finish().with(filter).init(),
        _ => log.without_time().finish().with(filter).init(),
    }
}
