//! What every store that keeps builds and keys must do, beside what `conformance` says of locks. A
//! store's test file says `builds_conformance!(ItsWorld);` and gets one test for each case; the cases
//! are here, by topic, and know no store by name.
//!
//! A case that is not in the list below is dead code, which the build refuses.

pub(crate) mod builds;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod pruning;

use std::time::Duration;

use buildlock::{Build, BuildEnd, BuildId, BuildStatus, BuildStore, KeyStore, LockStore, LogStream, NewBuild};

use crate::support::ask::{Ask, project};

/// A store of one's own, with nothing in it and a clock that the case can move.
pub(crate) trait World: Send + Sync + Sized + 'static {
    type Store: LockStore + BuildStore + KeyStore + Clone + 'static;

    async fn fresh() -> Self;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// The same store as another process has it.
    async fn another(&self) -> Self::Store;

    /// Closes the store, and opens it again as the next process would.
    async fn reopen(&mut self);

    /// The store's time goes on, for all who use it.
    fn advance(&self, time: Duration);
}

/// Short ways to have builds on record.
pub(crate) trait Builds: LockStore + BuildStore + Sized {
    /// A new build of this project under a lease of Ana's, which has ended by now.
    async fn new_build(&self, site: &str) -> NewBuild {
        let held = self.held(site, "ana").await;
        self.unlock(site, &held).await;
        NewBuild {
            id: BuildId::fresh(),
            project: project(site),
            operation: held.operation,
            holder: held.holder,
            token: held.token,
            request: held.request,
        }
    }

    /// A new build that runs.
    async fn running(&self, site: &str) -> Build {
        let new = self.new_build(site).await;
        self.start_build(new).await.unwrap()
    }

    /// A new build that has ended well, with so many lines of ten bytes in its log.
    async fn finished(&self, site: &str, lines: usize) -> Build {
        let running = self.running(site).await;
        self.say(&running, &vec!["0123456789"; lines]).await;
        self.succeeds(&running).await
    }

    /// The build says this.
    async fn say(&self, build: &Build, lines: &[&str]) {
        let lines: Vec<_> = lines.iter().map(|line| (LogStream::Stdout, (*line).to_owned())).collect();
        let count = lines.len();
        assert_eq!(self.append_log(build.id, lines).await.unwrap().len(), count);
    }

    /// The build ends well.
    async fn succeeds(&self, build: &Build) -> Build {
        let end = BuildEnd { status: BuildStatus::Succeeded, exit_code: Some(0), reason: None };
        self.end_build(build.id, end).await.unwrap().unwrap()
    }

    /// All that is on record of the build's log.
    async fn said(&self, build: BuildId) -> Vec<String> {
        self.log(build, 0, 100_000).await.unwrap().into_iter().map(|line| line.text).collect()
    }

    /// Every build, newest first.
    async fn all_builds(&self) -> Vec<BuildId> {
        self.builds(None, None, 10_000).await.unwrap().iter().map(|build| build.id).collect()
    }
}

impl<S: LockStore + BuildStore> Builds for S {}

/// Makes a test of each case for one store.
macro_rules! builds_conformance {
    ($world:ty) => {
        builds_conformance!(@ $world, builds:
            a_build_that_starts_is_on_record,
            a_request_has_one_build,
            a_build_ends_once,
            an_end_that_says_running_changes_nothing,
            an_unknown_build_is_told,
            builds_are_listed_newest_first_page_by_page,
            running_builds_are_known_to_whoever_comes_next,
            builds_that_have_just_ended_are_known_too,
            what_is_said_of_a_build_is_kept_as_it_is,
            a_build_is_the_same_through_another_handle,
            the_builds_of_a_deleted_project_are_nobodys,
        );
        builds_conformance!(@ $world, logs:
            lines_are_numbered_from_1,
            lines_of_many_writers_are_numbered_without_gaps,
            a_log_is_read_from_any_line_page_by_page,
            a_build_that_does_not_run_takes_no_lines,
            two_builds_have_two_logs,
            any_text_is_a_line,
            an_acknowledged_line_is_there_after_reopening,
        );
        builds_conformance!(@ $world, pruning:
            builds_are_kept_for_ever_by_default,
            builds_go_when_their_end_is_too_long_ago,
            the_oldest_builds_go_when_the_logs_are_too_large,
            what_runs_is_kept_whatever_the_retention,
            much_is_removed_piece_by_piece,
            the_builds_of_a_deleted_project_are_removed,
        );
        builds_conformance!(@ $world, keys:
            a_key_is_found_by_its_hash,
            a_key_is_added_once,
            a_revoked_key_is_unknown_for_ever,
            keys_are_listed_oldest_first,
            a_number_that_no_key_has_is_told,
        );
    };
    (@ $world:ty, $topic:ident: $($case:ident),* $(,)?) => {
        mod $topic {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = <$world as builds_conformance::World>::fresh().await;
                builds_conformance::$topic::$case(world).await;
            })*
        }
    };
}
