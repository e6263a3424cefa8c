//! Running builds: each under its project's lock, on record, and watched until nothing of it is left.
//!
//! [`Builds`] is what the routes use. How a build is started is in `start.rs`, what one that runs goes
//! through in `run.rs`, its two kinds of builders in `command.rs` and `upstream.rs`, its log in `log.rs`
//! and `follow.rs`, what other servers have to do with it in `shared.rs` and `recover.rs`. A build is a task
//! of its own: it does not end because somebody goes away.

mod command;
mod follow;
mod lines;
mod log;
mod recover;
mod run;
mod shared;
mod start;
mod upstream;
mod workspace;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buildlock::{Build, BuildId, BuildServer, Holder, LockService, Operation, ProjectId, StoreError};
use buildlock_supervise::kill_marked;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

pub(crate) use self::follow::Followed;
use self::shared::Elsewhere;
pub(crate) use self::start::{BuildOrder, StartError, Started};
pub(crate) use self::upstream::{UpstreamAnswer, cause};
use crate::ServerStore;
use crate::config::{BuildsConfig, Config, OperationConfig};

/// How often finished builds that are no longer kept are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// What a build is told apart by, in the environment of all its processes.
const MARK: &str = "BUILDLOCK_BUILD";

/// The program that supervises a command, and its first arguments.
#[derive(Debug, Clone)]
pub struct SupervisorProgram {
    /// The program.
    pub program: PathBuf,
    /// What comes before the command.
    pub arguments: Vec<String>,
}

/// This program itself, which then must know `build-supervisor`.
impl Default for SupervisorProgram {
    fn default() -> Self {
        // A program that cannot tell where it is, is looked for in PATH.
        let program = std::env::current_exe().unwrap_or_else(|_| "buildlock".into());
        Self { program, arguments: vec!["build-supervisor".to_owned()] }
    }
}

/// Runs builds. A cheap handle.
#[derive(Clone)]
pub(crate) struct Builds {
    inner: Arc<Inner>,
}

struct Inner {
    config: BuildsConfig,
    operations: BTreeMap<Operation, OperationConfig>,
    workspaces: PathBuf,
    supervisor: SupervisorProgram,
    service: LockService,
    store: Arc<dyn ServerStore>,
    http: reqwest::Client,
    slots: Arc<Semaphore>,
    under_way: Mutex<UnderWay>,
    /// Changes when a build has ended.
    ended: watch::Sender<()>,
    /// Whether no more builds are started.
    draining: watch::Sender<bool>,
    /// This one, among those that share the store.
    server: BuildServer,
    /// Held while the others are told what runs here.
    telling: tokio::sync::Mutex<()>,
    elsewhere: Elsewhere,
    pruning: AbortHandle,
}

/// What goes on now.
#[derive(Default)]
struct UnderWay {
    /// How many orders are on their way to a build.
    starting: usize,
    running: HashMap<BuildId, Arc<Running>>,
}

/// A build that runs, as others reach it.
struct Running {
    progress: watch::Sender<Progress>,
    /// Why it is to stop, once somebody wants that.
    cancelled: watch::Sender<Option<String>>,
    /// The answer of its upstream, for whoever asks first.
    answer: Mutex<Option<UpstreamAnswer>>,
    /// Resolves `answer`.
    answered: watch::Sender<bool>,
}

/// How far a build is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// How many lines of its log are durable.
    log_lines: u64,
    /// Its end is on record.
    has_ended: bool,
}

impl Running {
    fn new() -> Self {
        Self {
            progress: watch::Sender::default(),
            cancelled: watch::Sender::default(),
            answer: Mutex::default(),
            answered: watch::Sender::default(),
        }
    }
}

