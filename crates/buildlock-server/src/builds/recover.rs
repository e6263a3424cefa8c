//! What servers that are gone have left behind: builds on record as running, leases, and processes.
//!
//! A server that has its store to itself sees to all of it when it starts. Servers that share a store see to
//! it as long as they live, and touch nothing that another may still run: a build is lost when its lease has
//! ended and no server says that it runs it.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use buildlock::{
    AbandonedBuild, Build, BuildEnd, BuildId, BuildStatus, Command, Holder, Reason, SharedBuilds, StoreError,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Builds, Inner, kill_builds};
use crate::metrics;

/// How many builds that have ended are looked at when a server starts: it bounds how long that takes.
const ENDED_AT_MOST: usize = 10_000;

/// How often abandoned builds are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a build must have been seen abandoned before it is lost: its server may be about to say how it
/// ended.
const SEEN_FOR: Duration = Duration::from_millis(400);

/// The same when the store was away a moment ago: other servers may not have found it again yet.
const SEEN_FOR_AFTER_OUTAGE: Duration = Duration::from_secs(3);

/// When no look came to an end for so long, the store was away, or this server stood still.
const OUTAGE: Duration = Duration::from_millis(1_500);

/// A moment ago.
const OUTAGE_COUNTS_FOR: Duration = Duration::from_secs(10);

/// How often leases are looked for whose build has ended.
const LOOK_AT_LEASES_EVERY: Duration = Duration::from_secs(1);

/// How far back. A server was killed, and others look, within a second; this has room for an outage.
const LEASES_LEFT_WITHIN: Duration = Duration::from_secs(60);

impl Builds {
    /// Ends what a server before this one has left behind, as far as it is nobody else's. Call it before any
    /// build is started.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot answer.
    pub(crate) async fn recover(&self) -> Result<(), StoreError> {
        let store = &self.inner.store;
        let longest_lease = self.inner.operations.values().map(|operation| operation.ttl).max().unwrap_or_default();
        let ended = store.builds_ended_within(longest_lease.get(), ENDED_AT_MOST).await?;
        let Some(shared) = store.shared_builds() else { return self.recover_alone(ended).await };
        // Another server may have said so while nobody could see to this machine's processes.
        let lost: Vec<_> =
            ended.iter().filter(|build| build.status == BuildStatus::Lost).map(|build| build.id).collect();
        kill_builds(lost).await;
        self.end_leases(shared.builds_that_left_a_lease(longest_lease.get()).await?).await
    }

    /// Builds on record as running are lost, their processes killed, their leases ended.
    async fn recover_alone(&self, ended: Vec<Build>) -> Result<(), StoreError> {
        const REASON: &str = "the server that ran it ended before it did";
        let store = &self.inner.store;
        // Most have no lease any more.
        self.end_leases(ended).await?;
        let left = store.running_builds().await?;
        kill_builds(left.iter().map(|build| build.id).collect()).await;
        for build in left {
            let Build { id, project, token, .. } = build;
            let end = BuildEnd { status: BuildStatus::Lost, exit_code: None, reason: Some(REASON.to_owned()) };
            store.end_build(id, end).await?;
            metrics::build_ended(BuildStatus::Lost);
            if let (Ok(by), Ok(reason)) = (Holder::new("buildlock"), Reason::new(REASON)) {
                // A lease that has ended meanwhile needs no end.
                store.apply(&project, Command::ForceUnlock { token, by, reason }).await?;
            }
            tracing::warn!(build = %id, "the build was lost with the server that ran it");
        }
        Ok(())
    }

    /// Ends the leases of builds that have ended: their server may have been killed between the end of the
    /// build, which it put on record, and the end of the lease.
    async fn end_leases(&self, ended: Vec<Build>) -> Result<(), StoreError> {
        for Build { project, token, holder, .. } in ended {
            self.inner.store.apply(&project, Command::Unlock { token, holder }).await?;
        }
        Ok(())
    }
}

/// Looks for what other servers have left behind, for as long as the builds' handle lives.
pub(super) async fn sweep(builds: Weak<Inner>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = Sweep { seen: HashMap::new(), looked_at: Instant::now(), outage_at: None, leases_looked_at: None };
    let mut is_away = false;
    loop {
        ticks.tick().await;
        let Some(inner) = builds.upgrade() else { return };
        let builds = Builds { inner };
        let Some(shared) = builds.inner.store.shared_builds() else { return };
        match sweep.look(&builds, shared).await {
            Ok(()) => is_away = false,
            Err(StoreError::Closed) => return,
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(%error, "cannot look for builds that were left behind");
                }
            }
        }
    }
}

/// What the looks before this one have shown.
struct Sweep {
    /// The builds that are abandoned, and since when that was seen.
    seen: HashMap<BuildId, Instant>,
    /// When the store last answered.
    looked_at: Instant,
    /// When it was last found again after an outage.
    outage_at: Option<Instant>,
    leases_looked_at: Option<Instant>,
}

impl Sweep {
    /// How long a build must have been seen abandoned, as of a look that the store has just answered.
    fn seen_for(&mut self, now: Instant) -> Duration {
        if now.duration_since(self.looked_at) >= OUTAGE {
            self.outage_at = Some(now);
            self.seen.clear();
        }
        self.looked_at = now;
        let is_after_outage = self.outage_at.is_some_and(|at| now.duration_since(at) < OUTAGE_COUNTS_FOR);
        if is_after_outage { SEEN_FOR_AFTER_OUTAGE } else { SEEN_FOR }
    }

    async fn look(&mut self, builds: &Builds, shared: &dyn SharedBuilds) -> Result<(), StoreError> {
        let abandoned = shared.abandoned_builds().await?;
        let now = Instant::now();
        let seen_for = self.seen_for(now);
        let seen_before = std::mem::take(&mut self.seen);
        for AbandonedBuild { build, server } in abandoned {
            let since = seen_before.get(&build).copied().unwrap_or(now);
            if now.duration_since(since) < seen_for {
                self.seen.insert(build, since);
                continue;
            }
            let server = server.map(|name| format!(", {name},")).unwrap_or_default();
            let reason = format!("its lease has ended, and the server that ran it{server} was not heard of any more");
            if shared.lose_build(build, reason).await? {
                metrics::build_ended(BuildStatus::Lost);
                tracing::warn!(%build, "the build was lost with the server that ran it");
                // Of a server on this machine; by now as a rule nothing is left.
                kill_builds(vec![build]).await;
            }
        }
        if self.leases_looked_at.is_none_or(|at| at.elapsed() >= LOOK_AT_LEASES_EVERY) {
            self.leases_looked_at = Some(now);
            builds.end_leases(shared.builds_that_left_a_lease(LEASES_LEFT_WITHIN).await?).await?;
        }
        Ok(())
    }
}
