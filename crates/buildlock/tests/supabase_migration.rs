//! Migrations: into an empty database, and into a platform's that is at work.

mod supabase;

use std::time::{Duration, Instant};

use buildlock::StoreError;
use buildlock::postgres::{self, Adopt, Migrated};
use buildlock_testing::TestPg;
use serde_json::json;
use supabase::{
    ANA, ANAS_PROJECT, BO, BOS_PROJECT, Caller, DefaultPrivileges, PROJECTS, Platform, adopt_projects,
    before_buildlock, users_and_projects,
};
use tokio_postgres::Client;

/// How many rows the platform has.
const ROWS: u32 = 100_000;

/// How long a migration may hold up anybody.
const HELD_UP_AT_MOST: Duration = Duration::from_millis(100);

/// What others do on the machine holds up a writer too: it is the calmest of so many migrations that counts.
const ATTEMPTS: u32 = 5;

async fn migrate(pg: &TestPg, adopt: Option<&Adopt>) -> Result<Migrated, StoreError> {
    postgres::migrate(&pg.url_as("postgres"), adopt).await
}

fn adopt(table: &str, owner_column: &str) -> Adopt {
    Adopt { table: table.to_owned(), owner_column: Some(owner_column.to_owned()) }
}

async fn text(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}

/// All that is in a database beside the schema `buildlock`: what there is, what it looks like, who may use it.
async fn all_else(client: &Client) -> String {
    text(
        client,
        "select string_agg(line, E'\n' order by line) from (
           select format('relation %s %s %s', oid::regclass, relkind, relacl) as line
           from pg_class where relnamespace in ('public'::regnamespace, to_regnamespace('auth'))
           union all
           select format('column %s %s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod),
                         attnotnull, attacl)
           from pg_attribute join pg_class on pg_class.oid = attrelid
           where relnamespace in ('public'::regnamespace, to_regnamespace('auth')) and attnum > 0 and not attisdropped
           union all
           select format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid))
           from pg_constraint where connamespace in ('public'::regnamespace, to_regnamespace('auth'))
           union all
           select format('trigger %s', pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal
           union all
           select format('policy %s %s', polrelid::regclass, polname) from pg_policy
           union all
           select format('function %s %s %s', oid::regprocedure, md5(prosrc), proacl)
           from pg_proc where pronamespace = 'public'::regnamespace
           union all
           select format('type %s', oid::regtype) from pg_type where typnamespace = 'public'::regnamespace
         ) as lines",
    )
    .await
}

