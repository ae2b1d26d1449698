//! Decisions, as functions of what they are given, the time included. Imports only `model`.

pub mod cause;
pub mod door;
pub mod idle;
pub mod patience;
pub mod placement;
pub mod retry;
pub mod sight;
pub mod succession;
pub mod watch;
