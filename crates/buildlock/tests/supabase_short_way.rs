//! What most calls of the public functions are goes a short way, which does what the long one does.

mod supabase;

use buildlock::postgres;
use buildlock_testing::TestPg;
use serde_json::{Value, json};
use supabase::{ANA, ANAS_PROJECT, BO, BOS_PROJECT, Caller, DefaultPrivileges, Platform};
use tokio_postgres::Client;

/// A call that goes the long way fails from here on.
const CLOSE_THE_LONG_WAY: &str = "
    alter function buildlock.ask_to_lock rename to ask_to_lock_closed;
    alter function buildlock.ask_about_lease rename to ask_about_lease_closed;";

const OPEN_THE_LONG_WAY: &str = "
    alter function buildlock.ask_to_lock_closed rename to ask_to_lock;
    alter function buildlock.ask_about_lease_closed rename to ask_about_lease;";

/// All that is written of a project, without what tells one call from another.
async fn written(client: &Client, project: &str) -> Value {
    let query = "
        select jsonb_build_object(
          'lock', (
            select to_jsonb(locks) - '{project,token,request,acquired_at,expires_at,due_at,first_event,last_event}'::text[]
              || jsonb_build_object('lasts', expires_at - acquired_at, 'is granted last', token = last_event)
            from buildlock.locks
            where project = $1
          ),
          'events', (
            select jsonb_agg(told order by id)
            from (
              select
                id,
                to_jsonb(events) - '{id,at,project,request,token,previous}'::text[] || jsonb_build_object(
                  'follows', previous is not distinct from lag(id) over (order by id),
                  'of the request before', request = lag(request) over (order by id),
                  'of the token before', token = lag(token) over (order by id),
                  'grants its token', token = id
                ) as told
              from buildlock.events
              where project = $1
            ) as events
          ),
          'is the newest', (
            select last_event = (select max(id) from buildlock.events where project = $1)
            from buildlock.locks
            where project = $1
          )
        )::text";
    let text: String = client.query_one(query, &[&project]).await.unwrap().get(0);
    serde_json::from_str(&text).unwrap()
}

/// The two ways write the same.
#[tokio::test]
async fn the_short_way_writes_what_the_long_way_writes() {
    let pg = TestPg::empty().await;
    postgres::migrate(&pg.url(), None).await.unwrap();
    let client = pg.client().await;
    let long_way = [
        "select token from buildlock.ask_to_lock($1, 'edit', 'new header', 12.3456, $2, 'ana')",
        "select past_how from buildlock.ask_about_lease('unlock', $1, $2, $3)",
    ];
    let short_way = [
        "select token from public.lock_project($1, 'edit', 'new header', 12.3456, $2, 'ana')",
        "select how from public.unlock_project($1, $2, $3)",
    ];
    for (project, [lock, unlock]) in [("long", long_way), ("short", short_way)] {
        for (request, unlocks) in [(None, Some("ana")), (Some(uuid(1)), Some("ana")), (Some(uuid(2)), None)] {
            let token: i64 = client.query_one(lock, &[&project, &request]).await.unwrap().get(0);
            if project == "short" && request.is_none() {
                // The first has made the project, which is the long way's business.
                client.batch_execute(CLOSE_THE_LONG_WAY).await.unwrap();
            }
            client.query_one(unlock, &[&project, &token, &unlocks]).await.unwrap();
        }
        client.query_one(lock, &[&project, &None::<uuid::Uuid>]).await.unwrap();
    }
    let short = written(&client, "short").await;
    assert_eq!(short, written(&client, "long").await);
    assert_eq!(short["lock"]["lasts"], json!(12_345));
    assert_eq!(short["events"].as_array().unwrap().len(), 7);
    assert_eq!(short["is the newest"], json!(true));
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

/// Whoever may lock and unlock a project of Ana's goes the short way. `row` tells what the project's row says.
async fn all_go_the_short_way(pg: &TestPg, project: &str, row: &str) {
    let row = async || -> String { pg.client_as("postgres").await.query_one(row, &[&project]).await.unwrap().get(0) };
    let call = async |caller: &Caller, call: &str| -> Value {
        let call = format!("select to_json({call})::text");
        let mut authenticator = pg.client_as("authenticator").await;
        let rows = supabase::query(&mut authenticator, caller, &call).await.unwrap();
        serde_json::from_str(rows[0].as_deref().unwrap()).unwrap()
    };
    let callers = [
        (Caller::user(ANA), "null".to_owned()),
        (Caller::operator(BO), "null".to_owned()),
        (Caller::operator(BO), format!("'{ANA}'")),
        (Caller::service(), format!("'{ANA}'")),
        (Caller::service(), "null".to_owned()),
    ];
    let mut is_closed = false;
    for function in ["lock_project", "try_lock_project"] {
        for (caller, holder) in &callers {
            let lock = format!("public.{function}('{project}', 'edit', holder => {holder})");
            let held = call(caller, &lock).await;
            assert_eq!(row().await, "processing");
            if !std::mem::replace(&mut is_closed, true) {
                pg.client_as("postgres").await.batch_execute(CLOSE_THE_LONG_WAY).await.unwrap();
            }
            let unlock = format!("public.unlock_project('{project}', {}, holder => {holder})", held["token"]);
            let ended = call(caller, &unlock).await;
            assert_eq!((&ended["how"], &ended["holder"]), (&json!("unlocked"), &held["holder"]));
            assert_eq!(ended["ended_by"], held["holder"]);
            assert_eq!(row().await, "idle");
        }
    }
}

#[tokio::test]
async fn who_locks_what_is_free_goes_the_short_way() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let row = "select build_status from public.projects where id::text = $1";
    all_go_the_short_way(&platform.pg, ANAS_PROJECT, row).await;
}

