//! Who may do what on Supabase, as each role, under its old and its new default privileges.

mod supabase;

use serde_json::json;
use supabase::{ANA, ANAS_PROJECT, BO, BOS_PROJECT, Caller, DefaultPrivileges, Platform};

const BOTH: [DefaultPrivileges; 2] = [DefaultPrivileges::Old, DefaultPrivileges::New];

#[tokio::test]
async fn an_owner_locks_renews_unlocks_and_sees_its_own_project() {
    for privileges in BOTH {
        let platform = Platform::new(privileges).await;
        let ana = Caller::user(ANA);
        let wanted =
            json!({ "project_id": ANAS_PROJECT, "operation": "edit", "message": "new header", "ttl_seconds": 60 });
        let lease = platform.rpc(&ana, "lock_project", wanted).await.unwrap();
        assert_eq!(lease["project_id"], ANAS_PROJECT);
        assert_eq!(
            (&lease["holder"], &lease["operation"], &lease["ttl_seconds"]),
            (&json!(ANA), &json!("edit"), &json!(60))
        );
        assert_eq!(platform.row(ANAS_PROJECT).await, ("processing".to_owned(), Some(ANA.to_owned()), true));

        let project = json!({ "project_id": ANAS_PROJECT });
        assert_eq!(platform.rpc(&ana, "is_project_locked", project.clone()).await.unwrap(), json!(true));
        let lock = platform.rpc(&ana, "get_project_lock", project.clone()).await.unwrap();
        assert_eq!(
            (&lock["mine"], &lock["token"], &lock["message"]),
            (&json!(true), &lease["token"], &json!("new header"))
        );

        let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
        let renewed = platform.rpc(&ana, "renew_project_lock", lease_of.clone()).await.unwrap();
        assert_eq!(renewed["token"], lease["token"]);
        assert!(renewed["expires_at"].as_str() >= lease["expires_at"].as_str());
        platform.rpc(&ana, "verify_project_lock", lease_of.clone()).await.unwrap();

        let ended = platform.rpc(&ana, "unlock_project", lease_of.clone()).await.unwrap();
        assert_eq!((&ended["how"], &ended["ended_by"]), (&json!("unlocked"), &json!(ANA)));
        // Repeated, it succeeds; to renew or verify it does not.
        assert_eq!(platform.rpc(&ana, "unlock_project", lease_of.clone()).await.unwrap(), ended);
        for function in ["renew_project_lock", "verify_project_lock"] {
            let lost = platform.rpc(&ana, function, lease_of.clone()).await.unwrap_err();
            assert_eq!((lost.status, lost.code.as_str()), (410, "LEASE_LOST"));
            assert_eq!(lost.details["lease"]["how"], "unlocked");
        }
        assert_eq!(platform.rpc(&ana, "is_project_locked", project).await.unwrap(), json!(false));
        assert_eq!(platform.row(ANAS_PROJECT).await, ("idle".to_owned(), None, false));
        assert_eq!(platform.history(ANAS_PROJECT).await, ["granted", "unlocked"]);
    }
}

#[tokio::test]
async fn a_locked_project_is_refused_as_postgrest_tells_it() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let ana = Caller::user(ANA);
    let wanted = json!({ "project_id": ANAS_PROJECT, "operation": "edit", "ttl_seconds": 20 });
    let lease = platform.rpc(&ana, "lock_project", wanted.clone()).await.unwrap();
    let refused = platform.rpc(&ana, "lock_project", wanted.clone()).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (409, "PROJECT_LOCKED"));
    assert_eq!(refused.retry_after.as_deref(), Some("20"));
    let lock = &refused.details["lock"];
    assert_eq!((&lock["holder"], &lock["operation"], &lock["token"]), (&json!(ANA), &json!("edit"), &lease["token"]));
    assert_eq!((&lock["queueLength"], &refused.details["retryAfter"]), (&json!(0), &json!(20)));
    for time in ["lockedAt", "expiresAt"] {
        assert!(lock[time].as_str().unwrap().ends_with('Z'), "{lock}");
    }
    // To find it locked is no error to one who only tries.
    let lock = platform.rpc(&ana, "try_lock_project", wanted).await.unwrap();
    assert_eq!((&lock["locked"], &lock["mine"], &lock["token"]), (&json!(true), &json!(false), &lease["token"]));
}

