//! What is done to a project with plain SQL is made real (rule 13), in an adopted table and without one.

mod supabase;

use buildlock::postgres;
use buildlock_testing::TestPg;
use serde_json::{Value, json};
use supabase::{ANA, ANAS_PROJECT, BO, BOS_PROJECT, Caller, DefaultPrivileges, Platform};
use tokio_postgres::Client;

const FREE: &str = "update projects set build_status = 'idle', locked_by = null, locked_at = null where id = $1";

async fn lock(platform: &Platform, project: &str) -> Value {
    let caller = if project == ANAS_PROJECT { ANA } else { BO };
    platform.rpc(&Caller::user(caller), "lock_project", json!({ "project_id": project })).await.unwrap()
}

/// Waits in line for a project, as a server has its callers wait.
async fn queue(client: &Client, project: &str, holder: &str) {
    let queue =
        "select outcome from buildlock.decide(null, $1, 'lock', gen_random_uuid(), null, $2, 'build', '', 30000,
                                                      null, 'queue')";
    let outcome: String = client.query_one(queue, &[&project, &holder]).await.unwrap().get(0);
    assert_eq!(outcome, "queued");
}

/// Runs an operator's statement, typed where no schema need be named.
async fn by_hand(client: &Client, schema: &str, statement: &str) -> Result<u64, tokio_postgres::Error> {
    client.batch_execute(&format!("set search_path = {schema}")).await.unwrap();
    client.execute(statement, &[]).await
}

#[tokio::test]
async fn an_operators_update_ends_the_lease_on_record_and_grants_to_the_next() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    let lease = lock(&platform, ANAS_PROJECT).await;
    queue(&client, ANAS_PROJECT, BO).await;
    queue(&client, ANAS_PROJECT, ANA).await;
    assert_eq!(by_hand(&client, "public", &FREE.replace("$1", &format!("'{ANAS_PROJECT}'"))).await.unwrap(), 1);
    // The old token is dead.
    let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
    for function in ["renew_project_lock", "verify_project_lock", "unlock_project"] {
        let lost = platform.rpc(&Caller::user(ANA), function, lease_of.clone()).await.unwrap_err();
        assert_eq!((lost.status, lost.code.as_str()), (410, "LEASE_LOST"));
        assert_eq!(lost.details["lease"]["how"], "freed_by_hand");
        assert_eq!(lost.details["lease"]["by"], "postgres");
    }
    assert_eq!(platform.row(ANAS_PROJECT).await, ("processing".to_owned(), Some(BO.to_owned()), true));
    let history = ["granted", "queued", "queued", "freed_by_hand", "granted"];
    assert_eq!(platform.history(ANAS_PROJECT).await, history);
    // Less is enough, and what else the update says is done.
    let less = format!("update projects set build_status = 'idle', name = 'Freed' where id = '{ANAS_PROJECT}'");
    by_hand(&client, "public", &less).await.unwrap();
    assert_eq!(platform.row(ANAS_PROJECT).await, ("processing".to_owned(), Some(ANA.to_owned()), true));
    by_hand(&client, "public", &less).await.unwrap();
    assert_eq!(platform.row(ANAS_PROJECT).await, ("idle".to_owned(), None, false));
    let name = format!("select name from public.projects where id = '{ANAS_PROJECT}'");
    assert_eq!(platform.value(&name).await.as_deref(), Some("Freed"));
    // What is free is not freed again.
    let history = platform.history(ANAS_PROJECT).await;
    by_hand(&client, "public", &less).await.unwrap();
    assert_eq!(platform.history(ANAS_PROJECT).await, history);
    lock(&platform, ANAS_PROJECT).await;
}

#[tokio::test]
async fn who_listens_is_told_of_what_was_done_by_hand() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    let (listener, mut connection) = tokio_postgres::connect(&platform.pg.url(), tokio_postgres::NoTls).await.unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(news) = message {
                heard.send(news.payload().to_owned()).unwrap();
            }
        }
    });
    listener.batch_execute("listen buildlock").await.unwrap();
    let lease = lock(&platform, ANAS_PROJECT).await;
    queue(&client, ANAS_PROJECT, BO).await;
    by_hand(&client, "public", &format!("update projects set build_status = 'idle' where id = '{ANAS_PROJECT}'"))
        .await
        .unwrap();
    assert_eq!(hears.recv().await.unwrap(), format!("end {}", lease["token"]));
    assert!(hears.recv().await.unwrap().starts_with("turn "));
}

