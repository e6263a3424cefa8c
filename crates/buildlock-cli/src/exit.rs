//! How the command ends: its exit codes, and what it says when it fails.

use std::process::ExitCode;

use buildlock::wire::{EndedJson, LockJson};
use buildlock::{Busy, LockError, Loss, PastLease, Place, ProjectId, Refusal, StoreError};
use serde::Serialize;

use crate::cli;
use crate::text;
use crate::typed::Typed;

/// A failure that its user is told of, once, in [`Failure::tell`].
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    problem: Box<Problem>,
    text: String,
}

/// The failure as JSON.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ProjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<LockJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<EndedJson>,
}

pub(crate) const LOCKED: u8 = 75;
pub(crate) const LEASE_LOST: u8 = 79;
const NOT_FOUND: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 69;
const NOT_ALLOWED: u8 = 77;
const WAIT_OVER: u8 = 124;

/// How long the next command is told to wait.
const NEXT_WAIT: &str = "10m";

impl Failure {
    pub(crate) fn new(code: u8, name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let detail = text.lines().next().unwrap_or_default().to_owned();
        Self { code, problem: Box::new(Problem { code: name, detail, ..Problem::default() }), text }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, "INVALID_REQUEST", text)
    }

    pub(crate) fn unreachable(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, name, text)
    }

    pub(crate) fn not_allowed(text: impl Into<String>) -> Self {
        Self::new(NOT_ALLOWED, "FORBIDDEN", text)
    }

    pub(crate) fn locked(project: &ProjectId, busy: &Busy, code: u8) -> Self {
        Self::in_the_way(project, busy, code, None)
    }

    fn in_the_way(project: &ProjectId, busy: &Busy, code: u8, turn: Option<String>) -> Self {
        let text = text::locked(project, busy, turn);
        Self::new(code, "PROJECT_LOCKED", text).about(project).with_lock(Some(busy))
    }

    fn wait_over(project: &ProjectId, place: &Place) -> Self {
        let text = text::wait_over(project, place);
        Self::new(WAIT_OVER, "PROJECT_LOCKED", text).about(project).with_lock(Some(&place.busy))
    }

    pub(crate) fn lost(project: &ProjectId, loss: &Loss) -> Self {
        let text = format!("the lease on {} is lost: {loss}", text::quoted(project));
        let mut failure = Self::new(LEASE_LOST, "LEASE_LOST", text).about(project);
        if let Loss::Ended { lease, now } = loss {
            failure = failure.with_lease(lease).with_lock(now.as_ref());
            if let Some(busy) = now {
                failure.text += &format!("\n\n{}", text::busy(project, busy));
            }
        }
        failure
    }

    /// A failure of a lock request; `locked` is the exit code when the project is locked.
    pub(crate) fn of_lock(project: &ProjectId, error: LockError, locked: u8) -> Self {
        match error {
            LockError::Locked(busy) => {
                let turn = Typed::now().waiting(NEXT_WAIT);
                Self::in_the_way(project, &busy, locked, Some(turn))
            }
            LockError::QueueFull(busy) => {
                let mut failure = Self::locked(project, &busy, locked);
                failure.text += "\n\nThe queue is full: no more can wait. Try again later.";
                failure
            }
            LockError::WaitOver(place) => Self::wait_over(project, &place),
            LockError::Lost(loss) => Self::lost(project, &loss),
            LockError::Refused(refusal) => Self::of_refusal(project, *refusal),
            LockError::Store(error) => error.into(),
            error => Self::new(UNREACHABLE, "STORE_UNAVAILABLE", error.to_string()),
        }
    }

    pub(crate) fn of_refusal(project: &ProjectId, refusal: Refusal) -> Self {
        let name = text::quoted(project);
        match refusal {
            Refusal::Locked(busy) | Refusal::QueueFull(busy) => Self::locked(project, &busy, LOCKED),
            Refusal::Lost { lease, now } => Self::lost(project, &Loss::Ended { lease, now }),
            Refusal::NotHolder(busy) => {
                let text = format!(
                    "the lease with token {} on {name} is not yours: {} holds it\n\n{}",
                    busy.lease.token,
                    text::shown(busy.lease.holder.as_str()),
                    text::busy(project, &busy)
                );
                Self::new(NOT_ALLOWED, "FORBIDDEN", text).about(project).with_lock(Some(&busy))
            }
            Refusal::NeverGranted { token, now } => {
                let mut text = format!("{name} never had a lease with token {token}");
                match &now {
                    Some(busy) => text += &format!("\n\n{}", text::busy(project, busy)),
                    None => text += "; it is idle",
                }
                Self::new(NOT_FOUND, "TOKEN_UNKNOWN", text).about(project).with_lock(now.as_ref())
            }
            Refusal::RequestReused => Self::usage(format!(
                "this request id was used before on {name} with another holder, operation, message or TTL; use a new one"
            ))
            .about(project),
            Refusal::UnknownProject => Self::unknown_project(project),
        }
    }

    pub(crate) fn unknown_project(project: &ProjectId) -> Self {
        let text = format!(
            "there is no project {}; \"buildlock projects\" lists them, and one is made when it is first locked",
            text::quoted(project)
        );
        Self::new(NOT_FOUND, "PROJECT_NOT_FOUND", text).about(project)
    }

    pub(crate) fn unknown_key(number: u64) -> Self {
        let text = format!("there is no key {number}; \"buildlock keys\" lists them");
        Self::new(NOT_FOUND, "KEY_NOT_FOUND", text)
    }

    /// Tells the user, once.
    pub(crate) fn tell(&self, json: bool, to_stdout: bool) -> ExitCode {
        match (json.then(|| serde_json::to_string(&self.problem)), to_stdout) {
            (Some(Ok(problem)), true) => println!("{problem}"),
            (Some(Ok(problem)), false) => eprintln!("{problem}"),
            _ => eprintln!("buildlock: {}", self.text),
        }
        ExitCode::from(self.code)
    }

    fn about(mut self, project: &ProjectId) -> Self {
        self.problem.project = Some(project.clone());
        self
    }

    fn with_lock(mut self, busy: Option<&Busy>) -> Self {
        self.problem.lock = busy.map(LockJson::from);
        self
    }

    fn with_lease(mut self, lease: &PastLease) -> Self {
        self.problem.lease = Some(lease.into());
        self
    }
}

/// A command line that is not understood; or help, or the version, which clap knows as errors too.
pub(crate) fn not_understood(error: &clap::Error) -> ExitCode {
    // Which of them it is decides where clap prints it and the exit code.
    let asked_for_json = cli::asks_for_json().filter(|_| error.use_stderr());
    let Some(to_stdout) = asked_for_json else { error.exit() };
    Failure::usage(on_one_line(&error.to_string())).tell(true, to_stdout)
}

/// What clap says, without the usage and where to find help.
fn on_one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let paragraphs = message.split("\n\n").map(str::trim);
    let of_the_error = paragraphs.take_while(|text| !text.starts_with("Usage:") && !text.starts_with("For more"));
    let words = of_the_error.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    words.collect::<Vec<_>>().join("; ")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadUrl { .. } => Self::usage(error.to_string()),
            StoreError::NotAllowed { .. } => Self::not_allowed(error.to_string()),
            error => Self::new(UNREACHABLE, "STORE_UNAVAILABLE", error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(NOT_FOUND, "IO_ERROR", error.to_string())
    }
}
