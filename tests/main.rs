//! The whole suite in one binary: it links once, and every test runs in a process of its own.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod api;
mod carrier;
mod contract;
mod docs;
mod end_to_end;
mod firewall;
mod fuzz;
mod layers;
mod openapi;
mod sight;
mod simulation;
mod soak;
mod support;