#[tokio::test]
async fn who_locks_what_is_free_goes_the_short_way_without_an_adopted_table() {
    let pg = supabase::before_buildlock(DefaultPrivileges::New).await;
    postgres::migrate(&pg.url_as("postgres"), None).await.unwrap();
    all_go_the_short_way(&pg, "site", "select build_status from buildlock.projects where id = $1").await;
    let somebody_else = Caller::user(BO);
    let mut authenticator = pg.client_as("authenticator").await;
    pg.client_as("postgres").await.batch_execute(OPEN_THE_LONG_WAY).await.unwrap();
    let lock = "select (public.lock_project('site')).token::text";
    let refused = supabase::query(&mut authenticator, &somebody_else, lock).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (404, "PROJECT_NOT_FOUND"));
}

/// What is not one's own is not to be had on the short way either, and a lease that is over is not ended on it.
#[tokio::test]
async fn the_short_way_is_no_way_around() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let (ana, service) = (Caller::user(ANA), Caller::service());
    let lock = |project: &str, holder: Value| json!({ "project_id": project, "holder": holder });
    let lease_of = |held: &Value| json!({ "project_id": BOS_PROJECT, "token": held["token"] });
    let held = platform.rpc(&service, "lock_project", lock(BOS_PROJECT, json!(BO))).await.unwrap();
    let refused = platform.rpc(&ana, "unlock_project", lease_of(&held)).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (404, "PROJECT_NOT_FOUND"));
    platform.rpc(&service, "unlock_project", lease_of(&held)).await.unwrap();
    for function in ["lock_project", "try_lock_project"] {
        let refused = platform.rpc(&ana, function, lock(BOS_PROJECT, json!(null))).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (404, "PROJECT_NOT_FOUND"));
        let refused = platform.rpc(&ana, function, lock(ANAS_PROJECT, json!(BO))).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (403, "FORBIDDEN"));
        let refused = platform.rpc(&Caller::anonymous(), function, lock(ANAS_PROJECT, json!(null))).await.unwrap_err();
        assert_eq!(refused.code, "42501", "it may not call it at all");
    }
    let held = platform.rpc(&service, "lock_project", lock(BOS_PROJECT, json!(BO))).await.unwrap();
    platform.let_expire(BOS_PROJECT).await;
    let lost = platform.rpc(&service, "unlock_project", lease_of(&held)).await.unwrap_err();
    assert_eq!((lost.status, lost.code.as_str()), (410, "LEASE_LOST"));
    assert_eq!(platform.history(BOS_PROJECT).await, ["granted", "unlocked", "granted"], "a refusal takes all back");
}

/// Rule 4, on the short way: a request that was granted is not granted again.
#[tokio::test]
async fn a_request_that_had_its_lease_is_told_so() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let wanted = json!({ "project_id": ANAS_PROJECT, "request_id": uuid(7).to_string() });
    for _ in 0..2 {
        let held =
            platform.rpc(&Caller::user(ANA), "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
        let lease = json!({ "project_id": ANAS_PROJECT, "token": held["token"] });
        platform.rpc(&Caller::user(ANA), "unlock_project", lease).await.unwrap();
    }
    let held = platform.rpc(&Caller::user(ANA), "lock_project", wanted.clone()).await.unwrap();
    assert_eq!(platform.rpc(&Caller::user(ANA), "lock_project", wanted.clone()).await.unwrap(), held);
    let lease = json!({ "project_id": ANAS_PROJECT, "token": held["token"] });
    platform.rpc(&Caller::user(ANA), "unlock_project", lease).await.unwrap();
    for function in ["lock_project", "try_lock_project"] {
        let lost = platform.rpc(&Caller::user(ANA), function, wanted.clone()).await.unwrap_err();
        assert_eq!((lost.status, lost.code.as_str()), (410, "LEASE_LOST"));
    }
}
