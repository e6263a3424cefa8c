//! What `buildlock doctor` finds out about a file.

use std::collections::BTreeSet;
use std::path::Path;

use buildlock_core::Timestamp;
use rusqlite::{Connection, Result};

use super::rows::RawId;
use crate::store::{Finding, Retention};

/// Below this the disk counts as nearly full.
const LOW_SPACE_BYTES: u64 = 100 << 20;

/// A difference that a clock's ordinary correction does not explain.
const CLOCK_STEP_MS: i64 = 1_000;

pub(super) fn checkup(
    path: &Path,
    connection: &Connection,
    now: Timestamp,
    wall_ahead_ms: i64,
    retention: Retention,
    unreadable: &BTreeSet<RawId>,
) -> Result<Vec<Finding>> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let check: String = connection.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
    let integrity = if check == "ok" {
        Finding::good("integrity", "SQLite finds no damage")
    } else {
        Finding::bad("integrity", check, "stop all that use the file, keep a copy, and restore a backup")
    };
    let held = count(include_str!("sql/count_held.sql"))?;
    let waiting = count(include_str!("sql/count_tickets.sql"))?;
    let overdue = connection.query_row(
        include_str!("sql/count_overdue.sql"),
        [now.before(OVERDUE).as_millis() as i64],
        |row| row.get::<_, i64>(0),
    )?;
    let events = count(include_str!("sql/count_events.sql"))?;
    let (running, finished, log_bytes) = connection.query_row(include_str!("sql/count_builds.sql"), [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    Ok(vec![
        Finding::good("sqlite", format!("version {}", rusqlite::version())),
        integrity,
        space(path),
        clock(wall_ahead_ms),
        match unreadable.first() {
            None => Finding::good("projects", "all can be read"),
            Some(one) => Finding::bad(
                "projects",
                format!("{} cannot be read and are left as they are, such as {one}", unreadable.len()),
                "find out who wrote them, then put their rows right by hand, or delete them",
            ),
        },
        Finding::good("locks", format!("{held} held, {waiting} waiting")),
        if overdue == 0 {
            Finding::good("expiry", "nothing is overdue")
        } else {
            Finding::warning(
                "expiry",
                format!("{overdue} projects are overdue: no program that uses the file is running"),
                "they are freed as soon as one asks for them; nothing needs to be done",
            )
        },
        Finding::good("history", format!("{events} events; {retention}")),
        Finding::good(
            "builds",
            format!("{running} running, {finished} finished; their logs have {} KiB", log_bytes >> 10),
        ),
    ])
}

/// What is due is done within a second as long as a program runs.
const OVERDUE: std::time::Duration = std::time::Duration::from_secs(2);

fn space(path: &Path) -> Finding {
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    match rustix::fs::statvfs(path) {
        Err(error) => Finding::warning("disk", error.to_string(), "see whether the disk is mounted"),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let detail = format!("the file has {} KiB, the disk {} MiB free", size >> 10, free >> 20);
            if free < LOW_SPACE_BYTES {
                Finding::warning("disk", detail, "free some space, or keep less history: buildlock history --keep-for")
            } else {
                Finding::good("disk", detail)
            }
        }
    }
}

fn clock(wall_ahead_ms: i64) -> Finding {
    if wall_ahead_ms.abs() <= CLOCK_STEP_MS {
        return Finding::good("clock", "the store's time is the wall clock's");
    }
    let (seconds, way) = (wall_ahead_ms.abs() / 1_000, if wall_ahead_ms > 0 { "behind" } else { "ahead of" });
    Finding::warning(
        "clock",
        format!("the wall clock was set: the store's time is {seconds} s {way} it"),
        "leases last as long as they should; the times shown are put right when the file is opened with nothing held",
    )
}
