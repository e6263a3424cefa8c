//! Rule 11: history.

use std::time::Duration;

use buildlock_core::{
    Command, Event, EventKind, IfLocked, LockRequest, RequestId, TICKET_LIFE, Ticket, TicketChange, TicketNumber,
    Timestamp,
};

use crate::{Lock, MS, ana_holds_ben_and_cyd_wait, request, request_for};

/// Rule 11.
#[test]
fn what_changes_nothing_writes_no_event() {
    let (mut lock, token, ben, _) = ana_holds_ben_and_cyd_wait();
    let before = lock.kinds();
    assert_eq!(before, [EventKind::Granted, EventKind::Queued, EventKind::Queued]);
    lock.try_lock(&request("dan"));
    lock.wait(&ben);
    lock.wait(&LockRequest { message: "other".parse().unwrap(), ..ben });
    lock.renew(token, "ana");
    lock.verify(token);
    lock.unlock(token, "ben");
    lock.unlock(token.next(), "ana");
    lock.force_unlock(token.next());
    lock.decide(Command::Withdraw { request: RequestId::fresh() });
    lock.settle();
    assert_eq!(lock.kinds(), before);
}

/// Rule 11.
#[test]
fn every_change_writes_one_event_that_tells_all_of_it() {
    let mut lock = Lock::new();
    let message = |request| LockRequest { message: "new colours".parse().unwrap(), ..request };
    let ana = message(request_for("ana", Duration::from_secs(4)));
    let (ben, cyd, dan) = (message(request("ben")), message(request("cyd")), message(request("dan")));
    let start = lock.now();
    let at = |seconds| start.after(Duration::from_secs(seconds));
    let token = lock.hold(&ana);
    lock.wait(&ben);
    lock.wait(&cyd);
    lock.wait(&dan);
    lock.withdraw(&cyd);
    lock.pass(Duration::from_secs(6));
    lock.settle();
    lock.pass(Duration::from_secs(5));
    lock.wait(&dan);
    lock.wait(&ben);
    lock.wait(&cyd);
    lock.force_unlock(token.next().next());
    lock.wait(&cyd);
    lock.unlock(token.next().next().next(), "cyd");

    let ticket = |seconds, kind, request: &LockRequest| Event {
        at: at(seconds),
        kind,
        holder: request.holder.clone(),
        request: Some(request.id),
        token: None,
        operation: Some("edit".parse().unwrap()),
        message: Some("new colours".parse().unwrap()),
        by: None,
        reason: None,
    };
    let grant = |seconds, request, token| Event { token: Some(token), ..ticket(seconds, EventKind::Granted, request) };
    let end =
        |seconds, kind, request, token| Event { token: Some(token), message: None, ..ticket(seconds, kind, request) };
    let (second, third, fourth) = (token.next(), token.next().next(), token.next().next().next());
    let expected = [
        grant(0, &ana, token),
        ticket(0, EventKind::Queued, &ben),
        ticket(0, EventKind::Queued, &cyd),
        ticket(0, EventKind::Queued, &dan),
        ticket(0, EventKind::Left, &cyd),
        end(4, EventKind::Expired, &ana, token),
        grant(6, &ben, second),
        end(11, EventKind::Unclaimed, &ben, second),
        grant(11, &dan, third),
        ticket(11, EventKind::Queued, &cyd),
        Event {
            by: Some("ops".parse().unwrap()),
            reason: Some("stuck".parse().unwrap()),
            ..end(11, EventKind::ForceUnlocked, &dan, third)
        },
        grant(11, &cyd, fourth),
        Event { by: Some("cyd".parse().unwrap()), ..end(11, EventKind::Unlocked, &cyd, fourth) },
    ];
    assert_eq!(lock.events.len(), expected.len(), "{:?}", lock.kinds());
    for (event, expected) in lock.events.iter().zip(expected) {
        assert_eq!(*event, expected);
    }
}

/// Rule 11.
#[test]
fn every_change_of_the_queue_is_told_to_the_store() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let (ben, cyd) = (request("ben"), request("cyd"));
    let wait = |request: &LockRequest| Command::Lock { request: request.clone(), if_locked: IfLocked::Queue };
    let taken = |number, request: &LockRequest, now: Timestamp| {
        let (number, alive_until) = (TicketNumber(number), now.after(TICKET_LIFE));
        TicketChange::Taken(Ticket { number, request: request.clone(), queued_at: now, alive_until })
    };
    let (one, two) = (TicketNumber(1), TicketNumber(2));
    let now = lock.now();
    assert_eq!(lock.store.decide(0, &wait(&ben)).tickets, [taken(1, &ben, now)]);
    assert_eq!(lock.store.decide(0, &wait(&cyd)).tickets, [taken(2, &cyd, now)]);
    lock.pass(TICKET_LIFE - MS);
    let alive_until = lock.now().after(TICKET_LIFE);
    assert_eq!(lock.store.decide(0, &wait(&cyd)).tickets, [TicketChange::Touched(two, alive_until)]);
    lock.pass(MS);
    assert_eq!(lock.store.decide(0, &Command::Settle).tickets, [TicketChange::Gone(one)]);
    lock.store.decide(0, &wait(&ben));
    let unlock = Command::Unlock { token, holder: "ana".parse().unwrap() };
    assert_eq!(lock.store.decide(0, &unlock).tickets, [TicketChange::Gone(two)]);
    let withdraw = Command::Withdraw { request: ben.id };
    assert_eq!(lock.store.decide(0, &withdraw).tickets, [TicketChange::Gone(TicketNumber(3))]);
}
