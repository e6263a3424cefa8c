//! A build's log as it grows, for those who look on.

use std::collections::VecDeque;

use buildlock::{Build, BuildId, LogLine, StoreError};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use super::{Builds, Progress};

/// How many lines are read at once: with the longest lines, a megabyte for each who looks on.
const PAGE: usize = 64;

/// What somebody sees who follows a build.
#[derive(Debug)]
pub(crate) enum Followed {
    /// A line that is durable.
    Line(LogLine),
    /// The build has ended, and so does the log. Comes last.
    End(Box<Build>),
}

impl Builds {
    /// The lines of a build's log after the line numbered `after`, those to come included, and then its
    /// end. Nothing at all if the build is unknown.
    pub(crate) fn follow(
        &self,
        build: BuildId,
        after: u64,
    ) -> impl Stream<Item = Result<Followed, StoreError>> + Send + use<> {
        let progress = match self.running(build) {
            Some(running) => Source::Heard(running.progress.subscribe()),
            None => Source::Unknown,
        };
        let follower = Follower { builds: self.clone(), build, after, progress, page: VecDeque::new(), is_over: false };
        stream::unfold(follower, |mut follower| async move {
            let next = follower.next().await.transpose()?;
            Some((next, follower))
        })
    }
}

struct Follower {
    builds: Builds,
    build: BuildId,
    after: u64,
    progress: Source,
    page: VecDeque<LogLine>,
    is_over: bool,
}

/// Who tells how far the build is.
enum Source {
    /// It does not run here: another server may run it.
    Unknown,
    Heard(watch::Receiver<Progress>),
    /// It has ended, and all of its log is on record.
    Over,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<Followed>, StoreError> {
        loop {
            if let Some(line) = self.page.pop_front() {
                return Ok(Some(Followed::Line(line)));
            }
            if self.is_over {
                return Ok(None);
            }
            let store = &self.builds.inner.store;
            // Looked at before the log is read, so that what comes meanwhile is news.
            let has_ended = match &mut self.progress {
                Source::Unknown => {
                    self.progress = self.builds.elsewhere(self.build).await?.map_or(Source::Over, Source::Heard);
                    continue;
                }
                Source::Heard(progress) => progress.borrow_and_update().has_ended,
                Source::Over => true,
            };
            self.page = store.log(self.build, self.after, PAGE).await?.into();
            if let Some(last) = self.page.back() {
                self.after = last.number;
            } else if has_ended {
                self.is_over = true;
                return Ok(store.build(self.build).await?.map(|build| Followed::End(Box::new(build))));
            } else if let Source::Heard(progress) = &mut self.progress
                && progress.changed().await.is_err()
            {
                // Whoever told of it has told all that there was to tell.
                self.progress = Source::Over;
            }
        }
    }
}
