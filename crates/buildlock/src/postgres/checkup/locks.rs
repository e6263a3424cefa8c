//! The locks, their history, and what holds them up.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Found;
use crate::store::{Finding, Retention};

/// What is due is done within a second as long as a server runs.
const OVERDUE_MS: i64 = 2_000;

/// A transaction that is open longer is no part of anybody's ordinary work.
const LONG_MS: i64 = 60_000;

/// A history of which all is kept is worth a word from here on.
const MUCH_HISTORY_BYTES: i64 = 10 << 30;

pub(super) async fn look(client: &Client) -> Found {
    let rows = client.query_typed(include_str!("../sql/checkup/locks.sql"), &[(&OVERDUE_MS, Type::INT8)]).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let number = |name: &str| row.try_get::<_, i64>(name);
    let (held, waiting, tickets) = (number("held")?, number("waiting")?, number("tickets")?);
    let locks = format!("{} projects, {held} held, {waiting} waiting", number("projects")?);
    let locks = if let torn @ 1.. = number("torn")? {
        let advice = "somebody has written to buildlock.locks by hand; put a lease there whole or not at all: token, holder, \
                      expires_at and what goes with them";
        Finding::bad("locks", format!("{locks}; but {torn} have half a lease"), advice)
    } else if waiting == tickets {
        Finding::good("locks", locks)
    } else {
        let advice = "somebody has written to buildlock.tickets by hand; put queue_length right: update buildlock.locks \
                      set queue_length = (select count(*) from buildlock.tickets where tickets.project = locks.project)";
        Finding::bad("locks", format!("{locks}; but there are {tickets} tickets"), advice)
    };
    let overdue = match number("overdue")? {
        0 => Finding::good("expiry", "nothing is overdue"),
        overdue => Finding::warning(
            "expiry",
            format!("{overdue} projects are overdue: no server runs, or none can write"),
            "start a server: buildlock serve; until then each is freed as soon as somebody asks for it",
        ),
    };
    let retention = Retention {
        max_age: row
            .try_get::<_, Option<i64>>("keep_events_ms")?
            .map(|ms| std::time::Duration::from_millis(ms.unsigned_abs())),
        max_events: row.try_get::<_, Option<i64>>("keep_events_count")?.map(i64::unsigned_abs),
    };
    let bytes = number("event_bytes")?;
    let history = format!("about {} events in {} MiB; {retention}", number("events")?, bytes >> 20);
    let history = if retention == Retention::default() && bytes > MUCH_HISTORY_BYTES {
        Finding::warning("history", history, "keep less of it: buildlock history --keep-for 2160h")
    } else {
        Finding::good("history", history)
    };
    let builds = format!(
        "{} running, {} finished, on {} servers; their logs have {} MiB",
        number("running_builds")?,
        number("ended_builds")?,
        number("servers")?,
        number("log_bytes")? >> 20,
    );
    Ok(vec![locks, overdue, history, Finding::good("builds", builds)])
}

pub(super) async fn look_at_transactions(client: &Client) -> Found {
    let long = client.query_typed(include_str!("../sql/checkup/transactions.sql"), &[(&LONG_MS, Type::INT8)]).await?;
    let Some(oldest) = long.first() else {
        return Ok(vec![Finding::good("transactions", "none that this role sees is open for more than a minute")]);
    };
    let who: String = oldest.try_get("who")?;
    let minutes = oldest.try_get::<_, i64>("open_ms")? / 60_000;
    let idle = if oldest.try_get("is_idle")? { " and does nothing" } else { "" };
    Ok(vec![Finding::warning(
        "transactions",
        format!(
            "{who} has one open for {minutes} min{idle}: space is not freed, and followers of events may have to wait for it"
        ),
        "end it: select pg_terminate_backend(PID), or rollback prepared; and set idle_in_transaction_session_timeout",
    )])
}
