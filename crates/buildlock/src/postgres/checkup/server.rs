//! The server: its version, how it is set, and who follows it.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

use super::{Found, one_row};
use crate::postgres::address::Address;
use crate::store::Finding;

/// The oldest version that has what the functions use, as the server counts them.
const OLDEST: i32 = 150_000;

/// The newest major version with which all was tried.
const NEWEST_TRIED: i32 = 18;

/// What is found of a server that only follows another.
pub(super) const STANDBY: &str = "primary";

/// A difference of clocks that is worth a word.
const CLOCK_MS: i64 = 1_000;

/// A time for a statement that a busy server may need.
const STATEMENT_MS: i64 = 5_000;

pub(super) async fn look(client: &Client, address: &Address) -> Found {
    let asked_ms = wall_ms();
    let row = one_row(client, include_str!("../sql/checkup/server.sql")).await?;
    let answered_ms = wall_ms();
    let text = |name: &str| row.try_get::<_, String>(name);
    let mut findings = vec![
        connection(address, &text("user")?, &text("database")?, row.try_get("tls")?),
        version(&text("version")?, row.try_get("version_number")?),
        durability(&text("fsync")?, &text("full_page_writes")?, &text("synchronous_commit")?),
        clock(row.try_get::<_, i64>("now_ms")? - (asked_ms + answered_ms) / 2, (answered_ms - asked_ms) / 2),
        room(
            row.try_get("connections_allowed")?,
            row.try_get("connections_used")?,
            row.try_get("connections_of_user")?,
            address.connections,
        ),
    ];
    if row.try_get("is_standby")? {
        findings.push(Finding::bad(
            STANDBY,
            "this server is a standby: nothing can be locked on it",
            "name the primary in the URL, or all of them: postgres://…@one,two/…",
        ));
    }
    if text("read_only")? == "on" {
        findings.push(Finding::bad(
            "writing",
            "transactions are read only by default (default_transaction_read_only)",
            "alter role … set default_transaction_read_only = off, for the role in the URL",
        ));
    }
    if text("isolation")? != "read committed" {
        findings.push(Finding::bad(
            "isolation",
            format!("transactions are {:?} by default; the functions count on \"read committed\"", text("isolation")?),
            "alter role … set default_transaction_isolation = 'read committed', for the role in the URL",
        ));
    }
    if text("encoding")? != "UTF8" {
        findings.push(Finding::bad(
            "encoding",
            format!("the database is in {}: not every project's id can be kept", text("encoding")?),
            "use a database that was made with encoding 'UTF8'",
        ));
    }
    if text("autovacuum")? == "off" {
        findings.push(Finding::warning(
            "autovacuum",
            "it is off: each renewal leaves a row behind, and the tables grow",
            "set autovacuum = on in postgresql.conf",
        ));
    }
    let limit_ms: i64 = row.try_get("statement_timeout_ms")?;
    if limit_ms != 0 && limit_ms < STATEMENT_MS {
        findings.push(Finding::warning(
            "statement_timeout",
            format!("a statement has {limit_ms} ms; what takes longer on a busy server fails"),
            "alter role … set statement_timeout = '10s', or more, for the role in the URL",
        ));
    }
    Ok(findings)
}

fn connection(address: &Address, user: &str, database: &str, tls: Option<String>) -> Finding {
    let at = format!("as {user} to {database}");
    match tls {
        Some(tls) if address.tls.checks_host() => {
            Finding::good("connection", format!("{at}, with {tls}; the server's certificate is checked"))
        }
        Some(tls) => Finding::warning(
            "connection",
            format!(
                "{at}, with {tls}; whoever is in between could be the server, since its certificate is not checked"
            ),
            "add sslmode=verify-full to the URL, and sslrootcert=FILE if its authority is your own",
        ),
        None if address.is_local() => Finding::good("connection", format!("{at}, on this machine")),
        None => Finding::warning(
            "connection",
            format!("{at}, without TLS; whoever is in between reads it all"),
            "add sslmode=verify-full to the URL",
        ),
    }
}

