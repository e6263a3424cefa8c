//! `history`: what happened, and how long that is kept.

use buildlock::wire::EventJson;
use buildlock::{EventId, LockStore, Recorded, Retention};
use serde::Serialize;

use super::table::table;
use super::{print_json, print_line};
use crate::cli::{self, Global};
use crate::exit::Failure;
use crate::{place, text};

pub(crate) async fn history(global: &Global, options: cli::History) -> Result<(), Failure> {
    let store = place::open(global).await?;
    if options.keep_all || options.keep_for.is_some() || options.keep_last.is_some() {
        return keep(global, &*store, &options).await;
    }
    let before = options.before.map(EventId);
    let limit = options.limit as usize;
    if let Some(project) = &options.project
        && store.status(project).await?.is_none()
    {
        return Err(Failure::unknown_project(project));
    }
    let events = store.history(options.project.as_ref(), before, limit).await?;
    if global.json {
        return print_json(&events.iter().map(EventJson::from).collect::<Vec<_>>());
    }
    if events.is_empty() {
        return print_line("nothing has happened");
    }
    print_line(&table(
        &["ID", "TIME", "PROJECT", "EVENT", "HOLDER", "TOKEN", "OPERATION", "DETAIL"],
        events.iter().map(row),
    ))?;
    if let Some(oldest) = events.last().filter(|_| events.len() == limit && !global.quiet) {
        eprintln!("\nthere may be more: --before {}", oldest.id.0);
    }
    Ok(())
}

fn row(recorded: &Recorded) -> Vec<String> {
    let Recorded { id, project, event } = recorded;
    let by = event.by.as_ref().filter(|by| **by != event.holder).map(|by| format!("by {}", text::shown(by.as_str())));
    let reason = event.reason.as_ref().map(|reason| text::shown(reason.as_str()));
    let message =
        event.message.as_ref().map(|message| text::shown(message.as_str())).filter(|message| !message.is_empty());
    vec![
        id.0.to_string(),
        text::time(event.at),
        text::shown(project.as_str()),
        event.kind.as_str().replace('_', " "),
        text::shown(event.holder.as_str()),
        event.token.map_or_else(|| "-".to_owned(), |token| token.to_string()),
        event.operation.as_ref().map_or_else(|| "-".to_owned(), |operation| text::shown(operation.as_str())),
        [by, reason, message].into_iter().flatten().collect::<Vec<_>>().join(": "),
    ]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RetentionJson {
    keep_for: Option<u64>,
    keep_last: Option<u64>,
}

async fn keep(global: &Global, store: &dyn LockStore, options: &cli::History) -> Result<(), Failure> {
    let retention = Retention { max_age: options.keep_for, max_events: options.keep_last };
    store.set_retention(retention).await?;
    // What is no longer kept goes now, and not only when the next program opens the store.
    while store.settle_due().await?.is_some_and(|next| next.is_zero()) {}
    if global.json {
        let keep_for = retention.max_age.map(|age| age.as_secs());
        return print_json(&RetentionJson { keep_for, keep_last: retention.max_events });
    }
    if !global.quiet {
        let age = retention.max_age.map(|age| format!("events go after {}", text::span(age)));
        let count = retention.max_events.map(|count| format!("the last {count} events and the last day's are kept"));
        let kept = [age, count].into_iter().flatten().collect::<Vec<_>>().join("; ");
        eprintln!("{}", if kept.is_empty() { "all events are kept" } else { &kept });
    }
    Ok(())
}
