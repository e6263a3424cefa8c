//! A build's log as it grows, for those who look on.

use std::collections::VecDeque;
use std::sync::Arc;

use buildlock::{Build, BuildId, LogLine, StoreError};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use super::{Builds, Progress};
use crate::ServerStore;

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
        let follower = Follower {
            store: Arc::clone(&self.inner.store),
            build,
            after,
            progress: self.running(build).map(|running| running.progress.subscribe()),
            page: VecDeque::new(),
            is_over: false,
        };
        stream::unfold(follower, |mut follower| async move {
            let next = follower.next().await.transpose()?;
            Some((next, follower))
        })
    }
}

struct Follower {
    store: Arc<dyn ServerStore>,
    build: BuildId,
    after: u64,
    /// None: the build had ended before.
    progress: Option<watch::Receiver<Progress>>,
    page: VecDeque<LogLine>,
    is_over: bool,
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
            // Looked at before the log is read, so that what comes meanwhile is news.
            let has_ended = self.progress.as_mut().is_none_or(|progress| progress.borrow_and_update().has_ended);
            self.page = self.store.log(self.build, self.after, PAGE).await?.into();
            if let Some(last) = self.page.back() {
                self.after = last.number;
            } else if has_ended {
                self.is_over = true;
                return Ok(self.store.build(self.build).await?.map(|build| Followed::End(Box::new(build))));
            } else if let Some(progress) = &mut self.progress
                && progress.changed().await.is_err()
            {
                // Whoever ran it has told all that it had to tell.
                self.progress = None;
            }
        }
    }
}
