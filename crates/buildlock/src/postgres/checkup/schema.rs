//! What of buildlock is in the database: tables, functions, who may what, and the adopted table.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::{Found, one_row};
use crate::postgres::sql::{ADOPT, FUNCTIONS, VERSION, public};
use crate::store::Finding;

/// How many triggers the adopted table has.
const TRIGGERS: i64 = 9;

/// How many names are named.
const NAMED: usize = 3;

pub(super) async fn look(client: &Client) -> Found {
    const MIGRATE: &str = "buildlock migrate, as the role that is to own it; on Supabase see docs/supabase.md";
    let what = "tables";
    let row = one_row(client, include_str!("../sql/checkup/schema.sql")).await?;
    if !row.try_get::<_, bool>("has_store")? {
        let detail = if row.try_get("has_schema")? {
            "there is a schema buildlock, and it is not buildlock's"
        } else {
            "this database has no buildlock in it"
        };
        return Ok(vec![Finding::bad(what, detail, MIGRATE)]);
    }
    if !row.try_get::<_, bool>("may_use")? {
        let advice = "connect as the role that has migrated, or as a member of it";
        return Ok(vec![Finding::bad(what, "this role may not use the schema buildlock", advice)]);
    }
    let version: i32 = one_row(client, "select version from buildlock.store").await?.try_get(0)?;
    let version = version.unsigned_abs();
    Ok(vec![match version.cmp(&VERSION) {
        std::cmp::Ordering::Equal => {
            Finding::good(what, format!("version {version}, the newest that this program knows"))
        }
        std::cmp::Ordering::Less => {
            Finding::bad(what, format!("version {version}; this program needs {VERSION}"), MIGRATE)
        }
        std::cmp::Ordering::Greater => Finding::bad(
            what,
            format!("version {version}; this program knows up to {VERSION}"),
            "use a newer buildlock",
        ),
    }])
}

pub(super) async fn look_at_functions(client: &Client) -> Found {
    let project_type: String = one_row(client, "select project_type from buildlock.adoption").await?.try_get(0)?;
    let adopts: bool = one_row(client, "select table_name is not null from buildlock.adoption").await?.try_get(0)?;
    let rows = client.query_typed(include_str!("../sql/checkup/functions.sql"), &[]).await?;
    let mut there = BTreeMap::new();
    for row in &rows {
        there.insert(row.try_get::<_, String>("name")?, row.try_get::<_, String>("source")?);
    }
    // Those that ask and tell an adopted table are made for it.
    let made_for_table: BTreeSet<_> = if adopts { names(ADOPT).collect() } else { BTreeSet::new() };
    let public = public().replace("{id}", &project_type).replace("{adopted}", if adopts { "true" } else { "false" });
    let texts = FUNCTIONS.iter().copied().chain([public.as_str()]);
    let (mut missing, mut changed) = (BTreeSet::new(), BTreeSet::new());
    for (name, source) in texts.flat_map(functions) {
        match there.get(name) {
            None => missing.insert(name),
            Some(_) if made_for_table.contains(name) => false,
            Some(is) if is != source => changed.insert(name),
            Some(_) => false,
        };
    }
    const AGAIN: &str = "buildlock migrate makes them anew";
    Ok(vec![if !missing.is_empty() {
        Finding::bad("functions", format!("{} are missing: {}", missing.len(), some(&missing)), AGAIN)
    } else if !changed.is_empty() {
        let detail = format!("{} are not this version's, or were changed by hand: {}", changed.len(), some(&changed));
        Finding::bad("functions", detail, AGAIN)
    } else {
        Finding::good("functions", "all are there, and as they were made")
    }])
}

/// The functions that a text makes: the name of each, with its schema, and what it says.
fn functions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("create or replace function ").skip(1).filter_map(|made| {
        let (name, _) = made.split_once('(')?;
        let (_, body) = made.split_once("\nas ")?;
        let quote = if body.starts_with("$$") { "$$" } else { "'" };
        let (source, _) = body.strip_prefix(quote)?.split_once(quote)?;
        Some((name, source))
    })
}

