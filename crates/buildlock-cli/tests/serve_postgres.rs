//! Several servers over one PostgreSQL, as real processes: what one runs is seen, followed, waited for and
//! cancelled from any other, and is lost when its server dies.

#[path = "support/server.rs"]
mod server;
mod support;

use std::fs;
use std::time::{Duration, Instant};

use buildlock_testing::{ClusterOptions, TestCluster, TestPg};
use reqwest::Method;
use serde_json::{Value, json};
use server::{Events, Script, Server, json_of};
use support::{Running, Sandbox, await_that};

/// Goes on until it is let go, and says so.
const PATIENT: &str = "
    for n in 1 2 3; do echo \"line $n\"; done
    until [ -e go ]; do sleep 0.01; done
    echo done";

/// As soon as another server must show what one has put on record.
const SOON: Duration = Duration::from_secs(1);

fn scripts(ttl: &str) -> [Script<'_>; 2] {
    [Script("generate", PATIENT, ttl), Script("quick", "echo quick", ttl)]
}

/// Two servers on one machine.
fn two_servers(sandbox: &Sandbox, more: &str) -> (Server, Server) {
    let one = Server::with_scripts(sandbox, &scripts(more));
    let two = Server::start(sandbox);
    (one, two)
}

fn let_go(sandbox: &Sandbox) {
    fs::write(sandbox.path().join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_seen_followed_and_waited_for_from_another_server() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "");
    let order = one.order("p", "generate").header("idempotency-key", "mine").header("prefer", "respond-async");
    let build = json_of(order.send().await.unwrap(), 202).await;
    let id = build["id"].as_str().unwrap();
    assert_eq!(two.get(&format!("/v1/builds/{id}")).await["status"], "running");
    assert_eq!(two.get("/v1/builds?project=p").await["builds"][0]["id"], build["id"]);
    assert_eq!(two.get("/v1/projects/p").await["buildStatus"], "processing");
    two.await_line(id, "line 3").await;

    // The same request, sent to the other server, is the same build.
    let same = two.order("p", "generate").header("idempotency-key", "mine");
    let waiting = tokio::spawn(same.send());
    let mut events = Events::of(two.follow(id, 1).await);
    let (name, line) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &line["number"], &line["text"]), ("line", &json!(2), &json!("line 2")));
    assert_eq!(events.next().await.unwrap().1["number"], 3);
    let_go(&sandbox);
    let let_go_at = Instant::now();
    assert_eq!(events.next().await.unwrap().1["text"], "done");
    assert!(let_go_at.elapsed() < SOON, "{:?}", let_go_at.elapsed());
    let (name, end) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &end["status"], &end["logLines"]), ("end", &json!("succeeded"), &json!(4)));
    assert!(let_go_at.elapsed() < SOON, "{:?}", let_go_at.elapsed());
    assert_eq!(events.next().await, None);
    assert_eq!(json_of(waiting.await.unwrap().unwrap(), 200).await, end);
    assert!(let_go_at.elapsed() < 2 * SOON, "{:?}", let_go_at.elapsed());
    assert_eq!(one.log(id).await, two.log(id).await);
    assert_eq!(two.build("p", "quick").await.0, 200);
}

