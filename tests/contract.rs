//! One suite for every adapter of a trait.

pub mod engine;
pub mod store;
