//! Measures buildlock side by side with flock and Redis: `docs/benchmarks.md` says what and how.

mod command;
mod cycles;
mod disk;
mod handoff;
mod http;
mod load;
mod million;
mod postgres;
mod redis;
mod store;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::disk::Disk;
use crate::table::print_targets;

/// Measures buildlock side by side with flock and Redis.
#[derive(Parser)]
struct Options {
    /// Which benchmarks to run; all if none is named
    which: Vec<Which>,
    /// Run for a shorter time and with fewer projects: to see whether it works, not for numbers
    #[arg(long)]
    quick: bool,
    /// Where to keep the files: a folder on a real disk
    #[arg(long, default_value = "target")]
    folder: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// (a) Cycles of lock and unlock, beside Redis
    Cycles,
    /// (b) From a release to the next waiter's lease
    Handoff,
    /// (c) A million projects held at once
    Million,
    /// (d) `buildlock run -- true`, beside flock
    Command,
    /// Cycles over HTTP, beside Redis; idle streams, the start, memory
    Http,
    /// Cycles over PostgreSQL, beside the home-made way and advisory locks
    Postgres,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    allow_many_connections()?;
    let disk = Disk::at(&options.folder)?;
    println!("Files are on {}; {} processors.\n", disk.file_system()?, std::thread::available_parallelism()?);
    let which = if options.which.is_empty() { Which::value_variants() } else { &options.which };
    for benchmark in which {
        let targets = match benchmark {
            Which::Cycles => cycles::run(&disk, options.quick).await?,
            Which::Handoff => handoff::run(&disk, options.quick).await?,
            Which::Million => million::run(&disk, options.quick).await?,
            Which::Command => command::run(&disk, options.quick)?,
            Which::Http => http::run(&disk, options.quick).await?,
            Which::Postgres => postgres::run(&disk, options.quick).await?,
        };
        print_targets(&targets);
    }
    Ok(())
}

/// Every caller of Redis has a connection, which is a file to both sides.
fn allow_many_connections() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
