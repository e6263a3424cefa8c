//! Servers and SQL functions on one adopted table: a program that embeds the store, users that call the functions,
//! and an operator with SQL share each lock.

mod supabase;
mod support;

use std::time::{Duration, Instant};

use buildlock::postgres::PostgresStore;
use buildlock::{LockError, LockRequest, LockService, Operation, ProjectId, Refusal, Wait};
use serde_json::{Value, json};
use supabase::{ANA, ANAS_PROJECT, BO, Caller, DefaultPrivileges, Platform};
use support::{until, within};

/// Within what time whoever waits must hear of its turn.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn service(platform: &Platform) -> LockService {
    LockService::new(PostgresStore::open(&platform.pg.url_as("postgres")).await.unwrap())
}

fn request(holder: &str) -> LockRequest {
    LockRequest::new(holder.parse().unwrap(), Operation::default())
}

async fn lock(platform: &Platform) -> Value {
    let lock = json!({ "project_id": ANAS_PROJECT, "ttl_seconds": 600 });
    platform.rpc(&Caller::user(ANA), "lock_project", lock).await.unwrap()
}

/// Rules 6, 9 and 13: whoever ends the lease, the next is granted, and hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_waiter_is_granted_when_a_user_or_an_operator_ends_the_lease() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let service = service(&platform).await;
    let project: ProjectId = ANAS_PROJECT.parse().unwrap();
    for end in ["unlock", "force", "by hand"] {
        let lease = lock(&platform).await;
        let wait = Wait::new(Duration::from_secs(60)).unwrap();
        let waiter = {
            let (service, project) = (service.clone(), project.clone());
            tokio::spawn(async move { service.lock(&project, request(BO), wait).await })
        };
        let waiting = format!("select queue_length::text from buildlock.locks where project = '{ANAS_PROJECT}'");
        until("it waits", async || platform.value(&waiting).await.as_deref() == Some("1")).await;
        let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
        match end {
            "unlock" => drop(platform.rpc(&Caller::user(ANA), "unlock_project", lease_of).await.unwrap()),
            "force" => {
                let mut force = lease_of;
                force["reason"] = json!("it hangs");
                platform.rpc(&Caller::operator(BO), "force_unlock_project", force).await.unwrap();
            }
            _ => {
                let free = format!("update public.projects set build_status = 'idle' where id = '{ANAS_PROJECT}'");
                platform.pg.client_as("postgres").await.batch_execute(&free).await.unwrap();
            }
        }
        let ended = Instant::now();
        let guard = within(Duration::from_secs(20), "its turn", waiter).await.unwrap().unwrap();
        let took = ended.elapsed();
        assert!(took < AT_ONCE, "{end}: {took:?}");
        assert_eq!(platform.row(ANAS_PROJECT).await, ("processing".to_owned(), Some(BO.to_owned()), true), "{end}");
        let busy = platform.rpc(&Caller::user(ANA), "lock_project", json!({ "project_id": ANAS_PROJECT })).await;
        assert_eq!(busy.unwrap_err().details["lock"]["holder"], BO, "{end}");
        guard.unlock().await.unwrap();
        assert_eq!(platform.row(ANAS_PROJECT).await, ("idle".to_owned(), None, false), "{end}");
    }
}

/// Rule 8: a server that runs sees to the leases of those who call the functions as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_user_does_not_renew_ends_within_a_second_of_its_time() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let _service = service(&platform).await;
    let lock = json!({ "project_id": ANAS_PROJECT, "ttl_seconds": 1 });
    platform.rpc(&Caller::user(ANA), "lock_project", lock).await.unwrap();
    until("its row is idle", async || platform.row(ANAS_PROJECT).await.0 == "idle").await;
    assert_eq!(platform.history(ANAS_PROJECT).await, ["granted", "expired"]);
    let late = "select buildlock.now_ms() - at from buildlock.events where kind = 'expired'";
    let late: i64 = platform.pg.client_as("postgres").await.query_one(late, &[]).await.unwrap().get(0);
    assert!(late < 1_500, "{late} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_lease_that_is_freed_by_hand_is_lost_and_told() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let service = service(&platform).await;
    let project: ProjectId = ANAS_PROJECT.parse().unwrap();
    let guard = service.lock(&project, request(ANA), Wait::NONE).await.unwrap();
    let free = format!("update public.projects set build_status = 'idle' where id = '{ANAS_PROJECT}'");
    platform.pg.client_as("postgres").await.batch_execute(&free).await.unwrap();
    let freed = Instant::now();
    let loss = within(Duration::from_secs(20), "the loss", guard.lost()).await;
    assert!(freed.elapsed() < AT_ONCE, "{:?}", freed.elapsed());
    assert!(loss.to_string().contains("by hand"), "{loss}");
}

#[tokio::test]
async fn a_server_locks_only_what_is_a_row_and_under_its_one_name() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let service = service(&platform).await;
    for name in ["cccccccc-0000-4000-8000-000000000001", &ANAS_PROJECT.to_uppercase(), "nonsense", "'; --"] {
        let refused = service.lock(&name.parse().unwrap(), request(ANA), Wait::NONE).await.unwrap_err();
        let LockError::Refused(refusal) = refused else { panic!("{name}: {refused}") };
        assert_eq!(*refusal, Refusal::UnknownProject, "{name}");
    }
    let status = service.store().status(&ANAS_PROJECT.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(status.owner.as_str(), ANA);
}
