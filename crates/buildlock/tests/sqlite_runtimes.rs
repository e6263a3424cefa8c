//! Callers of one store in several runtimes, and in none: each is answered wherever it waits.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use buildlock::{Command, Holder, IfLocked, LockRequest, LockStore, Operation, Outcome, ProjectId, SqliteStore};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const CYCLES: usize = 50;

async fn cycles(store: SqliteStore, project: String) {
    let project: ProjectId = project.parse().unwrap();
    let holder: Holder = "ana".parse().unwrap();
    for _ in 0..CYCLES {
        let request = LockRequest::new(holder.clone(), Operation::default());
        let lock = Command::Lock { request, if_locked: IfLocked::Refuse };
        let Outcome::Held(lease) = store.apply(&project, lock).await.unwrap().outcome else { panic!("not locked") };
        let unlock = Command::Unlock { token: lease.token, holder: holder.clone() };
        let outcome = store.apply(&project, unlock).await.unwrap().outcome;
        assert!(matches!(outcome, Outcome::Ended(_)));
    }
}

async fn crowd(store: SqliteStore, name: &str) {
    let mut callers = JoinSet::new();
    for number in 0..16 {
        callers.spawn(cycles(store.clone(), format!("{name}-{number}")));
    }
    callers.join_all().await;
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread, without a runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        thread::park();
    }
}

fn open(folder: &tempfile::TempDir) -> SqliteStore {
    let opener = Builder::new_current_thread().build().unwrap();
    opener.block_on(SqliteStore::open(folder.path().join("locks.db"))).unwrap()
}

#[test]
fn a_store_answers_in_whatever_runtime_its_callers_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let many = Runtime::new().unwrap();
    let more = Runtime::new().unwrap();
    let single = Builder::new_current_thread().build().unwrap();
    let idle = Builder::new_current_thread().build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| many.block_on(crowd(store.clone(), "many")));
        scope.spawn(|| more.block_on(crowd(store.clone(), "more")));
        scope.spawn(|| single.block_on(crowd(store.clone(), "single")));
        for number in 0..4 {
            let (store, idle) = (store.clone(), &idle);
            scope.spawn(move || {
                // Entered, but nobody runs its tasks.
                let _entered = idle.enter();
                block_on(cycles(store, format!("idle-{number}")));
            });
        }
        scope.spawn(|| block_on(cycles(store.clone(), "none".to_owned())));
    });
}

#[test]
fn a_runtime_that_shuts_down_keeps_nobody_elsewhere_from_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let staying = Runtime::new().unwrap();
    for round in 0..10 {
        let leaving = Runtime::new().unwrap();
        for number in 0..16 {
            leaving.spawn(cycles(store.clone(), format!("leaving-{round}-{number}")));
        }
        // A caller that waits elsewhere for an answer that it asked for in there.
        let mut asked = Box::pin(cycles(store.clone(), format!("asked-{round}")));
        {
            let _entered = leaving.enter();
            assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        staying.spawn(crowd(store.clone(), "staying"));
        leaving.shutdown_background();
        staying.block_on(asked);
    }
}
