//! Who sends a request, and what they may do.

use buildlock::{Holder, ProjectId, Role, Status};

use crate::problem::Problem;

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// In whose name: the key's owner, or for a service and an operator whom they name in the header
    /// `Buildlock-Holder`.
    pub(crate) holder: Holder,
    pub(crate) role: Role,
}

impl Caller {
    /// Whether a project is the caller's to see and lock.
    pub(crate) fn may_see(&self, status: &Status) -> bool {
        self.role != Role::User || status.owner == self.holder
    }

    /// A project as the caller may see it: what is somebody else's is unknown.
    pub(crate) fn own(&self, project: &ProjectId, status: Option<Status>) -> Result<Status, Problem> {
        status.filter(|status| self.may_see(status)).ok_or_else(|| Problem::project_not_found(project))
    }

    /// # Errors
    ///
    /// [`Problem`] unless the caller is an operator.
    pub(crate) fn must_be_operator(&self) -> Result<(), Problem> {
        if self.role == Role::Operator { Ok(()) } else { Err(Problem::forbidden("only an operator may do this")) }
    }
}
