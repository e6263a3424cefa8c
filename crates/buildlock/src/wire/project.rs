//! Projects and who waits for them.

use buildlock_core::{Holder, Message, Operation, ProjectId, RequestId, Ticket, Ttl};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LeaseJson, Viewer, time};
use crate::store::Status;

/// A project, and its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectJson {
    /// Its id.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub owner: Holder,
    /// `idle` or `processing`.
    #[schema(example = "idle")]
    pub build_status: String,
    /// The live lease.
    pub lease: Option<LeaseJson>,
    /// Who waits, in order.
    pub queue: Vec<WaiterJson>,
}

impl ProjectJson {
    /// A project, and its lock.
    pub fn seen_by(status: &Status, viewer: Viewer<'_>) -> Self {
        let lease = status.lease.as_ref();
        Self {
            project: status.project.clone(),
            owner: status.owner.clone(),
            build_status: status.build_status().to_owned(),
            lease: lease.map(|lease| LeaseJson::seen_by(&status.project, lease, viewer)),
            queue: status.queue.iter().map(|ticket| WaiterJson::seen_by(ticket, viewer)).collect(),
        }
    }
}

impl From<&Status> for ProjectJson {
    fn from(status: &Status) -> Self {
        Self::seen_by(status, Viewer::Anybody)
    }
}

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaiterJson {
    /// Who.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// What for.
    #[schema(value_type = String)]
    pub operation: Operation,
    /// Their word to others.
    #[schema(value_type = String)]
    pub message: Message,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Timestamp,
    /// The ticket's number, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
    /// How long the lease is to last unless renewed, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub ttl: Option<Ttl>,
    /// When the ticket ends unless its waiter keeps in touch, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub alive_until: Option<Timestamp>,
    /// The request that waits, for those who may take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request: Option<RequestId>,
}

impl WaiterJson {
    fn seen_by(ticket: &Ticket, viewer: Viewer<'_>) -> Self {
        let Ticket { number, request, queued_at, alive_until } = ticket;
        let for_client = viewer.is_client();
        Self {
            holder: request.holder.clone(),
            operation: request.operation.clone(),
            message: request.message.clone(),
            queued_at: time(*queued_at),
            ticket: for_client.then_some(number.0),
            ttl: for_client.then_some(request.ttl),
            alive_until: for_client.then(|| time(*alive_until)),
            request: viewer.request(&request.holder, request.id),
        }
    }
}

/// A page of projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectsJson {
    /// The projects, in the order of their ids.
    pub projects: Vec<ProjectJson>,
    /// What to send as `after` for the next page; none behind the last one. A page may be short, or
    /// even empty, and not the last.
    #[schema(value_type = Option<String>)]
    pub next: Option<ProjectId>,
}

/// A project that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewProjectJson {
    /// Its id.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub project: ProjectId,
}
