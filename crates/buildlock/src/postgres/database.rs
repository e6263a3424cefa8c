//! The thread with the connections to one database. What is asked of it waits in the inbox; each connection
//! that is free takes what waits.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use buildlock_core::{Command, ProjectId};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;

use super::address::Address;
use super::columns::Nonsense;
use super::counts::Counting;
use super::inbox::{Call, Inbox, Pending, Taken, Trip, Work};
use super::line::Line;
use super::news::NewsDesk;
use super::rows::{Answered, Commands, answered, ordinal};
use super::sql::VERSION;
use super::statement::{APPLY, Parameters, Statement};
use super::trouble::{Trouble, unavailable};
use crate::sqlite::Clock;
use crate::store::Answer;
use crate::{StoreError, answers};

/// The pauses between attempts to reach a database that is away: at first and at most. A restart takes a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a trip may take until others no longer wait for its end: some commits' time.
const LONG_TRIP: Duration = Duration::from_millis(10);

/// How often in a row others may be faster than commands that travel together, until these pause.
const MOST_MISSES: u32 = 5;

/// How long what was sent may be on its way after the last handle was dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What the handles and the connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: Arc<Address>,
    pub(super) inbox: Inbox,
    pub(super) news: NewsDesk,
    /// Counts what happens, if the program wants to know.
    pub(super) counting: OnceLock<Counting>,
    /// For tests of what takes long; none: the database's own clock.
    clock: Option<Arc<dyn Clock>>,
}

impl Shared {
    /// The time to decide by; none: the database's.
    pub(super) fn at_ms(&self) -> Option<i64> {
        let clock = self.clock.as_ref()?;
        Some(i64::try_from(clock.wall().as_millis()).unwrap_or(i64::MAX))
    }

    /// Sends a statement and waits for its answer.
    pub(super) async fn rows(
        &self,
        statement: &'static Statement,
        parameters: Parameters,
    ) -> Result<Vec<Row>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.call(statement, parameters, reply);
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The thread. When this is dropped, what was sent before is still done, and the thread ends.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Connects, and sees whether buildlock's tables are there.
    pub(super) async fn open(url: &str, clock: Option<Arc<dyn Clock>>) -> Result<Self, StoreError> {
        let address = Arc::new(Address::parse(url)?);
        let shared = Arc::new(Shared {
            inbox: Inbox::new(address.shown.clone(), address.connections),
            news: NewsDesk::new(address.is_pooled),
            address: Arc::clone(&address),
            counting: OnceLock::new(),
            clock,
        });
        let (opened, is_open) = oneshot::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("buildlock-postgres".to_owned()).spawn(move || serve(shared, opened))
        };
        let cannot = |error: std::io::Error| StoreError::CannotOpen {
            path: address.shown.clone().into(),
            problem: error.to_string(),
        };
        let database = Self { shared, thread: Some(thread.map_err(cannot)?) };
        is_open.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(database)
    }

    /// Leaves a command for the next connection that is free.
    pub(super) fn push(
        &self,
        project: &ProjectId,
        command: Command,
        reply: Option<oneshot::Sender<Result<Answer, StoreError>>>,
    ) {
        self.shared.inbox.push(project, command, reply);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.shared.inbox.close();
        self.shared.news.close();
        if let Some(thread) = self.thread.take() {
            // A panic was told by the thread itself; here is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Leaves nobody waiting when the thread ends, even by a panic.
struct ClearOnDrop(Arc<Shared>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.inbox.clear();
        self.0.news.close();
    }
}

fn serve(shared: Arc<Shared>, opened: oneshot::Sender<Result<(), StoreError>>) {
    let _clearing = ClearOnDrop(Arc::clone(&shared));
    let runtime: Result<tokio::runtime::Runtime, _> = Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let path = shared.address.shown.clone().into();
            return drop(opened.send(Err(StoreError::CannotOpen { path, problem: error.to_string() })));
        }
    };
    runtime.block_on(async {
        let line = match enter(&shared).await {
            Ok(line) => line,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let mut workers = JoinSet::new();
        let mut first = Some(line);
        for number in 0..shared.address.connections {
            workers.spawn(work(Arc::clone(&shared), first.take(), number == 0));
        }
        let mut helpers = JoinSet::new();
        helpers.spawn({
            let shared = Arc::clone(&shared);
            async move { shared.inbox.watch_over().await }
        });
        let ready = shared.news.begin(&shared, &mut helpers).await;
        // A caller that no longer wants the store drops its handle, which ends the thread.
        let _ = opened.send(ready);
        while !shared.inbox.is_closed() {
            // None ends before that, save by a panic: whoever waited for it would wait for ever.
            if !matches!(workers.join_next().await, Some(Ok(()))) {
                return;
            }
        }
        // What is late ends by itself, as every lease and ticket does.
        let _ = timeout(CLOSE_WITHIN, async { while workers.join_next().await.is_some() {} }).await;
    });
}

