//! From an order to a build that runs.
//!
//! A request has one build, whoever sends it how often (rule 4). Whoever waits in line goes away when its
//! caller does. If the caller knows the request's id, nothing is taken back then: the ticket lives on for
//! a while, so that the request can be repeated, at the next server if this one stops. From the turn on
//! the caller is not needed any more.

use std::sync::Arc;

use buildlock::{
    Build, BuildId, Command, Holder, IfLocked, KEEP_IN_TOUCH_EVERY, LeaseGuard, LockError, LockRequest, Message,
    NewBuild, News, Operation, Outcome, Place, ProjectId, RequestId, StoreError, Wait,
};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::run::Run;
use super::{Builds, Running};
use crate::ServerStore;
use crate::config::OperationConfig;

/// A build that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct BuildOrder {
    pub(crate) project: ProjectId,
    pub(crate) operation: Operation,
    /// Who asks, and will hold the lease.
    pub(crate) holder: Holder,
    /// Whether the project must be the holder's own.
    pub(crate) only_own: bool,
    /// A word to those who find the project locked.
    pub(crate) message: Message,
    /// The request's id, if the caller has chosen one and can repeat it.
    pub(crate) request: Option<RequestId>,
    /// How long to wait in line.
    pub(crate) wait: Wait,
    /// Whether the caller takes the answer of an upstream as it comes ([`Builds::upstream_answer`]).
    pub(crate) takes_answer: bool,
    /// What the builder is given.
    pub(crate) input: Map<String, Value>,
}

/// A build that was started, now or by the same request before.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) build: Build,
    /// Whether it was this order that started it.
    pub(crate) is_new: bool,
}

