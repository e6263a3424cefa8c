//! To wait for a project: the place, the turn, the end of the wait, and a line to the store that
//! fails meanwhile.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildlock::{
    CLAIM_WITHIN, EventKind, How, KEEP_IN_TOUCH_EVERY, LeaseGuard, LockError, LockRequest, LockService, LockStore,
    Loss, Place, QUEUE_LIMIT, StoreError, TICKET_LIFE, Wait, since_boot,
};
use support::ask::{Ask, request, seconds, ttl};
use support::faulty::{Call, Fault};
use support::site::{Site, the_project};
use support::{soon, until, within};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer than any test.
fn long() -> Wait {
    Wait::new(seconds(3_600)).unwrap()
}

/// A waiter in a task of its own, and the places that it is told.
struct Waiter {
    task: JoinHandle<Result<LeaseGuard, LockError>>,
    places: mpsc::UnboundedReceiver<Place>,
}

impl Waiter {
    /// A waiter who has a place.
    async fn queued(site: &Site, holder: &str, wait: Wait) -> Self {
        let mut waiter = Self::start(site, holder, wait);
        waiter.place().await;
        waiter
    }

    fn start(site: &Site, holder: &str, wait: Wait) -> Self {
        let (service, request) = (site.service.clone(), request(holder));
        let (sender, places) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            // A test that no longer listens has seen enough.
            let tell = |place: &Place, _| drop(sender.send(place.clone()));
            service.lock_telling(&the_project(), request, wait, tell).await
        });
        Self { task, places }
    }

    async fn place(&mut self) -> Place {
        soon("a place", self.places.recv()).await.unwrap()
    }

    async fn granted(self) -> LeaseGuard {
        soon("the turn", self.task).await.unwrap().unwrap()
    }

    async fn refused(self) -> LockError {
        soon("the answer", self.task).await.unwrap().unwrap_err()
    }

    async fn cancel(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Rule 5.
#[tokio::test]
async fn without_a_wait_a_held_project_refuses_at_once_and_no_ticket_is_taken() {
    let site = Site::new().await;
    let held = site.locked().await;
    let Err(LockError::Locked(busy)) = site.service.lock(&the_project(), request("ben"), Wait::NONE).await else {
        panic!("it is held")
    };
    assert_eq!((busy.lease.token, busy.queue_length), (held.token, 0));
    assert_eq!(site.store.kinds("site").await, [EventKind::Granted]);
}

/// Rule 6.
#[tokio::test]
async fn waiters_are_told_their_place_and_served_in_order() {
    let site = Site::new().await;
    let mut held = site.locked().await;
    let mut waiters = Vec::new();
    for (number, holder) in ["ben", "cleo", "dora"].into_iter().enumerate() {
        let mut waiter = Waiter::start(&site, holder, long());
        let place = waiter.place().await;
        assert_eq!((place.position, place.busy.lease.holder.as_str()), (number + 1, "ana"));
        waiters.push((holder, waiter));
    }
    for (holder, waiter) in waiters {
        let token = held.token;
        held.unlock().await.unwrap();
        held = waiter.granted().await;
        assert_eq!((held.holder.as_str(), held.token > token), (holder, true));
    }
}

/// Rule 8.
#[tokio::test]
async fn a_dead_holders_project_is_granted_to_the_next_within_a_second_without_anybodys_request() {
    let site = Site::new().await;
    site.store.lock("site", &LockRequest { ttl: ttl(2), ..request("ana") }).await;
    let waiter = Waiter::queued(&site, "ben", long()).await;
    site.clock.advance(seconds(2) - Duration::from_millis(1));
    let sweeps = site.line.count(Call::Settle);
    site.line.done(Call::Settle, sweeps + 2).await;
    assert_eq!(site.store.holder("site").await.as_deref(), Some("ana"), "nor too soon");
    site.clock.advance(Duration::from_millis(1));
    let lease = within(seconds(1), "the turn", waiter.granted()).await;
    assert_eq!(
        (lease.holder.as_str(), site.line.count(Call::Lock)),
        ("ben", 1),
        "he asked for a place, and was told of his turn"
    );
}

/// Rule 8.
#[tokio::test]
async fn the_sweep_ends_with_the_last_clone_of_the_service() {
    let Site { service, line, .. } = Site::new().await;
    let other = service.clone();
    drop(service);
    let sweeps = line.count(Call::Settle);
    line.made(Call::Settle, sweeps + 2).await;
    assert!(Arc::strong_count(&line) > 1);
    drop(other);
    until("nothing keeps the store", async || Arc::strong_count(&line) == 1).await;
}

/// Rule 7.
#[tokio::test]
async fn a_wait_that_is_over_gives_the_ticket_back() {
    let site = Site::new().await;
    let _held = site.locked().await;
    let wait = Duration::from_millis(300);
    let started = Instant::now();
    let waiter = Waiter::start(&site, "ben", Wait::new(wait).unwrap());
    let LockError::WaitOver(place) = waiter.refused().await else { panic!("the wait is over") };
    assert!(started.elapsed() >= wait);
    assert_eq!((place.position, place.busy.lease.holder.as_str()), (1, "ana"));
    assert!(site.store.waiters("site").await.is_empty());
    assert_eq!(site.store.kinds("site").await, [EventKind::Granted, EventKind::Queued, EventKind::Left]);
}

/// A wait is over when it is over, also while the store keeps one waiting.
#[tokio::test]
async fn a_store_that_does_not_answer_does_not_prolong_a_wait() {
    let site = Site::new().await;
    let _held = site.locked().await;
    let wait = KEEP_IN_TOUCH_EVERY + Duration::from_millis(300);
    let waiter = Waiter::queued(&site, "ben", Wait::new(wait).unwrap()).await;
    site.line.fail(Call::Lock, Fault::HeldUp);
    // He keeps in touch, and is not heard.
    site.line.made(Call::Lock, 3).await;
    assert!(matches!(waiter.refused().await, LockError::WaitOver(_)));
    assert!(site.store.waiters("site").await.is_empty(), "his place is given back");
}

/// A lease that was handed to Ben, whose claim is held up.
async fn handed_over(site: &Site) -> LeaseGuard {
    let held = site.locked().await;
    let waiter = Waiter::queued(site, "ben", long()).await;
    site.line.fail(Call::Renew, Fault::HeldUp);
    held.unlock().await.unwrap();
    waiter.granted().await
}

/// Rule 7: whoever is told of its turn has its lease at once, and claims it meanwhile.
#[tokio::test]
async fn a_lease_that_was_handed_over_is_claimed_by_its_guard() {
    let site = Site::new().await;
    let lease = handed_over(&site).await;
    let unclaimed = site.store.see("site").await.lease.unwrap();
    assert_eq!(*lease, unclaimed, "what it was told is what the store has");
    assert_eq!(unclaimed.claim_by, Some(unclaimed.acquired_at.after(CLAIM_WITHIN)));
    assert!(lease.deadline().ends_at() <= since_boot() + CLAIM_WITHIN, "rule 14: until it is claimed");
    let renewals = site.line.count(Call::Renew);
    site.line.mend();
    site.line.done(Call::Renew, renewals).await;
    assert_eq!(site.store.see("site").await.lease.unwrap().claim_by, None);
    until("its user knows", async || lease.deadline().ends_at() > since_boot() + CLAIM_WITHIN).await;
}

/// Rule 7.
#[tokio::test]
async fn a_lease_that_is_kept_before_it_is_claimed_is_claimed() {
    let site = Site::new().await;
    let guard = handed_over(&site).await;
    site.line.mend();
    let kept = guard.keep();
    assert!(kept.claim_by.is_some());
    until("it is claimed", async || site.store.see("site").await.lease.unwrap().claim_by.is_none()).await;
}

/// Rule 14: what was told too late is no lease any more.
#[tokio::test]
async fn a_turn_that_is_over_when_its_waiter_hears_of_it_is_lost() {
    let site = Site::new().await;
    let lease = handed_over(&site).await;
    site.clock.advance(CLAIM_WITHIN);
    site.line.mend();
    let loss = soon("the loss", lease.lost()).await;
    assert!(matches!(&loss, Loss::Ended { lease, .. } if lease.ended.how == How::Unclaimed), "{loss}");
}

/// Rule 6.
#[tokio::test]
async fn a_waiter_that_is_cancelled_leaves_the_queue() {
    let site = Site::new().await;
    let held = site.locked().await;
    let ben = Waiter::queued(&site, "ben", long()).await;
    let cleo = Waiter::queued(&site, "cleo", long()).await;
    ben.cancel().await;
    assert_eq!(site.store.waiters("site").await, ["cleo"]);
    held.unlock().await.unwrap();
    assert_eq!(cleo.granted().await.holder.as_str(), "cleo");
}

/// Between the store's answer and the guard nothing is lost.
#[tokio::test]
async fn a_lease_that_was_granted_to_one_who_is_cancelled_meanwhile_is_unlocked() {
    let site = Site::new().await;
    for (number, fault) in [(1, Fault::AnswerHeldUp), (2, Fault::HeldUp)] {
        site.line.fail(Call::Lock, fault);
        let asking = Waiter::start(&site, "ben", Wait::NONE);
        site.line.made(Call::Lock, number).await;
        if fault == Fault::AnswerHeldUp {
            site.line.done(Call::Lock, number).await;
            assert_eq!(site.store.holder("site").await.as_deref(), Some("ben"));
        }
        asking.cancel().await;
        site.line.mend();
        assert!(site.is_idle().await);
    }
}

/// Rule 7: what was handed over need not wait for its claim to run out.
#[tokio::test]
async fn a_lease_that_is_given_back_before_it_is_claimed_passes_on() {
    let site = Site::new().await;
    let held = site.locked().await;
    let ben = Waiter::queued(&site, "ben", long()).await;
    let cleo = Waiter::queued(&site, "cleo", long()).await;
    site.line.fail(Call::Renew, Fault::HeldUp);
    held.unlock().await.unwrap();
    let lease = ben.granted().await;
    assert_eq!(site.store.holder("site").await.as_deref(), Some("ben"));
    drop(lease);
    let _cleo = cleo.granted().await;
    assert_eq!(site.store.kinds("site").await[3..], [EventKind::Unlocked, EventKind::Granted].repeat(2));
}

/// Rule 12: nobody knows whether it was done, so it is taken back.
#[tokio::test]
async fn a_lease_whose_answer_is_lost_is_unlocked() {
    let site = Site::new().await;
    site.line.fail(Call::Lock, Fault::AnswerLost);
    let error = Waiter::start(&site, "ana", long()).refused().await;
    assert!(matches!(error, LockError::Store(StoreError::Unavailable { .. })), "{error:?}");
    assert!(site.is_idle().await);
    assert_eq!(site.store.kinds("site").await, [EventKind::Granted, EventKind::Unlocked]);
}

/// Rule 7: the store's time flies here, and the waiter's own does not.
#[tokio::test]
async fn a_waiter_keeps_in_touch_for_longer_than_a_ticket_lives() {
    let site = Site::new().await;
    let _held = site.store.held("site", "ana").await;
    let _ben = Waiter::queued(&site, "ben", long()).await;
    site.clock.advance(TICKET_LIFE - seconds(1));
    site.line.done(Call::Lock, 2).await;
    site.clock.advance(TICKET_LIFE - seconds(1));
    assert_eq!(site.store.waiters("site").await, ["ben"]);
}

/// Rule 7.
#[tokio::test]
async fn a_waiter_that_cannot_reach_the_store_for_a_while_keeps_its_place() {
    let site = Site::new().await;
    let held = site.locked().await;
    let ben = Waiter::queued(&site, "ben", long()).await;
    let cleo = Waiter::queued(&site, "cleo", long()).await;
    site.line.fail(Call::Lock, Fault::Unavailable);
    // Ben and Cleo are due to keep in touch, and each tries again soon when it fails.
    let unheard = site.line.count(Call::Lock);
    site.line.made(Call::Lock, unheard + 4).await;
    assert_eq!(site.store.waiters("site").await, ["ben", "cleo"]);
    held.unlock().await.unwrap();
    assert_eq!(site.store.holder("site").await.as_deref(), Some("ben"));
    site.line.mend();
    ben.granted().await.unlock().await.unwrap();
    cleo.granted().await;
}

/// The bound of a queue.
#[tokio::test]
async fn a_full_queue_refuses_and_takes_nothing_back() {
    let site = Site::new().await;
    let held = site.locked().await;
    site.by_hand(&format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {QUEUE_LIMIT})
         insert into tickets (project, number, request, holder, operation, message, ttl_ms, queued_at, alive_until)
         select projects.number, i, randomblob(16), 'ben', 'edit', '', 30000, locked_at, 9000000000000
         from n, projects"
    ));
    let LockError::QueueFull(busy) = Waiter::start(&site, "cleo", long()).refused().await else { panic!("it is full") };
    assert_eq!((busy.lease.token, busy.queue_length), (held.token, QUEUE_LIMIT));
    assert_eq!(site.line.count(Call::Withdraw), 0);
    // A place that is given up can be taken.
    let first = site.store.see("site").await.queue[0].request.id;
    site.store.withdraw("site", first).await;
    assert_eq!(Waiter::start(&site, "cleo", long()).place().await.position, QUEUE_LIMIT);
}