#[tokio::test]
async fn an_empty_database_is_migrated_and_its_functions_work() {
    let pg = TestPg::empty().await;
    let migrated = postgres::migrate(&pg.url(), None).await.unwrap();
    assert_eq!((migrated.from, migrated.adopted, migrated.has_supabase_migrations), (0, None, false));
    let client = pg.client().await;
    // Who speaks SQL names the holder; a project that is new comes into being.
    let lease = client
        .query_one("select token, holder from public.lock_project('site/7', 'edit', holder => 'ci-7')", &[])
        .await
        .unwrap();
    let (token, holder): (i64, String) = (lease.get(0), lease.get(1));
    assert_eq!(holder, "ci-7");
    let error = client.query_one("select public.lock_project('site/7', holder => 'ci-8')", &[]).await.unwrap_err();
    assert_eq!(supabase::refusal(&error).code, "PROJECT_LOCKED");
    let tried = "select mine from public.try_lock_project('site/7', holder => 'ci-8')";
    assert!(!client.query_one(tried, &[]).await.unwrap().get::<_, bool>(0));
    for call in [
        format!("select public.renew_project_lock('site/7', {token}, holder => 'ci-7')"),
        format!("select public.verify_project_lock('site/7', {token})"),
        // Whoever acts for another need not name it again: the token does.
        format!("select public.unlock_project('site/7', {token})"),
        "select public.is_project_locked('site/7')".to_owned(),
        "select public.lock_project('site/7', holder => 'ci-8')".to_owned(),
    ] {
        client.query_one(&call, &[]).await.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let force = "select ended_by from public.force_unlock_project('site/7', (public.get_project_lock('site/7')).token,
                                                                  'stuck', 'ops')";
    assert_eq!(text(&client, force).await, "ops");
    // Nobody else may, before it is said so.
    client.batch_execute("create role nobody_yet").await.ok();
    client.batch_execute("begin; set local role nobody_yet").await.unwrap();
    let error = client.query_one("select public.is_project_locked('site/7')", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501");
}

#[tokio::test]
async fn a_large_table_at_work_is_adopted_without_being_rewritten_or_held_up() {
    let mut calmest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let pg = large_platform().await;
        let client = pg.client_as("postgres").await;
        let file = "select pg_relation_filenode('public.projects')::text";
        let before = text(&client, file).await;
        let worker = Worker::start(&pg);
        let migrated = migrate(&pg, Some(&adopt_projects())).await.unwrap();
        let held_up = worker.stop().await;
        assert_eq!(migrated.adopted.as_deref(), Some("public.projects"));
        assert_eq!(text(&client, file).await, before, "the table was rewritten");
        let rows = "select count(*)::text from public.projects where (build_status, locked_by, locked_at)
                                                              is not distinct from ('idle', null, null)";
        assert_eq!(text(&client, rows).await, (ROWS + 2).to_string());
        let valid = "select string_agg(conname || convalidated, ' ' order by conname) from pg_constraint
                     where conname like 'buildlock%'";
        assert_eq!(text(&client, valid).await, "buildlock_build_statustrue buildlock_locked_bytrue");
        calmest = calmest.min(held_up);
        if calmest <= HELD_UP_AT_MOST {
            return;
        }
    }
    panic!("a writer was held up for {calmest:?}");
}

#[tokio::test]
async fn a_migration_that_waits_for_a_long_transaction_lets_the_others_through() {
    let mut calmest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let pg = large_platform().await;
        let long = pg.client_as("postgres").await;
        long.batch_execute(&format!("begin; update public.projects set name = 'x' where id = '{BOS_PROJECT}'"))
            .await
            .unwrap();
        let url = pg.url_as("postgres");
        let migration = tokio::spawn(async move { postgres::migrate(&url, Some(&adopt_projects())).await });
        // Once it has been seen to wait for the table, and has come back for it.
        let watcher = pg.client_as("postgres").await;
        let waits = "select count(*) from pg_locks where not granted and relation = 'public.projects'::regclass";
        let is_waiting = async || watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0;
        while !is_waiting().await {}
        let worker = Worker::start(&pg);
        for _ in 0..5 {
            while is_waiting().await {}
            while !is_waiting().await {}
        }
        assert!(!migration.is_finished());
        long.batch_execute("commit").await.unwrap();
        migration.await.unwrap().unwrap();
        calmest = calmest.min(worker.stop().await);
        if calmest <= HELD_UP_AT_MOST {
            return;
        }
    }
    panic!("a writer was held up for {calmest:?}");
}

async fn large_platform() -> TestPg {
    let pg = before_buildlock(DefaultPrivileges::New).await;
    let postgres = pg.client_as("postgres").await;
    postgres.batch_execute(PROJECTS).await.unwrap();
    postgres.batch_execute(&users_and_projects()).await.unwrap();
    let many = format!(
        "insert into public.projects (user_id, name) select '{ANA}', 'project ' || i from generate_series(1, {ROWS}) as i"
    );
    postgres.batch_execute(&many).await.unwrap();
    postgres.batch_execute("analyze public.projects").await.unwrap();
    pg
}

/// Somebody who writes to the platform's table, again and again, and notes how long the longest write took.
struct Worker {
    stop: tokio::sync::oneshot::Sender<()>,
    longest: tokio::task::JoinHandle<Duration>,
}

