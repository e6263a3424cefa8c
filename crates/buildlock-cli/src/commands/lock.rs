//! `lock`, `renew`, `unlock`, `force-unlock`: a lease in the hands of a script.

use buildlock::wire::{EndedJson, LeaseJson};
use buildlock::{Command, Lease, LockError, LockRequest, LockService, LockStore, Outcome, ProjectId, RequestId, Wait};

use super::wait::Waiting;
use super::within::Within;
use super::{print_json, print_line};
use crate::cli::{self, Global};
use crate::exit::Failure;
use crate::{place, text};

pub(crate) async fn lock(global: &Global, options: cli::Lock) -> Result<(), Failure> {
    let cli::Lock { project, request, request_id } = options;
    let service = LockService::with_store(place::open(global).await?);
    let url = place::absolute(&place::store_url(global)?);
    Within::from_env().refuse(service.store(), &url, &project, request.conflict_exit_code).await?;
    let lock_request = LockRequest {
        id: request_id.unwrap_or_else(RequestId::fresh),
        holder: place::holder(global, service.store())?,
        operation: request.operation,
        message: request.message,
        ttl: request.ttl,
    };
    let wait = request.wait.unwrap_or(Wait::NONE);
    let mut waiting = Waiting::new(global, rustix::process::getpgrp());
    let lock = service.lock_telling(&project, lock_request, wait, |place, now| waiting.tell(&project, place, now));
    let lease = tokio::select! {
        lease = lock => lease.map_err(|error| Failure::of_lock(&project, error, request.conflict_exit_code))?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            return Err(Failure::new(130, "INTERRUPTED", "interrupted; the place in the queue is given up"));
        }
    };
    waiting.granted(&project, &lease);
    tell_lease(global, &project, &lease.keep())
}

pub(crate) async fn renew(global: &Global, options: cli::Renew) -> Result<(), Failure> {
    let cli::Renew { project, token, ttl } = options;
    let store = place::open(global).await?;
    let renew = Command::Renew { token, holder: place::holder(global, &*store)?, ttl };
    match apply(&*store, &project, renew).await? {
        Outcome::Held(lease) => tell_lease(global, &project, &lease),
        outcome => Err(unexpected(&project, outcome)),
    }
}

pub(crate) async fn unlock(global: &Global, options: cli::Unlock) -> Result<(), Failure> {
    let cli::Unlock { project, token } = options;
    let store = place::open(global).await?;
    let unlock = Command::Unlock { token, holder: place::holder(global, &*store)? };
    end(global, &*store, &project, unlock, "unlocked").await
}

pub(crate) async fn force_unlock(global: &Global, options: cli::ForceUnlock) -> Result<(), Failure> {
    let cli::ForceUnlock { project, token, reason } = options;
    let store = place::open(global).await?;
    let force_unlock = Command::ForceUnlock { token, by: place::holder(global, &*store)?, reason };
    end(global, &*store, &project, force_unlock, "force-unlocked").await
}

async fn end(
    global: &Global,
    store: &dyn LockStore,
    project: &ProjectId,
    command: Command,
    what: &str,
) -> Result<(), Failure> {
    match apply(store, project, command).await? {
        Outcome::Ended(lease) if global.json => print_json(&EndedJson::from(&lease)),
        Outcome::Ended(lease) => {
            if !global.quiet {
                let holder = text::shown(lease.holder.as_str());
                eprintln!(
                    "{what} {}: the lease of {holder} with token {} has ended",
                    text::quoted(project),
                    lease.token
                );
            }
            Ok(())
        }
        outcome => Err(unexpected(project, outcome)),
    }
}

async fn apply(store: &dyn LockStore, project: &ProjectId, command: Command) -> Result<Outcome, Failure> {
    match store.apply(project, command).await?.outcome {
        Outcome::Refused(refusal) => Err(Failure::of_refusal(project, *refusal)),
        outcome => Ok(outcome),
    }
}

fn unexpected(project: &ProjectId, outcome: Outcome) -> Failure {
    Failure::of_lock(project, LockError::from(outcome), crate::exit::LOCKED)
}

/// The token goes to standard output, for `TOKEN=$(buildlock lock …)`; the rest is talk.
fn tell_lease(global: &Global, project: &ProjectId, lease: &Lease) -> Result<(), Failure> {
    if global.json {
        return print_json(&LeaseJson::new(project, lease));
    }
    if !global.quiet {
        let until = text::time(lease.expires_at);
        eprintln!("{} is yours until {until}, unless renewed", text::quoted(project));
    }
    print_line(&lease.token.to_string())
}
