//! What a container holds of its host for life, and no other may have.

use std::net::Ipv4Addr;

/// One thing of a host that belongs to one container at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A port of the host, whatever the protocol.
    Port(u16),
    /// An address on Spindown's network.
    Address(Ipv4Addr),
}
