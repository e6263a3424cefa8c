//! `completions` and `man`.

use std::io::{self, stdout};
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::Failure;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "buildlock", &mut script);
    print(&script)
}

pub(crate) fn man(to: Option<&Path>) -> Result<(), Failure> {
    if let Some(folder) = to {
        return Ok(clap_mangen::generate_to(Cli::command(), folder)?);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match io::Write::write_all(&mut stdout(), text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
