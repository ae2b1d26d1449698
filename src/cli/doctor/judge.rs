//! What the looks mean: findings, from facts alone.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use ipnet::Ipv4Net;
use spindown::{
    engine::{NetworkSpec, docker::Description},
    model::{Error, Image, Kind, Result},
};

use super::{
    Finding, Level,
    probe::{Api, Space, StoreSeen},
};

/// How far the engine's clock may be from ours, in seconds: far more than an answer takes.
const SKEW: u64 = 5;
/// The least space on a disk, in bytes: below the first it is a problem, below the second a warning.
const SPACE: (u64, u64) = (100 << 20, 1 << 30);
/// How many ports are named.
const NAMED: usize = 5;

fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, level: Level::Ok, message: message.into(), mend: None }
}

fn warning(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check, level: Level::Warning, message: message.into(), mend: Some(mend.into()) }
}

fn problem(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check, level: Level::Problem, message: message.into(), mend: Some(mend.into()) }
}

/// An error whose message says what to do, if anything can be done.
fn told(check: &'static str, level: Level, error: &Error) -> Finding {
    let (message, mend) = match error.message().split_once(": ") {
        Some((message, mend)) => (message, Some(mend.to_owned())),
        None => (error.message(), None),
    };
    Finding { check, level, message: message.to_owned(), mend }
}

/// A configuration with which nothing starts.
pub(super) fn config_refused(error: &Error) -> Finding {
    problem("config", error.message(), "mend the key that is named; docs/configuration.md tells of each")
}

/// Files that hold a secret and that others may read.
pub(super) fn config(files: &[(PathBuf, u32)]) -> Vec<Finding> {
    let open = files.iter().filter(|(_, mode)| mode & 0o077 != 0);
    let mut findings: Vec<_> = open
        .map(|(path, _)| {
            let path = path.display();
            warning("config", format!("{path} holds a secret, and others may read it"), format!("chmod 600 {path}"))
        })
        .collect();
    if findings.is_empty() {
        findings.push(ok("config", "the configuration is sound"));
    }
    findings
}

/// Where the API listens.
pub(super) fn api(address: SocketAddr, seen: &Api) -> Finding {
    match seen {
        Api::Nobody => ok("api", format!("nobody listens on {address}: the server is not running")),
        Api::Spindown { failing } if failing.is_empty() => ok("api", format!("Spindown serves on {address}, all well")),
        Api::Spindown { failing } => problem(
            "api",
            format!("Spindown serves on {address} and is failing: {}", failing.join("; ")),
            "what is below tells more; so does the server's log",
        ),
        Api::Silent => problem(
            "api",
            format!("who listens on {address} does not answer"),
            "look at the log of whatever runs there, and restart it",
        ),
        Api::Stranger => problem(
            "api",
            format!("another program listens on {address}"),
            "end it, or set port in Rocket.toml (ROCKET_PORT)",
        ),
    }
}

/// The engine.
pub(super) fn engine(address: &str, seen: Result<Description>) -> Finding {
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            return problem(
                "engine",
                format!("the engine at {address} cannot be used: {}", error.message()),
                "start it (systemctl start docker), see that this user may use its socket, or set spindown.engine",
            );
        }
    };
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let message = format!(
        "Docker {}, API {}, storage {}, cgroups v{}",
        seen.version,
        seen.api,
        known(&seen.storage),
        known(&seen.cgroups)
    );
    let mut numbers = seen.version.split('.').map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next(), numbers.next());
    if version < (Some(20), Some(10)) && version.0.is_some() {
        return problem("engine", message, "Spindown needs Docker 20.10 or newer: upgrade the engine");
    }
    if seen.storage.as_deref() == Some("vfs") {
        return warning("engine", message, "vfs copies every image for every container: use overlay2");
    }
    let mut finding = ok("engine", message);
    if seen.live_restore == Some(false) {
        finding.mend = Some(
            "containers go down when the engine is restarted; \"live-restore\": true in /etc/docker/daemon.json keeps them"
                .to_owned(),
        );
    }
    finding
}

/// The containers' network; `routes` are what the machine reaches otherwise, with their interfaces.
pub(super) fn network(spec: &NetworkSpec, there: &Result<bool>, routes: &[(Ipv4Net, String)]) -> Finding {
    match there {
        Ok(true) => ok("network", format!("{} is there, on {} with {}", spec.name, spec.bridge, spec.subnet)),
        Ok(false) => {
            let overlaps = |net: &Ipv4Net| spec.subnet.contains(&net.network()) || net.contains(&spec.subnet.network());
            match routes.iter().find(|(net, by)| net.prefix_len() > 0 && *by != spec.bridge && overlaps(net)) {
                Some((net, by)) => problem(
                    "network",
                    format!("its addresses {} are in use: {net} is reached by {by}", spec.subnet),
                    "set spindown.network.subnet to a network that nobody uses",
                ),
                None => ok("network", format!("{} is made at the start, with {}", spec.name, spec.subnet)),
            }
        }
        Err(error) if error.kind() == Kind::Unavailable => {
            warning("network", "it cannot be looked at", "see the engine above")
        }
        Err(error) => told("network", Level::Problem, error),
    }
}

