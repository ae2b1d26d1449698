//! What the tests stand on.

pub mod block;
pub mod memory;
pub mod mortal;
pub mod redis;
pub mod server;
pub mod world;