fn version(version: &str, number: i32) -> Finding {
    let major = number / 10_000;
    if number < OLDEST {
        return Finding::bad("postgresql", format!("version {version}"), "use version 15 or newer");
    }
    if major > NEWEST_TRIED {
        let detail = format!("version {version}; newer than what this buildlock was tried with (15 to {NEWEST_TRIED})");
        return Finding::warning("postgresql", detail, "see whether there is a newer buildlock");
    }
    Finding::good("postgresql", format!("version {version}"))
}

/// Rule 12: nothing acknowledged is lost.
fn durability(fsync: &str, full_page_writes: &str, synchronous_commit: &str) -> Finding {
    let what = "durability";
    if fsync == "off" || full_page_writes == "off" {
        return Finding::bad(
            what,
            format!(
                "fsync is {fsync}, full_page_writes {full_page_writes}: after a power cut, locks that were granted may be free (rule 12)"
            ),
            "set both to on in postgresql.conf, and reload",
        );
    }
    if synchronous_commit == "off" {
        return Finding::bad(
            what,
            "synchronous_commit is off: after a crash, locks that were granted in the last moment may be free (rule 12)",
            "alter role … set synchronous_commit = on, for the role in the URL; others may keep theirs",
        );
    }
    Finding::good(what, format!("fsync is on, synchronous_commit {synchronous_commit}"))
}

fn clock(ahead_ms: i64, doubt_ms: i64) -> Finding {
    if ahead_ms.abs() <= CLOCK_MS + doubt_ms {
        return Finding::good(
            "clock",
            format!("the database's and this machine's agree, within {} ms", ahead_ms.abs().max(doubt_ms)),
        );
    }
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    Finding::warning(
        "clock",
        format!("the database's is {}.{:03} s {way} this machine's", ahead_ms.abs() / 1_000, ahead_ms.abs() % 1_000),
        "leases are counted by the database's, so nothing breaks; set the clocks (NTP), or times shown are off",
    )
}

fn room(allowed: i64, used: i64, of_user: Option<i64>, wanted: usize) -> Finding {
    let allowed = of_user.map_or(allowed, |of_user| of_user.min(allowed));
    // One more listens, and one may be about to be closed.
    let wanted = wanted as i64 + 2;
    let detail = format!("{used} of {allowed} are taken; each server takes up to {wanted}");
    if allowed - used < wanted {
        return Finding::warning(
            "connections",
            detail,
            "raise max_connections, use a pooler, or set connection_limit in the URL",
        );
    }
    Finding::good("connections", detail)
}

pub(super) async fn look_at_standbys(client: &Client) -> Found {
    let row = one_row(client, include_str!("../sql/checkup/standbys.sql")).await?;
    let names: String = row.try_get("synchronous_standby_names")?;
    let waits: String = row.try_get("synchronous_commit")?;
    let (all, synchronous) = (row.try_get::<_, i64>("standbys")?, row.try_get::<_, i64>("synchronous")?);
    let what = "standbys";
    if row.try_get::<_, i64>("hidden")? > 0 {
        let detail = format!("{all} connected; whether a commit waits for them, this role may not know");
        return Ok(vec![Finding::warning(what, detail, "grant pg_monitor to the role in the URL, and ask again")]);
    }
    let waits_for_them = matches!(waits.as_str(), "on" | "remote_write" | "remote_apply");
    let finding = match (all, synchronous, names.is_empty()) {
        (0, _, true) => Finding::good(what, "none that this server knows of: what is lost with its disk is lost"),
        (_, 0, false) => Finding::bad(
            what,
            format!("no standby is connected that a commit waits for ({names}): nothing can be locked until one is"),
            "start the standby, or take it out of synchronous_standby_names and reload",
        ),
        (_, _, false) if !waits_for_them => Finding::bad(
            what,
            format!(
                "synchronous_commit is {waits}: a commit does not wait for the standby, and a failover loses locks that were granted"
            ),
            "alter role … set synchronous_commit = on, for the role in the URL",
        ),
        (all, synchronous, false) => {
            Finding::good(what, format!("{all} connected, of which a commit waits for {synchronous}"))
        }
        (all, _, true) => Finding::warning(
            what,
            format!(
                "{all} connected, and a commit waits for none: a failover may lose locks that were granted (rule 12)"
            ),
            "set synchronous_standby_names, if one of them is to take over",
        ),
    };
    Ok(vec![finding])
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
