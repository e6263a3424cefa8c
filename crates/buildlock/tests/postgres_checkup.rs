//! What `doctor` finds out about a database, each time that something is not as it should be.

use buildlock::postgres::{Adopt, checkup, migrate};
use buildlock::{Finding, LockStore, PostgresStore, Verdict};
use buildlock_testing::{ClusterOptions, SUPERUSER, TestCluster, TestPg};

/// Whether this URL's database is well; what is not.
async fn complaints(url: &str) -> Vec<Finding> {
    let mut findings = checkup(url).await.unwrap();
    // The tests' own cluster does without.
    findings.retain(|finding| finding.verdict != Verdict::Good && finding.what != "durability");
    findings
}

/// That there is one complaint, of this verdict, about this, which says so.
#[track_caller]
fn complains(complaints: &[Finding], verdict: Verdict, what: &str, says: &str) {
    let complaint = complaints.iter().find(|finding| finding.what == what);
    let Some(complaint) = complaint else { panic!("no complaint about {what}: {complaints:#?}") };
    assert!(complaint.verdict == verdict && complaint.detail.contains(says), "{complaint:#?}");
    assert!(complaint.advice.is_some(), "{complaint:#?}");
}

#[tokio::test]
async fn a_database_that_is_well_is_said_to_be_and_so_is_one_behind_a_pooler() {
    let database = TestPg::fresh().await;
    let none = complaints(&database.url()).await;
    assert!(none.is_empty(), "{none:#?}");
    let all = checkup(&database.url()).await.unwrap();
    for what in
        ["connection", "postgresql", "clock", "pooler", "tables", "functions", "rights", "locks", "history", "builds"]
    {
        assert!(all.iter().any(|finding| finding.what == what), "nothing of {what}: {all:#?}");
    }
    let pooler = database.pooler();
    let pooled = database.url_through(&pooler);
    let none = complaints(&pooled).await;
    assert!(none.is_empty(), "{none:#?}");
    // A store finds the same.
    let store = PostgresStore::open(&database.url()).await.unwrap();
    assert_eq!(store.checkup().await.unwrap().len(), all.len());
}

#[tokio::test]
async fn a_pooler_that_the_url_does_not_tell_of_is_found_and_one_that_is_not_there_too() {
    let database = TestPg::fresh().await;
    let pooler = database.pooler();
    let unsaid = database.url_through(&pooler).replace("?pgbouncer=true", "");
    complains(&complaints(&unsaid).await, Verdict::Bad, "pooler", "transaction mode");
    let said = format!("{}?pgbouncer=true", database.url());
    complains(&complaints(&said).await, Verdict::Warning, "pooler", "none was met");
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_or_has_no_buildlock_is_told_from_one_that_has() {
    let away = complaints("postgres://ana@127.0.0.1:1/nowhere").await;
    complains(&away, Verdict::Bad, "connection", "127.0.0.1:1");
    assert_eq!(away.len(), 1);
    let empty = TestPg::empty().await;
    complains(&complaints(&empty.url()).await, Verdict::Bad, "tables", "no buildlock in it");
    empty.run("create schema buildlock").await;
    complains(&complaints(&empty.url()).await, Verdict::Bad, "tables", "not buildlock's");
    let database = TestPg::fresh().await;
    database.run("update buildlock.store set version = 99").await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "tables", "version 99");
    database.run("update buildlock.store set version = 1").await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "tables", "version 1;");
}

#[tokio::test]
async fn a_function_that_was_changed_or_is_gone_is_named_and_a_migration_puts_it_right() {
    let database = TestPg::fresh().await;
    let change = "create or replace function buildlock.now_ms() returns bigint language sql as 'select 7::bigint'";
    database.run(change).await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "functions", "buildlock.now_ms");
    database.run("drop function public.is_project_locked(text)").await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "functions", "missing: public.is_project_locked");
    migrate(&database.url(), None).await.unwrap();
    assert_eq!(complaints(&database.url()).await, []);
}

#[tokio::test]
async fn a_right_too_many_or_too_few_is_named() {
    let database = TestPg::emulated().await;
    database.run("create table public.projects (id uuid primary key, user_id uuid)").await;
    let adopt = Adopt { table: "public.projects".to_owned(), owner_column: None };
    let url = database.url_as("postgres");
    database.run("alter table public.projects owner to postgres").await;
    migrate(&url, Some(&adopt)).await.unwrap();
    assert_eq!(complaints(&url).await, []);
    for (grant, revoke, says) in [
        (
            "grant usage on schema buildlock to anon",
            "revoke usage on schema buildlock from anon",
            "anon reaches schema buildlock",
        ),
        (
            "grant select on buildlock.locks to authenticated",
            "revoke select on buildlock.locks from authenticated",
            "authenticated reaches buildlock.locks",
        ),
        (
            "grant execute on function buildlock.now_ms() to public",
            "revoke execute on function buildlock.now_ms() from public",
            "PUBLIC reaches buildlock.now_ms",
        ),
        (
            "grant execute on function public.is_project_locked to anon",
            "revoke execute on function public.is_project_locked from anon",
            "anon may call public.is_project_locked",
        ),
        (
            "revoke execute on function public.is_project_locked from authenticated",
            "grant execute on function public.is_project_locked to authenticated",
            "authenticated may not call public.is_project_locked",
        ),
    ] {
        database.run(grant).await;
        complains(&complaints(&url).await, Verdict::Bad, "rights", says);
        database.run(revoke).await;
        assert_eq!(complaints(&url).await, [], "{revoke}");
    }
}

