//! A failure as a client reads it.

use buildlock_core::ProjectId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BuildJson, EndedJson, LockJson};

/// Why a request failed: problem details (RFC 9457).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemJson {
    /// Stable, for programs.
    #[schema(example = "PROJECT_LOCKED")]
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// What kind of problem this is, for people.
    pub title: String,
    /// What happened, to what, and what to do now, for people.
    pub detail: String,
    /// What of the request is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The project that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Who is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Box<LockJson>>,
    /// The lease that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<EndedJson>>,
    /// The build that has not succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Box<BuildJson>>,
    /// The last lines of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<Vec<String>>,
}
