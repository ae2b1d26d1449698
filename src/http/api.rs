//! The native API, `/v1`: every documented call of spin-docker, and more beside it.

pub mod check_in;
pub mod container;
pub mod health;
pub mod image;
