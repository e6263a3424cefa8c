//! The load generator: callers that lock and unlock as fast as they can, whatever they lock with.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

/// One concurrent caller, on a project of its own.
pub(crate) trait Caller: Send + 'static {
    /// Locks and unlocks once. Both are durable when this returns.
    fn cycle(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What came of a load.
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) times: Times,
}

/// How long something took each time.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What this part of them did not exceed.
    pub(crate) fn at(&self, quantile: f64) -> Duration {
        let mut times = self.0.clone();
        let index = (times.len() as f64 * quantile) as usize;
        *times.select_nth_unstable(index).1
    }
}

/// Lets the callers run for this long, and gives them back.
pub(crate) async fn run<C: Caller>(callers: Vec<C>, lasting: Duration) -> Result<(Vec<C>, Load)> {
    let mut tasks = JoinSet::new();
    let mut rested = Vec::with_capacity(callers.len());
    let started = Instant::now();
    for mut caller in callers {
        tasks.spawn(async move {
            let mut times = Times::default();
            while started.elapsed() < lasting {
                let begun = Instant::now();
                caller.cycle().await?;
                times.add(begun.elapsed());
            }
            anyhow::Ok((caller, times))
        });
    }
    let mut times = Times::default();
    while let Some(done) = tasks.join_next().await {
        let (caller, of_caller) = done??;
        times.0.extend(of_caller.0);
        rested.push(caller);
    }
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    Ok((rested, Load { per_second, times }))
}
