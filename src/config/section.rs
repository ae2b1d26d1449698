//! The sections and their defaults.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::{
    DEFAULT_USER,
    value::{
        Connections, Cpus, Disk, Interface, Interval, Memory, Processor, Reserve, Span, Terminal, Timeout, Timetables,
        Traffic,
    },
};
use crate::model::{self, Heeds, Result};

/// The containers' network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The interface's name of its bridge.
    pub bridge: Interface,
    /// Its addresses.
    pub subnet: Ipv4Net,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            bridge: Interface("spindown0".to_owned()),
            subnet: Ipv4Net::new_assert(Ipv4Addr::new(10, 213, 0, 0), 20),
        }
    }
}

/// The host's ports that are handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// The address on which they are published.
    pub bind: IpAddr,
}

impl Default for Ports {
    fn default() -> Self {
        Self { first: 20_000, last: 29_999, bind: Ipv4Addr::UNSPECIFIED.into() }
    }
}

/// What one container may use unless its creation says otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory.
    pub memory: Memory,
    /// Processors.
    pub cpus: Cpus,
    /// Processes and threads.
    pub pids: u32,
    /// The output that the engine keeps.
    pub log_size: Memory,
    /// The host's memory that must be left for another start.
    pub memory_reserve: Memory,
    /// The disk that must be left for another container or image.
    pub disk_reserve: Reserve,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Memory(512 << 20),
            cpus: Cpus(1.0),
            pids: 256,
            log_size: Memory(10 << 20),
            memory_reserve: Memory(128 << 20),
            disk_reserve: Reserve(1 << 30),
        }
    }
}

/// When idle containers go down which rung.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Idle {
    /// After how much idleness one is stopped, unless its creation or its image says otherwise, as with the next ones.
    pub timeout: Timeout,
    /// After how much idleness one is frozen.
    pub freeze_after: Timeout,
    /// How long one may be down before it is deleted.
    pub delete_after: Timeout,
    /// How long one may be up at a stretch.
    pub max_age: Timeout,
    /// How long before a stop whoever is logged in is told.
    pub warn_before: Timeout,
    /// When nothing sleeps.
    pub keep_awake: Timetables,
    /// How far ahead of now a container may be kept up by request.
    pub extend_most: Span,
    /// How often the idle ones are looked for.
    pub sweep: Interval,
    /// How long a container may take to end by itself.
    pub stop_grace: Span,
    /// How many are stopped at once.
    pub stops_at_once: NonZeroUsize,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            // The documented two and a half hours.
            timeout: Timeout(model::Timeout::After(Duration::from_secs(9_000))),
            freeze_after: Timeout(model::Timeout::Never),
            delete_after: Timeout(model::Timeout::Never),
            max_age: Timeout(model::Timeout::Never),
            warn_before: Timeout(model::Timeout::Never),
            keep_awake: Timetables::default(),
            extend_most: Span(Duration::from_secs(86_400)),
            sweep: Interval(Duration::from_secs(60)),
            stop_grace: Span(Duration::from_secs(10)),
            stops_at_once: NonZeroUsize::MIN.saturating_add(7),
        }
    }
}

/// What counts as use, and how it is looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// Whether it is looked for at all. Without that only reports and requests count.
    pub enabled: bool,
    /// How often.
    pub every: Span,
    /// Over how long processors and disks are measured.
    pub window: Span,
    /// Data that moves on connections.
    pub traffic: Traffic,
    /// Keys that are typed.
    pub terminal: Terminal,
    /// Processors that work.
    pub processor: Processor,
    /// Disks that are read and written.
    pub disk: Disk,
    /// Connections that are reported.
    pub connections: Connections,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            enabled: true,
            every: Span(Duration::from_secs(5)),
            window: Span(Duration::from_secs(60)),
            traffic: Traffic::default(),
            terminal: Terminal::default(),
            processor: Processor::default(),
            disk: Disk::default(),
            connections: Connections::default(),
        }
    }
}

impl Evidence {
    /// What is heeded of each source.
    ///
    /// # Errors
    /// None: each was checked as it was read.
    pub fn heeds(&self) -> Result<Heeds> {
        let mut heeds = Heeds::default();
        self.traffic.add_to(&mut heeds)?;
        self.terminal.add_to(&mut heeds)?;
        self.processor.add_to(&mut heeds)?;
        self.disk.add_to(&mut heeds)?;
        self.connections.add_to(&mut heeds)?;
        Ok(heeds)
    }
}

/// How many containers are started at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Starts {
    /// So many.
    pub at_once: NonZeroUsize,
    /// How many more may wait for their turn.
    pub waiting: usize,
}

impl Default for Starts {
    fn default() -> Self {
        Self { at_once: NonZeroUsize::MIN.saturating_add(3), waiting: 200 }
    }
}

/// How the store and the snapshot are kept up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// How often touches are written: what a kill may lose.
    pub flush: Span,
    /// How often the engine's list and the store correct the snapshot.
    pub drift: Span,
}

impl Default for Store {
    fn default() -> Self {
        Self { flush: Span(Duration::from_secs(1)), drift: Span(Duration::from_secs(30)) }
    }
}

/// The listener for check-ins on the gateway of the containers' network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckIn {
    /// Whether there is one.
    pub enabled: bool,
    /// Its port.
    pub port: u16,
}

impl Default for CheckIn {
    fn default() -> Self {
        // The documented containers post to port 80 of their gateway.
        Self { enabled: true, port: 80 }
    }
}

/// The rules that isolate the containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// Whether they are put in place. Without them containers reach each other's ports and the host's services.
    pub enabled: bool,
}

impl Default for Firewall {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Where connections to sleeping containers arrive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Door {
    /// Whether there is one. Without it, or without the firewall, a sleeping container wakes for a request alone.
    pub enabled: bool,
    /// On which port the kernel sends them there; nobody else gets to it.
    pub port: u16,
}

impl Default for Door {
    fn default() -> Self {
        // Just below the ports that are handed out.
        Self { enabled: true, port: 19_990 }
    }
}

/// Who may call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The administrator's name.
    pub user: String,
    /// The hash of the password, as `spindown hash-password` prints it.
    pub password_hash: Option<String>,
    /// Proxies whose word on the client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { user: DEFAULT_USER.to_owned(), password_hash: None, trusted_proxies: Vec::new() }
    }
}
