//! (d) What it costs to run a command under a lock: `buildlock run`, beside flock.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;
use crate::load::Times;
use crate::table::{Limit, Numbers, Target, millis};

pub(crate) fn run(disk: &Disk, quick: bool) -> Result<Vec<Target>> {
    let runs = if quick { 20 } else { 200 };
    println!("## (d) A command under a lock\n");
    let Some(buildlock) = binary()? else {
        println!("There is no buildlock beside this benchmark; build it: cargo build --release -p buildlock-cli\n");
        return Ok(Vec::new());
    };
    let folder = disk.folder()?;
    let mut store = OsString::from("sqlite:");
    store.push(folder.path().join("locks.db"));
    let mut ours = Command::new(buildlock);
    ours.args(["run", "bench", "--store"]).arg(store).args(["--", "true"]);
    let mut flock = Command::new("flock");
    flock.arg(folder.path().join("lock")).arg("true");
    let mut bare = Command::new("true");

    let mut times = [Times::default(), Times::default(), Times::default()];
    for number in 0..=runs {
        for (command, times) in [&mut ours, &mut flock, &mut bare].into_iter().zip(&mut times) {
            let took = time(command)?;
            // The first run makes the files, and brings the programs into memory.
            if number > 0 {
                times.add(took);
            }
        }
        if number % 50 == 0 {
            eprintln!("command: {number} of {runs} runs");
        }
    }
    let mut table = Numbers::new(&["command", "p50", "p99"]);
    for (name, times) in ["buildlock run -- true", "flock FILE true", "true"].into_iter().zip(&times) {
        table.row([name.to_owned(), millis(times.at(0.5)), millis(times.at(0.99))]);
    }
    table.print();
    let over_flock = times[0].at(0.5).as_secs_f64() - times[1].at(0.5).as_secs_f64();
    Ok(vec![Target { what: "p50 over flock", limit: Limit::AtMost(10.0), reached: over_flock * 1e3, unit: " ms" }])
}

/// The command's binary beside this one, built anew if cargo runs this.
pub(crate) fn binary() -> Result<Option<PathBuf>> {
    if let Some(cargo) = env::var_os("CARGO") {
        eprintln!("building buildlock");
        // If it cannot be built, there may be one that was built before.
        let _ = Command::new(cargo).args(["build", "--quiet", "--release", "-p", "buildlock-cli"]).status()?;
    }
    let buildlock = env::current_exe()?.with_file_name("buildlock");
    Ok(buildlock.exists().then_some(buildlock))
}

fn time(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    let took = begun.elapsed();
    ensure!(status.success(), "{:?} failed: {status}", command.get_program());
    Ok(took)
}