/// The firewall's rules.
pub(super) fn rules(enabled: bool, there: &Result<bool>, serving: bool) -> Finding {
    match (enabled, there) {
        (false, _) => warning(
            "rules",
            "the firewall is switched off: containers reach each other's ports and the host's services",
            "set spindown.firewall.enabled",
        ),
        (true, Err(error)) => told("rules", Level::Problem, error),
        (true, Ok(true)) => ok("rules", "the firewall's tables are in place"),
        (true, Ok(false)) if serving => problem(
            "rules",
            "the server serves, and the firewall's tables are not in place",
            "the server puts them back by itself; if they stay away, its log tells why",
        ),
        (true, Ok(false)) => ok("rules", "nft works; the tables are put in place at the start"),
    }
}

/// What is said if the ports overlap those that the kernel gives to outgoing connections.
pub(super) fn overlap(ports: &RangeInclusive<u16>, ephemeral: Option<&RangeInclusive<u16>>) -> Option<String> {
    let other = ephemeral.filter(|other| ports.start() <= other.end() && other.start() <= ports.end())?;
    Some(format!(
        "ports {} to {} overlap the kernel's ephemeral range {} to {}: outgoing connections may take them; change \
         spindown.ports, or net.ipv4.ip_local_port_range",
        ports.start(),
        ports.end(),
        other.start(),
        other.end()
    ))
}

/// The ports that are handed out; `own` are those that our containers publish.
pub(super) fn ports(
    ports: RangeInclusive<u16>,
    ephemeral: Option<RangeInclusive<u16>>,
    listeners: &[SocketAddr],
    own: &Result<BTreeSet<u16>>,
) -> Finding {
    let all = format!("{} to {}", ports.start(), ports.end());
    let nobody = BTreeSet::new();
    // While the engine does not tell which are ours, any may be.
    let taken: BTreeSet<u16> = match own {
        Ok(own) => listeners.iter().map(SocketAddr::port).filter(|p| ports.contains(p) && !own.contains(p)).collect(),
        Err(_) => nobody,
    };
    if !taken.is_empty() {
        let named: Vec<_> = taken.iter().take(NAMED).map(ToString::to_string).collect();
        let more = if taken.len() > NAMED { format!(" and {} more", taken.len() - NAMED) } else { String::new() };
        return warning(
            "ports",
            format!("of {all}, others listen on {}{more}", named.join(", ")),
            "end them (ss -tlnp tells who they are), or set spindown.ports",
        );
    }
    if let Some(overlap) = overlap(&ports, ephemeral.as_ref()) {
        let (message, mend) = overlap.split_once("; ").unwrap_or((&overlap, ""));
        return warning("ports", message, mend);
    }
    ok("ports", format!("{all} are free for containers"))
}

/// The port for check-ins, while no server serves.
pub(super) fn check_in(gateway: Ipv4Addr, port: u16, listeners: &[SocketAddr]) -> Finding {
    let taken = |l: &&SocketAddr| l.port() == port && (l.ip().is_unspecified() || l.ip() == IpAddr::V4(gateway));
    match listeners.iter().find(taken) {
        Some(by) => problem(
            "check_in",
            format!("check-ins come to {gateway}:{port}, and another program listens on {by}"),
            "let it listen on an address of its own, or set spindown.check_in.port (containers report to port 80 unless told \
             otherwise)",
        ),
        None => ok("check_in", format!("{gateway}:{port} is free")),
    }
}

/// The door: whether connections wake what sleeps. `port` is its port, if it is switched on and the firewall with it;
/// `listeners` are asked about while no server serves.
pub(super) fn door(port: Option<u16>, obstacle: &Result<Option<String>>, listeners: Option<&[SocketAddr]>) -> Finding {
    let Some(port) = port else {
        return warning(
            "door",
            "it is switched off, or the firewall is: a container that sleeps wakes for PATCH status=running alone",
            "set spindown.door.enabled and spindown.firewall.enabled",
        );
    };
    if let Some(by) = listeners.into_iter().flatten().find(|listener| listener.port() == port) {
        return problem(
            "door",
            format!("connections to sleeping containers come to port {port}, and another program listens on {by}"),
            "end it, or set spindown.door.port",
        );
    }
    match obstacle {
        Ok(None) => ok("door", format!("connections to sleeping containers come to port {port}")),
        Ok(Some(obstacle)) => told("door", Level::Warning, &Error::conflict(obstacle.clone())),
        Err(error) => told("door", Level::Problem, error),
    }
}

