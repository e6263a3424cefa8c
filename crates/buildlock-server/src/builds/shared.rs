//! Builds on a store that several servers share: what this server tells the others of its own, and what it
//! learns of theirs.
//!
//! Nobody is told of a line of another server's log: such news would cost the store more than a look at it
//! now and then, once for all who follow.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use buildlock::{BuildId, BuildProgress, BuildServer, BuildStatus, SharedBuilds, StoreError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::{Builds, Inner, Progress};

/// How often the others are told, and asked: what they say is seen within this time, and a bit.
const EVERY: Duration = Duration::from_millis(250);

/// This process, as the others know it.
pub(super) fn this_server() -> BuildServer {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    BuildServer { id: Uuid::now_v7(), name: format!("process {} on {host}", std::process::id()) }
}

/// Builds that other servers run and that somebody here looks at.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    followed: Mutex<HashMap<BuildId, watch::Sender<Progress>>>,
}

impl Elsewhere {
    fn follow(&self, build: BuildId) -> watch::Receiver<Progress> {
        self.with(|followed| followed.entry(build).or_default().subscribe())
    }

    /// What somebody still looks at.
    fn followed(&self) -> Vec<BuildId> {
        self.with(|followed| {
            followed.retain(|_, progress| progress.receiver_count() > 0);
            followed.keys().copied().collect()
        })
    }

    /// Tells of all that was asked; what is not among the answers is gone with its project.
    fn tell(&self, asked: &[BuildId], answers: &[BuildProgress]) {
        let answers: HashMap<_, _> = answers.iter().map(|answer| (answer.build, answer)).collect();
        self.with(|followed| {
            for build in asked {
                let answer = answers.get(build).copied();
                let has_ended = answer.is_none_or(|answer| answer.has_ended);
                let log_lines = answer.map_or(0, |answer| answer.log_lines);
                let Some(progress) = followed.get(build) else { continue };
                progress.send_if_modified(|known| {
                    let is_news = known.log_lines != log_lines || known.has_ended != has_ended;
                    *known = Progress { log_lines, has_ended };
                    is_news
                });
                if has_ended {
                    followed.remove(build);
                }
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<BuildId, watch::Sender<Progress>>) -> T) -> T {
        // Whole between any two statements of its users, so a panic elsewhere does not spoil it.
        work(&mut self.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Builds {
    /// How far a build is that another server runs; none if nobody does, as far as is known.
    pub(super) async fn elsewhere(&self, build: BuildId) -> Result<Option<watch::Receiver<Progress>>, StoreError> {
        if self.inner.store.shared_builds().is_none() {
            return Ok(None);
        }
        let known = self.inner.store.build(build).await?;
        let is_running = known.is_some_and(|known| known.status == BuildStatus::Running);
        Ok(is_running.then(|| self.inner.elsewhere.follow(build)))
    }

    /// Has the others know who runs a build before anybody hears that it runs.
    pub(super) async fn claim(&self) {
        if let Some(shared) = self.inner.store.shared_builds() {
            // Who cannot tell them now does so within a moment, or warns that it cannot.
            let _ = self.keep(shared).await;
        }
    }

    /// Tells the others what runs here, and cancels what they want cancelled.
    async fn keep(&self, shared: &dyn SharedBuilds) -> Result<(), StoreError> {
        // One after the other: what runs now is never told before what ran a moment ago.
        let _telling = self.inner.telling.lock().await;
        let running: Vec<_> = self.under_way().running.keys().copied().collect();
        if running.is_empty() {
            return Ok(());
        }
        for (build, by) in shared.keep_builds(&self.inner.server, running).await? {
            if let Some(running) = self.running(build) {
                running.cancel_by(&by);
            }
        }
        Ok(())
    }

    /// Learns how far the others are with what somebody here looks at.
    async fn learn(&self, shared: &dyn SharedBuilds) -> Result<(), StoreError> {
        let followed = self.inner.elsewhere.followed();
        if !followed.is_empty() {
            let progress = shared.progress(followed.clone()).await?;
            self.inner.elsewhere.tell(&followed, &progress);
        }
        Ok(())
    }
}

/// Keeps in touch with the other servers, for as long as the builds' handle lives.
pub(super) async fn keep_in_touch(builds: Weak<Inner>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        ticks.tick().await;
        let Some(inner) = builds.upgrade() else { return };
        let builds = Builds { inner };
        let Some(shared) = builds.inner.store.shared_builds() else { return };
        let (kept, learnt) = tokio::join!(builds.keep(shared), builds.learn(shared));
        match kept.and(learnt) {
            Ok(()) => is_away = false,
            Err(StoreError::Closed) => return,
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(%error, "cannot keep in touch with other servers");
                }
            }
        }
    }
}
