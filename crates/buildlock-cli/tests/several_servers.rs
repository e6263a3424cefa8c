//! Three servers over one database, each killed and started again at random, with clients that go on at the next:
//! what the clients were told, and what the history tells, keeps the rules.

#[path = "../../buildlock/tests/support/random.rs"]
mod random;
#[path = "../../buildlock/tests/support/replay.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod replay;
mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildlock::{EventId, EventKind, LockStore, PostgresStore, ProjectId, Token};
use buildlock_testing::{ClusterOptions, TestCluster};
use random::Random;
use replay::Replay;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use support::{Running, Sandbox, kill};
use tokio::time::{Instant, sleep};

const SERVERS: usize = 3;
const CLIENTS: u64 = 12;
const PROJECTS: u64 = 4;

/// How many times a server is killed.
const KILLS: u64 = 9;

/// The least and the most between two of them.
const KILL_AFTER_MS: (u64, u64) = (300, 1_500);

/// A client that gets nowhere for so long has found a bug.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the clients know of each other: who believes to hold what, at this moment.
#[derive(Default)]
struct Believed {
    holds: Mutex<BTreeMap<String, u64>>,
    granted: Mutex<Vec<(String, u64)>>,
    unlocked: Mutex<Vec<(String, u64)>>,
}

/// A client that turns to the next server when one does not answer.
struct Anyone {
    client: Client,
    servers: Vec<String>,
    next: usize,
    key: String,
    refused: Arc<AtomicU64>,
}

impl Anyone {
    /// Asks until somebody answers.
    async fn ask(&mut self, method: Method, path: &str, request: Option<&str>, body: Value) -> (StatusCode, Value) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < give_up, "nobody answers {method} {path}");
            let url = format!("{}{path}", self.servers[self.next]);
            let mut asked = self.client.request(method.clone(), url).bearer_auth(&self.key).json(&body);
            if let Some(request) = request {
                asked = asked.header("idempotency-key", request);
            }
            let answer = match asked.send().await {
                Ok(answer) => {
                    let status = answer.status();
                    answer.json().await.ok().map(|body| (status, body))
                }
                Err(_) => None,
            };
            match answer {
                Some((status, body)) if status != StatusCode::SERVICE_UNAVAILABLE => return (status, body),
                _ => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    self.next = (self.next + 1) % self.servers.len();
                    // A machine on which nothing listens refuses at once.
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

async fn lock_and_unlock(mut anyone: Anyone, number: u64, believed: Arc<Believed>, is_over: Arc<AtomicBool>) {
    let mut random = Random::new(number);
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        round += 1;
        let project = format!("site-{}", random.below(PROJECTS));
        let request = format!("client {number}, round {round}");
        let wait = if random.below(3) == 0 { 0 } else { 20 };
        let body = json!({"ttl": 5, "wait": wait, "operation": "edit"});
        let path = format!("/v1/projects/{project}/lock");
        let asked_at = Instant::now();
        let (status, lease) = anyone.ask(Method::POST, &path, Some(&request), body).await;
        match status.as_u16() {
            201 | 200 => {}
            // Busy; or granted while nobody had the answer, for longer than the lease lasts.
            409 | 410 => continue,
            _ => panic!("{status}: {lease}"),
        }
        let token = lease["token"].as_u64().unwrap();
        believed.granted.lock().unwrap().push((project.clone(), token));
        // A lease that took long to arrive may be over: a client counts from before it asked (rule 14).
        if asked_at.elapsed() > Duration::from_secs(3) {
            let _ = anyone.ask(Method::DELETE, &format!("{path}?token={token}"), None, json!({})).await;
            continue;
        }
        let before = believed.holds.lock().unwrap().insert(project.clone(), token);
        assert_eq!(before, None, "rule 1: {project} is held twice: {token} and {before:?}");
        sleep(Duration::from_millis(random.below(30))).await;
        believed.holds.lock().unwrap().remove(&project);
        let (status, ended) = anyone.ask(Method::DELETE, &format!("{path}?token={token}"), None, json!({})).await;
        match status.as_u16() {
            200 => believed.unlocked.lock().unwrap().push((project, token)),
            410 => {}
            _ => panic!("{status}: {ended}"),
        }
    }
}

struct OneServer {
    port: u16,
    process: Running,
}

impl OneServer {
    fn start(sandbox: &Sandbox, port: u16) -> Self {
        let mut process =
            Running::start(&mut sandbox.buildlock(&["serve", "--json", "--listen", &format!("127.0.0.1:{port}")]));
        process.await_line("\"url\"");
        Self { port, process }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_and_started_again_keep_the_rules() {
    let cluster = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let pg = cluster.fresh().await;
    let sandbox = Sandbox::on(&pg.url());
    let ports: Vec<u16> = {
        let free: Vec<_> = (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        free.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
    };
    let mut servers: Vec<_> = ports.iter().map(|port| OneServer::start(&sandbox, *port)).collect();
    let key = sandbox.ok(&["keys", "add", "platform", "--role", "service"]).trim().to_owned();
    let believed = Arc::new(Believed::default());
    let (is_over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let anyone = Anyone {
            client: buildlock::http_client().no_proxy().timeout(Duration::from_secs(30)).build().unwrap(),
            servers: ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
            next: number as usize % SERVERS,
            key: key.clone(),
            refused: Arc::clone(&refused),
        };
        clients.spawn(lock_and_unlock(anyone, number, Arc::clone(&believed), Arc::clone(&is_over)));
    }
    let mut random = Random::new(7);
    for _ in 0..KILLS {
        let (least, most) = KILL_AFTER_MS;
        sleep(Duration::from_millis(least + random.below(most - least))).await;
        let one = random.below(SERVERS as u64) as usize;
        kill(servers[one].process.pid(), "KILL");
        assert_eq!(servers[one].process.end(), None);
        servers[one] = OneServer::start(&sandbox, servers[one].port);
        assert!(!clients.is_empty());
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }

    let store = PostgresStore::open(&pg.url()).await.unwrap();
    let mut replay = Replay::default();
    loop {
        let events = store.events_after(replay.newest, 1_000).await.unwrap();
        if events.is_empty() {
            break;
        }
        replay.feed(&events);
    }
    assert_ne!(replay.newest, EventId(0));
    let lease = |(project, token): &(String, u64)| (project.parse::<ProjectId>().unwrap(), Token::new(*token).unwrap());
    let (granted, unlocked) = (believed.granted.lock().unwrap(), believed.unlocked.lock().unwrap());
    for told in &*granted {
        assert!(replay.granted.contains(&lease(told)), "rule 12: a grant was lost: {told:?}");
    }
    for told in &*unlocked {
        assert_eq!(replay.ended.get(&lease(told)), Some(&EventKind::Unlocked), "rule 12: a release was lost: {told:?}");
    }
    let refused = refused.load(Ordering::Relaxed);
    println!("{} events, {} grants told, {refused} calls without an answer", replay.events, granted.len());
    assert!(granted.len() > 50, "there was no load: {}", granted.len());
    assert!(refused > 0, "no client met with a server that was down");
}