/// Rules 1, 2 and 6: many services, two handles, tasks on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_services_over_one_store_let_in_one_at_a_time() {
    const EACH: usize = 20;
    let site = Site::new().await;
    let elsewhere: Arc<dyn LockStore> = Arc::new(site.elsewhere().await);
    let line = Arc::clone(&site.line) as Arc<dyn LockStore>;
    let services = [&line, &line, &elsewhere].map(|store| LockService::with_store(Arc::clone(store)));
    let (entered, mut entries) = mpsc::unbounded_channel();
    let inside = Arc::new(tokio::sync::Mutex::new(()));
    let mut tasks = Vec::new();
    for (number, service) in (0..EACH).flat_map(|_| services.iter().cloned().enumerate()) {
        let (entered, inside) = (entered.clone(), Arc::clone(&inside));
        tasks.push(tokio::spawn(async move {
            let work = async |lease: &LeaseGuard| {
                let _alone = inside.try_lock().expect("somebody else is inside");
                entered.send(lease.token).unwrap();
                tokio::task::yield_now().await;
            };
            service.with_lock(&the_project(), request(&format!("holder {number}")), long(), work).await
        }));
    }
    for task in tasks {
        soon("everybody's turn", task).await.unwrap().unwrap();
    }
    drop(entered);
    let mut tokens = Vec::new();
    while let Some(token) = entries.recv().await {
        tokens.push(token);
    }
    assert_eq!(tokens.len(), EACH * services.len());
    assert!(tokens.is_sorted(), "a later grant has a larger token");
}
