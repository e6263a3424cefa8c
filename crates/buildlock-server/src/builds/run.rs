//! One build from its start to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{Build, BuildEnd, BuildStatus, LeaseGuard, LockError, Loss, since_boot};
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::log::Log;
use super::{Builds, Running, kill_builds};
use crate::config::{Builder, OperationConfig};
use crate::metrics::{self, RunningBuild};

/// How long a build whose lease somebody ended may take to stop: another may have been granted
/// already, so it is short.
const GRACE_WHEN_ENDED: Duration = Duration::from_secs(2);

/// How soon to try again to put a build's end on record.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// A build that runs.
pub(super) struct Run {
    pub(super) builds: Builds,
    pub(super) build: Build,
    pub(super) operation: OperationConfig,
    /// What the builder is given.
    pub(super) input: Map<String, Value>,
    /// Whether somebody takes the answer of an upstream.
    pub(super) takes_answer: bool,
    pub(super) running: Arc<Running>,
}

/// Why a build must stop before its builder is done.
#[derive(Debug)]
pub(super) enum MustStop {
    Lost(Box<Loss>),
    Cancelled(String),
    TimeIsUp(Duration),
}

impl MustStop {
    /// How the build has ended then.
    pub(super) fn end(self, exit_code: Option<i32>) -> BuildEnd {
        let (status, reason) = match self {
            MustStop::Lost(loss) => (BuildStatus::Lost, format!("its lease was lost: {loss}")),
            MustStop::Cancelled(reason) => (BuildStatus::Cancelled, reason),
            MustStop::TimeIsUp(limit) => {
                (BuildStatus::Failed, format!("it took longer than its time limit of {} s", limit.as_secs_f64()))
            }
        };
        BuildEnd { status, exit_code, reason: Some(reason) }
    }
}

/// Watches what can end a build early.
pub(super) struct Watch<'a> {
    lease: &'a LeaseGuard,
    running: &'a Running,
    operation: &'a OperationConfig,
    over_at: Instant,
    /// What it must stop for, once that is known.
    pub(super) must_stop: Option<MustStop>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(run: &'a Run, lease: &'a LeaseGuard) -> Self {
        Self {
            lease,
            running: &run.running,
            operation: &run.operation,
            over_at: Instant::now() + run.operation.time_limit,
            must_stop: None,
        }
    }

    /// Resolves with a grace period when the build must stop; again if it must stop sooner, because its
    /// lease is lost as well. Cancel-safe.
    pub(super) async fn must_stop(&mut self) -> Duration {
        if matches!(self.must_stop, Some(MustStop::Lost(_))) {
            return std::future::pending().await;
        }
        let mut cancelled = self.running.cancelled.subscribe();
        let is_stopping = self.must_stop.is_some();
        let must_stop = tokio::select! {
            loss = self.lease.lost() => MustStop::Lost(Box::new(loss)),
            () = sleep_until(self.over_at), if !is_stopping => MustStop::TimeIsUp(self.operation.time_limit),
            // The sender lives in `running`.
            Ok(reason) = cancelled.wait_for(Option::is_some), if !is_stopping => {
                MustStop::Cancelled(reason.clone().unwrap_or_default())
            }
        };
        let grace = match &must_stop {
            MustStop::Lost(loss) => match &**loss {
                Loss::Ended { .. } | Loss::Unknown { .. } => GRACE_WHEN_ENDED,
                Loss::NotRenewed { .. } => self.lease.deadline().kill_at().saturating_sub(since_boot()),
            },
            MustStop::Cancelled(_) | MustStop::TimeIsUp(_) => self.operation.cancel_grace,
        };
        self.must_stop = Some(must_stop);
        grace
    }
}

impl Run {
    /// Runs the build; then its log is complete, its end on record, and its lease ended, in this order.
    pub(super) async fn carry_out(self, lease: LeaseGuard, slot: OwnedSemaphorePermit) {
        let id = self.build.id;
        let inner = &self.builds.inner;
        let counted = RunningBuild::new();
        let (log, writing) = Log::begin(Arc::clone(&inner.store), id, Arc::clone(&self.running), &inner.config);
        let build = async {
            match &self.operation.builder {
                Builder::Command(command) => self.command(command, &lease, &log).await,
                Builder::Upstream(url) => self.upstream(url, &lease, &log).await,
            }
        };
        let end = match AssertUnwindSafe(build).catch_unwind().await {
            Ok(end) => end,
            Err(_) => {
                // Its project would be locked, and the build shown as running, until the server ends.
                kill_builds(vec![id]).await;
                let reason = Some("buildlock itself failed; its own log says more".to_owned());
                BuildEnd { status: BuildStatus::Failed, exit_code: None, reason }
            }
        };
        drop(log);
        // It fails only if it panics, which is in the log of the server then.
        let _ = writing.await;
        drop(counted);
        metrics::build_ended(end.status);
        self.record(end).await;
        match lease.unlock().await {
            Ok(_) | Err(LockError::Lost(_)) => {}
            Err(error) => tracing::warn!(%error, build = %id, "cannot unlock; the lease ends by itself"),
        }
        drop(slot);
        self.running.progress.send_modify(|progress| progress.has_ended = true);
        self.builds.under_way().running.remove(&id);
        self.builds.inner.ended.send_replace(());
    }

    /// Puts the end on record. A store that cannot take it is asked until it can: the build would be
    /// shown as running for ever.
    async fn record(&self, end: BuildEnd) {
        let id = self.build.id;
        tracing::info!(build = %id, status = end.status.as_str(), "a build has ended");
        loop {
            match self.builds.inner.store.end_build(id, end.clone()).await {
                Err(error) if error.may_pass() => sleep(RETRY_EVERY).await,
                Err(error) => return tracing::error!(%error, build = %id, "cannot put a build's end on record"),
                Ok(_) => return,
            }
        }
    }
}
