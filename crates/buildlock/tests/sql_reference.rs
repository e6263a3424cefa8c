//! `docs/sql.md` is made from the comments of the functions, as a database has them after a migration.

mod supabase;

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use supabase::{DefaultPrivileges, Platform};
use tokio_postgres::Client;

/// Set, the document is written anew.
const WRITE: &str = "BUILDLOCK_WRITE_DOCS";

const HEAD: &str = "# SQL reference

What a platform's own code calls, and what is behind it. [Supabase](supabase.md) tells how to get it into a database.

Times are `timestamptz`, durations seconds. Where `uuid` stands for a project's id here, it is the type of the adopted
table's column `id` (`uuid`, `text` or `bigint`); `text` where no table is adopted.

An error arrives in supabase-js as `error.code`, `error.message`, `error.hint` and `error.details`, which is JSON: what
the HTTP API's problem details say, with `lock` for who is in the way, `lease` for the lease that has ended, and
`retryAfter`. In SQL it is SQLSTATE `PGRST`, with the same JSON in its message.

<!-- Made from the functions' comments. To make it anew:
     BUILDLOCK_WRITE_DOCS=1 cargo test -p buildlock --test sql_reference -->
";

#[tokio::test]
async fn the_sql_reference_is_what_the_functions_say() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    let made = reference(&client).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/sql.md is out of date; make it anew: {WRITE}=1 cargo test -p buildlock --test sql_reference"
    );
}

async fn reference(client: &Client) -> String {
    let mut text = HEAD.to_owned();
    text += "\n## Functions\n";
    let functions = "
        select proname::text, pg_get_function_arguments(oid), pg_get_function_result(oid), obj_description(oid, 'pg_proc')
        from pg_proc
        where pronamespace = 'public'::regnamespace and prosrc like '%buildlock.%'
        order by array_position(array['lock_project', 'try_lock_project', 'renew_project_lock', 'unlock_project',
          'force_unlock_project', 'verify_project_lock', 'is_project_locked', 'get_project_lock']::name[], proname)";
    for row in client.query(functions, &[]).await.unwrap() {
        let [name, arguments, result, comment]: [String; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
        let arguments = arguments.replace("DEFAULT", "default").replace("::text", "").replace("::uuid", "");
        let arguments = arguments.replace("::double precision", "").replace("NULL", "null").replace(", ", ",\n  ");
        write!(
            text,
            "\n### {name}\n\n```sql\npublic.{name}(\n  {arguments}\n) returns {}\n```\n\n{comment}\n",
            result.replace("public.", "")
        )
        .unwrap();
    }

    text += "\n## What they return\n";
    let types = "
        select relname::text, obj_description(reltype, 'pg_type'),
          (select string_agg(format('| `%s` | %s |', attname, format_type(atttypid, atttypmod)), E'\\n' order by attnum)
           from pg_attribute where attrelid = pg_class.oid)
        from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'c'
        order by relname <> 'project_lease', relname <> 'project_lock'";
    for row in client.query(types, &[]).await.unwrap() {
        let [name, comment, columns]: [String; 3] = [row.get(0), row.get(1), row.get(2)];
        write!(text, "\n### {name}\n\n{comment}\n\n| column | type |\n|---|---|\n{columns}\n").unwrap();
    }

    text += "\n## The adopted table\n\nIts columns, for everybody who may read the row:\n\n| column | type | |\n|---|---|---|\n";
    let columns = "
        select format('| `%s` | %s | %s |', attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum))
        from pg_attribute
        where attrelid = 'public.projects'::regclass and attname in ('build_status', 'locked_by', 'locked_at')
        order by attnum";
    for row in client.query(columns, &[]).await.unwrap() {
        writeln!(text, "{}", row.get::<_, String>(0)).unwrap();
    }

    let view = "select obj_description('buildlock.projects'::regclass, 'pg_class')";
    let view: String = client.query_one(view, &[]).await.unwrap().get(0);
    write!(text, "\n## buildlock.projects\n\nA view. {view}\n").unwrap();

    text += "\n## Inside\n\nThe schema `buildlock` is for its servers and for the database's owner; no API role reaches it. Its\n\
             functions may change with any version.\n\n| function | does |\n|---|---|\n";
    let inside = "
        select distinct proname::text || '(' || coalesce((
            select string_agg(name, ', ' order by place)
            from unnest(proargnames, coalesce(proargmodes, array_fill('i'::\"char\", array[pronargs]))) with ordinality
              as argument (name, mode, place)
            where mode = 'i'
          ), '') || ')', obj_description(oid, 'pg_proc')
        from pg_proc
        where pronamespace = 'buildlock'::regnamespace
        order by 1";
    for row in client.query(inside, &[]).await.unwrap() {
        let [name, comment]: [String; 2] = [row.get(0), row.get(1)];
        writeln!(text, "| `{name}` | {} |", comment.replace('|', "\\|").replace('\n', " ")).unwrap();
    }
    text
}
