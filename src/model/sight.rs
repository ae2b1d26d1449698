//! What the server sees of a container that is up by looking into it from outside, at one time.

use std::{net::SocketAddr, time::Duration};

use super::{ContainerId, EngineId};

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The container.
    pub id: ContainerId,
    /// The engine's id: what is looked at must be that one, and not whoever has its process's number by now.
    pub engine_id: EngineId,
    /// The number of its main process.
    pub pid: u32,
    /// Whether it is to be found out who has logged in. That takes a look at every process of the container.
    pub logins: bool,
    /// Whether no connection may be missed: what is done next depends on it. That takes a walk through all connections of
    /// the machine.
    pub surely: bool,
}

/// One look at one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Its TCP connections over which data may still come to it, or is still being sent by it; those to itself are left
    /// out.
    pub connections: Vec<Connection>,
    /// The terminals that are open in it.
    pub terminals: Vec<Terminal>,
    /// How long processors have worked for it since it began; `None` where that cannot be told.
    pub processor: Option<Duration>,
    /// The bytes that it has read from disks and written to them since it began; `None` where that cannot be told.
    pub disk: Option<u64>,
}

/// A TCP connection of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The container's port.
    pub port: u16,
    /// The other end, with IPv4 as IPv4.
    pub client: SocketAddr,
    /// For how long no data has moved, either way; data that nobody confirms has not moved.
    pub quiet: Duration,
    /// How many bytes have arrived that the container has not read.
    pub unread: u32,
    /// Whether it is one of a session that has logged in, where that was asked and can be told.
    pub login: bool,
}

/// A terminal of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its number below `/dev/pts`.
    pub number: u32,
    /// For how long nothing has been typed that was read.
    pub quiet: Duration,
}
