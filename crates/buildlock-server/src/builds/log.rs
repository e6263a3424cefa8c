//! A build's log on its way to the store.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{BuildId, LogStream, StoreError};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::Running;
use super::lines::Lines;
use crate::ServerStore;
use crate::config::BuildsConfig;

/// How many lines of a build are in memory at most, written or not: a builder that is faster than the
/// store waits, as it would for a terminal.
const LINES_IN_MEMORY: usize = 128;

/// How soon to try again when the store could not take lines.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// How long to try. A store that is away for longer has cost the build its lease.
const PATIENCE: Duration = Duration::from_secs(60);

type Line = (LogStream, String);

/// Takes lines for a log; clones write to the same one.
#[derive(Debug, Clone)]
pub(super) struct Log {
    lines: mpsc::Sender<Line>,
    line_limit: usize,
}

impl Log {
    /// A log, and the task that writes it until all clones are dropped.
    pub(super) fn begin(
        store: Arc<dyn ServerStore>,
        build: BuildId,
        running: Arc<Running>,
        config: &BuildsConfig,
    ) -> (Self, JoinHandle<()>) {
        let (lines, receiver) = mpsc::channel(LINES_IN_MEMORY);
        let limit = config.log_limit;
        let writer = Writer { store, build, running, written: 0, left: limit, limit, is_full: false };
        (Self { lines, line_limit: config.log_line_limit }, tokio::spawn(writer.run(receiver)))
    }

    /// A word of buildlock's own.
    pub(super) async fn say(&self, text: impl Into<String>) {
        // The writer ends before its senders only when the runtime does.
        let _ = self.lines.send((LogStream::System, text.into())).await;
    }

    /// Takes all lines of an output.
    ///
    /// # Errors
    ///
    /// If it cannot be read to its end.
    pub(super) async fn take(&self, stream: LogStream, output: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut output = Lines::of(output, self.line_limit);
        while let Some(line) = output.next().await? {
            self.lines.send((stream, line)).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

struct Writer {
    store: Arc<dyn ServerStore>,
    build: BuildId,
    running: Arc<Running>,
    /// The number of the last line that is on record.
    written: u64,
    /// How many bytes may still come.
    left: u64,
    limit: u64,
    is_full: bool,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Line>) {
        let mut lines = Vec::new();
        while receiver.recv_many(&mut lines, LINES_IN_MEMORY).await > 0 {
            let lines = self.within_limit(std::mem::take(&mut lines));
            if !lines.is_empty() {
                self.write(lines).await;
            }
        }
    }

    /// What of these lines is kept. A builder's output has a limit; what buildlock says has none.
    fn within_limit(&mut self, lines: Vec<Line>) -> Vec<Line> {
        let mut kept = Vec::with_capacity(lines.len());
        for (stream, text) in lines {
            // An empty line takes room as well.
            let size = text.len() as u64 + 1;
            if stream == LogStream::System {
                kept.push((stream, text));
            } else if !self.is_full && size <= self.left {
                self.left -= size;
                kept.push((stream, text));
            } else if !self.is_full {
                self.is_full = true;
                let text = format!("the log has reached its limit of {} bytes; what follows is not kept", self.limit);
                kept.push((LogStream::System, text));
            }
        }
        kept
    }

    async fn write(&mut self, lines: Vec<Line>) {
        let give_up = Instant::now() + PATIENCE;
        let mut may_be_there = false;
        loop {
            match self.append(&lines, may_be_there).await {
                Ok(None) => return,
                Ok(Some(last)) => {
                    self.written = last;
                    return self.running.progress.send_modify(|progress| progress.log_lines = last);
                }
                Err(error) if error.may_pass() && Instant::now() < give_up => sleep(RETRY_EVERY).await,
                Err(error) => {
                    tracing::error!(%error, build = %self.build, lines = lines.len(), "lines of a log are lost");
                    return;
                }
            }
            may_be_there = true;
        }
    }

    /// Adds lines; answers with the last one's number, or none if the build has ended.
    async fn append(&self, lines: &[Line], may_be_there: bool) -> Result<Option<u64>, StoreError> {
        if may_be_there {
            // It may have been the answer that was lost, and nobody else writes to this log.
            let there = self.store.log(self.build, self.written, lines.len()).await?;
            if let Some(last) = there.last() {
                return Ok(Some(last.number));
            }
        }
        let written = self.store.append_log(self.build, lines.to_vec()).await?;
        Ok(written.last().map(|last| last.number))
    }
}
