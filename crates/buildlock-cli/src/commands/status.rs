//! `status`: who holds what, and who waits.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use buildlock::wire::ProjectJson;
use buildlock::{LockService, LockStore, ProjectId, Status};
use tokio::time::sleep;

use super::table::table;
use super::{print_json, print_line};
use crate::cli::{self, Global};
use crate::exit::Failure;
use crate::{place, text};

/// How many projects are asked for at a time.
pub(super) const PAGE: usize = 1_000;

/// How often a screen that is watched is drawn anew, so that its times go on.
const TICK: Duration = Duration::from_secs(1);

pub(crate) async fn status(global: &Global, options: cli::Status) -> Result<(), Failure> {
    let store = place::open(global).await?;
    let project = options.project.as_ref();
    if !options.watch {
        return show(global, &look(&*store, project).await?, project);
    }
    let service = LockService::with_store(store);
    tokio::select! {
        result = watch(global, &service, project) => result,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn watch(global: &Global, service: &LockService, project: Option<&ProjectId>) -> Result<(), Failure> {
    let mut changes = service.changes(None);
    let on_screen = stdout().is_terminal() && !global.json;
    let mut last = None;
    loop {
        let statuses = look(service.store(), project).await?;
        let key: Vec<_> = statuses.iter().map(ProjectJson::from).collect();
        if on_screen {
            // Clears the screen and goes to its top.
            print!("\x1b[H\x1b[2J");
        }
        if on_screen || last.as_ref() != Some(&key) {
            show(global, &statuses, project)?;
            last = Some(key);
        }
        tokio::select! {
            change = changes.next() => drop(change?),
            () = sleep(TICK) => {}
        }
    }
}

async fn look(store: &dyn LockStore, project: Option<&ProjectId>) -> Result<Vec<Status>, Failure> {
    if let Some(project) = project {
        let status = store.status(project).await?;
        return Ok(vec![status.ok_or_else(|| Failure::unknown_project(project))?]);
    }
    let mut statuses = all(store).await?;
    statuses.retain(|status| status.lease.is_some() || !status.queue.is_empty());
    Ok(statuses)
}

/// All projects.
pub(super) async fn all(store: &dyn LockStore) -> Result<Vec<Status>, Failure> {
    let mut statuses: Vec<Status> = Vec::new();
    loop {
        let page = store.projects(statuses.last().map(|last| &last.project), PAGE).await?;
        let is_last = page.len() < PAGE;
        statuses.extend(page);
        if is_last {
            return Ok(statuses);
        }
    }
}

fn show(global: &Global, statuses: &[Status], project: Option<&ProjectId>) -> Result<(), Failure> {
    if global.json {
        return match (project, statuses) {
            (Some(_), [status]) => print_json(&ProjectJson::from(status)),
            _ => print_json(&statuses.iter().map(ProjectJson::from).collect::<Vec<_>>()),
        };
    }
    if statuses.is_empty() {
        return print_line("nothing is locked");
    }
    print_line(&locks(statuses))?;
    match (project, statuses) {
        (Some(_), [status]) if !status.queue.is_empty() => print_line(&format!("\n{}", queue(status))),
        _ => Ok(()),
    }
}

pub(super) fn locks(statuses: &[Status]) -> String {
    let rows = statuses.iter().map(|status| {
        let mut row = vec![text::shown(status.project.as_str()), status.build_status().to_owned()];
        match &status.lease {
            None => row.extend(std::iter::repeat_n("-".to_owned(), 5)),
            Some(lease) => row.extend([
                text::shown(lease.holder.as_str()),
                text::shown(lease.operation.as_str()),
                text::span(status.now.since(lease.acquired_at)),
                text::span(lease.ends_at().since(status.now)),
                lease.token.to_string(),
            ]),
        }
        row.push(status.queue.len().to_string());
        row.push(status.lease.as_ref().map_or_else(String::new, |lease| text::shown(lease.message.as_str())));
        row
    });
    table(&["PROJECT", "STATUS", "HOLDER", "OPERATION", "SINCE", "ENDS IN", "TOKEN", "WAITING", "MESSAGE"], rows)
}

fn queue(status: &Status) -> String {
    let rows = status.queue.iter().enumerate().map(|(index, ticket)| {
        vec![
            text::ordinal(index + 1),
            text::shown(ticket.request.holder.as_str()),
            text::shown(ticket.request.operation.as_str()),
            text::span(status.now.since(ticket.queued_at)),
            text::shown(ticket.request.message.as_str()),
        ]
    });
    table(&["WAITS", "HOLDER", "OPERATION", "FOR", "MESSAGE"], rows)
}
