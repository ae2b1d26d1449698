//! What the tests stand on.
#![expect(clippy::disallowed_methods, reason = "they wait for real things to happen, and not for ever")]

pub mod block;
pub mod brew;
pub mod disk;
pub mod document;
pub mod door;
pub mod engine;
pub mod eyes;
pub mod fuzz;
pub mod kernel;
pub mod local;
pub mod memory;
pub mod mortal;
pub mod parrot;
pub mod property;
pub mod redis;
pub mod registry;
pub mod server;
pub mod street;
pub mod world;
