//! Fencing in the database (rule 2): whoever verifies its token in the transaction that writes what the lock
//! protects cannot write on top of the next holder's work, however long it was away.

mod supabase;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use buildlock::postgres;
use buildlock_testing::TestPg;
use support::process::{Player, file, hear, playing, report};
use support::{until, within};
use tokio_postgres::{Client, NoTls};

/// How many processes come back from the dead, each for so many projects.
const ZOMBIES: usize = 8;
const PROJECTS_OF_EACH: usize = 125;

/// The store, and what the lock protects: every write says with which token it was made.
async fn workplace() -> TestPg {
    let pg = TestPg::empty().await;
    postgres::migrate(&pg.url(), None).await.unwrap();
    pg.run("create table work (id bigint generated always as identity, project text not null, token bigint not null)")
        .await;
    pg
}

async fn lock(client: &Client, project: &str, holder: &str, ttl_seconds: f64) -> i64 {
    let lock = "select token from public.lock_project($1, 'build', '', $2, null, $3)";
    client.query_one(lock, &[&project, &ttl_seconds, &holder]).await.unwrap().get(0)
}

/// What the lock's holder does: its writes, in a transaction that verifies its token.
async fn write(client: &Client, project: &str, token: i64) -> Result<(), tokio_postgres::Error> {
    client.query_one("select public.verify_project_lock($1, $2)", &[&project, &token]).await?;
    client.execute("insert into work (project, token) values ($1, $2)", &[&project, &token]).await?;
    Ok(())
}

