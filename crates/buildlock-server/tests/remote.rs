//! A store on a server, where it is not as other stores are: what a key may not see, what is sent by
//! somebody who goes, a server that is away.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use buildlock::{
    Command, EventId, IfLocked, Lease, LockError, LockRequest, LockService, LockStore, News, Outcome, ProjectId,
    Refusal, RemoteStore, RequestId, Role, StoreError, Wait,
};
use support::{LONG_ENOUGH, TestServer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

fn site() -> ProjectId {
    "site".parse().unwrap()
}

fn request(holder: &str) -> LockRequest {
    LockRequest::new(holder.parse().unwrap(), "edit".parse().unwrap())
}

async fn remote(server: &TestServer, owner: &str, role: Role) -> RemoteStore {
    remote_at(server.address, &server.key(owner, role).await).await
}

async fn remote_at(address: SocketAddr, key: &str) -> RemoteStore {
    RemoteStore::open_with_key(&format!("http://{address}"), Some(key)).await.unwrap()
}

/// A lease of somebody else's.
async fn held(store: &impl LockStore) -> Lease {
    let lock = Command::Lock { request: request("ana"), if_locked: IfLocked::Refuse };
    let Outcome::Held(lease) = store.apply(&site(), lock).await.unwrap().outcome else { panic!("it is free") };
    lease
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG_ENOUGH, patience).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// How long a line is cut: longer than a failed renewal takes, shorter than a ticket lives.
const OUTAGE: Duration = Duration::from_millis(300);

/// A way to a server that can be cut.
struct Line {
    address: SocketAddr,
    is_up: watch::Sender<bool>,
}

impl Line {
    /// A line, and the server that it leads to.
    async fn and_server() -> (Self, TestServer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            TestServer::start_with(|options| options.config.server.allowed_hosts.push(address.to_string())).await;
        let is_up = watch::Sender::new(true);
        tokio::spawn(lead(listener, server.address, is_up.subscribe()));
        (Self { address, is_up }, server)
    }
}

async fn lead(listener: TcpListener, server: SocketAddr, line: watch::Receiver<bool>) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut line = line.clone();
        if !*line.borrow() {
            continue;
        }
        tokio::spawn(async move {
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _ = line.wait_for(|is_up| !is_up) => {}
            }
        });
    }
}

#[tokio::test]
async fn a_user_sees_its_own_projects_and_its_own_request_ids() {
    let server = TestServer::start().await;
    let (ana, ci) = (remote(&server, "ana", Role::User).await, remote(&server, "ci", Role::Service).await);
    assert_eq!((ana.holder().as_str(), ana.role()), ("ana", Role::User));
    let mine = request("ana");
    let lock = Command::Lock { request: mine.clone(), if_locked: IfLocked::Refuse };
    let Outcome::Held(lease) = ana.apply(&site(), lock).await.unwrap().outcome else { panic!() };
    assert_eq!(lease.request, mine.id);
    let its = request("ci");
    let lock = Command::Lock { request: its.clone(), if_locked: IfLocked::Queue };
    assert!(matches!(ci.apply(&site(), lock).await.unwrap().outcome, Outcome::Queued(_)));
    ci.create_project(&"its".parse().unwrap(), &its.holder).await.unwrap();

    let status = ana.status(&site()).await.unwrap().unwrap();
    assert_eq!((status.lease.as_ref(), status.queue.len()), (Some(&lease), 1));
    let nil = RequestId::from(uuid::Uuid::nil());
    assert_eq!((status.queue[0].request.id, &status.queue[0].request.holder), (nil, &its.holder));
    assert_eq!(ci.status(&site()).await.unwrap().unwrap().queue[0].request, its);
    assert_eq!(ana.projects(None, 10).await.unwrap().len(), 1);
    assert_eq!(ana.status(&"its".parse().unwrap()).await.unwrap(), None);
    assert!(!ana.create_project(&"its".parse().unwrap(), &mine.holder).await.unwrap(), "it is somebody else's");
    let lock = Command::Lock { request: mine, if_locked: IfLocked::Queue };
    let refused = ana.apply(&"its".parse().unwrap(), lock).await.unwrap().outcome;
    assert_eq!(refused, Outcome::refused(Refusal::UnknownProject));
    for refused in [
        ana.history(None, None, 10).await.unwrap_err(),
        ana.settle_due().await.unwrap_err(),
        ci.checkup().await.unwrap_err(),
        ana.create_project(&"new".parse().unwrap(), &"ben".parse().unwrap()).await.unwrap_err(),
    ] {
        assert!(matches!(refused, StoreError::NotAllowed { .. }) && !refused.may_pass(), "{refused:?}");
    }
}