impl Worker {
    fn start(pg: &TestPg) -> Self {
        let url = pg.url_as("postgres");
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let longest = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let write = format!("update public.projects set name = name || '.' where id = '{ANAS_PROJECT}'");
                let write = client.prepare(&write).await.unwrap();
                let mut longest = Duration::ZERO;
                while stopped.try_recv().is_err() {
                    let started = Instant::now();
                    assert_eq!(client.execute(&write, &[]).await.unwrap(), 1);
                    longest = longest.max(started.elapsed());
                }
                longest
            })
        });
        let longest = tokio::task::spawn_blocking(|| longest.join().unwrap());
        Self { stop, longest }
    }

    async fn stop(self) -> Duration {
        self.stop.send(()).unwrap();
        self.longest.await.unwrap()
    }
}

#[tokio::test]
async fn ids_may_be_texts_and_numbers_too() {
    for (id_type, id, other, odd) in [
        ("text", "my-site", "your-site", "My-Site"),
        ("varchar(80)", "my-site", "your-site", "my-site "),
        ("bigint", "42", "43", "042"),
        ("integer", "42", "43", "4200000000"),
        ("uuid", ANAS_PROJECT, BOS_PROJECT, "AAAAAAAA-0000-4000-8000-000000000001"),
    ] {
        let pg = TestPg::empty().await;
        let client = pg.client().await;
        let table = format!(
            "create schema app; create table app.\"Sites\" (id {id_type} primary key, \"ownedBy\" text not null);
             insert into app.\"Sites\" values ('{id}', 'ana'), ('{other}', 'bo')"
        );
        client.batch_execute(&table).await.unwrap();
        let migrated = postgres::migrate(&pg.url(), Some(&adopt("app.\"Sites\"", "ownedBy"))).await.unwrap();
        assert_eq!(migrated.adopted.as_deref(), Some("app.\"Sites\""));
        let lock = format!("select token::text from public.lock_project('{id}', holder => 'ana')");
        let token = text(&client, &lock).await;
        let row = format!(
            "select format('%s %s %s', build_status, locked_by, locked_at is null) from app.\"Sites\" where id = '{id}'"
        );
        assert_eq!(text(&client, &row).await, "processing ana f");
        // The same project under another spelling would be another lock.
        let odd = format!(
            "select outcome from buildlock.decide(null, '{odd}', 'lock', gen_random_uuid(), null, 'x', 'y', '', 1000, null, 'refuse')"
        );
        assert_eq!(text(&client, &odd).await, "unknown_project", "{id_type}");
        assert_eq!(text(&client, &format!("select how from public.unlock_project('{id}', {token})")).await, "unlocked");
        assert_eq!(text(&client, &row).await, "idle  t");
        let owner = format!("select owner from buildlock.locks where project = '{id}'");
        assert_eq!(text(&client, &owner).await, "ana");
    }
}

