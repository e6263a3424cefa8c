//! `run`: a command under a project's lock, which dies with its lease (rule 14).

use std::process::{Command, ExitCode};
use std::time::Duration;

use buildlock::{LeaseGuard, LockError, LockRequest, LockService, Loss, ProjectId, RequestId, Wait, since_boot, wire};
use buildlock_supervise::{Child, Ended, Link, Listening, Message, Role, StopReport, stand_in_front};

use super::wait::Waiting;
use super::within::Within;
use crate::cli::{self, Global};
use crate::exit::{self, Failure};
use crate::{place, text};

/// How long a build whose lease somebody ended may take to stop: another may have been granted
/// already, so it is short.
const GRACE_WHEN_ENDED: Duration = Duration::from_secs(2);

/// How long processes that a build left behind may take to stop.
const GRACE_WHEN_LEFT_BEHIND: Duration = Duration::from_secs(5);

pub(crate) fn main(global: &Global, options: cli::Run) -> ExitCode {
    let result = match stand_in_front() {
        Ok(Role::Front(code)) => return ExitCode::from(code),
        Ok(Role::Supervisor(link)) => supervise(global, options, link),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // Standard output is the command's.
        Err(failure) => failure.tell(global.json, false),
    }
}

fn supervise(global: &Global, options: cli::Run, link: Link) -> Result<u8, Failure> {
    // On this thread, because the child dies with the thread that starts it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut front = link.listen()?;
        let store = place::absolute(&place::store_url(global)?);
        let service = LockService::with_store(place::open(global).await?);
        let within = Within::from_env();
        within.refuse(service.store(), &store, &options.project, options.request.conflict_exit_code).await?;
        let lease = lock(global, &options, &service, &mut front).await?;
        let command = command(&options, &lease, store, within)?;
        build(global, &options.project, command, lease, &mut front).await
    })
}

async fn lock(
    global: &Global,
    options: &cli::Run,
    service: &LockService,
    front: &mut Listening,
) -> Result<LeaseGuard, Failure> {
    let cli::Run { project, request, .. } = options;
    let lock_request = LockRequest {
        id: RequestId::fresh(),
        holder: place::holder(global, service.store())?,
        operation: request.operation.clone(),
        message: request.message.clone(),
        ttl: request.ttl,
    };
    let wait = request.wait.unwrap_or(Wait::NONE);
    let mut waiting = Waiting::new(global, front.group());
    let lock = service.lock_telling(project, lock_request, wait, |place, now| waiting.tell(project, place, now));
    let lease = tokio::select! {
        lease = lock => lease.map_err(|error| Failure::of_lock(project, error, request.conflict_exit_code))?,
        code = told_to_end(front) => {
            return Err(Failure::new(code, "INTERRUPTED", "interrupted; the place in the queue is given up"));
        }
    };
    waiting.granted(project, &lease);
    Ok(lease)
}

/// Resolves with an exit code when whoever waits for the lock is told to end.
async fn told_to_end(front: &mut Listening) -> u8 {
    use rustix::process::Signal;
    loop {
        match front.next().await {
            Message::FrontDied => return 128 + Signal::KILL.as_raw() as u8,
            Message::FromTerminal(signal) | Message::FromProcess(signal, _)
                if [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal) =>
            {
                return 128 + signal.as_raw() as u8;
            }
            Message::FromTerminal(_) | Message::FromProcess(..) => {}
        }
    }
}

fn command(options: &cli::Run, lease: &LeaseGuard, store: String, within: Within) -> Result<Command, Failure> {
    let [program, arguments @ ..] = options.command.as_slice() else {
        return Err(Failure::usage("there is no command to run"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("BUILDLOCK_PROJECT", options.project.as_str())
        .env("BUILDLOCK_OPERATION", lease.operation.as_str())
        .env("BUILDLOCK_TOKEN", lease.token.to_string())
        .env("BUILDLOCK_EXPIRES_AT", wire::time(lease.expires_at).to_string())
        .env("BUILDLOCK_HOLDER", lease.holder.as_str())
        .env("BUILDLOCK_STORE", &store);
    let (name, value) = within.and(store, &options.project, lease.token)?;
    command.env(name, value);
    Ok(command)
}

enum End {
    Child(Ended),
    Lost(Box<Loss>),
    FrontDied,
}

async fn build(
    global: &Global,
    project: &ProjectId,
    command: Command,
    lease: LeaseGuard,
    front: &mut Listening,
) -> Result<u8, Failure> {
    let mut child = match Child::spawn(command, front) {
        Ok(child) => child,
        Err(error) => {
            unlock(project, lease).await?;
            let text = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => format!("{error}; is it installed, and in the PATH?"),
            };
            return Err(Failure::new(error.exit_code(), "COMMAND_NOT_STARTED", text));
        }
    };
    match watch(&mut child, &lease, front).await {
        End::Child(ended) => {
            if !child.is_over() {
                let report = child.stop(GRACE_WHEN_LEFT_BEHIND).await;
                tell(global, "the build left processes behind", &report);
            }
            unlock(project, lease).await?;
            Ok(ended.exit_code())
        }
        End::Lost(loss) => {
            let grace = match &*loss {
                Loss::Ended { .. } | Loss::Unknown { .. } => GRACE_WHEN_ENDED,
                Loss::NotRenewed { .. } => lease.deadline().kill_at().saturating_sub(since_boot()),
            };
            let report = child.stop(grace).await;
            tell(global, "the build was stopped", &report);
            Err(Failure::lost(project, &loss))
        }
        End::FrontDied => {
            child.stop(Duration::ZERO).await;
            unlock(project, lease).await?;
            // Nobody is left to be told.
            Ok(exit::LEASE_LOST)
        }
    }
}

/// Waits for the end of the build, and passes signals on until then.
async fn watch(child: &mut Child, lease: &LeaseGuard, front: &mut Listening) -> End {
    loop {
        tokio::select! {
            ended = child.wait() => return End::Child(ended),
            loss = lease.lost() => return End::Lost(Box::new(loss)),
            message = front.next() => match message {
                Message::FrontDied => return End::FrontDied,
                Message::FromProcess(signal, sent) => child.pass_on(signal, sent),
                // The child has had it from the terminal.
                Message::FromTerminal(_) => {}
            },
        }
    }
}

async fn unlock(project: &ProjectId, lease: LeaseGuard) -> Result<(), Failure> {
    match lease.unlock().await {
        Err(LockError::Store(error)) => {
            eprintln!("buildlock: cannot unlock {} ({error}); the lease ends by itself", text::quoted(project));
            Ok(())
        }
        Err(error) => Err(Failure::of_lock(project, error, exit::LOCKED)),
        Ok(_) => Ok(()),
    }
}

fn tell(global: &Global, what: &str, report: &StopReport) {
    let list = |processes: &[buildlock_supervise::Process]| {
        let names = processes.iter().map(|process| format!("{} ({})", process.pid, text::shown(&process.name)));
        names.collect::<Vec<_>>().join(", ")
    };
    if !report.stopped.is_empty() && !global.quiet {
        eprintln!("buildlock: {what}; stopped: {}", list(&report.stopped));
    }
    if !report.survivors.is_empty() {
        eprintln!("buildlock: these could not be stopped, end them by hand: {}", list(&report.survivors));
    }
}
