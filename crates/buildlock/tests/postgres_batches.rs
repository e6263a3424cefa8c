//! Batches of many connections that meet on the same projects: none waits for another for ever, none is refused,
//! and the history that they leave keeps the rules.

mod histories;
#[path = "histories/sql.rs"]
mod sql;
mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use buildlock::{Command, EventId, Holder, ProjectId, Token};
use buildlock_testing::TestPg;
use histories::party::Party;
use histories::run::leases;
use histories::steps::{Author, Step, Which, holder, project};
use sql::{SqlParty, apply};
use support::replay::Replay;
use tokio_postgres::error::SqlState;

const PROJECTS: usize = 30;
const CONNECTIONS: u64 = 8;
const COMMANDS_EACH: usize = 1_500;

/// What callers know of each project's leases.
type HeardOf = Arc<Mutex<Vec<Vec<(Token, Holder)>>>>;

/// Rules 1, 2, 4, 6 and 11, by the history. A deadlock would be an error of the statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_meet_on_the_same_projects_wait_for_each_other_in_one_order() {
    let pg = TestPg::fresh().await;
    let heard_of: HeardOf = Arc::new(Mutex::new(vec![Vec::new(); PROJECTS]));
    let mut callers = Vec::new();
    for seed in 0..CONNECTIONS {
        let (client, heard_of) = (pg.client().await, Arc::clone(&heard_of));
        callers.push(tokio::spawn(async move { live(seed, SqlParty { client }, &heard_of).await }));
    }
    let mut commands = 0;
    for caller in callers {
        commands += caller.await.unwrap();
    }

    let party = SqlParty { client: pg.client().await };
    let events = party.events_after(EventId(0)).await;
    let mut replay = Replay::default();
    replay.feed(&events);
    let tokens: BTreeSet<Token> = replay.granted.iter().map(|(_, token)| *token).collect();
    assert_eq!(tokens.len(), replay.granted.len(), "rule 2: no token is granted twice, in whatever project");
    println!("{commands} commands, {} events, {} grants", events.len(), tokens.len());
    assert!(commands >= COMMANDS_EACH * CONNECTIONS as usize && tokens.len() > 1_000);
    for number in 0..PROJECTS {
        let project = project("shared", number);
        let (newest, history) = (replay.events_of(&project), party.history(&project, 7).await);
        let history: Vec<EventId> = history.iter().map(|recorded| recorded.id).collect();
        // The chain tells of this life of the project only.
        assert_eq!(history[..], newest[..history.len()], "{project}");
    }
}

/// Sends its commands as fast as they are answered, and returns how many.
async fn live(seed: u64, party: SqlParty, heard_of: &HeardOf) -> usize {
    let mut sent = 0;
    let mut author = Author::new(seed, PROJECTS, true);
    // Each caller has requests of its own, and some that others have too.
    author.begin_at(if seed.is_multiple_of(2) { 0 } else { seed as usize * 10_000 });
    for step in author.history(COMMANDS_EACH) {
        match step {
            Step::Batch(batch) => {
                let commands = resolve(&batch, &heard_of.lock().unwrap());
                let answers = loop {
                    match apply(&party.client, None, &commands).await {
                        Ok(answers) => break answers,
                        // A project was deleted in the meantime.
                        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                };
                let mut heard_of = heard_of.lock().unwrap();
                for ((number, _), answer) in batch.iter().zip(&answers) {
                    for lease in leases(&answer.outcome) {
                        heard_of[*number].push((lease.token, lease.holder.clone()));
                    }
                }
                sent += batch.len();
            }
            Step::SettleDue => {
                party.client.query_one("select buildlock.settle_due(null, 10)", &[]).await.unwrap();
            }
            Step::Delete(number, by) => {
                let (project, by) = (project("shared", number), holder(by));
                let delete = "select buildlock.delete_project(null, $1, $2)";
                party.client.execute(delete, &[&project.as_str(), &by.as_str()]).await.unwrap();
            }
            Step::Pass(_) | Step::UntilDue(..) | Step::Create(..) | Step::See(_) => {}
        }
    }
    sent
}

fn resolve(batch: &[(usize, histories::steps::Ask)], heard_of: &[Vec<(Token, Holder)>]) -> Vec<(ProjectId, Command)> {
    let command = |(number, ask): &(usize, histories::steps::Ask)| {
        let command = ask.command(|which| {
            let known = match which {
                Which::Newest(back) => heard_of[*number].iter().rev().nth(back),
                Which::Of(other) => heard_of[other].last(),
                Which::Never => None,
            };
            known.cloned().unwrap_or_else(|| (Token::FIRST, holder(0)))
        });
        (project("shared", *number), command)
    };
    batch.iter().map(command).collect()
}