/// The store.
pub(super) fn store(seen: &StoreSeen) -> Finding {
    let mend = "move them out with `spindown set-aside FILE` (stop the server first if the store is a file)";
    let bad = |unreadable: &[spindown::store::backup::Unreadable]| {
        let first = unreadable.first()?;
        let message = format!("{} records cannot be read, first: {} {}", unreadable.len(), first.of.noun(), first.key);
        let mend = if first.newer { "a newer Spindown wrote it: upgrade this one" } else { mend };
        Some(problem("store", message, mend))
    };
    match seen {
        StoreSeen::File(Ok(seen)) => bad(&seen.unreadable)
            .unwrap_or_else(|| ok("store", format!("the file opens, {} containers", seen.containers))),
        StoreSeen::File(Err(error)) => match error.kind() {
            Kind::NotFound => ok("store", "there is none yet: it is made at the start"),
            Kind::Unavailable => told("store", Level::Warning, error),
            _ => told("store", Level::Problem, error),
        },
        StoreSeen::Served(Ok(containers)) => {
            ok("store", format!("a server has the file open and hands out backups, {containers} containers"))
        }
        StoreSeen::Served(Err(error)) => told("store", Level::Problem, error),
        StoreSeen::Redis(Err(error)) => problem(
            "store",
            error.message(),
            "see that Redis runs and that spindown.redis_url names it, with its password",
        ),
        StoreSeen::Redis(Ok(seen)) => {
            if let Some(bad) = bad(&seen.unreadable) {
                return bad;
            }
            let version = seen.version.as_deref().unwrap_or("of unknown version");
            let message = format!("Redis {version}, {} containers", seen.containers);
            match (seen.keeps_every_write, seen.keeps_snapshots, seen.eviction.as_deref()) {
                (_, _, Some(policy)) if policy.starts_with("allkeys") => warning(
                    "store",
                    format!("{message}; it drops any key when its memory is full"),
                    "set maxmemory-policy noeviction in redis.conf",
                ),
                (Some(false), Some(false), _) => warning(
                    "store",
                    format!("{message}; it writes nothing to disk, and all of it is lost when it goes down"),
                    "set appendonly yes in redis.conf",
                ),
                (Some(false), _, _) => warning(
                    "store",
                    format!("{message}; it keeps no append-only file, and loses what it wrote last when it goes down"),
                    "set appendonly yes in redis.conf",
                ),
                _ => ok("store", message),
            }
        }
    }
}

/// The clocks: whether ours is kept, where that can be told, and how many seconds the engine's is from it.
pub(super) fn clock(synchronised: Option<bool>, skew: Option<u64>) -> Finding {
    match (skew, synchronised) {
        (Some(skew), _) if skew > SKEW => warning(
            "clock",
            format!("the engine's clock is {skew} s from this machine's"),
            "keep both with a time service (timedatectl set-ntp true)",
        ),
        (_, Some(false)) => warning(
            "clock",
            "no time service keeps this machine's clock; each jump of it gives every container fresh grace",
            "timedatectl set-ntp true, or install chrony",
        ),
        (_, Some(true)) => ok("clock", "it is kept by a time service"),
        (Some(_), None) => {
            ok("clock", "it goes with the engine's; whether a time service keeps it cannot be told here")
        }
        (None, None) => ok("clock", "whether a time service keeps it cannot be told here"),
    }
}

/// The space on a disk.
pub(super) fn disk(whose: &str, seen: &Result<Space>) -> Finding {
    let space = match seen {
        Ok(space) => space,
        Err(error) => {
            return warning("disk", format!("{whose}: {}", error.message()), "see that the disk answers");
        }
    };
    let (free, path) = (readable(space.free), space.path.display());
    let message = format!("{free} free for {whose} {path}");
    let mend = "make room; `docker system df` tells what containers and images take";
    match space.free {
        free if free < SPACE.0 => problem("disk", message, mend),
        free if free < SPACE.1 => warning("disk", message, mend),
        _ => ok("disk", message),
    }
}

fn readable(bytes: u64) -> String {
    if bytes < 1 << 30 { format!("{} MB", bytes >> 20) } else { format!("{} GB", bytes >> 30) }
}

/// The image that comes along.
pub(super) fn image(name: &str, seen: &Result<Image>) -> Finding {
    match seen {
        Ok(image) if image.exposed.is_empty() => {
            warning("image", format!("{name} exposes no port, so no container can be made of it"), "make image")
        }
        Ok(image) => {
            let ports: Vec<_> = image.exposed.iter().map(|(port, _)| port.to_string()).collect();
            ok("image", format!("{name} is there and exposes {}", ports.join(", ")))
        }
        Err(error) if error.kind() == Kind::NotFound => {
            warning("image", format!("{name} is not on the host"), "make image, or use an image of your own")
        }
        Err(_) => warning("image", "it cannot be looked at", "see the engine above"),
    }
}

#[cfg(test)]
mod tests;
