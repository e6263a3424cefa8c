//! `build-supervisor`: what a server starts beside each build, so that the build dies with the server.

use std::process::{Command, ExitCode};

use buildlock_supervise::remote::supervise;

use crate::cli;
use crate::exit::Failure;

pub(crate) fn main(options: cli::BuildSupervisor) -> ExitCode {
    let mut words = options.command.into_iter();
    // The command line has one word at least.
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    match supervise(command) {
        Ok(code) => ExitCode::from(code),
        // Standard output is the command's.
        Err(error) => Failure::from(error).tell(false, false),
    }
}
