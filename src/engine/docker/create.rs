//! A blueprint in the engine's words, with what makes a container safe.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig,
    PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};

use super::volume;
use crate::model::{Blueprint, Port};

/// Capabilities taken from the engine's default set: raw sockets, with which a container could forge its neighbours'
/// packets, and device nodes. AUDIT_WRITE stays, because sudo and sshd record logins with it and fail without. Nothing
/// bars a process from gaining privileges inside: sudo is meant to work. Ping works without raw sockets, as the engine
/// lets every group use the kernel's own echo sockets.
const DROPPED: [&str; 2] = ["NET_RAW", "MKNOD"];
/// The log is kept in two files, so that when one is full the newest half of the output is still there.
pub(super) const LOG_FILES: u64 = 2;
/// When the kernel asks whether the other end of a connection is still there, how often then, and after how many questions
/// without an answer the connection ends, for those that ask for that, as sshd does by itself (`TCPKeepAlive`). Linux would
/// wait for two hours (`tcp_keepalive_time` in the kernel's `networking/ip-sysctl`): much is between a client and a
/// container that has forgotten a silent connection by then (Azure's gateways after four minutes, AWS's after 350 seconds),
/// and who has vanished would be taken to be there. The questions carry no data, so they are neither use nor a knock; the
/// kernel asks and answers for a frozen container, too.
const ALIVE: [(&str, &str); 3] = [
    ("net.ipv4.tcp_keepalive_time", "60"),
    ("net.ipv4.tcp_keepalive_intvl", "60"),
    ("net.ipv4.tcp_keepalive_probes", "3"),
];
/// Digits of Spindown's id in a host name.
const SHORT_ID: usize = 12;

/// The engine's request for `blueprint`.
pub(super) fn body(blueprint: &Blueprint) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: blueprint.hostname.clone().or_else(|| Some(hostname(blueprint))),
        image: Some(blueprint.image.clone()),
        cmd: blueprint.command.clone(),
        env: Some(blueprint.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(blueprint.labels.clone().into_iter().collect()),
        exposed_ports: Some(blueprint.ports.iter().map(inside).collect()),
        host_config: Some(host_config(blueprint)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(blueprint.network.clone(), endpoint(blueprint))])),
        }),
        ..Default::default()
    }
}

fn host_config(blueprint: &Blueprint) -> HostConfig {
    let limits = &blueprint.limits;
    let memory = i64::try_from(limits.memory).unwrap_or(i64::MAX);
    HostConfig {
        network_mode: Some(blueprint.network.clone()),
        port_bindings: Some(blueprint.ports.iter().map(|port| publish(blueprint, port)).collect::<PortMap>()),
        memory: Some(memory),
        // Memory and swap together: as much as memory alone leaves no swap.
        memory_swap: Some(memory),
        nano_cpus: Some((limits.cpus * 1e9) as i64),
        pids_limit: Some(limits.pids.into()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), (limits.log_size / LOG_FILES).max(1).to_string()),
                ("max-file".to_owned(), LOG_FILES.to_string()),
            ])),
        }),
        init: Some(true),
        privileged: Some(false),
        mounts: volume::mounts(&blueprint.volumes),
        sysctls: Some(ALIVE.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        cap_drop: Some(DROPPED.map(str::to_owned).to_vec()),
        // Who is up is Spindown's to decide.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        ..Default::default()
    }
}

fn endpoint(blueprint: &Blueprint) -> EndpointSettings {
    let address = Some(blueprint.address.to_string());
    let ipam = EndpointIpamConfig { ipv4_address: address, ..Default::default() };
    EndpointSettings { ipam_config: Some(ipam), ..Default::default() }
}

/// What the container calls itself: its name, or the beginning of its id, which it keeps wherever it runs.
fn hostname(blueprint: &Blueprint) -> String {
    match &blueprint.name {
        Some(name) => name.as_str().to_owned(),
        None => blueprint.id.as_str()[..SHORT_ID].to_owned(),
    }
}

fn inside(port: &Port) -> String {
    format!("{}/{}", port.container, port.protocol.as_str())
}

fn publish(blueprint: &Blueprint, port: &Port) -> (String, Option<Vec<PortBinding>>) {
    let binding = PortBinding { host_ip: Some(blueprint.bind.to_string()), host_port: Some(port.host.to_string()) };
    (inside(port), Some(vec![binding]))
}
