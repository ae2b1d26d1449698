//! Carrying: connections that came while their container slept are handed to a process of its own, which copies bytes
//! between the client and the container until both have ended. It outlives the server, and a restart or an upgrade of it
//! touches nobody.
//!
//! `message` is what the two say to each other, `link` the server's end, `process` the carrier's, `copy` the way of the
//! bytes. Who is let in, and when, is the door's affair: the carrier knows of containers no more than their ids.

pub mod copy;
pub mod link;
pub mod message;
pub mod process;