/// How a transaction of a zombie is to begin, before the process is paused.
const BEGINNINGS: [&str; 2] = ["begin", "begin isolation level repeatable read"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_was_paused_past_its_ttl_fails_to_write_1000_times_of_1000() {
    let pg = workplace().await;
    let url = pg.url();
    let mut zombies: Vec<_> = (0..ZOMBIES).map(|_| Player::start(playing("part::zombie", Path::new(&url)))).collect();
    for (number, zombie) in zombies.iter_mut().enumerate() {
        zombie.say(&number.to_string());
    }
    for zombie in &zombies {
        assert_eq!(zombie.line(), "holds all its projects");
        zombie.pause(true);
    }
    let client = pg.client().await;
    let all = ZOMBIES * PROJECTS_OF_EACH;
    until("all leases have ended", async || {
        let ended = "select count(*) from buildlock.locks where expires_at <= buildlock.now_ms()";
        client.query_one(ended, &[]).await.unwrap().get::<_, i64>(0) == all as i64
    })
    .await;
    // Somebody else has the projects by now, and works.
    for (zombie, number) in (0..ZOMBIES).flat_map(|zombie| (0..PROJECTS_OF_EACH).map(move |number| (zombie, number))) {
        let project = format!("project {zombie}/{number}");
        let token = lock(&client, &project, "heir", 600.0).await;
        client.batch_execute("begin").await.unwrap();
        write(&client, &project, token).await.unwrap();
        client.batch_execute("commit").await.unwrap();
    }
    for zombie in &mut zombies {
        zombie.pause(false);
        zombie.say("write");
    }
    let mut failed = BTreeMap::new();
    for zombie in zombies {
        for line in zombie.finish() {
            *failed.entry(line).or_insert(0) += 1;
        }
    }
    println!("{failed:?}");
    let refused = failed.iter().filter(|(how, _)| how.as_str() != "written").map(|(_, count)| count).sum::<usize>();
    assert_eq!((refused, failed.get("written")), (all, None));
    // One in each process had a snapshot from before; all others were told in as many words.
    assert_eq!(failed.get("LEASE_LOST"), Some(&(all - ZOMBIES)));
    let order = "select count(*), count(*) filter (where work.token = locks.token)
                 from work join buildlock.locks using (project)";
    let order = client.query_one(order, &[]).await.unwrap();
    assert_eq!((order.get::<_, i64>(0), order.get::<_, i64>(1)), (all as i64, all as i64));
}

/// While a transaction that has verified its lease goes on, nobody else is granted, though the lease ends meanwhile.
#[tokio::test]
async fn a_transaction_that_has_verified_its_token_holds_off_the_next_grant_until_it_commits() {
    let pg = workplace().await;
    let (holder, other, sweeper) = (pg.client().await, pg.client().await, pg.client().await);
    let token = lock(&holder, "site", "ana", 1.0).await;
    holder.batch_execute("begin").await.unwrap();
    write(&holder, "site", token).await.unwrap();
    until("the lease's time is over", async || {
        let over = "select expires_at <= buildlock.now_ms() from buildlock.locks where project = 'site'";
        sweeper.query_one(over, &[]).await.unwrap().get(0)
    })
    .await;
    // Nobody waits for it for longer than a moment: neither who asks, nor the sweep.
    let asks = other.query_one("select public.lock_project('site', holder => 'bo')", &[]);
    let refused = within(Duration::from_secs(5), "an answer", asks).await.unwrap_err();
    let refused = supabase::refusal(&refused);
    assert_eq!((refused.status, refused.code.as_str()), (503, "STORE_UNAVAILABLE"));
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
    let sweep = sweeper.query_one("select buildlock.settle_due(null, 100)", &[]);
    within(Duration::from_secs(5), "the sweep", sweep).await.unwrap();
    let granted = "select count(*) from buildlock.events where kind = 'granted'";
    assert_eq!(sweeper.query_one(granted, &[]).await.unwrap().get::<_, i64>(0), 1);

    holder.batch_execute("commit").await.unwrap();
    let next = lock(&other, "site", "bo", 30.0).await;
    assert!(next > token, "rule 2");
    // And from now on it is refused.
    holder.batch_execute("begin").await.unwrap();
    let refused = supabase::refusal(&write(&holder, "site", token).await.unwrap_err());
    assert_eq!((refused.status, refused.code.as_str()), (410, "LEASE_LOST"));
    assert_eq!(
        (&refused.details["lease"]["how"], &refused.details["lock"]["holder"]),
        (&"expired".into(), &"bo".into())
    );
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(sweeper.query_one("select count(*) from work", &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// A request that waits for a moment gets what the transaction leaves: the order is the commits'.
#[tokio::test]
async fn a_request_that_comes_while_a_transaction_verifies_is_decided_after_it() {
    let pg = workplace().await;
    let (holder, other, watcher) = (pg.client().await, pg.client().await, pg.client().await);
    let token = lock(&holder, "site", "ana", 30.0).await;
    holder.batch_execute("begin").await.unwrap();
    write(&holder, "site", token).await.unwrap();
    let force = "select how from public.force_unlock_project('site', $1, 'now', 'ops')";
    let forced = tokio::spawn(async move { other.query_one(force, &[&token]).await });
    until("it waits", async || {
        let waits = "select count(*) from pg_locks where not granted";
        watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0 || forced.is_finished()
    })
    .await;
    assert!(!forced.is_finished());
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(forced.await.unwrap().unwrap().get::<_, String>(0), "force_unlocked");
    assert_eq!(watcher.query_one("select count(*) from work", &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// What another process does.
mod part {
    use super::*;

    #[tokio::test]
    #[ignore = "a part of a_zombie_that_was_paused_past_its_ttl_fails_to_write_1000_times_of_1000"]
    async fn zombie() {
        let url = file();
        let zombie = hear();
        let connect = async || {
            let (client, connection) = tokio_postgres::connect(url.to_str().unwrap(), NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        };
        let client = connect().await;
        let mut leases = Vec::new();
        for number in 0..PROJECTS_OF_EACH {
            let project = format!("project {zombie}/{number}");
            let token = lock(&client, &project, "zombie", 2.0).await;
            leases.push((project, token));
        }
        // Some are in the middle of a transaction already, one with a snapshot of how things were.
        let mut begun = Vec::new();
        for beginning in BEGINNINGS {
            let client = connect().await;
            client.batch_execute(beginning).await.unwrap();
            client.query_one("select count(*) from work", &[]).await.unwrap();
            begun.push(client);
        }
        report("holds all its projects");
        hear();
        for (place, (project, token)) in leases.into_iter().enumerate() {
            let in_the_middle = begun.get(place);
            let client = in_the_middle.unwrap_or(&client);
            if in_the_middle.is_none() {
                client.batch_execute("begin").await.unwrap();
            }
            let written = write(client, &project, token).await;
            // Of a transaction that has failed, nothing is committed.
            client.batch_execute("commit").await.unwrap();
            report(&written.map_or_else(|error| supabase::refusal(&error).code, |()| "written".to_owned()));
        }
    }
}
