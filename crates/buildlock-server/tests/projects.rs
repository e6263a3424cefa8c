//! Projects over HTTP: listed, made, deleted; and what happened to them.

mod support;

use buildlock::Role;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Asker, TestServer};

/// All projects that somebody sees, page by page.
async fn listed(asker: &Asker, limit: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = asker.get(&format!("/v1/projects?limit={limit}{after}")).await.expect(200);
        let projects = page["projects"].as_array().unwrap();
        assert!(projects.len() <= limit);
        all.extend(projects.iter().map(|project| project["project"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return all };
        after = format!("&after={}", next.replace(' ', "%20"));
    }
}

fn ids(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_project_is_made_once() {
    let server = TestServer::start().await;
    let (ana, ben) = (server.user("ana").await, server.user("ben").await);
    let made = ana.post("/v1/projects", json!({"project": "a b"})).await.expect(201);
    assert_eq!(made, json!({"project": "a b", "owner": "ana", "buildStatus": "idle", "lease": null, "queue": []}));
    assert_eq!(ana.post("/v1/projects", json!({"project": "a b"})).await.expect(200), made);
    ben.post("/v1/projects", json!({"project": "a b"})).await.expect_problem(404, "PROJECT_NOT_FOUND");
    let service = server.asker("ci", Role::Service).await;
    let for_ben = service
        .request(Method::POST, "/v1/projects")
        .header("buildlock-holder", "ben")
        .json(&json!({"project": "his"}));
    assert_eq!(Answer::of(for_ben).await.expect(201)["owner"], "ben");
    ben.get("/v1/projects/his").await.expect(200);
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_shows_a_user_its_own() {
    let server = TestServer::start().await;
    let (ana, ben) = (server.user("ana").await, server.user("ben").await);
    let service = server.asker("ci", Role::Service).await;
    for number in 10..30 {
        let owner = [&ana, &ben][number % 2];
        owner.post("/v1/projects", json!({"project": format!("site {number}")})).await.expect(201);
    }
    let all: Vec<_> = (10..30).map(|number| format!("site {number}")).collect();
    let even: Vec<_> = all.iter().step_by(2).cloned().collect();
    for limit in [1, 7, 10, 20, 1_000] {
        assert_eq!(listed(&service, limit).await, all, "in pages of {limit}");
        assert_eq!(listed(&ana, limit).await, even, "in pages of {limit}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after=", "after"),
        ("owner=ana", "owner"),
    ] {
        let problem = ana.get(&format!("/v1/projects?{query}")).await.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["field"], field, "{query}: {problem}");
    }
}

#[tokio::test]
async fn an_idle_project_can_be_deleted_and_a_held_one_cannot() {
    let server = TestServer::start().await;
    let ana = server.user("ana").await;
    let lease = ana.post("/v1/projects/site/lock", json!({})).await.expect(201);
    let busy = ana.delete("/v1/projects/site").await.expect_problem(409, "PROJECT_LOCKED");
    assert_eq!(busy["lock"]["token"], lease["token"]);
    ana.delete(&format!("/v1/projects/site/lock?token={}", lease["token"])).await.expect(200);
    ana.delete("/v1/projects/site").await.expect(204);
    ana.delete("/v1/projects/site").await.expect_problem(404, "PROJECT_NOT_FOUND");
    ana.get("/v1/projects/site/history").await.expect_problem(404, "PROJECT_NOT_FOUND");
}

#[tokio::test]
async fn a_history_is_read_page_by_page_newest_first() {
    let server = TestServer::start().await;
    let (ana, service) = (server.user("ana").await, server.asker("ci", Role::Service).await);
    for number in 0..6 {
        let project = ["one", "two"][number % 2];
        let lease = ana.post(&format!("/v1/projects/{project}/lock"), json!({})).await.expect(201);
        ana.delete(&format!("/v1/projects/{project}/lock?token={}", lease["token"])).await.expect(200);
    }
    let get = async |path: &str| ids(&ana.get(path).await.expect(200));
    assert_eq!(get("/v1/projects/one/history").await, [10, 9, 6, 5, 2, 1]);
    assert_eq!(get("/v1/projects/one/history?limit=2").await, [10, 9]);
    assert_eq!(get("/v1/projects/one/history?limit=3&before=9").await, [6, 5, 2]);
    assert_eq!(get("/v1/projects/one/history?before=1").await, [] as [u64; 0]);
    let get = async |path: &str| ids(&service.get(path).await.expect(200));
    assert_eq!(get("/v1/history?limit=3").await, [12, 11, 10]);
    assert_eq!(get("/v1/history?before=3").await, [2, 1]);
    assert_eq!(get("/v1/history?after=3&limit=2").await, [4, 5]);
    let both = service.get("/v1/history?after=3&before=5").await.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(both["field"], "after");
    ana.get("/v1/history").await.expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn what_concerns_the_whole_store_is_not_a_users() {
    let server = TestServer::start().await;
    let (ana, service, root) =
        (server.user("ana").await, server.asker("ci", Role::Service).await, server.asker("root", Role::Operator).await);
    for (asker, role, name) in [(&ana, "user", "ana"), (&service, "service", "ci"), (&root, "operator", "root")] {
        let me = asker.get("/v1/me").await.expect(200);
        assert_eq!((&me["role"], &me["holder"]), (&json!(role), &json!(name)));
    }
    let put =
        async |asker: &Asker, body: Value| Answer::of(asker.request(Method::PUT, "/v1/retention").json(&body)).await;
    let week = json!({"keepFor": 604_800, "keepLast": 1_000});
    for asker in [&ana, &service] {
        asker.post("/v1/settle", json!({})).await.expect_problem(403, "FORBIDDEN");
        asker.get("/v1/checkup").await.expect_problem(403, "FORBIDDEN");
        put(asker, week.clone()).await.expect_problem(403, "FORBIDDEN");
    }
    ana.get("/v1/retention").await.expect_problem(403, "FORBIDDEN");
    put(&root, week.clone()).await.expect(204);
    assert_eq!(service.get("/v1/retention").await.expect(200), week);
    assert_eq!(put(&root, json!({"keepFor": "7d"})).await.expect_problem(422, "INVALID_REQUEST")["field"], "keepFor");
    assert_eq!(put(&root, json!({"keep": 1})).await.expect_problem(422, "INVALID_REQUEST")["field"], "keep");
    assert_eq!(root.post("/v1/settle", json!({})).await.expect(200), json!({"nextDueIn": null}));
    assert!(!root.get("/v1/checkup").await.expect(200)["findings"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn every_call_is_in_the_description_of_the_api() {
    let server = TestServer::start().await;
    let api = server.nobody().get("/openapi.json").await.expect(200);
    for (path, methods) in [
        ("/v1/projects", &["get", "post"][..]),
        ("/v1/projects/{id}", &["get", "delete"]),
        ("/v1/projects/{id}/lock", &["get", "post", "delete"]),
        ("/v1/projects/{id}/lock/renew", &["post"]),
        ("/v1/projects/{id}/lock/verify", &["post"]),
        ("/v1/projects/{id}/lock/requests/{request}", &["delete"]),
        ("/v1/projects/{id}/force-unlock", &["post"]),
        ("/v1/projects/{id}/history", &["get"]),
        ("/v1/projects/{id}/settle", &["post"]),
        ("/v1/events", &["get"]),
        ("/v1/me", &["get"]),
        ("/v1/history", &["get"]),
        ("/v1/settle", &["post"]),
        ("/v1/retention", &["get", "put"]),
        ("/v1/checkup", &["get"]),
    ] {
        for method in methods {
            let call = &api["paths"][path][method];
            assert!(call["responses"].is_object(), "{method} {path}");
            let names: Vec<_> =
                call["parameters"].as_array().into_iter().flatten().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(names.contains(&"id"), path.contains("{id}"), "{method} {path}: {names:?}");
        }
    }
}
