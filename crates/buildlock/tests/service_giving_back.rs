//! A lock is given back whatever happens to the program that has it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buildlock::{EventKind, How, LockError, Loss, StoreError, Wait};
use support::ask::{Ask, ended, request, seconds};
use support::faulty::{Call, Fault};
use support::site::{Site, the_project};
use support::{soon, until};
use tokio::sync::oneshot;

fn panic_quietly() {
    std::panic::resume_unwind(Box::new("as a test wishes"));
}

#[tokio::test]
async fn a_lease_is_unlocked_when_it_goes_out_of_scope() {
    let site = Site::new().await;
    drop(site.locked().await);
    assert!(site.is_idle().await);
    assert_eq!(site.store.kinds("site").await, [EventKind::Granted, EventKind::Unlocked]);
}

#[tokio::test]
async fn a_lease_is_unlocked_on_an_error_on_the_way() {
    async fn build(site: &Site) -> Result<(), std::num::ParseIntError> {
        let _lease = site.locked().await;
        "no number".parse::<u32>()?;
        Ok(())
    }
    let site = Site::new().await;
    assert!(build(&site).await.is_err());
    assert!(site.is_idle().await);
}

#[tokio::test]
async fn a_lease_is_unlocked_when_its_task_panics() {
    let site = Arc::new(Site::new().await);
    let task = tokio::spawn({
        let site = Arc::clone(&site);
        async move {
            let _lease = site.locked().await;
            panic_quietly();
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert!(site.is_idle().await);
}

#[tokio::test]
async fn a_lease_is_unlocked_when_its_task_is_aborted() {
    let site = Arc::new(Site::new().await);
    let (locked, is_locked) = oneshot::channel();
    let task = tokio::spawn({
        let site = Arc::clone(&site);
        async move {
            let lease = site.locked().await;
            locked.send(()).unwrap();
            lease.lost().await
        }
    });
    is_locked.await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(site.is_idle().await);
}

#[test]
fn a_lease_is_unlocked_when_its_runtime_ends() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let store = first.block_on(async {
        let site = Site::new().await;
        let store = site.store.clone();
        let (locked, is_locked) = oneshot::channel();
        tokio::spawn(async move {
            let lease = site.locked().await;
            locked.send(()).unwrap();
            lease.lost().await
        });
        is_locked.await.unwrap();
        store
    });
    drop(first);
    assert_eq!(runtime().block_on(store.holder("site")), None);
}

#[test]
fn a_lease_that_outlives_its_runtime_can_still_be_given_back() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let (site, lease) = first.block_on(async {
        let site = Site::new().await;
        let lease = site.locked().await;
        (site, lease)
    });
    drop(first);
    drop(lease);
    assert!(runtime().block_on(site.is_idle()));
}

/// Rule 3.
#[tokio::test]
async fn to_unlock_tells_of_the_lease_that_has_ended() {
    let site = Site::new().await;
    let lease = site.locked().await;
    let (token, request) = (lease.token, lease.request);
    let past = lease.unlock().await.unwrap();
    assert_eq!((past.token, past.request, past.ended.how), (token, request, How::Unlocked));
    assert!(site.is_idle().await);
}

/// Rule 3.
#[tokio::test]
async fn to_unlock_a_lease_that_had_ended_tells_of_the_loss() {
    let site = Site::new().await;
    let lease = site.locked().await;
    site.clock.advance(seconds(30));
    site.store.held("site", "ben").await;
    let Err(LockError::Lost(loss)) = lease.unlock().await else { panic!("it had expired") };
    let Loss::Ended { lease, now } = *loss else { panic!("the store ended it: {loss:?}") };
    assert_eq!((lease.ended.how, now.unwrap().lease.holder.as_str()), (How::Expired, "ben"));
    assert_eq!(site.store.holder("site").await.as_deref(), Some("ben"), "the next holder is not hit");
}

/// Rule 3: a repeated unlock succeeds.
#[tokio::test]
async fn an_unlock_that_has_no_answer_is_sent_once_more() {
    let site = Site::new().await;
    let lease = site.locked().await;
    site.line.fail(Call::Unlock, Fault::AnswerLost);
    assert!(matches!(lease.unlock().await, Err(LockError::Store(StoreError::Unavailable { .. }))));
    assert_eq!(site.line.count(Call::Unlock), 2);
    assert_eq!(site.store.kinds("site").await, [EventKind::Granted, EventKind::Unlocked]);
}

#[tokio::test]
async fn an_unlock_that_is_cancelled_is_done_all_the_same() {
    let site = Site::new().await;
    let lease = site.locked().await;
    site.line.fail(Call::Unlock, Fault::HeldUp);
    let unlocking = tokio::spawn(lease.unlock());
    site.line.made(Call::Unlock, 1).await;
    unlocking.abort();
    assert!(unlocking.await.unwrap_err().is_cancelled());
    assert!(site.is_idle().await);
}

#[tokio::test]
async fn a_lease_that_is_kept_is_neither_unlocked_nor_renewed() {
    let site = Site::new().await;
    let users = Arc::strong_count(&site.line);
    let guard = site.locked().await;
    assert!(Arc::strong_count(&site.line) > users);
    let lease = guard.keep();
    until("nobody renews it", async || Arc::strong_count(&site.line) == users).await;
    assert_eq!(site.store.holder("site").await.as_deref(), Some("ana"));
    assert_eq!(ended(site.store.unlock("site", &lease).await).token, lease.token, "its token is good");
}

/// With [`buildlock::LockService::with_lock`], in a task of its own as in a server.
#[tokio::test]
async fn work_under_a_lock_gives_it_back_and_its_result() {
    let site = Site::new().await;
    let (service, store) = (site.service.clone(), site.store.clone());
    let work = tokio::spawn(async move {
        let project = the_project();
        let work = async |lease: &buildlock::LeaseGuard| (lease.token, store.holder("site").await);
        service.with_lock(&project, request("ana"), Wait::NONE, work).await
    });
    let (token, holder) = work.await.unwrap().unwrap();
    assert_eq!((token.get(), holder.as_deref()), (1, Some("ana")));
    assert_eq!(site.store.kinds("site").await, [EventKind::Granted, EventKind::Unlocked]);
}

#[tokio::test]
async fn work_that_fails_gives_the_lock_back_and_its_error() {
    let site = Site::new().await;
    let work = async |_: &_| Err::<(), _>("a syntax error");
    let built = site.service.with_lock(&the_project(), request("ana"), Wait::NONE, work).await.unwrap();
    assert_eq!(built, Err("a syntax error"));
    assert!(site.is_idle().await);
}

#[tokio::test]
async fn work_that_panics_gives_the_lock_back() {
    let site = Site::new().await;
    let service = site.service.clone();
    let task = tokio::spawn(async move {
        let work = async |_: &_| panic_quietly();
        service.with_lock(&the_project(), request("ana"), Wait::NONE, work).await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert!(site.is_idle().await);
}

/// Sets a flag when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Rule 14.
#[tokio::test]
async fn work_whose_lease_is_lost_is_dropped_where_it_stands() {
    let site = Site::new().await;
    let dropped = Arc::new(AtomicBool::new(false));
    let (started, is_started) = oneshot::channel();
    let work = async |_: &_| {
        let _flag = Flag(Arc::clone(&dropped));
        started.send(()).unwrap();
        std::future::pending::<()>().await;
    };
    let project = the_project();
    let working = site.service.with_lock(&project, request("ana"), Wait::NONE, work);
    let operator = async {
        is_started.await.unwrap();
        assert!(!dropped.load(Ordering::SeqCst));
        site.force_unlock().await;
    };
    let (worked, ()) = soon("the loss", async { tokio::join!(working, operator) }).await;
    let Err(LockError::Lost(loss)) = worked else { panic!("it was force-unlocked") };
    assert!(loss.to_string().contains("force-unlocked by ops"), "{loss}");
    assert!(dropped.load(Ordering::SeqCst));
}

/// Rule 3: what was done after the lease had ended was not done under the lock.
#[tokio::test]
async fn work_that_ends_after_its_lease_is_told_of_the_loss() {
    let site = Site::new().await;
    let work = async |_: &_| site.clock.advance(seconds(30));
    let worked = site.service.with_lock(&the_project(), request("ana"), Wait::NONE, work).await;
    let Err(LockError::Lost(loss)) = worked else { panic!("it had expired") };
    assert!(loss.to_string().contains("expired"), "{loss}");
}

#[tokio::test]
async fn work_that_is_cancelled_gives_the_lock_back() {
    let site = Site::new().await;
    let service = site.service.clone();
    let (started, is_started) = oneshot::channel();
    let task = tokio::spawn(async move {
        let work = async |_: &_| {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        service.with_lock(&the_project(), request("ana"), Wait::NONE, work).await
    });
    is_started.await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(site.is_idle().await);
}

/// The lock was had while the work went on, which is what matters.
#[tokio::test]
async fn work_is_not_lost_because_the_unlock_fails() {
    let site = Site::new().await;
    site.line.fail(Call::Unlock, Fault::Unavailable);
    let work = async |_: &_| 3;
    let done = site.service.with_lock(&the_project(), request("ana"), Wait::NONE, work).await;
    assert_eq!(done.unwrap(), 3);
    site.line.mend();
    site.clock.advance(seconds(30));
    until("the lease ends by itself", async || site.is_idle().await).await;
}
