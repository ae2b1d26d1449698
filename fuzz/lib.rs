//! The bytes of a fuzzer turned into requests: what the package's tests use, taken from there.
#![allow(dead_code, missing_docs, reason = "the tests use more of it")]

#[path = "../tests/support/document.rs"]
mod document;
#[path = "../tests/support/fuzz.rs"]
pub mod fuzz;
#[path = "../tests/support/local.rs"]
mod local;
#[path = "../tests/support/memory.rs"]
mod memory;
#[path = "../tests/support/mortal.rs"]
mod mortal;
#[path = "../tests/support/world.rs"]
mod world;
