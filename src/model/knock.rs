//! A knock: what the kernel tells of whoever comes for a frozen container.

use std::net::{Ipv4Addr, SocketAddr};

/// Something that came for a container through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// Who sent it.
    pub client: SocketAddr,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The container's port.
    pub port: u16,
    /// Whether it carries data: the first bytes of a client, keys that were typed, a datagram. Otherwise it begins a
    /// connection.
    pub data: bool,
}
