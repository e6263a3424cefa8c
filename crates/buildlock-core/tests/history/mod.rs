//! Random histories of a few projects, and who watches them.
//!
//! - `step.rs`: what may happen next, and how likely it is
//! - `world.rs`: makes it happen in a store, with actors whose messages are late or lost
//! - `model.rs`: learns from events and answers alone, and says which rule a decision breaks
//! - `line.rs`: a history as people read it

pub(crate) mod line;
pub(crate) mod model;
pub(crate) mod step;
pub(crate) mod world;
