//! The builds that this command runs in: whoever asks for the project of one of them would wait for
//! itself.

use std::env;

use buildlock::{LockStore, ProjectId, Token};

use crate::exit::Failure;
use crate::text;

/// Where a build finds the builds that it runs in, as a JSON array of `[store, project, token]`:
/// outermost first.
const VARIABLE: &str = "BUILDLOCK_WITHIN";

pub(super) struct Within(Vec<(String, ProjectId, Token)>);

impl Within {
    /// What is no such list was set by somebody else, and says nothing.
    pub(super) fn from_env() -> Self {
        Self(env::var(VARIABLE).ok().and_then(|within| serde_json::from_str(&within).ok()).unwrap_or_default())
    }

    /// Refuses a request for a project whose lease one of these builds still has.
    pub(super) async fn refuse(
        &self,
        store: &dyn LockStore,
        url: &str,
        project: &ProjectId,
        exit_code: u8,
    ) -> Result<(), Failure> {
        let mut outer = self.0.iter().filter(|(outer_url, outer, _)| outer_url == url && outer == project);
        let Some((.., token)) = outer.next() else { return Ok(()) };
        let status = store.status(project).await?;
        let is_held = status.and_then(|status| status.lease).is_some_and(|lease| lease.token == *token);
        if !is_held {
            return Ok(());
        }
        let text = format!(
            "this already runs inside a build of {} (token {token}), which would wait for itself; \
             do the work without locking it again",
            text::quoted(project)
        );
        Err(Failure::new(exit_code, "PROJECT_LOCKED", text))
    }

    /// The variable for a build that runs in these and has this lease.
    pub(super) fn and(
        mut self,
        url: String,
        project: &ProjectId,
        token: Token,
    ) -> Result<(&'static str, String), Failure> {
        self.0.push((url, project.clone(), token));
        Ok((VARIABLE, serde_json::to_string(&self.0).map_err(std::io::Error::from)?))
    }
}
