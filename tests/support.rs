//! What the tests stand on.

pub mod block;
pub mod redis;
pub mod server;
