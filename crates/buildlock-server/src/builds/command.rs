//! Builders that are programs.
//!
//! A builder finds its request as JSON on standard input, what it must know of the build in variables
//! `BUILDLOCK_…`, and little else of the server's environment. It works in the folder of the settings'
//! file, so that `["sh", "generate.sh"]` finds its script; `BUILDLOCK_WORKSPACE` is the folder of its
//! project. Its output is the build's log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buildlock::{Build, BuildEnd, BuildStatus, LeaseGuard, LogStream, wire};
use buildlock_supervise::remote::{Output, RemoteChild, RemoteEnd};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::log::Log;
use super::run::{MustStop, Run, Watch};
use super::{MARK, kill_builds};
use crate::config::{CommandBuilder, PASSED_ALWAYS};

/// How long what a build has printed may take to be read once the build has ended. Only a process that
/// could not be killed holds its output open for longer.
const OUTPUT_ENDS_WITHIN: Duration = Duration::from_secs(10);

impl Run {
    /// Runs a program to its end, whatever ends it; nothing of it is left then.
    pub(super) async fn command(&self, builder: &CommandBuilder, lease: &LeaseGuard, log: &Log) -> BuildEnd {
        let (mut child, Output { stdout, stderr }) = match self.spawn(builder, lease).await {
            Ok(spawned) => spawned,
            Err(problem) => return failed(None, problem),
        };
        let mut reading = JoinSet::new();
        reading.spawn({
            let log = log.clone();
            async move { log.take(LogStream::Stdout, stdout).await }
        });
        reading.spawn({
            let log = log.clone();
            async move { log.take(LogStream::Stderr, stderr).await }
        });
        let mut watch = Watch::new(self, lease);
        let mut deadline = lease.deadline();
        child.allow_until(deadline.kill_at());
        let end = loop {
            tokio::select! {
                end = child.wait() => break end,
                renewed = lease.renewed(deadline) => {
                    deadline = renewed;
                    child.allow_until(deadline.kill_at());
                }
                grace = watch.must_stop() => child.stop(grace),
            }
        };
        if end == RemoteEnd::SupervisionKilled {
            kill_builds(vec![self.build.id]).await;
        }
        let read = async {
            while let Some(read) = reading.join_next().await {
                if let Ok(Err(error)) = read {
                    log.say(format!("the builder's output could not be read: {error}")).await;
                }
            }
        };
        if timeout(OUTPUT_ENDS_WITHIN, read).await.is_err() {
            log.say("a process that lives on holds the builder's output open; it is no longer read").await;
        }
        conclude(end, watch.must_stop, log).await
    }

    async fn spawn(&self, builder: &CommandBuilder, lease: &LeaseGuard) -> Result<(RemoteChild, Output), String> {
        let workspace = self.builds.workspace(&self.build.project);
        let made = tokio::fs::create_dir_all(&workspace).await;
        made.map_err(|error| format!("the workspace {} cannot be made: {error}", workspace.display()))?;
        let input = serde_json::to_string(&self.input).map_err(|error| error.to_string())?;
        let supervisor = &self.builds.inner.supervisor;
        let mut command = Command::new(&supervisor.program);
        command
            .args(&supervisor.arguments)
            .arg("--")
            .arg(&builder.program)
            .args(&builder.arguments)
            .current_dir(&self.builds.inner.config.folder)
            .env_clear();
        let passed = PASSED_ALWAYS.into_iter().chain(builder.pass_env.iter().map(String::as_str));
        command.envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&builder.env);
        command.envs(about(&self.build, lease, &workspace));
        RemoteChild::spawn(command, input).map_err(|error| format!("its supervision cannot be started: {error}"))
    }
}

/// What a builder must know of its build.
fn about(build: &Build, lease: &LeaseGuard, workspace: &Path) -> [(&'static str, PathBuf); 7] {
    [
        (MARK, build.id.to_string().into()),
        ("BUILDLOCK_PROJECT", build.project.as_str().into()),
        ("BUILDLOCK_OPERATION", build.operation.as_str().into()),
        ("BUILDLOCK_HOLDER", build.holder.as_str().into()),
        ("BUILDLOCK_TOKEN", build.token.to_string().into()),
        ("BUILDLOCK_EXPIRES_AT", wire::time(lease.ends_at()).to_string().into()),
        ("BUILDLOCK_WORKSPACE", workspace.to_owned()),
    ]
}

/// What has become of the build, with a word in its log on all that its reader should know.
async fn conclude(end: RemoteEnd, must_stop: Option<MustStop>, log: &Log) -> BuildEnd {
    let end = match end {
        RemoteEnd::NotStarted { exit_code, problem } => failed(Some(exit_code.into()), problem),
        RemoteEnd::Ended { exit_code, stopped, survivors, is_overdue } => {
            if !stopped.is_empty() {
                let what = match &must_stop {
                    Some(_) => "stopped",
                    None => "the builder left processes behind; stopped",
                };
                log.say(format!("{what}: {}", stopped.join(", "))).await;
            }
            if !survivors.is_empty() {
                let list = survivors.join(", ");
                log.say(format!("these could not be stopped, end them by hand: {list}")).await;
            }
            let exit_code = exit_code.map(i32::from);
            match (must_stop, exit_code) {
                (Some(must_stop), _) => must_stop.end(exit_code),
                (None, _) if is_overdue => BuildEnd {
                    status: BuildStatus::Lost,
                    exit_code,
                    reason: Some("the server did not renew its lease in time".to_owned()),
                },
                (None, Some(0)) => BuildEnd { status: BuildStatus::Succeeded, exit_code, reason: None },
                (None, Some(code)) => failed(exit_code, how_it_ended(code)),
                (None, None) => failed(None, "it could not be stopped".to_owned()),
            }
        }
        RemoteEnd::SupervisionKilled => {
            let killed = || failed(None, "its supervision was killed, and so was all of it".to_owned());
            must_stop.map_or_else(killed, |must_stop| must_stop.end(None))
        }
    };
    if let Some(reason) = &end.reason {
        log.say(reason.clone()).await;
    }
    end
}

fn failed(exit_code: Option<i32>, reason: String) -> BuildEnd {
    BuildEnd { status: BuildStatus::Failed, exit_code, reason: Some(reason) }
}

fn how_it_ended(code: i32) -> String {
    match code {
        129.. => format!("the builder ended with exit code {code}, as if by signal {}", code - 128),
        _ => format!("the builder ended with exit code {code}"),
    }
}
