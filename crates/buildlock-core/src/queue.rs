//! The queue of a project: tickets in the order in which the store took them (rule 6).

use std::collections::{HashMap, VecDeque};

use crate::{LockRequest, RequestId, Timestamp};

/// How many may wait for one project. Far more than a fair queue serves in a day; it keeps one
/// project from filling the store.
pub const QUEUE_LIMIT: usize = 20_000;

/// Orders a project's tickets: smaller was there first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketNumber(pub u64);

/// A place in a project's queue, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its number.
    pub number: TicketNumber,
    /// Who waits, and for what.
    pub request: LockRequest,
    /// When it was taken.
    pub queued_at: Timestamp,
    /// When it ends unless its waiter keeps in touch (rule 7).
    pub alive_until: Timestamp,
}

/// Tickets in order.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    tickets: VecDeque<Ticket>,
    by_request: HashMap<RequestId, TicketNumber>,
    /// No ticket dies before this, so nobody has to look. A waiter that keeps in touch does not
    /// move it, which makes keeping in touch cheap in a long queue.
    next_check: Option<Timestamp>,
}

impl Queue {
    /// The queue with these tickets, which must be in the order of their numbers.
    ///
    /// # Panics
    ///
    /// If they are not: a queue out of order would serve its waiters unfairly.
    pub fn from_tickets(tickets: impl IntoIterator<Item = Ticket>) -> Self {
        let tickets: VecDeque<_> = tickets.into_iter().collect();
        assert!(
            tickets.iter().zip(tickets.iter().skip(1)).all(|(a, b)| a.number < b.number),
            "tickets must come in order"
        );
        let by_request = tickets.iter().map(|ticket| (ticket.request.id, ticket.number)).collect();
        let next_check = tickets.iter().map(|ticket| ticket.alive_until).min();
        Self { tickets, by_request, next_check }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// The tickets in the order in which they will be served.
    pub fn iter(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.iter()
    }

    /// The ticket of a request, and its position: 1 is next.
    pub fn find(&self, request: RequestId) -> Option<(&Ticket, usize)> {
        let index = self.index(request)?;
        Some((&self.tickets[index], index + 1))
    }

    /// When a ticket may have died at the earliest; none in an empty queue.
    pub fn next_check(&self) -> Option<Timestamp> {
        self.next_check
    }

    pub(crate) fn push(&mut self, request: LockRequest, queued_at: Timestamp, alive_until: Timestamp) -> &Ticket {
        let number = TicketNumber(self.tickets.back().map_or(1, |last| last.number.0 + 1));
        self.by_request.insert(request.id, number);
        self.next_check = Some(self.next_check.map_or(alive_until, |check| check.min(alive_until)));
        self.tickets.push_back(Ticket { number, request, queued_at, alive_until });
        &self.tickets[self.tickets.len() - 1]
    }

    pub(crate) fn pop(&mut self) -> Option<Ticket> {
        let ticket = self.tickets.pop_front()?;
        self.forget(&ticket);
        Some(ticket)
    }

    pub(crate) fn remove(&mut self, request: RequestId) -> Option<Ticket> {
        let index = self.index(request)?;
        let ticket = self.tickets.remove(index)?;
        self.forget(&ticket);
        Some(ticket)
    }

    pub(crate) fn touch(&mut self, number: TicketNumber, alive_until: Timestamp) {
        if let Ok(index) = self.tickets.binary_search_by_key(&number, |ticket| ticket.number) {
            self.tickets[index].alive_until = alive_until;
        }
    }

    /// Takes the tickets out whose waiters no longer keep in touch.
    pub(crate) fn take_dead(&mut self, now: Timestamp) -> Vec<Ticket> {
        if self.next_check.is_none_or(|check| now < check) {
            return Vec::new();
        }
        let (dead, live): (Vec<_>, Vec<_>) = self.tickets.drain(..).partition(|ticket| ticket.alive_until <= now);
        self.tickets = live.into();
        for ticket in &dead {
            self.by_request.remove(&ticket.request.id);
        }
        self.next_check = self.tickets.iter().map(|ticket| ticket.alive_until).min();
        dead
    }

    fn forget(&mut self, ticket: &Ticket) {
        self.by_request.remove(&ticket.request.id);
        if self.tickets.is_empty() {
            self.next_check = None;
        }
    }

    fn index(&self, request: RequestId) -> Option<usize> {
        let number = self.by_request.get(&request)?;
        self.tickets.binary_search_by_key(number, |ticket| ticket.number).ok()
    }
}
