//! `projects`: all of them, locked or not.

use buildlock::wire::ProjectJson;
use buildlock::{Deleted, LockStore};
use serde::Serialize;

use super::status::{all, locks};
use super::{print_json, print_line};
use crate::cli::{self, Global, ProjectsAction};
use crate::exit::{self, Failure};
use crate::{place, text};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DoneJson<'a> {
    project: &'a buildlock::ProjectId,
    done: bool,
}

pub(crate) async fn projects(global: &Global, options: cli::Projects) -> Result<(), Failure> {
    let store = place::open(global).await?;
    match options.action.unwrap_or(ProjectsAction::List) {
        ProjectsAction::List => list(global, &*store).await,
        ProjectsAction::Add { project } => {
            let done = store.create_project(&project, &place::holder(global, &*store)?).await?;
            tell(global, &project, done, if done { "added" } else { "exists already" })
        }
        ProjectsAction::Delete { project } => {
            match store.delete_project(&project, &place::holder(global, &*store)?).await? {
                Deleted::Gone => tell(global, &project, true, "deleted; its events stay in the history"),
                Deleted::Locked(busy) => Err(Failure::locked(&project, &busy, exit::LOCKED)),
                Deleted::Unknown => Err(Failure::unknown_project(&project)),
            }
        }
    }
}

async fn list(global: &Global, store: &dyn LockStore) -> Result<(), Failure> {
    let statuses = all(store).await?;
    if global.json {
        return print_json(&statuses.iter().map(ProjectJson::from).collect::<Vec<_>>());
    }
    if statuses.is_empty() {
        return print_line("there are no projects; one is made when it is first locked");
    }
    print_line(&locks(&statuses))
}

fn tell(global: &Global, project: &buildlock::ProjectId, done: bool, what: &str) -> Result<(), Failure> {
    if global.json {
        return print_json(&DoneJson { project, done });
    }
    if !global.quiet {
        eprintln!("{} {what}", text::quoted(project));
    }
    Ok(())
}
