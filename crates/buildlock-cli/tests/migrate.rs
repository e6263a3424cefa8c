//! `buildlock migrate` for PostgreSQL: applied, printed, taken out again.

mod support;

use buildlock_testing::TestPg;
use snapbox::{assert_data_eq, str};
use support::{Running, Sandbox, await_that, kill};

const PROJECTS: &str = "
    create table public.projects (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null references auth.users (id) on delete cascade
    );";

async fn platform() -> TestPg {
    let pg = TestPg::emulated().await;
    pg.client_as("postgres").await.batch_execute(PROJECTS).await.unwrap();
    pg
}

async fn is_there(pg: &TestPg, what: &str) -> bool {
    pg.client().await.query_one(&format!("select {what} is not null"), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_migrated_and_told_of() {
    let pg = platform().await;
    let sandbox = Sandbox::new();
    let url = pg.url_as("postgres");
    let said = sandbox.run(&["--store", &url, "migrate", "--adopt", "public.projects"]);
    assert!(said.status.success());
    assert_data_eq!(
        String::from_utf8(said.stderr).unwrap(),
        str![[r#"
postgres://[..] is at version [..], the newest that this program knows
public.projects is adopted: its columns build_status, locked_by and locked_at tell who builds what

"#]]
    );
    let json = sandbox.ok(&["--store", &url, "--json", "migrate"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["adopted"], "public.projects");
    assert!(json["version"].is_u64());
    // Where Supabase's own command keeps account, it is said how to tell it.
    pg.run("create schema supabase_migrations; create table supabase_migrations.schema_migrations (version text)")
        .await;
    let said = sandbox.run(&["--store", &url, "migrate"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("supabase migration repair --status applied"), "{said}");
    assert!(said.contains("migrate --adopt public.projects --print"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_what_is_applied_and_taken_out() {
    let pg = platform().await;
    let sandbox = Sandbox::new();
    let up = sandbox.ok(&["migrate", "--adopt", "public.projects", "--owner-column", "user_id", "--print"]);
    let down = sandbox.ok(&["migrate", "--down", "--print"]);
    let postgres = pg.client_as("postgres").await;
    for _ in 0..2 {
        for _ in 0..2 {
            postgres.batch_execute(&up).await.unwrap();
        }
        assert!(
            is_there(&pg, "to_regprocedure('public.lock_project(uuid, text, text, double precision, uuid, text)')")
                .await
        );
        for _ in 0..2 {
            postgres.batch_execute(&down).await.unwrap();
        }
        assert!(!is_there(&pg, "to_regproc('public.lock_project')").await);
        assert!(!is_there(&pg, "to_regnamespace('buildlock')").await);
    }
    // Without a table to adopt, a database must be meant.
    let plain = sandbox.ok(&["--store", "postgres:", "migrate", "--print"]);
    assert!(plain.contains("create table buildlock.locks"));
    assert!(sandbox.ok(&["migrate", "--print"]).contains("create table projects"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() {
    let pg = platform().await;
    let sandbox = Sandbox::new();
    let url = pg.url_as("postgres");
    for (arguments, code, says) in [
        (vec!["--store", &url, "migrate", "--adopt", "public.sites"], 69, "there is no table public.sites"),
        (
            vec!["--store", &url, "migrate", "--adopt", "public.projects", "--owner-column", "x"],
            69,
            "Name the column with --owner-column",
        ),
        (vec!["migrate", "--adopt", "public.projects"], 2, "has no table to adopt; name a database"),
        (vec!["--store", &url, "migrate", "--owner-column", "x"], 2, "name it too"),
        (vec!["--store", &url, "migrate", "--down"], 2, "--print"),
        (vec!["--store", "postgres://nobody@127.0.0.1:1/x", "migrate"], 69, "refused"),
    ] {
        let output = sandbox.run(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    assert!(!is_there(&pg, "to_regclass('buildlock.store')").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_interrupted_changes_nothing() {
    let pg = platform().await;
    let sandbox = Sandbox::new();
    let busy = pg.client_as("postgres").await;
    busy.batch_execute("begin; lock table public.projects in row exclusive mode").await.unwrap();
    let url = pg.url_as("postgres");
    let mut migration =
        Running::start(&mut sandbox.buildlock(&["--store", &url, "migrate", "--adopt", "public.projects"]));
    let watcher = pg.client().await;
    let at_work =
        "select count(*) from pg_stat_activity where datname = current_database() and query like '-- buildlock %'";
    while watcher.query_one(at_work, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    kill(migration.pid(), "INT");
    assert_ne!(migration.end(), Some(0));
    // The server notices by itself that nobody waits for it any more.
    while watcher.query_one(at_work, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
    busy.batch_execute("commit").await.unwrap();
    assert!(!is_there(&pg, "to_regnamespace('buildlock')").await);
    await_that("it is gone", || sandbox.processes().is_empty());
}

/// As much of Supabase's own command as the documentation uses: what was not applied yet is applied, in order.
const SUPABASE: &str = r#"#!/bin/sh
set -eu
[ "$*" = "db push" ]
for file in supabase/migrations/*.sql; do
  grep -qxF "$file" applied 2>/dev/null && continue
  psql "$DATABASE_URL" -qX -v ON_ERROR_STOP=1 -f "$file" >/dev/null
  echo "$file" >>applied
done
"#;

/// Every command and statement of docs/supabase.md, in order; its TypeScript is tried by tests/supabase-js.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_documentation_for_supabase_tells_to_do_works() {
    let pg = platform().await;
    pg.run(
        "insert into auth.users (id, email, raw_app_meta_data)
         values ('11111111-1111-4111-8111-111111111111', 'ops@example.com', '{}');
         insert into public.projects
         values ('aaaaaaaa-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111')",
    )
    .await;
    let sandbox = Sandbox::new();
    let url = pg.url_as("postgres");
    let folder = sandbox.path();
    std::fs::write(folder.join("supabase.sh"), SUPABASE).unwrap();
    let shell = |script: &str| {
        let script = format!("set -eu; supabase() {{ sh supabase.sh \"$@\"; }}\n{script}");
        let output = sandbox.program("bash").args(["-c", &script]).env("DATABASE_URL", &url).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/supabase.md");
    let document = std::fs::read_to_string(path).unwrap();
    let postgres = pg.client_as("postgres").await;
    let (mut commands, mut statements) = (0, 0);
    for block in document.split("```").skip(1).step_by(2) {
        let (kind, block) = block.split_once('\n').unwrap();
        match kind {
            "sh" => {
                shell(block);
                commands += 1;
            }
            "sql" => {
                if block.contains("set build_status = 'idle'") {
                    let lock = "select public.lock_project('aaaaaaaa-0000-4000-8000-000000000001', holder => 'worker')";
                    postgres.execute(lock, &[]).await.unwrap();
                }
                postgres.batch_execute(block).await.unwrap_or_else(|error| panic!("{block}: {error:?}"));
                statements += 1;
            }
            _ => {}
        }
    }
    assert_eq!((commands, statements), (3, 4), "a block was left out");
    let kinds = "select string_agg(kind, ' ' order by id) from buildlock.events";
    let kinds: String = postgres.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(kinds, "granted freed_by_hand");
    shell("supabase db push");
    assert!(!is_there(&pg, "to_regnamespace('buildlock')").await);
}