#[tokio::test]
async fn a_second_migration_changes_nothing() {
    let platform = Platform::new(DefaultPrivileges::Old).await;
    let lease = platform.rpc(&Caller::user(ANA), "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
    let client = platform.pg.client_as("postgres").await;
    let before = all_else(&client).await;
    for adopt in [Some(adopt_projects()), None] {
        let migrated = migrate(&platform.pg, adopt.as_ref()).await.unwrap();
        assert_eq!((migrated.from, migrated.adopted.as_deref()), (migrated.to, Some("public.projects")));
        assert_eq!(all_else(&client).await, before);
    }
    let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
    platform.rpc(&Caller::user(ANA), "renew_project_lock", lease_of).await.unwrap();
    assert_eq!(platform.row(ANAS_PROJECT).await.0, "processing");
}

#[tokio::test]
async fn many_may_migrate_at_once() {
    let pg = before_buildlock(DefaultPrivileges::New).await;
    let postgres = pg.client_as("postgres").await;
    postgres.batch_execute(PROJECTS).await.unwrap();
    postgres.batch_execute(&users_and_projects()).await.unwrap();
    let migrations = (0..4).map(|_| {
        let url = pg.url_as("postgres");
        tokio::spawn(async move { postgres::migrate(&url, Some(&adopt_projects())).await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    let lock = format!("select holder from public.lock_project('{ANAS_PROJECT}', holder => '{ANA}')");
    assert_eq!(text(&postgres, &lock).await, ANA);
}

#[tokio::test]
async fn a_table_is_adopted_by_a_store_that_has_locks_already() {
    let pg = before_buildlock(DefaultPrivileges::New).await;
    let postgres = pg.client_as("postgres").await;
    postgres.batch_execute(PROJECTS).await.unwrap();
    postgres.batch_execute(&users_and_projects()).await.unwrap();
    migrate(&pg, None).await.unwrap();
    let lock = format!("select token::text from public.lock_project('{ANAS_PROJECT}', holder => '{ANA}')");
    let token = text(&postgres, &lock).await;
    migrate(&pg, Some(&adopt_projects())).await.unwrap();
    // The functions take an id of the table's type now, and only such.
    let types = "select string_agg(distinct format_type(proargtypes[0], null), ' ') from pg_proc
                 where pronamespace = 'public'::regnamespace and proname like '%lock%project%'";
    assert_eq!(text(&postgres, types).await, "uuid");
    let row = format!("select build_status from public.projects where id = '{ANAS_PROJECT}'");
    assert_eq!(text(&postgres, &row).await, "processing");
    let unlock = format!("select how from public.unlock_project('{ANAS_PROJECT}', {token})");
    assert_eq!(text(&postgres, &unlock).await, "unlocked");
    assert_eq!(text(&postgres, &row).await, "idle");
}

#[tokio::test]
async fn to_take_it_out_leaves_all_that_is_the_platforms() {
    for privileges in [DefaultPrivileges::Old, DefaultPrivileges::New] {
        let pg = before_buildlock(privileges).await;
        let postgres = pg.client_as("postgres").await;
        postgres.batch_execute(PROJECTS).await.unwrap();
        postgres.batch_execute(&users_and_projects()).await.unwrap();
        let rows = "select string_agg(row(id, user_id, name)::text, ' ' order by id) from public.projects";
        let before = (all_else(&postgres).await, text(&postgres, rows).await);
        for _ in 0..2 {
            migrate(&pg, Some(&adopt_projects())).await.unwrap();
            let lock = format!("select holder from public.lock_project('{ANAS_PROJECT}', holder => '{ANA}')");
            text(&postgres, &lock).await;
            for _ in 0..2 {
                postgres.batch_execute(&postgres::removal()).await.unwrap();
                assert_eq!((all_else(&postgres).await, text(&postgres, rows).await), before);
                assert_eq!(text(&postgres, "select (to_regnamespace('buildlock') is null)::text").await, "true");
            }
        }
    }
}

#[tokio::test]
async fn a_lock_that_was_made_at_home_is_taken_over_and_its_columns_are_given_back() {
    let pg = before_buildlock(DefaultPrivileges::New).await;
    let postgres = pg.client_as("postgres").await;
    postgres.batch_execute(PROJECTS).await.unwrap();
    postgres.batch_execute(&users_and_projects()).await.unwrap();
    let by_hand = format!(
        "alter table public.projects add column build_status text default 'idle', add column locked_by uuid,
           add column locked_at timestamptz;
         update public.projects set (build_status, locked_by, locked_at) = ('processing', '{BO}', now())
         where id = '{BOS_PROJECT}'"
    );
    postgres.batch_execute(&by_hand).await.unwrap();
    migrate(&pg, Some(&adopt_projects())).await.unwrap();
    // Nobody holds a lease, so nobody builds.
    let row = |id: &str| {
        format!("select format('%s %s %s', build_status, locked_by, locked_at) from public.projects where id = '{id}'")
    };
    assert_eq!(text(&postgres, &row(BOS_PROJECT)).await, "idle  ");
    let lock = format!("select holder from public.lock_project('{ANAS_PROJECT}', holder => '{ANA}')");
    text(&postgres, &lock).await;
    // A second migration has nothing to take over.
    migrate(&pg, None).await.unwrap();
    assert!(text(&postgres, &row(ANAS_PROJECT)).await.starts_with("processing"));
    postgres.batch_execute(&postgres::removal()).await.unwrap();
    assert_eq!(text(&postgres, &row(ANAS_PROJECT)).await, "idle  ");
}

#[tokio::test]
async fn what_cannot_be_applied_changes_nothing_and_says_why() {
    let seen = format!("{PROJECTS}{}", users_and_projects());
    for (with, adopt, says) in [
        (seen.as_str(), adopt("public.sites", "user_id"), "there is no table public.sites"),
        (&seen, adopt("projects", "user_id"), "Name it with its schema"),
        (&seen, adopt("public.projects", "owner"), "no column \"owner\""),
        (&seen, adopt("public.projects_of_user", "owner"), "no ordinary table"),
        (&seen, adopt("auth.users", "id"), "belongs to supabase_auth_admin"),
        ("create table public.projects (id uuid, user_id uuid)", adopt_projects(), "is not unique"),
        (
            "create table public.projects (id timestamptz primary key, user_id uuid)",
            adopt_projects(),
            "uuid, text or bigint",
        ),
        (
            "create table public.projects (id uuid primary key, user_id uuid, build_status integer)",
            adopt_projects(),
            "is of type integer",
        ),
        (
            "create table public.projects (id uuid primary key, user_id uuid, build_status text);
             insert into public.projects values (gen_random_uuid(), null, 'failed')",
            adopt_projects(),
            "has \"failed\" in it",
        ),
        (
            "create table public.projects (id uuid primary key, user_id uuid);
             create function public.lock_project(id uuid) returns boolean language sql as 'select true'",
            adopt_projects(),
            "that is not buildlock's",
        ),
        (
            "create table public.projects (id uuid primary key, user_id uuid); create table public.project_lock ()",
            adopt_projects(),
            "public.project_lock is not buildlock's",
        ),
        ("create schema buildlock", adopt_projects(), "a schema buildlock that is not"),
    ] {
        let pg = before_buildlock(DefaultPrivileges::New).await;
        let postgres = pg.client_as("postgres").await;
        postgres.batch_execute(with).await.unwrap();
        let before = all_else(&postgres).await;
        let error = migrate(&pg, Some(&adopt)).await.unwrap_err();
        assert!(matches!(error, StoreError::MigrationRefused(_)), "{error}");
        assert!(error.to_string().contains(says), "{error}, not {says}");
        assert_eq!(all_else(&postgres).await, before, "{says}");
        let left = "select coalesce(string_agg(relname, ' '), '') from pg_class where relnamespace = to_regnamespace('buildlock')";
        assert_eq!(text(&postgres, left).await, "", "{says}");
    }
}

/// The tables' migrations, in order.
fn tables() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/sql");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_numbered = |path: &std::path::PathBuf| path.file_name().unwrap().as_encoded_bytes()[0].is_ascii_digit();
    let mut files: Vec<_> = files.filter(is_numbered).collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[tokio::test]
async fn every_earlier_version_is_brought_up_to_date_with_what_is_in_it() {
    let tables = tables();
    let newest = u32::try_from(tables.len()).unwrap();
    for version in 1..newest {
        let pg = TestPg::empty().await;
        let client = pg.client().await;
        for migration in tables.iter().take(version as usize) {
            client.batch_execute(migration).await.unwrap();
        }
        let held = format!(
            "insert into buildlock.store (version) values ({version});
             insert into buildlock.locks (project, owner, holder, acquired_at, token, request, operation, message, ttl_ms,
                                          expires_at, due_at, first_event, last_event)
             select 'site', 'ana', 'ana', now, 7, gen_random_uuid(), 'edit', '', 600000, now + 600000, now + 600000, 7, 7
             from floor(extract(epoch from now()) * 1000) as now;
             select setval('buildlock.numbers', 7)"
        );
        client.batch_execute(&held).await.unwrap();
        let migrated = postgres::migrate(&pg.url(), None).await.unwrap();
        assert_eq!((migrated.from, migrated.to), (version, newest));
        assert_eq!(text(&client, "select holder from public.verify_project_lock('site', 7)").await, "ana");
        assert_eq!(text(&client, "select how from public.unlock_project('site', 7)").await, "unlocked");
        let fresh = TestPg::fresh().await;
        let columns = "select string_agg(format('%s.%s %s', table_name, column_name, data_type), ' '
                                         order by table_name, ordinal_position)
                       from information_schema.columns where table_schema = 'buildlock'";
        assert_eq!(text(&client, columns).await, text(&fresh.client().await, columns).await);
    }
}

#[tokio::test]
async fn a_newer_versions_tables_are_left_alone() {
    let pg = TestPg::empty().await;
    postgres::migrate(&pg.url(), None).await.unwrap();
    pg.run("update buildlock.store set version = 99").await;
    let error = postgres::migrate(&pg.url(), None).await.unwrap_err();
    assert!(error.to_string().contains("the tables have version 99"), "{error}");
    assert!(error.to_string().contains("Use a newer buildlock"), "{error}");
}

/// What Supabase's advisors look for, in the schemas that are the platform's or buildlock's.
const ADVISORS: &[(&str, &str)] = &[
    (
        "function_search_path_mutable",
        "select proc.oid::regprocedure::text from pg_proc as proc
         where pronamespace in ('public'::regnamespace, 'buildlock'::regnamespace)
           and not exists (select from unnest(coalesce(proconfig, '{}')) as config where config like 'search\\_path=%')",
    ),
    (
        "rls_disabled_in_public",
        "select oid::regclass::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity",
    ),
    (
        "auth_rls_initplan",
        "select polrelid::regclass || ' ' || polname from pg_policy
         where concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) ~* 'auth\\.(uid|jwt|role)\\(\\)'
           and concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) !~* 'select auth\\.(uid|jwt|role)\\(\\)'",
    ),
    (
        "unindexed_foreign_keys",
        "select conrelid::regclass || ' ' || conname from pg_constraint as key
         where contype = 'f' and connamespace in ('public'::regnamespace, 'buildlock'::regnamespace)
           and not exists (
             select from pg_index
             where indrelid = key.conrelid and indisvalid
               and (string_to_array(indkey::text, ' ')::smallint[])[1 : array_length(key.conkey, 1)] = key.conkey
           )",
    ),
    (
        "multiple_permissive_policies",
        "select format('%s %s', polrelid::regclass, polcmd) from pg_policy where polpermissive
         group by polrelid, polcmd, polroles having count(*) > 1",
    ),
    (
        "security_definer_view",
        "select oid::regclass::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind = 'v'
           and not coalesce(reloptions::text, '') ~ 'security_invoker=(true|on)'",
    ),
    (
        "anon_security_definer_function_executable",
        "select oid::regprocedure::text from pg_proc
         where pronamespace = 'public'::regnamespace and prosecdef and has_function_privilege('anon', oid, 'execute')",
    ),
    (
        "function_overloaded",
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace group by proname having count(*) > 1",
    ),
    (
        "function_without_comment",
        "select oid::regprocedure::text from pg_proc
         where (pronamespace = 'buildlock'::regnamespace or prosrc like '%buildlock.%') and obj_description(oid, 'pg_proc') is null",
    ),
];

#[tokio::test]
async fn supabases_advisors_find_nothing() {
    for privileges in [DefaultPrivileges::Old, DefaultPrivileges::New] {
        let platform = Platform::new(privileges).await;
        let client = platform.pg.client_as("postgres").await;
        for (rule, query) in ADVISORS {
            let found = client.query(*query, &[]).await.unwrap_or_else(|error| panic!("{rule}: {error:?}"));
            let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
            assert!(found.is_empty(), "{rule} under {privileges:?}: {found:?}");
        }
    }
}
