//! The ports of containers that are down, kept from others: a socket is bound to each that does not listen. One that is to
//! listen there may be bound beside it if both allow that (SO_REUSEADDR), as the engine's do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use tokio::net::TcpSocket;

/// The ports that are held.
pub(super) struct Reserved {
    bind: IpAddr,
    sockets: BTreeMap<u16, TcpSocket>,
    /// Those that somebody else has already.
    taken: BTreeSet<u16>,
}

impl Reserved {
    /// Nothing yet, on the address on which the engine publishes.
    pub(super) fn new(bind: IpAddr) -> Self {
        Self { bind, sockets: BTreeMap::new(), taken: BTreeSet::new() }
    }

    /// Holds these ports and no others. One that somebody else has is told of in the log, and tried again next time.
    pub(super) fn hold(&mut self, ports: &BTreeSet<u16>) {
        self.sockets.retain(|port, _| ports.contains(port));
        self.taken.retain(|port| ports.contains(port));
        for port in ports {
            if self.sockets.contains_key(port) {
                continue;
            }
            match bound(SocketAddr::new(self.bind, *port)) {
                Ok(socket) => {
                    self.sockets.insert(*port, socket);
                    self.taken.remove(port);
                }
                Err(error) => {
                    if self.taken.insert(*port) {
                        tracing::warn!(port, %error, "the port of a container that is down cannot be kept for it");
                    }
                }
            }
        }
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::Ipv4Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A port that is free at this moment.
    fn free() -> u16 {
        std::net::TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_port_is_kept_from_strangers_and_not_from_the_engine() {
        let port = free();
        let mut reserved = Reserved::new(HERE);
        reserved.hold(&BTreeSet::from([port]));
        // A stranger that does not care who else has it.
        let stranger = TcpSocket::new_v4().unwrap();
        assert_eq!(stranger.bind((HERE, port).into()).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The standard library's listener, like the engine's, allows others beside it.
        let engine = std::net::TcpListener::bind((HERE, port)).unwrap();
        drop(engine);
        reserved.hold(&BTreeSet::new());
        stranger.bind((HERE, port).into()).unwrap();
    }

    #[tokio::test]
    async fn one_that_somebody_has_is_had_as_soon_as_it_is_free() {
        let engine = std::net::TcpListener::bind((HERE, 0)).unwrap();
        let port = engine.local_addr().unwrap().port();
        let (mut reserved, ports) = (Reserved::new(HERE), BTreeSet::from([port]));
        reserved.hold(&ports);
        assert!(reserved.sockets.is_empty() && reserved.taken == ports);
        drop(engine);
        reserved.hold(&ports);
        assert!(reserved.sockets.contains_key(&port) && reserved.taken.is_empty());
    }
}
