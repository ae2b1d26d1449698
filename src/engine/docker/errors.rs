//! What the engine's failures mean. The engine tells most of them apart by text alone, so the texts of the versions
//! from 20.10 on are listed here and nowhere else; what a caller reads never holds them.

use std::time::Duration;

use bollard::errors::Error as Fault;

use super::super::NetworkSpec;
use crate::model::{Blueprint, Error, ImageReference, Kind, Name, VolumeName};

const NETWORK_MISSING: &str = "the containers' network is missing";

/// What the engine is asked to do: it decides the deadline, and what a failure means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task<'a> {
    Ping,
    List,
    Inspect,
    Image(&'a str),
    Network(&'a NetworkSpec),
    Create(&'a Blueprint),
    Start,
    Freeze,
    Thaw,
    Stop(Duration),
    Remove,
    Rename(&'a Name),
    Volume(&'a VolumeName),
    Put(&'a str),
    Get(&'a str),
    Pull(&'a ImageReference),
    RemoveImage(&'a ImageReference),
    Logs,
    Measure,
}

impl Task<'_> {
    /// The word under which it is measured.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::List => "list",
            Self::Inspect => "inspect",
            Self::Image(_) => "image",
            Self::Network(_) => "network",
            Self::Create(_) => "create",
            Self::Start => "start",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Stop(_) => "stop",
            Self::Remove => "remove",
            Self::Rename(_) => "rename",
            Self::Volume(_) => "volume",
            Self::Put(_) => "put",
            Self::Get(_) => "get",
            Self::Pull(_) => "pull",
            Self::RemoveImage(_) => "remove_image",
            Self::Logs => "logs",
            Self::Measure => "measure",
        }
    }

    /// Whether it may take long on a healthy engine.
    pub(super) fn is_long(&self) -> bool {
        matches!(
            self,
            Self::Start
                | Self::Stop(_)
                | Self::Remove
                | Self::Put(_)
                | Self::Get(_)
                | Self::Pull(_)
                | Self::RemoveImage(_)
                | Self::Logs
                | Self::Measure
        )
    }
}

/// The engine does not answer.
pub(super) fn unreachable() -> Error {
    Error::unavailable("the engine does not answer")
}

/// There is no such container of ours.
pub(super) fn no_container() -> Error {
    Error::not_found("the engine has no such container")
}

/// There is no such image.
pub(super) fn no_image(name: &str) -> Error {
    Error::not_found(format!("the image {name:?} is not on the host"))
}

/// Whether a start failed because the network is not there.
pub(super) fn is_network_missing(error: &Error) -> bool {
    error.message() == NETWORK_MISSING
}

/// Translates what the client reports.
pub(super) fn translate(task: &Task<'_>, fault: Fault) -> Error {
    sense(task, &fault).caused_by(fault)
}

/// What the client reports in the caller's words, and nothing of its own.
pub(super) fn sense(task: &Task<'_>, fault: &Fault) -> Error {
    match fault {
        Fault::DockerResponseServerError { status_code, message } => meaning(task, *status_code, message),
        // What goes wrong after the engine has begun to answer comes without a status.
        Fault::DockerStreamError { error } => meaning(task, 500, error),
        Fault::JsonDataError { .. } | Fault::JsonSerdeError { .. } | Fault::StrParseError { .. } => {
            Error::new(Kind::Internal, "the engine's answer cannot be read")
        }
        Fault::IOError { .. }
        | Fault::HyperResponseError { .. }
        | Fault::HyperLegacyError { .. }
        | Fault::SocketNotFoundError(_)
        | Fault::RequestTimeoutError => unreachable(),
        _ => Error::new(Kind::Internal, "the engine could not be asked"),
    }
}

/// What an answer of `status` with `text` means for `task`.
pub(super) fn meaning(task: &Task<'_>, status: u16, text: &str) -> Error {
    let has = |part: &str| text.contains(part);
    if let Some(error) = host_is_full(text) {
        return error;
    }
    match (*task, status) {
        (Task::Image(name), 400 | 404) => no_image(name),
        (Task::Pull(image), _) => pull_refused(image, status, text),
        (Task::RemoveImage(image), 404) => no_image(&image.to_string()),
        (Task::RemoveImage(image), 409) => Error::conflict(format!("the image \"{image}\" is in use")),
        (Task::Network(network), _) => network_refused(network, text),
        (Task::Create(blueprint), 400 | 404) => create_refused(blueprint, text),
        (Task::Create(Blueprint { name: Some(name), .. }) | Task::Rename(name), 409) => {
            Error::conflict(format!("the name {:?} is in use", name.as_str()))
        }
        (Task::Volume(name), 404) => Error::not_found(format!("the engine has no volume {:?}", name.as_str())),
        (Task::Volume(name), 409) => {
            Error::conflict(format!("volumes: the volume {:?} is in use, or another driver's", name.as_str()))
        }
        (Task::Start, 409) => Error::conflict("the container is frozen or being removed"),
        (Task::Start, _) if !has("No such container") => start_refused(text),
        (Task::Put(path) | Task::Get(path), 404 | 500) if has("Could not find the file") || has("not a directory") => {
            Error::not_found(format!("the container has no {path:?}"))
        }
        (_, 404) => no_container(),
        (_, 409) => Error::conflict("the container's present state forbids it"),
        (_, 503) => unreachable(),
        (_, 400) => Error::invalid("the engine refuses the request"),
        _ => Error::new(Kind::Internal, "the engine failed to do it"),
    }
}

/// The host has run out of something, whatever the task was.
fn host_is_full(text: &str) -> Option<Error> {
    let what = if text.contains("cannot allocate memory") {
        "the host has no memory left"
    } else if text.contains("no space left on device") {
        // Also what the kernel answers when it has no room for another control group.
        "the host has no room left: its disk or its control groups are full"
    } else if text.contains("esource temporarily unavailable") || text.contains("too many open files") {
        "the host has no room for more processes or open files"
    } else if text.contains("no available IPv4 addresses") || text.contains("exchange full") {
        // A bridge holds 1,023 ports; the kernel calls one too many "exchange full".
        "the containers' network is full"
    } else {
        return None;
    };
    Some(Error::new(Kind::Exhausted, what))
}

/// Why an image cannot be pulled: engines tell what registries answered, in words alone.
fn pull_refused(image: &ImageReference, status: u16, text: &str) -> Error {
    let has = |part: &str| text.contains(part);
    let away = ["connection refused", "no such host", "timeout", "deadline exceeded", "no route to host", "EOF"];
    let away = ["network is unreachable", "connection reset", "server misbehaving", "TLS handshake"]
        .into_iter()
        .chain(away)
        .any(&has);
    if has("toomanyrequests") {
        Error::new(Kind::TooMany, "the registry takes no more requests for now: try again later, or with credentials")
    } else if has("pull access denied") || has("basic auth credentials") || has("unauthorized") || has("denied: ") {
        let message = format!(
            "the registry does not let \"{image}\" be pulled: there is no such image, or X-Registry-Auth is missing or \
             has the wrong credentials"
        );
        Error::new(Kind::Unsuitable, message)
    } else if has("no matching manifest") {
        Error::new(Kind::Unsuitable, format!("the image \"{image}\" is not made for this machine's kind of processor"))
    } else if has("manifest unknown") || has("name unknown") || status == 404 {
        Error::not_found(format!("the registry has no image \"{image}\""))
    } else if has("x509") || has("server gave HTTP response to HTTPS client") {
        Error::unavailable("the engine does not trust the registry: it has no certificate that can be checked")
    } else if away {
        Error::unavailable("the registry does not answer")
    } else if has("invalid reference format") {
        Error::invalid(format!("\"{image}\" cannot be an image's name"))
    } else {
        Error::unavailable(format!("the image \"{image}\" could not be pulled"))
    }
}

fn create_refused(blueprint: &Blueprint, text: &str) -> Error {
    if text.contains("No such image") || text.contains("invalid reference format") {
        let image = &blueprint.image;
        Error::new(Kind::Unsuitable, format!("the image {image:?} is not on the host"))
    } else if text.contains("Range of CPUs") {
        Error::invalid(format!("cpus: the host has fewer than {}", blueprint.limits.cpus))
    } else if text.contains("Minimum memory limit") {
        Error::invalid("memory: less than the engine gives a container")
    } else if text.contains("No command specified") {
        Error::new(Kind::Unsuitable, "the image has no command of its own: give one")
    } else if text.contains("Invalid container name") {
        Error::invalid("name: the engine does not allow it")
    } else {
        Error::invalid("the engine refuses to make such a container")
    }
}

fn start_refused(text: &str) -> Error {
    let has = |part: &str| text.contains(part);
    let taken = has("port is already allocated") || (has("address already in use") && !has("Address already in use"));
    let unrunnable = ["no such file or directory", "permission denied", "is a directory", "exec format error"];
    if taken {
        match host_port(text) {
            Some((_, port)) => Error::conflict(format!("port {port} of the host is in use by something else")),
            None => Error::conflict("a port of the container is in use on the host by something else"),
        }
    } else if has("cannot assign requested address") {
        let address = host_port(text).map(|(address, _)| format!(" {address}")).unwrap_or_default();
        Error::unavailable(format!("ports cannot be published: the host does not have the address{address}"))
    } else if has("Address already in use") {
        Error::conflict("the container's address is in use on the network by something else")
    } else if has("does not belong to any of this network's subnets") {
        Error::conflict("the container's address is not on the network: the network's subnet has changed")
    } else if has("network") && has("not found") {
        Error::unavailable(NETWORK_MISSING)
    } else if has("docker-init") {
        Error::unavailable("the engine has no init process to give to containers: install tini on the host")
    } else if has("executable file not found") || (has("exec") && unrunnable.iter().any(|t| has(t))) {
        command_unusable()
    } else if has("unable to find user") || has("no matching entries in passwd") {
        Error::new(Kind::Unsuitable, "the image runs as a user that it does not have")
    } else if has("OOM-killed") || has("memory limit too low") {
        Error::new(Kind::Unsuitable, "the container's memory limit is too low for it to start")
    } else {
        Error::new(Kind::Internal, "the engine failed to start the container")
    }
}

/// The command cannot be run.
pub(super) fn command_unusable() -> Error {
    Error::new(Kind::Unsuitable, "the command cannot be run in this image")
}

fn network_refused(network: &NetworkSpec, text: &str) -> Error {
    let NetworkSpec { bridge, subnet, .. } = network;
    if text.contains("overlaps with other one") || text.contains("conflicts with network") && text.contains("overlap") {
        Error::conflict(format!("the addresses {subnet} overlap with another network's: change \"network.subnet\""))
    } else if text.contains("same bridge name") {
        Error::conflict(format!("the bridge {bridge:?} belongs to another network: change \"network.bridge\""))
    } else if text.contains("is not a bridge") {
        Error::conflict(format!("the interface {bridge:?} exists and is no bridge: change \"network.bridge\""))
    } else if text.contains("numerical result out of range") || text.contains("invalid argument") {
        Error::invalid(format!("network.bridge: {bridge:?} cannot be an interface's name (15 characters at most)"))
    } else if text.contains("already exists") {
        Error::conflict(format!("another network of the name {:?} has just been made", network.name))
    } else {
        Error::new(Kind::Internal, "the engine failed to make the network")
    }
}

/// The host's address and port in the engine's complaint about them.
fn host_port(text: &str) -> Option<(&str, u16)> {
    // "Bind for 0.0.0.0:80 failed", "listen tcp4 [::]:80: bind", and since engine 28 "bind host port for 0.0.0.0:80:…"
    // and "bind host port 0.0.0.0:80/tcp".
    const MARKS: [&str; 7] = [
        "Bind for ",
        "bind host port for ",
        "bind host port ",
        "listen tcp4 ",
        "listen tcp6 ",
        "listen tcp ",
        "listen udp ",
    ];
    let rest = MARKS.iter().find_map(|mark| text.split_once(mark)).map(|(_, rest)| rest)?;
    let (address, rest) = if rest.starts_with('[') { rest.split_once("]:")? } else { rest.split_once(':')? };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((address.trim_start_matches('['), rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{ContainerId, Limits};

    fn blueprint() -> Blueprint {
        Blueprint {
            id: ContainerId::from_bits(1),
            name: Some(Name::from_engine("bell")),
            hostname: None,
            image: "a/b".to_owned(),
            command: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            ports: Vec::new(),
            bind: std::net::Ipv4Addr::LOCALHOST.into(),
            network: "n".to_owned(),
            address: [10, 9, 0, 2].into(),
            limits: Limits { memory: 1, cpus: 64.0, pids: 1, log_size: 1 },
            volumes: BTreeMap::new(),
        }
    }

    /// Each text was seen on an engine: 20.10, unless noted.
    #[test]
    fn every_failure_has_its_meaning() {
        use Kind::{Conflict, Exhausted, Internal, Invalid, NotFound, Unavailable, Unsuitable};
        let network = NetworkSpec { name: "n".into(), bridge: "br".into(), subnet: "10.9.0.0/24".parse().unwrap() };
        let blueprint = blueprint();
        let name = Name::from_engine("bell");
        let (create, rename, net) = (Task::Create(&blueprint), Task::Rename(&name), Task::Network(&network));
        let reference = ImageReference::parse("h.x:1/x:1").unwrap();
        let (pull, unlink) = (Task::Pull(&reference), Task::RemoveImage(&reference));
        let external = "driver failed programming external connectivity on endpoint p (4a81): ";
        let runc = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: ";
        for (task, status, text, kind, part) in [
            (Task::Inspect, 404, "No such container: 12", NotFound, "container"),
            (Task::Remove, 404, "No such container: 12", NotFound, "container"),
            (Task::Start, 404, "No such container: 12", NotFound, "container"),
            (Task::Stop(Duration::ZERO), 404, "No such container: 12", NotFound, "container"),
            (Task::Image("x"), 404, "no such image: x: No such image: x:latest", NotFound, "\"x\""),
            (Task::Image("X"), 400, "no such image: X: invalid reference format", NotFound, "\"X\""),
            (
                pull,
                500,
                "Head \"http://h:1/v2/x/manifests/1\": no basic auth credentials",
                Unsuitable,
                "X-Registry-Auth",
            ),
            (pull, 500, "unauthorized: authentication required", Unsuitable, "X-Registry-Auth"),
            (
                pull,
                404,
                "pull access denied for x, repository does not exist or may require",
                Unsuitable,
                "no such image",
            ),
            (pull, 404, "manifest for h:1/x:1 not found: manifest unknown: manifest unknown", NotFound, "h.x:1/x:1"),
            (pull, 500, "no matching manifest for linux/amd64 in the manifest list", Unsuitable, "processor"),
            (
                pull,
                500,
                "Get \"http://h:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                Unavailable,
                "answer",
            ),
            (
                pull,
                500,
                "Get \"https://h/v2/\": dial tcp: lookup h on 10.0.0.1:53: no such host",
                Unavailable,
                "answer",
            ),
            (pull, 500, "Get \"https://h/v2/\": x509: certificate signed by unknown authority", Unavailable, "trust"),
            (pull, 500, "toomanyrequests: You have reached your pull rate limit", Kind::TooMany, "later"),
            (pull, 500, "failed to register layer: no space left on device", Exhausted, "disk"),
            (pull, 500, "unexpected", Unavailable, "could not be pulled"),
            (unlink, 404, "No such image: h.x:1/x:1", NotFound, "h.x:1/x:1"),
            (unlink, 409, "conflict: unable to remove repository reference (must force)", Conflict, "in use"),
            (create, 404, "No such image: a/b:latest", Unsuitable, "a/b"),
            (create, 400, "invalid reference format: repository name must be lowercase", Unsuitable, "a/b"),
            (create, 400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", Invalid, "cpus"),
            (create, 400, "Minimum memory limit allowed is 6MB", Invalid, "memory"),
            (create, 400, "No command specified", Unsuitable, "command"),
            (create, 400, "invalid IPv4 address: z", Invalid, "refuses"),
            (
                create,
                409,
                "Conflict. The container name \"/bell\" is already in use by container",
                Conflict,
                "\"bell\"",
            ),
            (rename, 409, "Error when allocating new name: Conflict. The container name", Conflict, "\"bell\""),
            (
                Task::Start,
                500,
                &format!("{external}Bind for 127.0.0.1:19001 failed: port is already allocated"),
                Conflict,
                "19001",
            ),
            (
                Task::Start,
                500,
                &format!(
                    "{external}Error starting userland proxy: listen tcp4 0.0.0.0:19002: bind: address already in use"
                ),
                Conflict,
                "19002",
            ),
            (Task::Start, 500, "listen tcp6 [::1]:19003: bind: address already in use", Conflict, "19003"),
            // Engine 28.
            (
                Task::Start,
                500,
                "failed to bind host port for 0.0.0.0:19004:10.9.0.2:22/tcp: address already in use",
                Conflict,
                "19004",
            ),
            (Task::Start, 500, "failed to bind host port 0.0.0.0:19005/tcp: address already in use", Conflict, "19005"),
            (
                Task::Start,
                500,
                &format!(
                    "{external}Error starting userland proxy: listen tcp4 203.0.113.9:19007: bind: cannot assign requested address"
                ),
                Unavailable,
                "203.0.113.9",
            ),
            (Task::Start, 403, "Address already in use", Conflict, "address"),
            (
                Task::Start,
                500,
                "Invalid address 10.97.1.5: It does not belong to any of this network's subnets",
                Conflict,
                "subnet",
            ),
            (Task::Start, 404, "network b923 not found", Unavailable, "network"),
            (Task::Start, 409, "cannot start a paused container, try unpause instead", Conflict, "frozen"),
            (
                Task::Start,
                400,
                &format!("{runc}exec: \"x\": executable file not found in $PATH: unknown"),
                Unsuitable,
                "command",
            ),
            (
                Task::Start,
                400,
                &format!("{runc}exec: \"/x\": stat /x: no such file or directory: unknown"),
                Unsuitable,
                "command",
            ),
            (
                Task::Start,
                400,
                &format!("{runc}exec: \"/etc/passwd\": permission denied: unknown"),
                Unsuitable,
                "command",
            ),
            (Task::Start, 400, "exec: \"docker-init\": executable file not found in $PATH", Unavailable, "tini"),
            (Task::Start, 500, "unable to find user x: no matching entries in passwd file", Unsuitable, "user"),
            (Task::Start, 500, "container init was OOM-killed (memory limit too low?)", Unsuitable, "memory"),
            (Task::Start, 500, "fork/exec /usr/bin/runc: cannot allocate memory: unknown", Exhausted, "memory"),
            (
                Task::Start,
                500,
                "mkdir /sys/fs/cgroup/memory/docker/1: no space left on device",
                Exhausted,
                "control groups",
            ),
            (create, 500, "mkdir /data/overlay2/1: no space left on device", Exhausted, "disk"),
            (Task::Start, 500, "fork/exec /usr/bin/runc: resource temporarily unavailable", Exhausted, "processes"),
            (Task::Start, 500, "adding interface veth1 to bridge br failed: exchange full", Exhausted, "network"),
            (Task::Start, 500, "something new", Internal, "start"),
            (Task::Put("/x"), 404, "Could not find the file /x in container 1", NotFound, "/x"),
            (Task::Put("/x"), 500, "extraction point is not a directory", NotFound, "/x"),
            (Task::Get("/x/y"), 500, "lstat /data/merged/x/y: not a directory", NotFound, "/x/y"),
            (Task::Get("/x"), 404, "No such container: 1", NotFound, "container"),
            (Task::Thaw, 500, "Container 1 is not paused", Internal, "failed"),
            (Task::Remove, 409, "removal of container 1 is already in progress", Conflict, "state"),
            (Task::Ping, 503, "shutting down", Unavailable, "answer"),
            (net, 403, "Pool overlaps with other one on this address space", Conflict, "network.subnet"),
            (
                net,
                403,
                "cannot create network 1 (br): conflicts with network 2 (br): networks have same bridge name",
                Conflict,
                "network.bridge",
            ),
            (net, 500, "existing interface br is not a bridge", Conflict, "network.bridge"),
            (
                net,
                500,
                "failed to check bridge interface existence: numerical result out of range",
                Invalid,
                "network.bridge",
            ),
            // Engine 25.
            (net, 409, "network with name n already exists", Conflict, "\"n\""),
        ] {
            let error = meaning(&task, status, text);
            assert_eq!(error.kind(), kind, "{task:?} {status} {text}: {}", error.message());
            assert!(error.message().contains(part), "{task:?} {status} {text}: {}", error.message());
            // No engine's internals: no paths of it, none of its words.
            for inner in ["overlay", "runc", "OCI", "shim", "proxy", "/sys", "endpoint"] {
                assert!(!error.message().contains(inner), "{text}: {}", error.message());
            }
        }
    }
}