/// The names of the functions that a text makes.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("create or replace function ").skip(1).filter_map(|made| Some(made.split_once('(')?.0))
}

/// Some of these names.
fn some(names: &BTreeSet<&str>) -> String {
    let named: Vec<_> = names.iter().take(NAMED).copied().collect();
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", named.join(", "))
}

pub(super) async fn look_at_rights(client: &Client) -> Found {
    let rows = client.query_typed(include_str!("../sql/checkup/grants.sql"), &[]).await?;
    let problems: BTreeSet<String> = rows.iter().map(|row| row.try_get("problem")).collect::<Result<_, _>>()?;
    let problems: BTreeSet<_> = problems.iter().map(String::as_str).collect();
    Ok(vec![if problems.is_empty() {
        Finding::good(
            "rights",
            "the schema buildlock is its owner's alone; users and services have the functions in public",
        )
    } else {
        Finding::bad("rights", some(&problems), "buildlock migrate says again who may what")
    }])
}

pub(super) async fn look_at_adopted(client: &Client) -> Found {
    let what = "adopted table";
    let rows = client.query_typed(include_str!("../sql/checkup/adopted.sql"), &[]).await?;
    let Some(row) = rows.first() else { return Ok(vec![Finding::good(what, "none: any id is a project")]) };
    let name: String = row.try_get("name")?;
    if !row.try_get::<_, bool>("is_there")? {
        let advice = "put it back from a backup, or take buildlock out and in again: buildlock migrate --down --print";
        return Ok(vec![Finding::bad(what, format!("{name} is gone: no project can be locked"), advice)]);
    }
    let triggers: i64 = row.try_get("triggers")?;
    if triggers < TRIGGERS {
        let detail =
            format!("{name} has {triggers} of its {TRIGGERS} triggers enabled: its columns may be written by anybody");
        let advice = "buildlock migrate puts them back; alter table … enable trigger all, if one is disabled";
        return Ok(vec![Finding::bad(what, detail, advice)]);
    }
    let columns = include_str!("../sql/checkup/columns.sql").replace("{table}", &name);
    let row = one_row(client, &columns).await?;
    let (wrong, lost): (i64, i64) = (row.try_get("wrong")?, row.try_get("without_row")?);
    Ok(vec![if wrong > 0 {
        let one: String = row.try_get("one")?;
        let detail = format!("{name} has {wrong} rows that say of the lock what is not so, such as {one}");
        let advice = "somebody wrote them while the triggers were off; select buildlock.project_changed(id, holder, \
                      acquired_at) from … left join buildlock.locks puts them right: see docs/postgres.md";
        Finding::bad(what, detail, advice)
    } else if lost > 0 {
        let detail = format!("{lost} projects have a lock, and no row in {name}: they cannot be locked again");
        Finding::warning(what, detail, "rows went while the triggers were off; their leases end by themselves")
    } else {
        Finding::good(what, format!("{name}: its columns say what is so, and its triggers are in place"))
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_a_text_are_found_with_what_they_say() {
        let text = "-- buildlock.one()\ncreate or replace function buildlock.one()\nreturns integer\nlanguage sql\n\
                    as 'select 1';\n\ncreate or replace function buildlock.two(a text, b text)\nreturns void\nas $$\n\
                    begin\nend\n$$;\n";
        let found: Vec<_> = functions(text).collect();
        assert_eq!(found, [("buildlock.one", "select 1"), ("buildlock.two", "\nbegin\nend\n")]);
    }

    #[test]
    fn every_function_of_a_migration_is_found() {
        for text in FUNCTIONS.iter().copied().chain([public().as_str()]) {
            let made = text.matches("create or replace function ").count();
            assert!(made > 0);
            assert_eq!(functions(text).count(), made, "{text}");
        }
    }
}