#[tokio::test]
async fn an_adopted_table_that_says_what_is_not_so_is_named_and_one_row_of_it() {
    let database = TestPg::emulated().await;
    let id = "0b1f6c9a-6a52-4d0e-93a3-3d9a1d0e8d11";
    database
        .run(&format!(
            "create table public.projects (id uuid primary key, user_id uuid); \
         insert into public.projects values ('{id}', '{id}')"
        ))
        .await;
    let adopt = Adopt { table: "public.projects".to_owned(), owner_column: None };
    migrate(&database.url(), Some(&adopt)).await.unwrap();
    assert_eq!(complaints(&database.url()).await, []);
    let unseen = "set session_replication_role = replica; update public.projects set build_status = 'processing'";
    database.run(unseen).await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "adopted table", id);
    database.run("update public.projects set build_status = 'idle'").await;
    assert_eq!(complaints(&database.url()).await, []);
    database.run("alter table public.projects disable trigger buildlock_update").await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "adopted table", "8 of its 9 triggers");
    database.run("alter table public.projects enable trigger buildlock_update; drop table public.projects").await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "adopted table", "is gone");
}

#[tokio::test]
async fn settings_that_break_a_rule_are_named() {
    let database = TestPg::fresh().await;
    for (setting, what, verdict, says) in [
        ("default_transaction_isolation = 'serializable'", "isolation", Verdict::Bad, "serializable"),
        ("default_transaction_read_only = on", "writing", Verdict::Bad, "read only"),
        ("statement_timeout = '200ms'", "statement_timeout", Verdict::Warning, "200 ms"),
    ] {
        database.run(&format!("alter database {} set {setting}", database.name())).await;
        complains(&complaints(&database.url()).await, verdict, what, says);
        let name = setting.split(' ').next().unwrap();
        let reset = format!("begin read write; alter database {} reset {name}; commit", database.name());
        database.run(&reset).await;
    }
    assert_eq!(complaints(&database.url()).await, []);
    // The tests' cluster is fast and forgets.
    let all = checkup(&database.url()).await.unwrap();
    complains(&all, Verdict::Bad, "durability", "rule 12");
}

#[tokio::test]
async fn what_is_overdue_or_holds_others_up_is_named() {
    let database = TestPg::fresh().await;
    database
        .run(
            "insert into buildlock.locks (project, owner, queue_length, due_at) \
         values ('site', 'ana', 1, buildlock.now_ms() - 60000)",
        )
        .await;
    let complaints = complaints(&database.url()).await;
    complains(&complaints, Verdict::Warning, "expiry", "1 projects are overdue");
    complains(&complaints, Verdict::Bad, "locks", "0 tickets");
}

#[tokio::test]
async fn half_a_lease_is_named() {
    let database = TestPg::fresh().await;
    database.run("insert into buildlock.locks (project, owner, token) values ('site', 'ana', 7)").await;
    complains(&complaints(&database.url()).await, Verdict::Bad, "locks", "1 have half a lease");
}

#[tokio::test]
async fn standbys_are_told_of_and_a_standby_is_no_place_for_locks() {
    let primary = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let database = primary.fresh().await;
    let standby = primary.standby().await;
    let all = checkup(&database.url()).await.unwrap();
    let bad: Vec<_> = all.iter().filter(|finding| finding.verdict != Verdict::Good).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(all.iter().any(|finding| finding.detail == "1 connected, of which a commit waits for 1"), "{all:#?}");
    let on_standby = complaints(&standby.url(SUPERUSER, database.name())).await;
    complains(&on_standby, Verdict::Bad, "primary", "standby");
    assert_eq!(on_standby.len(), 1, "{on_standby:#?}");
    database.run("create role ana login").await;
    complains(&complaints(&database.url_as("ana")).await, Verdict::Warning, "standbys", "may not know");

    database.run("alter system set synchronous_standby_names = ''").await;
    database.run("select pg_reload_conf()").await;
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // The server's processes reload when they get to it.
    while !complaints(&database.url()).await.iter().any(|finding| finding.detail.contains("a commit waits for none")) {
        assert!(std::time::Instant::now() < give_up);
    }
    drop(standby);
}