/// However often it is asked for; and a log that is over is read to its end at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_cancelled_from_another_server() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "");
    let id = one.begin("p", "generate").await;
    one.await_line(&id, "line 3").await;
    let waiting = tokio::spawn(one.order("p", "quick").send());
    let cancel = |server: &Server| server.request(Method::POST, &format!("/v1/builds/{id}/cancel"));
    let asked_at = Instant::now();
    json_of(cancel(&two).header("prefer", "respond-async").send().await.unwrap(), 202).await;
    let cancelled = json_of(cancel(&two).send().await.unwrap(), 200).await;
    assert!(asked_at.elapsed() < 2 * SOON, "{:?}", asked_at.elapsed());
    assert_eq!((&cancelled["status"], &cancelled["exitCode"]), (&json!("cancelled"), &json!(143)));
    assert_eq!(cancelled["reason"], "it was cancelled by ana@laptop");
    assert_eq!(one.ended(&id).await, cancelled);
    assert_eq!(json_of(cancel(&one).send().await.unwrap(), 200).await, cancelled);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    await_that("nothing of it is left", || sandbox.processes().len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_servers_build_is_lost_and_the_next_is_granted_within_the_ttl_and_a_second() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let ttl = Duration::from_secs(3);
    let (one, two) = two_servers(&sandbox, "ttl = \"3s\"");
    let id = one.begin("p", "generate").await;
    two.await_line(&id, "line 3").await;
    let mut events = Events::of(two.follow(&id, 3).await);
    let waiting = tokio::spawn(two.order("p", "quick").send());
    await_that("the next waits", || sandbox.status("p")["queue"].as_array().unwrap().len() == 1);
    let killed_at = Instant::now();
    let pid = one.pid();
    one.kill();
    let (name, lost) = events.next().await.unwrap();
    assert!(killed_at.elapsed() < ttl + SOON, "{:?}", killed_at.elapsed());
    assert_eq!((name.as_str(), &lost["status"]), ("end", &json!("lost")));
    let reason = lost["reason"].as_str().unwrap();
    let by = format!("its lease has ended, and the server that ran it, process {pid} on ");
    assert!(reason.starts_with(&by) && reason.ends_with(", was not heard of any more"), "{reason}");
    let next = json_of(waiting.await.unwrap().unwrap(), 200).await;
    assert!(killed_at.elapsed() < ttl + SOON + SOON, "the next was built after {:?}", killed_at.elapsed());
    let expired = sandbox.ok(&["history", "--json", "--", "p"]);
    let expired: Vec<Value> = serde_json::from_str(&expired).unwrap();
    let kinds: Vec<_> = expired.iter().rev().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["granted", "queued", "expired", "granted", "unlocked"]);
    assert!(next["token"].as_u64() > lost["token"].as_u64());
    await_that("nothing of it is left", || sandbox.processes() == [two.pid()]);
}

/// Others know it from the moment that its client does.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_as_soon_as_its_build_runs_is_named() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "ttl = \"1s\"");
    let id = one.begin("p", "generate").await;
    let pid = one.pid();
    one.kill();
    let lost = two.ended(&id).await;
    let reason = lost["reason"].as_str().unwrap();
    assert!(reason.contains(&format!(", process {pid} on ")), "{reason}");
}

/// It is another server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_touches_no_build_that_runs() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let one = Server::with_scripts(&sandbox, &scripts("ttl = \"2s\""));
    let id = one.begin("p", "generate").await;
    one.await_line(&id, "line 3").await;
    let two = Server::start(&sandbox);
    two.kill();
    let two = Server::start(&sandbox);
    // Longer than its lease would last without its server.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(two.get(&format!("/v1/builds/{id}")).await["status"], "running");
    let_go(&sandbox);
    let ended = two.ended(&id).await;
    assert_eq!((&ended["status"], &ended["logLines"]), (&json!("succeeded"), &json!(4)));
}

/// A waiter at a server that stops turns to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_wait_for_the_builds_of_others() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, mut two) = two_servers(&sandbox, "");
    let order = |server: &Server| server.order("p", "generate").header("idempotency-key", "mine");
    let id = json_of(order(&one).header("prefer", "respond-async").send().await.unwrap(), 202).await;
    let waiting = tokio::spawn(order(&two).send());
    // Its answer comes after that of the order, which was sent before.
    two.await_line(id["id"].as_str().unwrap(), "line 3").await;
    two.signal("TERM");
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(json_of(answer, 503).await["code"], "STOPPING");
    assert_eq!(two.end(), Some(0));
    let_go(&sandbox);
    assert_eq!(json_of(order(&one).send().await.unwrap(), 200).await["status"], "succeeded");
}

/// Rule 14, and the record of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_loses_its_builds_and_does_not_get_them_back() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "ttl = \"2s\"");
    let id = one.begin("p", "generate").await;
    two.await_line(&id, "line 3").await;
    one.signal("STOP");
    let lost = two.ended(&id).await;
    assert_eq!(lost["status"], "lost");
    assert_eq!(two.build("p", "quick").await.0, 200);
    one.signal("CONT");
    assert_eq!(one.ended(&id).await, lost);
    assert_eq!(one.build("p", "quick").await.0, 200);
    assert_eq!(one.get(&format!("/v1/builds/{id}")).await, lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_lease_is_ended_by_force_is_stopped_by_the_server_that_runs_it() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "ttl = \"10m\"");
    let id = one.begin("p", "generate").await;
    two.await_line(&id, "line 3").await;
    let token = sandbox.status("p")["lease"]["token"].to_string();
    let body = json!({"token": token.parse::<u64>().unwrap(), "reason": "it hangs"});
    let force = two.request(Method::POST, "/v1/projects/p/force-unlock").json(&body).send().await.unwrap();
    assert_eq!(force.status(), 200);
    let ended = two.ended(&id).await;
    let reason = "its lease was lost: it was force-unlocked by ana@laptop: it hangs";
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("lost"), &json!(reason)));
    assert_eq!(ended, one.ended(&id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_to_all_servers_and_revoked_for_all_within_a_second() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "");
    assert_eq!(one.key, two.key, "the second found the first one's");
    let key = sandbox.ok(&["keys", "add", "ben"]).trim().to_owned();
    let status =
        async |server: &Server| server.request_of(&key, Method::GET, "/v1/me").send().await.unwrap().status().as_u16();
    assert_eq!((status(&one).await, status(&two).await), (200, 200));
    let keys: Value = serde_json::from_str(&sandbox.ok(&["keys", "--json"])).unwrap();
    let number = keys.as_array().unwrap().iter().find(|key| key["owner"] == "ben").unwrap()["number"].to_string();
    sandbox.ok(&["keys", "revoke", &number]);
    let revoked_at = Instant::now();
    for server in [&one, &two] {
        while status(server).await != 401 {
            assert!(revoked_at.elapsed() < Duration::from_millis(1_500), "{:?}", revoked_at.elapsed());
        }
    }
}

