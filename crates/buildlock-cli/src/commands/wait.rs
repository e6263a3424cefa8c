//! Tells a waiter where it stands: a line that changes on a terminal, a line for each change
//! elsewhere, JSON where it was asked for.

use std::io::stderr;
use std::thread;
use std::time::Duration;

use buildlock::wire::{LeaseJson, LockJson};
use buildlock::{LeaseGuard, Place, ProjectId, Timestamp};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::Pid;
use rustix::termios::tcgetpgrp;
use serde::Serialize;

use crate::cli::Global;
use crate::text;

pub(super) enum Waiting {
    Silent,
    Json,
    Lines { told: Option<(usize, buildlock::Token)> },
    Spinner { job: Pid, bar: Option<ProgressBar> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WaitingJson<'a> {
    event: &'static str,
    project: &'a ProjectId,
    position: usize,
    lock: LockJson,
}

#[derive(Serialize)]
struct GrantedJson {
    event: &'static str,
    #[serde(flatten)]
    lease: LeaseJson,
}

impl Waiting {
    /// For a waiter that belongs to this process group, as the shell knows it.
    pub(super) fn new(global: &Global, job: Pid) -> Self {
        match (global.quiet, global.json) {
            (true, _) => Waiting::Silent,
            (false, true) => Waiting::Json,
            (false, false) if !ProgressDrawTarget::stderr().is_hidden() => Waiting::Spinner { job, bar: None },
            (false, false) => Waiting::Lines { told: None },
        }
    }

    pub(super) fn tell(&mut self, project: &ProjectId, place: &Place, now: Timestamp) {
        match self {
            Waiting::Silent => {}
            Waiting::Json => {
                let lock = LockJson::from(&place.busy);
                let waiting = WaitingJson { event: "waiting", project, position: place.position, lock };
                // These types always serialize: their maps have string keys.
                eprintln!("{}", serde_json::to_string(&waiting).unwrap_or_default());
            }
            Waiting::Lines { told } => {
                let news = (place.position, place.busy.lease.token);
                if told.replace(news) != Some(news) {
                    eprintln!("buildlock: {}", text::place(project, place, now));
                }
            }
            Waiting::Spinner { job, bar } => {
                let bar = bar.get_or_insert_with(|| spinner(*job));
                if has_terminal(*job) {
                    bar.set_message(text::place(project, place, now));
                }
            }
        }
    }
}

impl Waiting {
    /// Tells somebody who has waited that it is their turn.
    pub(super) fn granted(self, project: &ProjectId, lease: &LeaseGuard) {
        let token = lease.token;
        match &self {
            Waiting::Json => {
                let granted = GrantedJson { event: "granted", lease: LeaseJson::new(project, lease) };
                eprintln!("{}", serde_json::to_string(&granted).unwrap_or_default());
            }
            Waiting::Lines { told: Some(_) } => {
                eprintln!("buildlock: it is your turn: {} is yours (token {token})", text::quoted(project));
            }
            Waiting::Spinner { bar: Some(bar), .. } => {
                bar.finish_and_clear();
                eprintln!("buildlock: it is your turn: {} is yours (token {token})", text::quoted(project));
            }
            Waiting::Silent | Waiting::Lines { told: None } | Waiting::Spinner { bar: None, .. } => {}
        }
    }
}

/// A spinner that turns as long as the job has the terminal: when it is stopped or in the background
/// that line is the shell's.
fn spinner(job: Pid) -> ProgressBar {
    const TURN_EVERY: Duration = Duration::from_millis(120);
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    let turning = bar.downgrade();
    thread::spawn(move || {
        while let Some(bar) = turning.upgrade().filter(|bar| !bar.is_finished()) {
            if has_terminal(job) {
                bar.tick();
            }
            thread::sleep(TURN_EVERY);
        }
    });
    bar
}

fn has_terminal(job: Pid) -> bool {
    tcgetpgrp(stderr()) == Ok(job)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Waiting::Spinner { bar: Some(bar), .. } = self {
            bar.finish_and_clear();
        }
    }
}
