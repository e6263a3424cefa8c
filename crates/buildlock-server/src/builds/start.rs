//! From an order to a build that runs.
//!
//! A request is started once, whoever sends it how often: those who send it again while it is under way
//! join it (rule 4). A caller that goes away while it waits in line keeps its place for a while if its
//! request can be repeated, that is, has an id that the caller knows.

use std::sync::Arc;
use std::time::Duration;

use buildlock::{
    Build, BuildId, Holder, LeaseGuard, LockError, LockRequest, Message, NewBuild, Operation, ProjectId, RequestId,
    StoreError, TICKET_LIFE, Wait,
};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::run::Run;
use super::{Builds, Running};

/// A build that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct BuildOrder {
    pub(crate) project: ProjectId,
    pub(crate) operation: Operation,
    /// Who asks, and will hold the lease.
    pub(crate) holder: Holder,
    /// A word to those who find the project locked.
    pub(crate) message: Message,
    /// The request's id, if the caller has chosen one and can repeat it.
    pub(crate) request: Option<RequestId>,
    /// How long to wait in line.
    pub(crate) wait: Wait,
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

/// A request on its way to a build.
pub(super) struct Starting {
    /// The build, once it runs; closed without one if there will be none. Its receivers are those who
    /// wait for it.
    outcome: watch::Sender<Option<BuildId>>,
    /// Changes when somebody joins, and when all is to be given up.
    joined: watch::Sender<()>,
    gives_up: watch::Sender<bool>,
    /// How long the place in line is kept when nobody is left who waits.
    kept_for: Duration,
}

impl Starting {
    /// Leaves the line; what has been granted still runs.
    pub(super) fn give_up(&self) {
        self.gives_up.send_replace(true);
    }

    /// Resolves when nobody waits for it any more and its time to be taken up again is over, or the
    /// server is about to stop.
    async fn abandoned(&self) -> StartError {
        let mut gives_up = self.gives_up.subscribe();
        let left_alone = async {
            loop {
                self.outcome.closed().await;
                sleep(self.kept_for).await;
                if self.outcome.is_closed() {
                    break;
                }
            }
        };
        tokio::select! {
            () = left_alone => {}
            _ = gives_up.wait_for(|gives_up| *gives_up) => {}
        }
        StartError::Stopping
    }
}

impl Builds {
    /// Starts a build under its project's lock, waiting in line for as long as the order says. Answers
    /// when it runs and is on record. The request of a build that there is already gives that one.
    ///
    /// To drop the future does not end the build. It gives up the place in line, after a while if the
    /// request has an id of the caller's.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing was changed then.
    pub(crate) async fn start(&self, order: BuildOrder) -> Result<Started, StartError> {
        if !self.inner.operations.contains_key(&order.operation) {
            let known: Vec<&str> = self.operations().map(Operation::as_str).collect();
            let known = if known.is_empty() { "none; set one in buildlock.toml".to_owned() } else { known.join(", ") };
            return Err(StartError::UnknownOperation { operation: order.operation.as_str().to_owned(), known });
        }
        let request = order.request.unwrap_or_else(RequestId::fresh);
        loop {
            if order.request.is_some()
                && let Some(build) = self.inner.store.build_of_request(request).await?
            {
                return same(&order, build);
            }
            match self.join_or_begin(request, &order)? {
                Turn::Mine { starting, waiting } => {
                    // A task of its own: it goes on when this future is dropped.
                    let started = tokio::spawn(self.clone().begin(request, order, starting)).await;
                    drop(waiting);
                    return started.unwrap_or(Err(StartError::Stopping));
                }
                Turn::Joined { mut outcome } => {
                    // Whatever came of it is found by the next look.
                    let _ = outcome.wait_for(Option::is_some).await;
                }
            }
        }
    }

