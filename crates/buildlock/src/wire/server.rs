//! The server and its store.

use std::time::Duration;

use buildlock_core::Holder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::optional_seconds;
use crate::keys::Role;
use crate::store::{EventId, Finding, Retention};

/// Who a client is to the server, and where the store stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeJson {
    /// The holder of what the client locks.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// What the client may do: `user`, `service` or `operator`.
    #[schema(value_type = String, example = "service")]
    pub role: Role,
    /// The version of the store's tables.
    pub store_version: u32,
    /// The newest event.
    #[schema(value_type = u64)]
    pub newest_event: EventId,
}

/// A link with which somebody signs in to a server's page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignInLinkJson {
    /// It works once.
    pub url: String,
    /// Until when it works.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// What time had made due is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettledJson {
    /// In how many seconds something is next due, as far as it is known by now.
    #[serde(default, with = "optional_seconds")]
    #[schema(value_type = Option<f64>)]
    pub next_due_in: Option<Duration>,
}

/// How long history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionJson {
    /// The age in seconds at which events go; for ever if there is none.
    #[serde(default, with = "optional_seconds")]
    #[schema(value_type = Option<f64>)]
    pub keep_for: Option<Duration>,
    /// How many events are kept beside the last day's; all if there is none.
    #[serde(default)]
    pub keep_last: Option<u64>,
}

impl From<Retention> for RetentionJson {
    fn from(retention: Retention) -> Self {
        Self { keep_for: retention.max_age, keep_last: retention.max_events }
    }
}

impl From<RetentionJson> for Retention {
    fn from(json: RetentionJson) -> Self {
        Self { max_age: json.keep_for, max_events: json.keep_last }
    }
}

/// What a checkup of the store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckupJson {
    /// What was looked at, and how it is.
    #[schema(value_type = Vec<Object>)]
    pub findings: Vec<Finding>,
}
