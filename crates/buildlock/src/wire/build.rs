//! Builds and their logs.

use buildlock_core::{Holder, Operation, ProjectId, Token};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;
use crate::builds::{Build, BuildId, BuildStatus, LogLine, LogStream};

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildJson {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// The project that it builds.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// What it does.
    #[schema(value_type = String, example = "generate")]
    pub operation: Operation,
    /// Who asked for it.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// Its lease's fencing token.
    #[schema(value_type = u64)]
    pub token: Token,
    /// `running`, `succeeded`, `failed`, `cancelled` or `lost`.
    #[schema(value_type = String, example = "running")]
    pub status: BuildStatus,
    /// The builder's exit code: 128 + n for signal n; of an upstream, the HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended as it did, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// How many lines its log has.
    pub log_lines: u64,
}

/// The id of the request is left out: to know it is to be able to take the lock back.
impl From<&Build> for BuildJson {
    fn from(build: &Build) -> Self {
        Self {
            id: build.id,
            project: build.project.clone(),
            operation: build.operation.clone(),
            holder: build.holder.clone(),
            token: build.token,
            status: build.status,
            exit_code: build.exit_code,
            reason: build.reason.clone(),
            started_at: time(build.started_at),
            ended_at: build.ended_at.map(time),
            log_lines: build.log_lines,
        }
    }
}

/// Builds, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildsJson {
    /// The builds.
    pub builds: Vec<BuildJson>,
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLineJson {
    /// Its place: the first is 1, none is left out.
    pub number: u64,
    /// When the store took it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `stdout`, `stderr`, or `system` for buildlock's own words.
    #[schema(value_type = String, example = "stdout")]
    pub stream: LogStream,
    /// The line, without its end.
    pub text: String,
}

impl From<LogLine> for LogLineJson {
    fn from(line: LogLine) -> Self {
        Self { number: line.number, at: time(line.at), stream: line.stream, text: line.text }
    }
}