/// Rule 4.
#[tokio::test]
async fn a_repeated_request_has_the_same_lease_and_never_a_second_one() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let ana = Caller::user(ANA);
    let wanted = json!({ "project_id": ANAS_PROJECT, "request_id": "0190d6a0-0000-7000-8000-000000000001" });
    let lease = platform.rpc(&ana, "lock_project", wanted.clone()).await.unwrap();
    assert_eq!(platform.rpc(&ana, "lock_project", wanted.clone()).await.unwrap(), lease);
    let mut other = wanted.clone();
    other["operation"] = json!("edit");
    let reused = platform.rpc(&ana, "lock_project", other).await.unwrap_err();
    assert_eq!((reused.status, reused.code.as_str()), (422, "INVALID_REQUEST"));
    let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
    platform.rpc(&ana, "unlock_project", lease_of).await.unwrap();
    for function in ["lock_project", "try_lock_project"] {
        let lost = platform.rpc(&ana, function, wanted.clone()).await.unwrap_err();
        assert_eq!((lost.status, lost.code.as_str()), (410, "LEASE_LOST"));
    }
}

#[tokio::test]
async fn nobody_else_sees_or_touches_it() {
    for privileges in BOTH {
        let platform = Platform::new(privileges).await;
        let lease =
            platform.rpc(&Caller::user(ANA), "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
        let history = platform.history(ANAS_PROJECT).await;
        let bo = Caller::user(BO);
        let token = &lease["token"];
        let calls = [
            ("lock_project", json!({ "project_id": ANAS_PROJECT })),
            ("try_lock_project", json!({ "project_id": ANAS_PROJECT })),
            ("renew_project_lock", json!({ "project_id": ANAS_PROJECT, "token": token })),
            ("unlock_project", json!({ "project_id": ANAS_PROJECT, "token": token })),
            ("force_unlock_project", json!({ "project_id": ANAS_PROJECT, "token": token, "reason": "mine now" })),
            ("verify_project_lock", json!({ "project_id": ANAS_PROJECT, "token": token })),
            ("is_project_locked", json!({ "project_id": ANAS_PROJECT })),
            ("get_project_lock", json!({ "project_id": ANAS_PROJECT })),
        ];
        for (function, arguments) in calls {
            // As if it were not there.
            let refused = platform.rpc(&bo, function, arguments.clone()).await.unwrap_err();
            assert_eq!((refused.status, refused.code.as_str()), (404, "PROJECT_NOT_FOUND"), "{function}");
            let mut unknown = arguments.clone();
            unknown["project_id"] = json!("cccccccc-0000-4000-8000-000000000001");
            let of_unknown = platform.rpc(&bo, function, unknown).await.unwrap_err();
            assert_eq!((of_unknown.status, of_unknown.message), (refused.status, refused.message), "{function}");
            // A token of one's own for somebody else's project is of no use either.
            let nobody = platform.rpc(&Caller::anonymous(), function, arguments.clone()).await.unwrap_err();
            assert_eq!(nobody.code, "42501", "{function}: PostgREST makes it 401");
            let unnamed = Caller::with_claims("authenticated", json!({ "role": "authenticated" }));
            let unnamed = platform.rpc(&unnamed, function, arguments.clone()).await.unwrap_err();
            assert_eq!((unnamed.status, unnamed.code.as_str()), (401, "UNAUTHENTICATED"), "{function}");
        }
        assert_eq!(platform.history(ANAS_PROJECT).await, history);
        assert_eq!(platform.row(ANAS_PROJECT).await.0, "processing");
    }
}

#[tokio::test]
async fn a_user_speaks_for_itself_only() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let forged = json!({ "project_id": ANAS_PROJECT, "holder": BO });
    let refused = platform.rpc(&Caller::user(ANA), "lock_project", forged).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (403, "FORBIDDEN"));
    // What a user may write about itself makes it no operator.
    let claims = json!({ "sub": BO, "role": "authenticated", "user_metadata": { "buildlock_role": "operator" } });
    let vain = Caller::with_claims("authenticated", claims);
    let refused = platform.rpc(&vain, "is_project_locked", json!({ "project_id": ANAS_PROJECT })).await.unwrap_err();
    assert_eq!(refused.status, 404);
}