#[tokio::test]
async fn without_an_adopted_table_the_view_is_the_place_for_it() {
    let pg = TestPg::empty().await;
    postgres::migrate(&pg.url(), None).await.unwrap();
    let client = pg.client().await;
    client.batch_execute("select public.lock_project('site', 'edit', 'hi', holder => 'ana')").await.unwrap();
    queue(&client, "site", "bo").await;
    let seen = "select concat_ws(' ', owner, build_status, locked_by, locked_at is not null, operation, message)
                from buildlock.projects where id = 'site'";
    let seen = async || client.query_one(seen, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(seen().await, "ana processing ana t edit hi");
    assert_eq!(by_hand(&client, "buildlock", &FREE.replace("$1", "'site'")).await.unwrap(), 1);
    assert_eq!(seen().await, "ana processing bo t build ");
    assert_eq!(by_hand(&client, "buildlock", &FREE.replace("$1", "'site'")).await.unwrap(), 1);
    assert_eq!(seen().await, "ana idle f");
    for statement in [
        "update projects set build_status = 'processing' where id = 'site'",
        "update projects set locked_by = 'eve' where id = 'site'",
        "update projects set id = 'other' where id = 'site'",
    ] {
        let refused = by_hand(&client, "buildlock", statement).await.unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert!(said.contains("only locked by a lease"), "{statement}: {said}");
    }
    client.batch_execute("select public.lock_project('site', holder => 'ana')").await.unwrap();
    by_hand(&client, "buildlock", "delete from projects where id = 'site'").await.unwrap();
    let kinds = "select string_agg(kind, ' ' order by id) from buildlock.events";
    let kinds: String = client.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(kinds, "granted queued freed_by_hand granted freed_by_hand granted freed_by_hand deleted");
}

#[tokio::test]
async fn a_project_is_only_locked_by_a_lease() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    lock(&platform, ANAS_PROJECT).await;
    let before = (platform.row(ANAS_PROJECT).await, platform.row(BOS_PROJECT).await);
    for statement in [
        format!(
            "update projects set build_status = 'processing', locked_by = '{BO}', locked_at = now() where id = '{BOS_PROJECT}'"
        ),
        format!("update projects set build_status = 'processing' where id = '{BOS_PROJECT}'"),
        format!("update projects set locked_by = '{BO}' where id = '{BOS_PROJECT}'"),
        format!("update projects set locked_by = '{BO}' where id = '{ANAS_PROJECT}'"),
        format!("update projects set locked_at = now() where id = '{ANAS_PROJECT}'"),
        format!("update projects set locked_at = null where id = '{ANAS_PROJECT}'"),
        format!("update projects set build_status = 'building' where id = '{ANAS_PROJECT}'"),
        format!("insert into projects (user_id, name, build_status) values ('{ANA}', 'x', 'processing')"),
        format!("insert into projects (user_id, name, locked_by) values ('{ANA}', 'x', '{ANA}')"),
        format!("update projects set id = gen_random_uuid() where id = '{ANAS_PROJECT}'"),
    ] {
        let refused = by_hand(&client, "public", &statement).await.unwrap_err();
        assert!(refused.as_db_error().is_some(), "{statement}: {refused:?}");
        assert_eq!((platform.row(ANAS_PROJECT).await, platform.row(BOS_PROJECT).await), before, "{statement}");
    }
    assert_eq!(platform.history(ANAS_PROJECT).await, ["granted"]);
}