/// What a stranger meets: the first server makes the operator's key, on other machines it is known that there is one.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_server_makes_the_operators_key_and_others_take_the_one_they_are_given() {
    let pg = TestPg::fresh().await;
    let (here, there) = (Sandbox::on(&pg.url()), Sandbox::on(&pg.url()));
    let serving = |sandbox: &Sandbox, key: &str| {
        let mut serve = sandbox.buildlock(&["serve", "--json", "--listen", "127.0.0.1:0"]);
        let mut process = Running::start(serve.env("BUILDLOCK_OPERATOR_KEY", key));
        let line = process.await_line("\"url\"");
        (process, serde_json::from_str::<Value>(&line).unwrap())
    };
    let (_first, told) = serving(&here, "");
    let file = told["operatorKey"].as_str().unwrap();
    assert!(file.starts_with(&format!("{}/.local/share/buildlock/", here.path().display())), "{file}");
    assert!(!told["store"].as_str().unwrap().contains('?'), "{told}");
    let (_second, told) = serving(&there, "");
    assert_eq!((&told["operatorKey"], &told["signInLink"]), (&Value::Null, &Value::Null));
    let secret = "a-secret-that-all-servers-are-given";
    let (_third, told) = serving(&there, secret);
    assert_eq!(told["operatorKey"], Value::Null);
    assert!(told["signInLink"].is_string());
    let remote = ["sign-in", "--store", told["url"].as_str().unwrap()];
    let link = there.buildlock(&remote).env("BUILDLOCK_API_KEY", secret).output().unwrap();
    assert!(link.status.success(), "{link:?}");
    let roles = here.ok(&["keys", "--json"]);
    assert_eq!(roles.matches("\"operator\"").count(), 2, "{roles}");

    let mut refused = there.buildlock(&["serve", "--listen", "127.0.0.1:0"]);
    let refused = refused.env("BUILDLOCK_OPERATOR_KEY", "short").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let ambiguous = here.run(&["sign-in"]);
    assert_eq!(ambiguous.status.code(), Some(2), "{ambiguous:?}");
}

/// For a while nobody can lock anything; builds go on, and nothing of them is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_a_while_is_told_of_and_found_again() {
    let cluster = TestCluster::start(&ClusterOptions::default());
    let pg = cluster.fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "ttl = \"2m\"");
    let id = one.begin("p", "generate").await;
    two.await_line(&id, "line 3").await;
    let ready = async |server: &Server| server.request(Method::GET, "/readyz").send().await.unwrap().status().as_u16();
    assert_eq!((ready(&one).await, ready(&two).await), (200, 200));

    cluster.stop();
    for server in [&one, &two] {
        let answer = server.request(Method::GET, "/v1/projects").send().await.unwrap();
        assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
        assert_eq!(json_of(answer, 503).await["code"], "STORE_UNAVAILABLE");
        assert_eq!(ready(server).await, 503);
        let live = server.request(Method::GET, "/livez").send().await.unwrap();
        assert_eq!(live.status(), 200);
    }
    let refused = two.order("q", "quick").send().await.unwrap();
    assert_eq!(json_of(refused, 503).await["code"], "STORE_UNAVAILABLE");
    let_go(&sandbox);

    cluster.start_again();
    let found_at = Instant::now();
    for server in [&one, &two] {
        while ready(server).await != 200 {
            assert!(found_at.elapsed() < Duration::from_secs(5), "{:?}", found_at.elapsed());
        }
    }
    let ended = one.ended(&id).await;
    assert_eq!((&ended["status"], &ended["logLines"]), (&json!("succeeded"), &json!(4)), "{ended}");
    assert!(found_at.elapsed() < Duration::from_secs(5), "{:?}", found_at.elapsed());
    assert_eq!(two.get(&format!("/v1/builds/{id}")).await, ended);
    for server in [&one, &two] {
        assert_eq!(server.build("q", "quick").await.0, 200);
    }
}