/// The first connection, to a database with tables that this program knows.
async fn enter(shared: &Shared) -> Result<Line, StoreError> {
    let mut line = Line::connect(&shared.address).await?;
    let version = line.version().await?;
    let store = || shared.address.shown.clone();
    match version {
        version if version < VERSION => {
            let problem = format!("has version {version} of buildlock's tables, and this program needs {VERSION}");
            Err(StoreError::NeedsMigration { store: store(), problem })
        }
        version if version > VERSION => {
            Err(StoreError::NewerVersion { path: store().into(), found: version.into(), known: VERSION.into() })
        }
        _ => Ok(line),
    }
}

/// One connection's work, until the store is closed. The first one looks after the database when it is away: the
/// others come back when it has found it again.
async fn work(shared: Arc<Shared>, mut line: Option<Line>, looks_after: bool) {
    let inbox = &shared.inbox;
    let mut pause = FIRST_PAUSE;
    loop {
        let (work, trip) = match inbox.take(looks_after).await {
            Taken::Work(work, trip) => (Some(work), trip),
            Taken::Away => (None, None),
            Taken::Closed => return,
        };
        let connected = match line.take().filter(|line| work.is_some() && !line.is_closed()) {
            Some(connected) => Ok(connected),
            None => Line::connect(&shared.address).await,
        };
        match connected {
            Ok(connected) => {
                pause = FIRST_PAUSE;
                inbox.set_here();
                let connected = line.insert(connected);
                let after = match work {
                    Some(Work::Commands(commands)) => {
                        let running = run_commands(&shared, connected, commands);
                        lasting(running, trip).await
                    }
                    Some(Work::Call(call)) => run_call(&shared, connected, call).await,
                    None => After::Fine,
                };
                match after {
                    After::Fine => {}
                    After::Again => sleep(jittered(FIRST_PAUSE)).await,
                    After::Lost => {
                        line = None;
                        sleep(jittered(FIRST_PAUSE)).await;
                    }
                }
            }
            Err(error) => {
                inbox.set_away(&error);
                if let Some(work) = work {
                    give_back(&shared, work, &error);
                }
                drop(trip);
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// A trip lasts until its work is done, but others do not wait for one that takes long: some row in it is in other
/// hands.
async fn lasting<T>(work: impl Future<Output = T>, trip: Option<Trip<'_>>) -> T {
    let mut work = pin!(work);
    if let Ok(done) = timeout(LONG_TRIP, &mut work).await {
        return done;
    }
    drop(trip);
    work.await
}

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Fine,
    /// What was put back may go better a moment later.
    Again,
    /// The connection is of no more use.
    Lost,
}

fn give_back(shared: &Shared, work: Work, error: &StoreError) {
    let projects = projects_of(&work);
    shared.inbox.put_back(work, error);
    shared.inbox.release(&projects);
}

fn projects_of(work: &Work) -> Vec<ProjectId> {
    match work {
        Work::Commands(commands) => projects(commands),
        Work::Call(_) => Vec::new(),
    }
}

/// The projects of commands that stand together by project.
fn projects(commands: &[Pending]) -> Vec<ProjectId> {
    let mut projects: Vec<_> = commands.iter().map(|pending| pending.project.clone()).collect();
    projects.dedup();
    projects
}

/// Runs commands that travel together.
async fn run_commands(shared: &Shared, line: &mut Line, commands: Vec<Pending>) -> After {
    let (trouble, commands) = match apply(shared, line, commands).await {
        Ok(()) => return After::Fine,
        Err(failed) => failed,
    };
    match trouble {
        Trouble::Lost(error) => {
            give_back(shared, Work::Commands(commands), &error);
            After::Lost
        }
        Trouble::Again(error) => {
            give_back(shared, Work::Commands(commands), &error);
            After::Again
        }
        Trouble::Refused(error) if projects(&commands).len() == 1 => {
            refuse(shared, commands, &error);
            After::Fine
        }
        // It is about one of the projects: the others shall not suffer from it.
        Trouble::Refused(_) => one_by_one(shared, line, commands).await,
    }
}

/// Answers commands with the error.
fn refuse(shared: &Shared, commands: Vec<Pending>, error: &StoreError) {
    let projects = projects(&commands);
    commands.into_iter().for_each(|pending| pending.answer(Err(error.clone())));
    shared.inbox.release(&projects);
}

/// Runs the commands on each project in a transaction of their own.
async fn one_by_one(shared: &Shared, line: &mut Line, commands: Vec<Pending>) -> After {
    let mut commands = commands.into_iter().peekable();
    while let Some(first) = commands.next() {
        let mut own = vec![first];
        while let Some(next) = commands.next_if(|next| next.project == own[0].project) {
            own.push(next);
        }
        if let Err((trouble, own)) = apply(shared, line, own).await {
            match trouble {
                Trouble::Refused(error) => refuse(shared, own, &error),
                Trouble::Again(error) => give_back(shared, Work::Commands(own), &error),
                Trouble::Lost(error) => {
                    let rest = own.into_iter().chain(commands).collect();
                    give_back(shared, Work::Commands(rest), &error);
                    return After::Lost;
                }
            }
        }
    }
    After::Fine
}

/// Has commands decided and answers them; gives those back that failed. What is plain goes in one transaction, and the
/// rest in another: until all are answered.
async fn apply(shared: &Shared, line: &mut Line, mut commands: Vec<Pending>) -> Result<(), (Trouble, Vec<Pending>)> {
    let mut misses = 0;
    while !commands.is_empty() {
        let mut arrays = Commands::default();
        commands.iter().for_each(|pending| arrays.push(&pending.project, &pending.command));
        let rows = match line.query(&APPLY, &arrays.parameters(shared.at_ms())).await {
            Ok(rows) => rows,
            Err(trouble) => return Err((trouble, commands)),
        };
        let sent = commands.len();
        commands = answer(shared, commands, &rows);
        misses = if commands.len() == sent { misses + 1 } else { 0 };
        if misses > MOST_MISSES {
            let problem = "it decides nothing; others may have been faster, again and again".to_owned();
            return Err((Trouble::Again(unavailable(&shared.address.shown, problem)), commands));
        }
    }
    Ok(())
}

/// Answers the commands that these rows answer; gives back the others.
fn answer(shared: &Shared, commands: Vec<Pending>, rows: &[Row]) -> Vec<Pending> {
    let mut answers: Vec<Option<Result<Answered, StoreError>>> = Vec::new();
    answers.resize_with(commands.len(), || None);
    for row in rows {
        let Ok(place) = ordinal(row) else { continue };
        if let (Some(pending), Some(answer)) = (commands.get(place), answers.get_mut(place)) {
            let read = answered(row, &pending.command);
            *answer = Some(read.map_err(|nonsense| shared.spoilt(&nonsense)));
        }
    }
    let mut has_news = false;
    let (mut done, mut given, mut rest) = (Vec::new(), Vec::with_capacity(rows.len()), Vec::new());
    for (pending, answer) in commands.into_iter().zip(answers) {
        let Some(answer) = answer else {
            rest.push(pending);
            continue;
        };
        done.push(pending.project.clone());
        given.push(pending.answered(answer.map(|answered| {
            has_news |= answered.has_news;
            shared.news.has_ended(&answered.answer.outcome);
            answered.answer
        })));
    }
    done.dedup();
    shared.inbox.release(&done);
    answers::give(given);
    shared.news.wrote(has_news);
    rest
}

/// Runs a call.
async fn run_call(shared: &Shared, line: &mut Line, call: Call) -> After {
    let trouble = match line.query(call.statement, &call.parameters).await {
        Ok(rows) => {
            // A caller that has gone away does not want the answer.
            let _ = call.reply.send(Ok(rows));
            return After::Fine;
        }
        Err(trouble) => trouble,
    };
    let (after, is_repeated) = match &trouble {
        Trouble::Lost(_) => (After::Lost, call.statement.is_repeatable),
        Trouble::Again(_) => (After::Again, true),
        Trouble::Refused(_) => (After::Fine, false),
    };
    let error = trouble.error();
    if is_repeated {
        shared.inbox.put_back(Work::Call(call), &error);
    } else {
        // A caller that has gone away does not want the answer.
        let _ = call.reply.send(Err(error));
    }
    after
}

impl Shared {
    /// What a row that cannot be read means to whoever asked for it.
    pub(super) fn spoilt(&self, nonsense: &Nonsense) -> StoreError {
        StoreError::Spoilt { path: self.address.shown.clone().into(), detail: nonsense.to_string() }
    }
}

/// A pause that is not the same for all who lost the database at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness all come at once, which is slower and nothing worse.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.75 + f64::from(byte[0]) / 512.0)
}