#[tokio::test]
async fn a_lease_that_was_over_has_ended_by_itself() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    let lease = lock(&platform, ANAS_PROJECT).await;
    // Its time is over, but nobody has looked yet: the row still says what it said.
    let over =
        format!("update buildlock.locks set expires_at = buildlock.now_ms() - 1 where project = '{ANAS_PROJECT}'");
    client.batch_execute(&over).await.unwrap();
    by_hand(&client, "public", &format!("update projects set build_status = 'idle' where id = '{ANAS_PROJECT}'"))
        .await
        .unwrap();
    assert_eq!(platform.history(ANAS_PROJECT).await, ["granted", "expired"]);
    let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
    let lost = platform.rpc(&Caller::user(ANA), "verify_project_lock", lease_of).await.unwrap_err();
    assert_eq!(lost.details["lease"]["how"], "expired");
}

#[tokio::test]
async fn a_row_that_goes_takes_its_lock_with_it_on_record() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    let lease = lock(&platform, ANAS_PROJECT).await;
    queue(&client, ANAS_PROJECT, BO).await;
    // By its owner, through PostgREST.
    let delete = format!("delete from public.projects where id = '{ANAS_PROJECT}'");
    platform.query(&Caller::user(ANA), &delete).await.unwrap();
    let history = ["granted", "queued", "freed_by_hand", "dropped", "deleted"];
    assert_eq!(platform.history(ANAS_PROJECT).await, history);
    let by = format!(
        "select string_agg(distinct coalesce(ended_by, holder), ' ') from buildlock.events
                      where project = '{ANAS_PROJECT}' and kind in ('freed_by_hand', 'deleted')"
    );
    assert_eq!(platform.value(&by).await.as_deref(), Some(ANA));
    let left = "select count(*)::text from buildlock.locks";
    assert_eq!(platform.value(left).await.as_deref(), Some("0"));
    let left = "select count(*)::text from buildlock.tickets";
    assert_eq!(platform.value(left).await.as_deref(), Some("0"));

    // Made again, it is a new one: no token of the old comes back (rule 2).
    let again = format!("insert into public.projects (id, user_id, name) values ('{ANAS_PROJECT}', '{ANA}', 'again')");
    client.batch_execute(&again).await.unwrap();
    let next = lock(&platform, ANAS_PROJECT).await;
    assert!(next["token"].as_i64() > lease["token"].as_i64());
    let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
    let lost = platform.rpc(&Caller::user(ANA), "verify_project_lock", lease_of).await.unwrap_err();
    assert_eq!((lost.status, lost.details["lease"]["how"].as_str()), (410, Some("freed_by_hand")));

    // All at once.
    lock(&platform, BOS_PROJECT).await;
    client.batch_execute("truncate public.projects").await.unwrap();
    assert_eq!(platform.history(BOS_PROJECT).await, ["granted", "freed_by_hand", "deleted"]);
    assert_eq!(platform.value("select count(*)::text from buildlock.locks").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_user_who_is_deleted_leaves_the_lease_and_takes_the_projects() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let auth = platform.pg.client_as("supabase_auth_admin").await;
    // Bo holds Ana's project, by a service that acts for both.
    let wanted = json!({ "project_id": ANAS_PROJECT, "holder": BO });
    let lease = platform.rpc(&Caller::service(), "lock_project", wanted).await.unwrap();
    lock(&platform, BOS_PROJECT).await;
    auth.batch_execute(&format!("delete from auth.users where id = '{BO}'")).await.unwrap();
    assert_eq!(platform.row(ANAS_PROJECT).await, ("processing".to_owned(), None, true));
    assert_eq!(platform.history(ANAS_PROJECT).await, ["granted"]);
    assert_eq!(platform.history(BOS_PROJECT).await, ["granted", "freed_by_hand", "deleted"]);
    let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
    platform.rpc(&Caller::service(), "renew_project_lock", lease_of.clone()).await.unwrap();
    platform.rpc(&Caller::service(), "unlock_project", lease_of).await.unwrap();
    assert_eq!(platform.row(ANAS_PROJECT).await, ("idle".to_owned(), None, false));
}