#[tokio::test]
async fn no_api_role_writes_the_locks_columns_or_reaches_the_schema() {
    for privileges in BOTH {
        let platform = Platform::new(privileges).await;
        let ana = Caller::user(ANA);
        platform.rpc(&ana, "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
        let before = platform.row(ANAS_PROJECT).await;
        let writes = [
            format!("update public.projects set build_status = 'idle', locked_by = null, locked_at = null where id = '{ANAS_PROJECT}'"),
            format!("update public.projects set build_status = 'idle' where id = '{ANAS_PROJECT}'"),
            format!("update public.projects set locked_by = '{BO}' where id = '{ANAS_PROJECT}'"),
            format!("update public.projects set locked_by = null where id = '{ANAS_PROJECT}'"),
            format!("update public.projects set locked_at = now() where id = '{ANAS_PROJECT}'"),
            format!("insert into public.projects (user_id, name, build_status) values ('{ANA}', 'x', 'processing')"),
            format!("insert into public.projects (user_id, name, locked_by) values ('{ANA}', 'x', '{ANA}')"),
            format!(
                "insert into public.projects (id, user_id, name, build_status) values ('{ANAS_PROJECT}', '{ANA}', 'x', 'idle')
                 on conflict (id) do update set build_status = excluded.build_status"
            ),
        ];
        for caller in [ana.clone(), Caller::operator(ANA), Caller::service()] {
            for write in &writes {
                let refused = platform.query(&caller, write).await.unwrap_err();
                assert_eq!((refused.status, refused.code.as_str()), (403, "FORBIDDEN"), "{caller:?}: {write}");
            }
        }
        assert_eq!(platform.row(ANAS_PROJECT).await, before);
        let tables = platform
            .pg
            .client_as("postgres")
            .await
            .query("select format('%I.%I', schemaname, tablename) from pg_catalog.pg_tables where schemaname = 'buildlock'", &[])
            .await
            .unwrap();
        assert!(tables.len() >= 5, "{tables:?}");
        for caller in [ana, Caller::operator(ANA), Caller::service(), Caller::anonymous()] {
            for table in &tables {
                let table: String = table.get(0);
                for statement in [format!("select * from {table}"), format!("delete from {table}")] {
                    assert_eq!(platform.query(&caller, &statement).await.unwrap_err().code, "42501", "{statement}");
                }
            }
            for statement in [
                "select buildlock.caller()",
                "select buildlock.free_by_hand('x')",
                "select buildlock.set_retention(1, 1)",
                "select nextval('buildlock.numbers')",
            ] {
                assert_eq!(platform.query(&caller, statement).await.unwrap_err().code, "42501", "{statement}");
            }
        }
    }
}

#[tokio::test]
async fn what_else_is_in_the_row_stays_the_owners_to_write() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let ana = Caller::user(ANA);
    platform.rpc(&ana, "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
    platform
        .query(&ana, &format!("update public.projects set name = 'Cakes' where id = '{ANAS_PROJECT}'"))
        .await
        .unwrap();
    // The whole row, as some clients send it, with what the lock's columns say already.
    let whole = format!(
        "update public.projects set (name, build_status, locked_by, locked_at) =
           (select 'Pies', build_status, locked_by, locked_at from public.projects where id = '{ANAS_PROJECT}')
         where id = '{ANAS_PROJECT}'"
    );
    platform.query(&ana, &whole).await.unwrap();
    let upsert = format!(
        "insert into public.projects select * from public.projects where id = '{ANAS_PROJECT}'
         on conflict (id) do update set name = 'Tarts', build_status = excluded.build_status"
    );
    platform.query(&ana, &upsert).await.unwrap();
    let fresh = format!("insert into public.projects (user_id, name) values ('{ANA}', 'new') returning id::text");
    let fresh = platform.query(&ana, &fresh).await.unwrap().remove(0).unwrap();
    platform.rpc(&ana, "lock_project", json!({ "project_id": fresh })).await.unwrap();
    assert_eq!(platform.row(ANAS_PROJECT).await.0, "processing");
    let name = format!("select name from public.projects where id = '{ANAS_PROJECT}'");
    assert_eq!(platform.value(&name).await.as_deref(), Some("Tarts"));
}

#[tokio::test]
async fn the_service_acts_for_users_and_for_itself() {
    for privileges in BOTH {
        let platform = Platform::new(privileges).await;
        let service = Caller::service();
        let wanted = json!({ "project_id": ANAS_PROJECT, "holder": ANA });
        let lease = platform.rpc(&service, "lock_project", wanted).await.unwrap();
        assert_eq!(platform.row(ANAS_PROJECT).await, ("processing".to_owned(), Some(ANA.to_owned()), true));
        let lease_of = json!({ "project_id": ANAS_PROJECT, "token": lease["token"] });
        // Both the user itself and whoever acts for it.
        platform.rpc(&Caller::user(ANA), "renew_project_lock", lease_of.clone()).await.unwrap();
        platform.rpc(&service, "renew_project_lock", lease_of.clone()).await.unwrap();
        let ended = platform.rpc(&service, "unlock_project", lease_of.clone()).await.unwrap();
        assert_eq!(ended["ended_by"], ANA);
        assert_eq!(platform.rpc(&service, "unlock_project", lease_of).await.unwrap(), ended);

        // A name that is no user's: the row tells that somebody builds, the lock who.
        let wanted = json!({ "project_id": BOS_PROJECT, "holder": "worker-7" });
        let lease = platform.rpc(&service, "lock_project", wanted).await.unwrap();
        assert_eq!(
            (lease["holder"].as_str(), platform.row(BOS_PROJECT).await),
            (Some("worker-7"), ("processing".to_owned(), None, true))
        );
        let theirs = json!({ "project_id": BOS_PROJECT, "token": lease["token"] });
        let refused = platform.rpc(&Caller::user(BO), "unlock_project", theirs.clone()).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (403, "FORBIDDEN"));
        platform.rpc(&service, "unlock_project", theirs).await.unwrap();

        let unnamed = platform.rpc(&service, "lock_project", json!({ "project_id": BOS_PROJECT })).await.unwrap();
        assert_eq!(unnamed["holder"], "service_role");
    }
}

