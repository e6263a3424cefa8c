//! `completions` and `man`.

use std::fs;
use std::io::{self, stdout};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::exit::Failure;
use crate::manual;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "buildlock", &mut script);
    print(&script)
}

pub(crate) fn man(to: Option<&Path>) -> Result<(), Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    match to {
        None => print(&page(&command)?),
        Some(folder) => write_pages(&command, folder),
    }
}

/// The pages of a command and of those below it.
fn write_pages(command: &Command, folder: &Path) -> Result<(), Failure> {
    fs::write(folder.join(Man::new(command.clone()).get_filename()), page(command)?)?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| write_pages(below, folder))
}

/// A page in the order that man-pages(7) asks for.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let ending = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for (name, title) in [("Exit codes", "EXIT STATUS"), ("Examples", "EXAMPLES")] {
        for (_, lines) in manual::parts(&ending).filter(|(part, _)| *part == name) {
            let mut section = Roff::new();
            section.control("SH", [title]);
            for (what, means) in lines {
                section.control("TP", []).text([bold(what)]).text([roman(means)]);
            }
            section.to_writer(&mut page)?;
        }
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match io::Write::write_all(&mut stdout(), text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
