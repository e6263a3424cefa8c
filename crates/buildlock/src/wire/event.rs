//! What happened.

use buildlock_core::{Event, EventKind, Holder, Message, Operation, ProjectId, Reason, RequestId, Token};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Viewer, time};
use crate::store::{EventId, Recorded};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventJson {
    /// Its place in the history.
    #[schema(value_type = u64)]
    pub id: EventId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// What.
    #[schema(value_type = String, example = "granted")]
    pub kind: EventKind,
    /// Whose lease or ticket.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// The fencing token, for a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub token: Option<Token>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub operation: Option<Operation>,
    /// The holder's word to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub message: Option<Message>,
    /// Who ended it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub by: Option<Holder>,
    /// Why, where a reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// The request that it is about, for those who may take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request: Option<RequestId>,
}

impl EventJson {
    /// Something that happened.
    pub fn seen_by(recorded: &Recorded, viewer: Viewer<'_>) -> Self {
        let Recorded { id, project, event } = recorded;
        let Event { at, kind, holder, token, operation, message, by, reason, request } = event.clone();
        let request = request.and_then(|request| viewer.request(&holder, request));
        let project = project.clone();
        Self { id: *id, at: time(at), project, kind, holder, token, operation, message, by, reason, request }
    }
}

impl From<&Recorded> for EventJson {
    fn from(recorded: &Recorded) -> Self {
        Self::seen_by(recorded, Viewer::Anybody)
    }
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryJson {
    /// The events.
    pub events: Vec<EventJson>,
}
