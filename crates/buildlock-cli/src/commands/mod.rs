//! One file for each thing that the command does.

pub(crate) mod build_supervisor;
pub(crate) mod help;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod lock;
pub(crate) mod migrate;
pub(crate) mod projects;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod sign_in;
pub(crate) mod status;
pub(crate) mod store;
mod table;
mod wait;
mod within;

use serde::Serialize;

use crate::exit::Failure;

/// Prints one JSON value on a line of its own.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(std::io::Error::from)?;
    print_line(&line)
}

/// Prints a line. A reader that has gone away, such as `head`, ends the command quietly.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
