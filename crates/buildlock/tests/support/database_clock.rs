//! A database's clock that stands still until the test moves it. It is read where the real one is, after a project's
//! row was locked: two that come at once see it in the order in which they get the row.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use buildlock_testing::TestPg;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const TEST_CLOCK: &str = "
    create table public.test_clock (now_ms bigint not null);
    insert into public.test_clock values (1000000000);
    create or replace function buildlock.now_ms()
    returns bigint
    language plpgsql
    volatile
    set search_path = ''
    as 'begin return (select now_ms from public.test_clock); end';
";

/// Moves that clock, on a connection of its own.
pub(crate) struct DatabaseClock {
    moves: UnboundedSender<(Duration, Sender<()>)>,
}

impl DatabaseClock {
    pub(crate) async fn new(database: &TestPg) -> Self {
        database.run(TEST_CLOCK).await;
        let (moves, mut asked) = unbounded_channel::<(Duration, Sender<()>)>();
        let client = database.client().await;
        tokio::spawn(async move {
            while let Some((time, done)) = asked.recv().await {
                let move_it = format!("update public.test_clock set now_ms = now_ms + {}", time.as_millis());
                client.batch_execute(&move_it).await.unwrap();
                done.send(()).unwrap();
            }
        });
        Self { moves }
    }

    /// Comes back when it was moved. A task of another thread must be free to do it.
    pub(crate) fn advance(&self, time: Duration) {
        let (done, is_done) = channel();
        self.moves.send((time, done)).unwrap();
        tokio::task::block_in_place(|| is_done.recv().unwrap());
    }
}