/// Why a build was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("no builder is set for {operation:?}; known: {known}")]
    UnknownOperation { operation: String, known: String },
    #[error("the project is somebody else's")]
    NotOwn,
    #[error("the request id was used before for another build; use a new one")]
    RequestReused,
    #[error("as many builds run as this server takes on")]
    TooMany,
    #[error("the server is about to stop")]
    Stopping,
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Builds {
    /// Starts a build under its project's lock, waiting in line for as long as the order says. Answers
    /// when it runs and is on record. The request of a build that there is already gives that one.
    ///
    /// To drop the future gives up the place in line, at once if nobody can repeat the request. It does
    /// not end the build.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing was changed then.
    pub(crate) async fn start(&self, order: BuildOrder) -> Result<Started, StartError> {
        let operation = self.operation(&order.operation)?.clone();
        let starting = self.begin_to_start()?;
        let request = order.request.unwrap_or_else(RequestId::fresh);
        if let Some(started) = self.started_before(&order, request).await? {
            return Ok(started);
        }
        let lock = LockRequest {
            id: request,
            holder: order.holder.clone(),
            operation: order.operation.clone(),
            message: order.message.clone(),
            ttl: operation.ttl,
        };
        let over_at = Instant::now() + order.wait.get();
        self.must_be_own(&order).await?;
        if order.wait != Wait::NONE {
            self.wait_in_line(&order, &lock, over_at).await?;
        }
        let builds = self.clone();
        // A task of its own: it goes on when this future is dropped.
        let start = tokio::spawn(async move {
            let _starting = starting;
            let lease = match builds.inner.service.lock(&order.project, lock, Wait::NONE).await {
                // The same request, sent twice at once, may have come first and be done already.
                Err(LockError::Lost(loss)) => {
                    let before = builds.started_before(&order, request).await?;
                    return before.ok_or(StartError::Lock(LockError::Lost(loss)));
                }
                lease => lease?,
            };
            // Somebody else may have made the project in the meantime.
            builds.must_be_own(&order).await?;
            let slot = Arc::clone(&builds.inner.slots).acquire_owned();
            let slot = timeout_at(over_at, slot).await.ok().and_then(Result::ok).ok_or(StartError::TooMany)?;
            builds.run(request, order, operation, lease, slot).await
        });
        start.await.unwrap_or(Err(StartError::Stopping))
    }

    fn operation(&self, operation: &Operation) -> Result<&OperationConfig, StartError> {
        self.inner.operations.get(operation).ok_or_else(|| {
            let known: Vec<&str> = self.inner.operations.keys().map(Operation::as_str).collect();
            let known = if known.is_empty() { "none; set one in buildlock.toml".to_owned() } else { known.join(", ") };
            StartError::UnknownOperation { operation: operation.as_str().to_owned(), known }
        })
    }

    fn begin_to_start(&self) -> Result<BeingStarted, StartError> {
        let mut under_way = self.under_way();
        if *self.inner.draining.borrow() {
            return Err(StartError::Stopping);
        }
        under_way.starting += 1;
        Ok(BeingStarted { builds: self.clone() })
    }

    /// The build that the request has already.
    async fn started_before(&self, order: &BuildOrder, request: RequestId) -> Result<Option<Started>, StartError> {
        match self.inner.store.build_of_request(request).await? {
            Some(build) => same(order, build).map(Some),
            None => Ok(None),
        }
    }

    /// What is nobody's yet may be built: it comes into being.
    async fn must_be_own(&self, order: &BuildOrder) -> Result<(), StartError> {
        if order.only_own
            && let Some(status) = self.inner.store.status(&order.project).await?
            && status.owner != order.holder
        {
            return Err(StartError::NotOwn);
        }
        Ok(())
    }

    /// Waits in line until the project is locked for the request.
    async fn wait_in_line(&self, order: &BuildOrder, lock: &LockRequest, over_at: Instant) -> Result<(), StartError> {
        let store = &self.inner.store;
        let project = &order.project;
        let mut draining = self.inner.draining.subscribe();
        let turn = store.watch(project, News::Turn(lock.id));
        let mut taken_back =
            TakeBack { store: Arc::clone(store), project, request: lock.id, is_due: order.request.is_none() };
        loop {
            let command = Command::Lock { request: lock.clone(), if_locked: IfLocked::Queue };
            let place: Place = match store.apply(project, command).await?.outcome {
                Outcome::Held(_) => {
                    taken_back.is_due = false;
                    return Ok(());
                }
                Outcome::Queued(place) => place,
                outcome => {
                    taken_back.is_due = false;
                    return Err(LockError::from(outcome).into());
                }
            };
            if Instant::now() >= over_at {
                taken_back.is_due = true;
                return Err(LockError::WaitOver(Box::new(place)).into());
            }
            tokio::select! {
                () = turn.changed() => {}
                () = sleep_until(over_at.min(Instant::now() + KEEP_IN_TOUCH_EVERY)) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(StartError::Stopping),
            }
        }
    }

    /// Puts the build on record, and has it run.
    async fn run(
        &self,
        request: RequestId,
        order: BuildOrder,
        operation: OperationConfig,
        lease: LeaseGuard,
        slot: OwnedSemaphorePermit,
    ) -> Result<Started, StartError> {
        let id = BuildId::fresh();
        let running = Arc::new(Running::new());
        // Before it is on record, so that whoever finds it there can follow it.
        self.under_way().running.insert(id, Arc::clone(&running));
        let new = NewBuild {
            id,
            project: order.project.clone(),
            operation: order.operation.clone(),
            holder: order.holder.clone(),
            token: lease.token,
            request,
        };
        let (recorded, ()) = tokio::join!(self.inner.store.start_build(new), self.claim());
        if !recorded.as_ref().is_ok_and(|build| build.id == id) {
            self.under_way().running.remove(&id);
        }
        let build = recorded?;
        if build.id != id {
            // The same request, sent twice at once, has come first: that build has the lease.
            lease.keep();
            return same(&order, build);
        }
        let BuildOrder { input, takes_answer, .. } = order;
        let run = Run { builds: self.clone(), build: build.clone(), operation, input, takes_answer, running };
        tokio::spawn(run.carry_out(lease, slot));
        Ok(Started { build, is_new: true })
    }
}

/// A build that there is already, if it is what the order wants.
fn same(order: &BuildOrder, build: Build) -> Result<Started, StartError> {
    let wanted = (&order.project, &order.operation, &order.holder);
    if wanted == (&build.project, &build.operation, &build.holder) {
        Ok(Started { build, is_new: false })
    } else {
        Err(StartError::RequestReused)
    }
}

/// Counts an order that is under way until it is dropped.
struct BeingStarted {
    builds: Builds,
}

impl Drop for BeingStarted {
    fn drop(&mut self) {
        self.builds.under_way().starting -= 1;
        self.builds.inner.ended.send_replace(());
    }
}

/// Takes a request back that nobody can repeat, when it is dropped.
struct TakeBack<'a> {
    store: Arc<dyn ServerStore>,
    project: &'a ProjectId,
    request: RequestId,
    is_due: bool,
}

impl Drop for TakeBack<'_> {
    fn drop(&mut self) {
        if self.is_due {
            self.store.send(self.project, Command::Withdraw { request: self.request });
        }
    }
}
