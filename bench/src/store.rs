//! buildlock under the load generator: a store in this process.

use std::sync::Arc;

use anyhow::{Result, bail};
use buildlock::{Command, Holder, IfLocked, LockRequest, LockStore, Operation, Outcome, ProjectId, Token};

use crate::load::Caller;

/// Locks and unlocks one project.
pub(crate) struct StoreCaller {
    store: Arc<dyn LockStore>,
    project: ProjectId,
    holder: Holder,
}

impl StoreCaller {
    pub(crate) fn new(store: &(impl LockStore + Clone + 'static), project: &str) -> Result<Self> {
        Ok(Self { store: Arc::new(store.clone()), project: project.parse()?, holder: "bench".parse()? })
    }

    /// This many callers, each on its own project.
    pub(crate) fn many(store: &(impl LockStore + Clone + 'static), count: usize) -> Result<Vec<Self>> {
        (0..count).map(|number| Self::new(store, &format!("caller-{number}"))).collect()
    }

    pub(crate) async fn lock(&self, request: LockRequest) -> Result<Token> {
        let lock = Command::Lock { request, if_locked: IfLocked::Refuse };
        match self.store.apply(&self.project, lock).await?.outcome {
            Outcome::Held(lease) => Ok(lease.token),
            outcome => bail!("not locked: {outcome:?}"),
        }
    }

    pub(crate) async fn unlock(&self, token: Token) -> Result<()> {
        let unlock = Command::Unlock { token, holder: self.holder.clone() };
        match self.store.apply(&self.project, unlock).await?.outcome {
            Outcome::Ended(_) => Ok(()),
            outcome => bail!("not unlocked: {outcome:?}"),
        }
    }

    pub(crate) fn request(&self) -> LockRequest {
        LockRequest::new(self.holder.clone(), Operation::default())
    }
}

impl Caller for StoreCaller {
    async fn cycle(&mut self) -> Result<()> {
        let token = self.lock(self.request()).await?;
        self.unlock(token).await
    }
}
