//! A migration as one text of SQL, which is applied or printed. It can be run again, by any client.

use super::sql::{ADOPT, ADOPT_TABLE, AFTER, BEGIN, DOWN, FUNCTIONS, PRIVILEGES, TABLES, VERSION, public};

/// The platform's own table of projects, which gets the columns `build_status`, `locked_by` and `locked_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// The table with its schema, such as `public.projects`, quoted as in SQL where it must be.
    pub table: String,
    /// The column that tells whose a project is; `user_id` if none is named.
    pub owner_column: Option<String>,
}

/// The SQL that brings a database to the newest version, whatever version it is of: tables, functions, and the
/// adopted table. Without a table to adopt it leaves that as it is.
///
/// It is a transaction of its own, followed by what can be done while others write. Run again, it changes
/// nothing. What cannot be applied changes nothing.
pub fn migration(adopt: Option<&Adopt>) -> String {
    let mut script = format!(
        "-- buildlock {}: the newest version of its tables is {VERSION}.\n\nbegin;\n\n\
         select set_config('buildlock.newest', '{VERSION}', true);\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(Adopt { table, owner_column }) = adopt {
        let owner_column = owner_column.as_deref().unwrap_or_default();
        script += &format!(
            "select set_config('buildlock.adopt', {}, true), set_config('buildlock.owner_column', {}, true);\n",
            literal(table),
            literal(owner_column)
        );
    }
    add(&mut script, BEGIN);
    for (version, tables) in (1..).zip(TABLES) {
        add(&mut script, &only_below(version, tables));
    }
    for part in FUNCTIONS.iter().copied().chain([ADOPT, &public(), PRIVILEGES]) {
        add(&mut script, part);
    }
    let version = format!(
        "insert into buildlock.store (version)\nvalues ({VERSION})\n\
         on conflict (id) do update set version = excluded.version\nwhere store.version <> excluded.version;\n"
    );
    for part in [&version, ADOPT_TABLE, "notify pgrst, 'reload schema';\n\ncommit;\n", AFTER] {
        add(&mut script, part);
    }
    script
}

/// The SQL that takes buildlock out of a database, and leaves all that is the platform's own.
pub fn removal() -> String {
    let mut script = format!("-- buildlock {}: taken out.\n\nbegin;\n", env!("CARGO_PKG_VERSION"));
    for part in [DOWN, "notify pgrst, 'reload schema';\n\ncommit;\n"] {
        add(&mut script, part);
    }
    script
}

fn add(script: &mut String, part: &str) {
    script.push('\n');
    script.push_str(part);
}

/// Tables are made once: whoever has this version has them.
fn only_below(version: u32, tables: &str) -> String {
    format!(
        "do $version_{version}$\nbegin\n  if current_setting('buildlock.version')::integer >= {version} then\n    return;\n  \
         end if;\n  execute $tables_{version}$\n{tables}$tables_{version}$;\nend\n$version_{version}$;\n"
    )
}

/// A text as SQL writes it, whatever is in it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_data() {
        let adopt =
            Adopt { table: "public.\"it's\"".to_owned(), owner_column: Some("o'; drop table x; --".to_owned()) };
        let script = migration(Some(&adopt));
        assert!(script.contains("'public.\"it''s\"'"), "{script}");
        assert!(script.contains("'o''; drop table x; --'"), "{script}");
    }

    #[test]
    fn the_same_is_printed_every_time() {
        assert_eq!(migration(None), migration(None));
        assert!(migration(None).ends_with('\n'));
    }
}