    fn join_or_begin(&self, request: RequestId, order: &BuildOrder) -> Result<Turn, StartError> {
        let mut under_way = self.under_way();
        if under_way.is_draining {
            return Err(StartError::Stopping);
        }
        if let Some(starting) = under_way.starting.get(&request) {
            let outcome = starting.outcome.subscribe();
            starting.joined.send_replace(());
            return Ok(Turn::Joined { outcome });
        }
        let starting = Arc::new(Starting {
            outcome: watch::Sender::new(None),
            joined: watch::Sender::default(),
            gives_up: watch::Sender::new(false),
            kept_for: if order.request.is_some() { TICKET_LIFE } else { Duration::ZERO },
        });
        under_way.starting.insert(request, Arc::clone(&starting));
        Ok(Turn::Mine { waiting: starting.outcome.subscribe(), starting })
    }

    async fn begin(
        self,
        request: RequestId,
        order: BuildOrder,
        starting: Arc<Starting>,
    ) -> Result<Started, StartError> {
        // Whatever happens, nobody joins it any more then.
        let _left = Left { builds: &self, request };
        let (lease, slot) = tokio::select! {
            turn = self.turn(request, &order, &starting) => turn?,
            abandoned = starting.abandoned() => return Err(abandoned),
        };
        let started = self.run(request, order, lease, slot).await?;
        starting.outcome.send_replace(Some(started.build.id));
        Ok(started)
    }

    /// The project's lock, and room for one more build.
    async fn turn(
        &self,
        request: RequestId,
        order: &BuildOrder,
        starting: &Starting,
    ) -> Result<(LeaseGuard, OwnedSemaphorePermit), StartError> {
        let over_at = Instant::now() + order.wait.get();
        let ttl = self.inner.operations.get(&order.operation).map(|operation| operation.ttl).unwrap_or_default();
        let lock = LockRequest {
            id: request,
            holder: order.holder.clone(),
            operation: order.operation.clone(),
            message: order.message.clone(),
            ttl,
        };
        let mut joined = starting.joined.subscribe();
        let lease = self.inner.service.lock(&order.project, lock, order.wait).await?;
        let slot = Arc::clone(&self.inner.slots).acquire_owned();
        let slot = timeout_at(over_at, slot).await.ok().and_then(Result::ok).ok_or(StartError::TooMany)?;
        // Nobody is there: the build begins when somebody comes back for it, or not at all.
        while starting.outcome.is_closed() {
            let _ = joined.changed().await;
        }
        Ok((lease, slot))
    }

    /// Puts the build on record, and has it run.
    async fn run(
        &self,
        request: RequestId,
        order: BuildOrder,
        lease: LeaseGuard,
        slot: OwnedSemaphorePermit,
    ) -> Result<Started, StartError> {
        let Some(operation) = self.inner.operations.get(&order.operation).cloned() else {
            return Err(StartError::Stopping);
        };
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
        let recorded = self.inner.store.start_build(new).await;
        if !recorded.as_ref().is_ok_and(|build| build.id == id) {
            self.under_way().running.remove(&id);
        }
        let build = recorded?;
        if build.id != id {
            // Another server's, or one whose answer was lost: it has the lease.
            lease.keep();
            return same(&order, build);
        }
        let run = Run { builds: self.clone(), build: build.clone(), operation, input: order.input, running };
        tokio::spawn(run.to_the_end(lease, slot));
        Ok(Started { build, is_new: true })
    }
}

/// What is to be done with a request.
enum Turn {
    /// Begin it; the place in line is kept while `waiting` lives.
    Mine { starting: Arc<Starting>, waiting: watch::Receiver<Option<BuildId>> },
    /// It is under way.
    Joined { outcome: watch::Receiver<Option<BuildId>> },
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

/// Takes a request out of those that are under way when it is dropped.
struct Left<'a> {
    builds: &'a Builds,
    request: RequestId,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.builds.under_way().starting.remove(&self.request);
        self.builds.inner.ended.send_replace(());
    }
}
