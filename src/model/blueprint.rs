//! What the engine is told when a container is made.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::{ContainerId, Name, Port, Volumes};

/// How much of the host one container may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Memory in bytes; swap is not added to it.
    pub memory: u64,
    /// Processors; fractions are allowed.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes of output that the engine keeps.
    pub log_size: u64,
}

/// Everything a container is born with. The engine adds what makes it safe: the init process, the dropped
/// capabilities, no privileges.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Spindown's id.
    pub id: ContainerId,
    /// Its name; the engine makes one up without it.
    pub name: Option<Name>,
    /// What it calls itself: its name, or the beginning of its id, unless another is given.
    pub hostname: Option<String>,
    /// The image to run.
    pub image: String,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// Labels: facts of birth, complete.
    pub labels: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// The host's address on which the ports are published.
    pub bind: IpAddr,
    /// The network it is on.
    pub network: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// What it may use.
    pub limits: Limits,
    /// The volumes mounted in it, which are there.
    pub volumes: Volumes,
}

/// A file or a directory in a container's file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, relative to the directory it is put into or read from.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// What it holds; `None` is a directory.
    pub content: Option<Vec<u8>>,
}
