//! Random histories that every store must live through in the same way: every outcome, every status and every
//! event equal to the model's, which is `buildlock-core` with a memory. Tokens are compared by what they name,
//! since each store numbers its own, and events by their order.
//!
//! Many projects live side by side under one clock. When a store differs, the history of the project where it
//! shows is made as short as possible, and printed.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub(crate) mod model;
pub(crate) mod party;
pub(crate) mod run;
pub(crate) mod shorten;
pub(crate) mod steps;
pub(crate) mod tokens;
