//! Waking: one listener, the door, to which the kernel sends connections for ports that are asleep. It finds out for whom
//! each is and whether anybody wants anything, has the container woken, and hands the connection to the carrier.
//!
//! Not a byte of a client's is taken here: what it has sent waits in the kernel, and the carrier is the first to read it.
//! So whatever becomes of this server, nothing is half done with it.

pub mod door;
mod keep;
mod knock;
mod place;
mod ready;
mod reserve;

pub use keep::keep;
pub use knock::hear_knocks;