impl Builds {
    /// Runs builds as the settings say. Projects have their folders in `workspaces`, unless the settings
    /// name another place.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn new(
        config: &Config,
        workspaces: PathBuf,
        supervisor: SupervisorProgram,
        service: LockService,
        store: Arc<dyn ServerStore>,
    ) -> Self {
        let pruning = tokio::spawn(prune(Arc::clone(&store), config.builds.clone())).abort_handle();
        let inner = Inner {
            operations: config.operations.clone(),
            workspaces: config.builds.workspaces.clone().unwrap_or(workspaces),
            supervisor,
            service,
            store,
            http: upstream::client(),
            slots: Arc::new(Semaphore::new(config.builds.max_running)),
            under_way: Mutex::default(),
            ended: watch::Sender::default(),
            draining: watch::Sender::new(false),
            server: shared::this_server(),
            telling: tokio::sync::Mutex::default(),
            elsewhere: Elsewhere::default(),
            config: config.builds.clone(),
            pruning,
        };
        let inner = Arc::new(inner);
        if inner.store.shared_builds().is_some() {
            // They end with the last handle to this.
            tokio::spawn(shared::keep_in_touch(Arc::downgrade(&inner)));
            tokio::spawn(recover::sweep(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// The folder in which a project's builds work.
    pub(crate) fn workspace(&self, project: &ProjectId) -> PathBuf {
        self.inner.workspaces.join(workspace::folder_name(project))
    }

    /// Waits for the end of a build, whichever server runs it; answers how it ended, or none if it is unknown. One that
    /// another server runs is still running in the answer if this server is about to stop.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot answer.
    pub(crate) async fn wait(&self, build: BuildId) -> Result<Option<Build>, StoreError> {
        if let Some(running) = self.running(build) {
            let mut progress = running.progress.subscribe();
            // The sender lives as long as `running` here.
            let _ = progress.wait_for(|progress| progress.has_ended).await;
        } else if let Some(mut progress) = self.elsewhere(build).await? {
            let mut draining = self.inner.draining.subscribe();
            tokio::select! {
                // It fails when the build has ended and all was told.
                _ = progress.wait_for(|progress| progress.has_ended) => {}
                _ = draining.wait_for(|draining| *draining) => {}
            }
        }
        self.inner.store.build(build).await
    }

    /// Cancels a build, and answers when it has ended; none if it is unknown. One that had ended before
    /// stays as it was.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot answer.
    pub(crate) async fn cancel(&self, build: BuildId, by: &Holder) -> Result<Option<Build>, StoreError> {
        self.ask_to_cancel(build, by).await?;
        self.wait(build).await
    }

    /// Has a build cancelled, and does not wait for that.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot answer.
    pub(crate) async fn ask_to_cancel(&self, build: BuildId, by: &Holder) -> Result<(), StoreError> {
        if let Some(running) = self.running(build) {
            running.cancel_by(by);
        } else if let Some(shared) = self.inner.store.shared_builds() {
            shared.cancel_build(build, by).await?;
        }
        Ok(())
    }

    /// The answer of a build's upstream, when it has come: for whoever asks first. None if it has no
    /// upstream, or ended without an answer.
    pub(crate) async fn upstream_answer(&self, build: BuildId) -> Option<UpstreamAnswer> {
        let running = self.running(build)?;
        let mut answered = running.answered.subscribe();
        let mut progress = running.progress.subscribe();
        tokio::select! {
            biased;
            _ = answered.wait_for(|answered| *answered) => {}
            _ = progress.wait_for(|progress| progress.has_ended) => {}
        }
        running.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Starts no more builds; gives those that run this long to end by themselves, then cancels them.
    /// Returns when none is left.
    pub(crate) async fn drain(&self, patience: Duration) {
        {
            // Whoever looks at it does so under this lock, or is told.
            let _under_way = self.under_way();
            self.inner.draining.send_replace(true);
        }
        let mut ended = self.inner.ended.subscribe();
        let all_have_ended = async |ended: &mut watch::Receiver<()>| {
            while !self.is_idle() {
                // The sender lives as long as this handle.
                let _ = ended.changed().await;
            }
        };
        if timeout(patience, all_have_ended(&mut ended)).await.is_ok() {
            return;
        }
        let left: Vec<_> = self.under_way().running.values().cloned().collect();
        for running in left {
            running.cancel("the server was stopped, and it did not end within the drain time".to_owned());
        }
        all_have_ended(&mut ended).await;
    }

    fn is_idle(&self) -> bool {
        let under_way = self.under_way();
        under_way.running.is_empty() && under_way.starting == 0
    }

    fn running(&self, build: BuildId) -> Option<Arc<Running>> {
        self.under_way().running.get(&build).cloned()
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        // Whole whenever the lock is free: no statement under it can panic half-way.
        self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn cancel_by(&self, by: &Holder) {
        self.cancel(format!("it was cancelled by {by}"));
    }

    /// Has it stop; the first reason counts.
    fn cancel(&self, reason: String) {
        self.cancelled.send_if_modified(|cancelled| {
            let is_first = cancelled.is_none();
            cancelled.get_or_insert(reason);
            is_first
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pruning.abort();
    }
}

impl fmt::Debug for Builds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builds").field("operations", &self.inner.operations).finish_non_exhaustive()
    }
}

/// Kills what is left of builds that nobody supervises any more.
async fn kill_builds(builds: Vec<BuildId>) {
    if builds.is_empty() {
        return;
    }
    let marks: Vec<String> = builds.iter().map(|build| format!("{MARK}={build}")).collect();
    let Ok(report) = tokio::task::spawn_blocking(move || kill_marked(&marks)).await else { return };
    if !report.survivors.is_empty() {
        tracing::error!(survivors = ?report.survivors, "these could not be stopped; end them by hand");
    }
}

/// Deletes finished builds that are no longer kept, for ever.
async fn prune(store: Arc<dyn ServerStore>, config: BuildsConfig) {
    loop {
        match store.prune_builds(config.retention).await {
            // Each time some, so that nobody waits long for the store.
            Ok(pruned) if !pruned.is_empty() => continue,
            Ok(_) => {}
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "cannot delete old builds"),
        }
        sleep(PRUNE_EVERY).await;
    }
}