/// A lease that could not be renewed is lost, whoever is to blame.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_longer_than_a_lease_costs_the_build() {
    let cluster = TestCluster::start(&ClusterOptions::default());
    let pg = cluster.fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let (one, two) = two_servers(&sandbox, "ttl = \"2s\"");
    let id = one.begin("p", "generate").await;
    two.await_line(&id, "line 3").await;
    cluster.stop();
    await_that("the build is stopped", || sandbox.processes().len() == 2);
    cluster.start_again();
    let ready = || async { two.request(Method::GET, "/readyz").send().await.unwrap().status() == 200 };
    while !ready().await {}
    let ended = two.ended(&id).await;
    assert_eq!(ended["status"], "lost");
    let reason = ended["reason"].as_str().unwrap();
    assert!(reason.starts_with("its lease was lost: it could not be renewed in time"), "{reason}");
    assert_eq!(one.build("p", "quick").await.0, 200);
}

/// Every process of a build holds the lock file open: the kernel itself tells of a second build beside it.
const ALONE: &str = "
    cd \"$BUILDLOCK_WORKSPACE\"
    exec 9>>one-at-a-time
    flock -n 9 || { echo \"$BUILDLOCK_BUILD\" >>overlaps; exit 9; }
    echo \"$BUILDLOCK_TOKEN\" >>tokens
    (setsid sleep 1000 &)
    for n in 1 2 3 4 5; do echo \"line $n\"; sleep 0.02; done";

/// Rules 1, 4, 8 and 14: a client that got no answer asks the other server for the same.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_in_turn_never_build_twice_at_once_and_every_request_is_done_or_lost() {
    let pg = TestPg::fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let mut servers = vec![Server::with_scripts(&sandbox, &[Script("build", ALONE, "ttl = \"1s\"")])];
    servers.push(Server::start(&sandbox));
    let (mut succeeded, mut lost) = (0, 0);
    for round in 0..6 {
        let mut asking = Vec::new();
        for client in 0..6 {
            let project = ["a", "b", "c"][client % 3];
            let key = format!("{round} {client}");
            let orders = [0, 1].map(|server| {
                let order = servers[(client + server) % 2].order(project, "build");
                order.header("idempotency-key", &key)
            });
            asking.push(tokio::spawn(async move {
                let [order, again] = orders;
                match order.send().await {
                    Ok(answer) => answer.json::<Value>().await,
                    Err(_) => again.send().await?.json().await,
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(150 + 130 * round)).await;
        servers.remove(0).kill();
        for asked in asking {
            // The other server was asked, unless it was the one that had been killed.
            let Ok(told) = asked.await.unwrap() else { continue };
            match (told["status"].as_str(), told["build"]["status"].as_str()) {
                (Some("succeeded"), _) => succeeded += 1,
                (_, Some("lost")) => lost += 1,
                // Its server was killed between the grant and the build.
                _ if told["code"] == "LEASE_LOST" => lost += 1,
                _ => panic!("{told}"),
            }
        }
        servers.push(Server::start(&sandbox));
    }
    println!("{succeeded} succeeded, {lost} were lost");
    assert!(succeeded > 0);
    for project in ["a", "b", "c"] {
        assert_eq!(servers[0].build(project, "build").await.0, 200);
        assert_eq!(servers[1].build(project, "build").await.0, 200);
    }
    let builds = servers[1].get("/v1/builds?limit=1000").await;
    let builds = builds["builds"].as_array().unwrap();
    assert!(builds.iter().all(|build| build["status"] == "succeeded" || build["status"] == "lost"), "{builds:#?}");
    let workspaces = sandbox.path().join(".local/share/buildlock/workspaces");
    assert_eq!(fs::read_dir(&workspaces).unwrap().count(), 3);
    for workspace in fs::read_dir(workspaces).unwrap() {
        let workspace = workspace.unwrap().path();
        assert!(!workspace.join("overlaps").exists(), "{workspace:?}: two builds at once");
        let tokens = fs::read_to_string(workspace.join("tokens")).unwrap();
        let tokens: Vec<u64> = tokens.lines().map(|token| token.parse().unwrap()).collect();
        assert!(tokens.is_sorted_by(|a, b| a < b), "{workspace:?}: {tokens:?}");
    }
    await_that("nothing of any build is left", || sandbox.processes().len() == 2);
}