#[tokio::test]
async fn a_project_that_is_given_away_is_the_others_to_lock() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let client = platform.pg.client_as("postgres").await;
    let lease = lock(&platform, ANAS_PROJECT).await;
    let give = format!("update public.projects set user_id = '{BO}' where id = '{ANAS_PROJECT}'");
    client.batch_execute(&give).await.unwrap();
    let refused = platform.rpc(&Caller::user(ANA), "is_project_locked", json!({ "project_id": ANAS_PROJECT })).await;
    assert_eq!(refused.unwrap_err().status, 404);
    let force = json!({ "project_id": ANAS_PROJECT, "token": lease["token"], "reason": "it is mine" });
    platform.rpc(&Caller::user(BO), "force_unlock_project", force).await.unwrap();
    let owner = format!("select owner from buildlock.locks where project = '{ANAS_PROJECT}'");
    assert_eq!(platform.value(&owner).await.as_deref(), Some(BO));
}

/// Whoever updates the table has its row first, and whoever locks the lock's: neither ends the other as a deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_by_hand_and_locks_do_not_end_each_other() {
    const ROUNDS: u32 = 200;
    let platform = Platform::new(DefaultPrivileges::New).await;
    let (operator, service) = (platform.pg.client_as("postgres").await, platform.pg.client_as("postgres").await);
    let busy = tokio::spawn(async move {
        let lock = format!("select mine, token from public.try_lock_project('{ANAS_PROJECT}', holder => 'service')");
        let unlock = format!("select public.unlock_project('{ANAS_PROJECT}', $1)");
        let (mut locked, mut lost) = (0, 0);
        for _ in 0..ROUNDS {
            let lease = service.query_one(&lock, &[]).await.unwrap_or_else(|error| panic!("{error:?}"));
            locked += u32::from(lease.get::<_, bool>(0));
            if let Err(error) = service.query_one(&unlock, &[&lease.get::<_, i64>(1)]).await {
                assert_eq!(supabase::refusal(&error).code, "LEASE_LOST");
                lost += 1;
            }
        }
        (locked, lost)
    });
    let mut again = 0;
    while !busy.is_finished() {
        let free = format!("update public.projects set build_status = 'idle' where id = '{ANAS_PROJECT}'");
        if let Err(error) = operator.batch_execute(&free).await {
            let error = error.as_db_error().unwrap();
            assert_eq!((error.code().code(), error.hint()), ("55P03", Some("Run the same statement again.")));
            again += 1;
        }
    }
    let (locked, lost) = busy.await.unwrap();
    println!("{locked} times locked, {lost} leases freed by hand, {again} updates to be run again");
    assert_eq!(locked, ROUNDS);
    assert_eq!(platform.row(ANAS_PROJECT).await, ("idle".to_owned(), None, false));
    let held = "select count(*)::text from buildlock.locks where token is not null";
    assert_eq!(platform.value(held).await.as_deref(), Some("0"));
}

/// Rule 8, for all others.
#[tokio::test]
async fn a_transaction_that_keeps_a_row_holds_up_that_project_only() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let (busy, sweeper) = (platform.pg.client_as("postgres").await, platform.pg.client_as("postgres").await);
    lock(&platform, ANAS_PROJECT).await;
    lock(&platform, BOS_PROJECT).await;
    busy.batch_execute(&format!("begin; update public.projects set name = 'x' where id = '{ANAS_PROJECT}'"))
        .await
        .unwrap();
    platform.let_expire(ANAS_PROJECT).await;
    platform.let_expire(BOS_PROJECT).await;
    let sweep = async || -> Option<i64> {
        sweeper.batch_execute("set statement_timeout = '10s'").await.unwrap();
        sweeper.query_one("select buildlock.settle_due(null, 100)", &[]).await.unwrap().get(0)
    };
    let again = sweep().await;
    assert_eq!(again, Some(100), "it looks again soon");
    assert_eq!(platform.row(BOS_PROJECT).await.0, "idle");
    assert_eq!(platform.row(ANAS_PROJECT).await.0, "processing");
    // Nor does a caller wait.
    let call =
        platform.rpc(&Caller::user(ANA), "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap_err();
    assert_eq!((call.status, call.code.as_str()), (503, "STORE_UNAVAILABLE"));
    busy.batch_execute("commit").await.unwrap();
    assert_eq!(sweep().await, None);
    assert_eq!(platform.row(ANAS_PROJECT).await.0, "idle");
    assert_eq!(platform.history(ANAS_PROJECT).await, ["granted", "expired"]);
}
