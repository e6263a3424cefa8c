//! Which token of a store is which of the model's.

use std::collections::{BTreeMap, HashMap};

use buildlock::{Busy, Deleted, Event, Outcome, PastLease, Refusal, Status, Token};

/// Pairs of tokens: a store's, the model's. They are made as answers come that are to be the same.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    to_model: HashMap<Token, Token>,
    to_store: BTreeMap<Token, Token>,
}

impl Pairs {
    /// The store's token for the model's; what the model never granted, the store has not either.
    pub(crate) fn of_store(&self, token: Token) -> Token {
        self.to_store.get(&token).copied().unwrap_or(token)
    }

    /// Puts the model's tokens in the place of the store's. One that is new is paired with the model's token in
    /// the same place, unless that has a partner already: then it stays, and the two differ.
    pub(crate) fn translate<T: HasTokens>(&mut self, mut of_store: T, of_model: &T) -> T {
        let mut partners = Vec::new();
        let mut of_model = of_model.clone();
        of_model.tokens(&mut |token| partners.push(*token));
        let mut partners = partners.into_iter();
        of_store.tokens(&mut |token| {
            let partner = partners.next();
            if let (Some(partner), false) = (partner, self.to_model.contains_key(token))
                && !self.to_store.contains_key(&partner)
            {
                self.to_model.insert(*token, partner);
                self.to_store.insert(partner, *token);
            }
            if let Some(partner) = self.to_model.get(token) {
                *token = *partner;
            }
        });
        of_store
    }
}

/// What has tokens in it.
pub(crate) trait HasTokens: Clone {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token));
}

impl HasTokens for Outcome {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token)) {
        match self {
            Outcome::Held(lease) => look(&mut lease.token),
            Outcome::Queued(place) => place.busy.tokens(look),
            Outcome::Ended(past) => past.tokens(look),
            Outcome::Done => {}
            Outcome::Refused(refusal) => match refusal.as_mut() {
                Refusal::Locked(busy) | Refusal::QueueFull(busy) | Refusal::NotHolder(busy) => busy.tokens(look),
                Refusal::Lost { lease, now } => {
                    lease.tokens(look);
                    now.iter_mut().for_each(|busy| busy.tokens(look));
                }
                Refusal::NeverGranted { token, now } => {
                    look(token);
                    now.iter_mut().for_each(|busy| busy.tokens(look));
                }
                Refusal::RequestReused | Refusal::UnknownProject => {}
            },
        }
    }
}

impl HasTokens for Busy {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token)) {
        look(&mut self.lease.token);
    }
}

impl HasTokens for PastLease {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token)) {
        look(&mut self.token);
    }
}

impl HasTokens for Option<Status> {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token)) {
        self.iter_mut().filter_map(|status| status.lease.as_mut()).for_each(|lease| look(&mut lease.token));
    }
}

impl HasTokens for Deleted {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token)) {
        if let Deleted::Locked(busy) = self {
            busy.tokens(look);
        }
    }
}

impl HasTokens for Vec<Event> {
    fn tokens(&mut self, look: &mut dyn FnMut(&mut Token)) {
        self.iter_mut().filter_map(|event| event.token.as_mut()).for_each(look);
    }
}