/// Rules 3 and 7.
#[tokio::test]
async fn a_lease_is_given_back_though_the_programs_runtime_ends_at_once() {
    let server = TestServer::start().await;
    let key = server.key("ci", Role::Service).await;
    let address = server.address;
    let program = move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let lease = runtime.block_on(async {
            let service = LockService::new(remote_at(address, &key).await);
            service.lock(&site(), request("ci"), Wait::NONE).await.unwrap()
        });
        drop(runtime);
        drop(lease);
    };
    tokio::task::spawn_blocking(program).await.unwrap();
    let status = server.store.status(&site()).await.unwrap().unwrap();
    assert_eq!(status.lease, None, "it was unlocked before the last handle was gone");
}

#[tokio::test]
async fn a_waiter_is_told_of_its_turn_though_the_line_was_cut_meanwhile() {
    let (line, server) = Line::and_server().await;
    let store = remote_at(line.address, &server.key("ci", Role::Service).await).await;
    let held = held(&server.store).await;
    let waiter = request("ci");
    let lock = Command::Lock { request: waiter.clone(), if_locked: IfLocked::Queue };
    store.apply(&site(), lock).await.unwrap();
    let turn = store.watch(&site(), News::Turn(waiter.id));
    let mut newest = store.newest_event();
    server.store.create_project(&"other".parse().unwrap(), &waiter.holder).await.unwrap();
    timeout(LONG_ENOUGH, newest.wait_for(|newest| newest.0 == 3)).await.expect("the stream is not open").unwrap();

    line.is_up.send_replace(false);
    let unlock = Command::Unlock { token: held.token, holder: held.holder };
    server.store.apply(&site(), unlock).await.unwrap();
    let error = store.status(&site()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }) && error.may_pass(), "{error:?}");
    line.is_up.send_replace(true);
    timeout(LONG_ENOUGH, turn.changed()).await.expect("nobody told of the turn");
    assert!(store.status(&site()).await.unwrap().unwrap().lease.is_some());
    timeout(LONG_ENOUGH, newest.wait_for(|newest| *newest >= EventId(5))).await.expect("some are missing").unwrap();
}

/// Rules 4 and 7.
#[tokio::test]
async fn who_waits_outlasts_a_line_that_is_cut_and_is_granted_once() {
    let (line, server) = Line::and_server().await;
    let store = remote_at(line.address, &server.key("ci", Role::Service).await).await;
    let held = held(&server.store).await;
    let service = LockService::new(store);
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.lock(&site(), request("ci"), Wait::new(Duration::from_secs(60)).unwrap()).await }
    });
    until("it waits", async || !server.store.status(&site()).await.unwrap().unwrap().queue.is_empty()).await;
    line.is_up.send_replace(false);
    sleep(OUTAGE).await;
    line.is_up.send_replace(true);
    let unlock = Command::Unlock { token: held.token, holder: held.holder };
    server.store.apply(&site(), unlock).await.unwrap();
    let lease = timeout(LONG_ENOUGH, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(server.store.status(&site()).await.unwrap().unwrap().lease.unwrap().token, lease.token);
    lease.unlock().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_do() {
    let server = TestServer::start().await;
    let url = format!("http://{}", server.address);
    let open = async |url: &str, key: Option<&str>| RemoteStore::open_with_key(url, key).await.unwrap_err().to_string();
    assert!(open(&url, None).await.contains("BUILDLOCK_API_KEY"));
    assert!(open(&url, Some("bl_nobodys")).await.contains("not known"));
    assert!(open(&url, Some("bl\nx")).await.contains("characters that no key has"));
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}", other.local_addr().unwrap());
    drop(other);
    let text = open(&away, Some("bl_x")).await;
    assert!(text.contains("refused") && text.contains("is it running"), "{text}");
    for url in ["http:", "http://u:secret@host", "http://host?x", "ftp://host"] {
        let error = RemoteStore::open_with_key(url, None).await.unwrap_err();
        assert!(matches!(error, StoreError::BadUrl { .. }) && !error.to_string().contains("secret"), "{error}");
    }
    let store = remote(&server, "ci", Role::Service).await;
    assert_eq!(format!("{store:?}"), format!("RemoteStore({url:?})"), "no key is shown");
    server.stop.gracefully();
    server.ended().await;
    let service = LockService::new(store);
    let error = service.lock(&site(), request("ci"), Wait::NONE).await.unwrap_err();
    assert!(matches!(error, LockError::Store(StoreError::Unreachable { .. })), "{error}");
}
