//! A published port of a container.

use super::{Error, Result};

/// The transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name, as the engine writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid(format!("{text:?} is not a protocol: tcp, udp or sctp"))),
        }
    }
}

/// A port of the container, published on a port of the host for the container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// What the image exposes.
    pub container: u16,
    /// Where it is reached.
    pub host: u16,
    /// How.
    pub protocol: Protocol,
}

impl Port {
    /// The container port on which SSH is expected.
    pub const SSH: u16 = 22;

    /// The published SSH port among `ports`, if there is one.
    pub fn ssh(ports: &[Self]) -> Option<u16> {
        ports.iter().find(|p| p.container == Self::SSH && p.protocol == Protocol::Tcp).map(|p| p.host)
    }

    /// The published port of the application: the lowest container port besides SSH.
    pub fn app(ports: &[Self]) -> Option<u16> {
        let others = ports.iter().filter(|p| p.container != Self::SSH || p.protocol != Protocol::Tcp);
        others.min_by_key(|p| (p.container, p.protocol)).map(|p| p.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_port_is_the_lowest_besides_ssh() {
        let port = |container, host| Port { container, host, protocol: Protocol::Tcp };
        let ports = [port(8080, 3), port(22, 1), port(80, 2)];
        assert_eq!(Port::ssh(&ports), Some(1));
        assert_eq!(Port::app(&ports), Some(2));
        assert_eq!(Port::app(&ports[1..2]), None);
        assert_eq!(Port::ssh(&[]), None);
    }
}
