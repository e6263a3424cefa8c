//! `kill -9` of a server at random moments under load. The builds themselves check that no two of a
//! project run at once; whatever a client was told is still so afterwards.
//!
//! `BUILDLOCK_CRASHES=100` is a longer run; `BUILDLOCK_SEED` repeats one.

#[path = "support/server.rs"]
mod server;
mod support;

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::fs;
use std::time::{Duration, SystemTime};

use buildlock::RequestId;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use server::{Events, Script, Server};
use support::Sandbox;
use tokio::task::JoinHandle;

const PROJECTS: [&str; 4] = ["a", "b", "../c", "d e"];

/// Two clients for each project, so that there is always one that waits.
const CLIENTS: usize = 2 * PROJECTS.len();

/// Every process of a build, those that have forked away too, holds the lock file open: the kernel itself
/// tells of a second build beside it.
const BUILD: &str = "
    cd \"$BUILDLOCK_WORKSPACE\"
    exec 9>>one-at-a-time
    flock -n 9 || { echo \"$BUILDLOCK_BUILD\" >>overlaps; exit 9; }
    echo \"$BUILDLOCK_TOKEN\" >>tokens
    (setsid sleep 1000 &)
    for n in 1 2 3 4 5 6 7 8 9 10; do echo \"line $n\"; sleep 0.01; done";

/// What a client was told of a build.
#[derive(Debug, Default)]
struct Told {
    build: Value,
    lines: Vec<Value>,
    end: Option<Value>,
}

/// Asks for builds of a project until the server is gone, or for one. A request that broke off is repeated
/// with its key, at the next server if need be.
#[derive(Debug)]
struct Client {
    project: &'static str,
    key: Option<RequestId>,
    told: Vec<Told>,
}

impl Client {
    async fn ask(mut self, order: RequestBuilder, until_told: bool) -> Self {
        loop {
            let key = *self.key.get_or_insert_with(RequestId::fresh);
            let order = order.try_clone().unwrap().header("idempotency-key", key.to_string());
            let Ok(answer) = order.send().await else { return self };
            // The server may be gone within its answer.
            if answer.status() != 200 {
                let Ok(problem) = answer.json::<Value>().await else { return self };
                panic!("{problem}");
            }
            let mut events = Events::of(answer);
            while let Some((name, data)) = events.next().await {
                match (name.as_str(), self.told.last_mut()) {
                    ("build", _) => self.told.push(Told { build: data, ..Told::default() }),
                    ("line", Some(last)) => last.lines.push(data),
                    (_, Some(last)) => {
                        last.end = Some(data);
                        self.key = None;
                    }
                    (_, None) => panic!("{name} before the build: {data}"),
                }
            }
            if until_told && self.key.is_none() {
                return self;
            }
        }
    }
}

fn ask(server: &Server, client: Client, until_told: bool) -> JoinHandle<Client> {
    let order = server.order(client.project, "build").header("accept", "text/event-stream");
    tokio::spawn(client.ask(order, until_told))
}

async fn back(asking: Vec<JoinHandle<Client>>) -> Vec<Client> {
    let mut clients = Vec::new();
    for client in asking {
        clients.push(client.await.unwrap());
    }
    clients
}

async fn check(server: &Server, told: &[Told]) {
    for Told { build, lines, end } in told {
        let id = build["id"].as_str().unwrap();
        let now = server.get(&format!("/v1/builds/{id}")).await;
        assert_eq!((&now["token"], &now["project"]), (&build["token"], &build["project"]));
        match end {
            Some(end) => assert_eq!(now, *end),
            // Its end may have been on its way to the client.
            None => assert!(["lost", "succeeded"].contains(&now["status"].as_str().unwrap()), "{now}"),
        }
        let mut events = Events::of(server.follow(id, 0).await);
        for line in lines {
            assert_eq!(events.next().await.unwrap(), ("line".to_owned(), line.clone()));
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Numbers that look random (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Rules 1, 8, 12 and 14.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_at_random_moments_loses_nothing_and_never_builds_twice_at_once() {
    let crashes = number("BUILDLOCK_CRASHES").unwrap_or(20);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("BUILDLOCK_SEED").unwrap_or(now.as_nanos() as u64 | 1);
    println!("BUILDLOCK_SEED={seed}");
    let mut random = Random(seed);
    let sandbox = Sandbox::new();
    let mut server = Server::with_scripts(&sandbox, &[Script("build", BUILD, "ttl = \"24h\"")]);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|n| Client { project: PROJECTS[n % PROJECTS.len()], key: None, told: Vec::new() }).collect();
    let mut all = Vec::new();
    for _ in 0..crashes {
        let asking: Vec<_> = clients.into_iter().map(|client| ask(&server, client, false)).collect();
        tokio::time::sleep(Duration::from_millis(random.below(1_500))).await;
        server.kill();
        sandbox.await_no_process();
        clients = back(asking).await;
        server = Server::start(&sandbox);
        let told: Vec<Told> = clients.iter_mut().flat_map(|client| client.told.drain(..)).collect();
        check(&server, &told).await;
        all.extend(told);
    }
    // With leases of 24 h it is the server's start, not the time, that has freed them.
    let asking = clients.into_iter().map(|client| ask(&server, client, true)).collect();
    all.extend(back(asking).await.into_iter().flat_map(|client| client.told));
    let ended = all.iter().filter(|told| told.end.is_some()).count();
    println!("{} builds, {ended} of them to their end", all.len());
    assert!(ended > 0 && ended < all.len(), "the kills hit builds that run: {ended} of {}", all.len());
    check(&server, &all).await;

    let mut granted: BTreeMap<&str, HashSet<u64>> = BTreeMap::new();
    for project in PROJECTS {
        let history = sandbox.ok(&["history", "--json", "-n", "100000", "--", project]);
        let events: Vec<Value> = serde_json::from_str(&history).unwrap();
        let grants = events.iter().filter(|event| event["kind"] == "granted");
        granted.insert(project, grants.map(|event| event["token"].as_u64().unwrap()).collect());
    }
    for Told { build, .. } in &all {
        let token = build["token"].as_u64().unwrap();
        assert!(granted[build["project"].as_str().unwrap()].contains(&token), "its grant is in the history: {build}");
    }
    for workspace in fs::read_dir(sandbox.path().join("workspaces")).unwrap() {
        let workspace = workspace.unwrap().path();
        assert!(!workspace.join("overlaps").exists(), "{workspace:?}: two builds at once");
        let tokens = fs::read_to_string(workspace.join("tokens")).unwrap();
        let tokens: Vec<u64> = tokens.lines().map(|token| token.parse().unwrap()).collect();
        assert!(tokens.is_sorted_by(|a, b| a < b), "{workspace:?}: {tokens:?}");
    }
    assert_eq!(json!(sandbox.processes()), json!([server.pid()]));
}