#[tokio::test]
async fn force_unlock_is_for_the_owner_and_for_operators() {
    for privileges in BOTH {
        let platform = Platform::new(privileges).await;
        for (caller, by) in [(Caller::user(ANA), ANA), (Caller::operator(BO), BO), (Caller::service(), "service_role")]
        {
            let wanted = json!({ "project_id": ANAS_PROJECT, "holder": "worker-7" });
            let lease = platform.rpc(&Caller::service(), "lock_project", wanted).await.unwrap();
            let force = json!({ "project_id": ANAS_PROJECT, "token": lease["token"], "reason": "it hangs" });
            let ended = platform.rpc(&caller, "force_unlock_project", force.clone()).await.unwrap();
            assert_eq!(
                (&ended["how"], &ended["ended_by"], &ended["reason"], &ended["holder"]),
                (&json!("force_unlocked"), &json!(by), &json!("it hangs"), &json!("worker-7"))
            );
            // The token names that lease only: the next holder is safe (rule 9).
            platform.rpc(&Caller::user(ANA), "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
            let lost = platform.rpc(&caller, "force_unlock_project", force).await.unwrap_err();
            assert_eq!((lost.status, &lost.details["lease"]["by"]), (410, &json!(by)));
            assert_eq!(lost.details["lock"]["holder"], ANA);
            let lock = platform.rpc(&caller, "get_project_lock", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
            let force = json!({ "project_id": ANAS_PROJECT, "token": lock["token"], "reason": "next" });
            platform.rpc(&caller, "force_unlock_project", force).await.unwrap();
        }
    }
}

#[tokio::test]
async fn nonsense_is_named() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let ana = Caller::user(ANA);
    let with = |name: &str, value: serde_json::Value| {
        let mut arguments = json!({ "project_id": ANAS_PROJECT });
        arguments[name] = value;
        arguments
    };
    for (function, arguments, field) in [
        ("lock_project", with("operation", json!("")), "operation"),
        ("lock_project", with("operation", json!("x".repeat(65))), "operation"),
        ("lock_project", with("operation", json!(null)), "operation"),
        ("lock_project", with("message", json!("a\nb")), "message"),
        ("lock_project", with("message", json!("é".repeat(501))), "message"),
        ("lock_project", with("ttl_seconds", json!(0.9)), "ttl_seconds"),
        ("lock_project", with("ttl_seconds", json!(86_401)), "ttl_seconds"),
        ("lock_project", with("ttl_seconds", json!("NaN")), "ttl_seconds"),
        ("lock_project", json!({ "project_id": null }), "project_id"),
        ("unlock_project", with("token", json!(null)), "token"),
        ("unlock_project", with("token", json!(0)), "token"),
        ("unlock_project", with("token", json!(7_777)), "token"),
        ("renew_project_lock", with("token", json!(1_u64 << 53)), "token"),
    ] {
        let refused = platform.rpc(&ana, function, arguments.clone()).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (422, "INVALID_REQUEST"), "{function} {arguments}");
        assert_eq!(refused.details["field"], field, "{function} {arguments}");
    }
    let mut force = with("token", json!(1));
    force["reason"] = json!("");
    let refused = platform.rpc(&ana, "force_unlock_project", force).await.unwrap_err();
    assert_eq!((refused.status, &refused.details["field"]), (422, &json!("reason")));
    assert!(platform.history(ANAS_PROJECT).await.is_empty());
}

/// PostgREST calls a stable function in a transaction that must not write.
#[tokio::test]
async fn to_look_writes_nothing() {
    let platform = Platform::new(DefaultPrivileges::New).await;
    let ana = Caller::user(ANA);
    platform.rpc(&ana, "lock_project", json!({ "project_id": ANAS_PROJECT })).await.unwrap();
    platform.let_expire(ANAS_PROJECT).await;
    for (function, locked) in [("is_project_locked", json!(false)), ("get_project_lock", json!({ "locked": false }))] {
        let mut authenticator = platform.pg.client_as("authenticator").await;
        authenticator.batch_execute("set default_transaction_read_only = on").await.unwrap();
        let call = format!("select to_json(public.{function}('{ANAS_PROJECT}'))::text");
        let said = supabase::query(&mut authenticator, &ana, &call).await.unwrap().remove(0).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said.get("locked").unwrap_or(&said), locked.get("locked").unwrap_or(&locked));
    }
}
