//! Spindown hands out sandbox containers, watches who uses them and puts the idle ones to sleep.

pub mod clock;
pub mod config;
pub mod engine;
pub mod firewall;
pub mod http;
pub mod model;
pub mod policy;
pub mod reconcile;
pub mod service;
pub mod store;
