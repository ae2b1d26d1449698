//! A container's blueprint, read back from the engine. The engine keeps what was asked for and what the image added in
//! one: what is also in the image counts as the image's.

use bollard::models::{ContainerConfig, ContainerInspectResponse, HostConfig, ImageConfig};

use super::{
    Docker, convert,
    create::LOG_FILES,
    errors::{self, Task},
    volume,
};
use crate::model::{Blueprint, ContainerId, EngineId, Error, Kind, Limits, Name, Result, birth};

/// Reads it.
pub(super) async fn read(docker: &Docker, id: &EngineId) -> Result<Blueprint> {
    docker.own(id).await?;
    let found = async { docker.client()?.inspect_container(id.as_str(), None).await };
    let found = docker.call(Task::Inspect, found).await?;
    let image = found.image.clone().unwrap_or_default();
    let base = async { docker.client()?.inspect_image(&image).await };
    let base = match docker.call(Task::Image(&image), base).await {
        Ok(image) => image.config.unwrap_or_default(),
        // Then all that the container has counts as asked for.
        Err(error) if error.kind() == Kind::NotFound => ImageConfig::default(),
        Err(error) => return Err(error),
    };
    blueprint(found, &base)
}

fn blueprint(found: ContainerInspectResponse, base: &ImageConfig) -> Result<Blueprint> {
    let unreadable = || Error::new(Kind::Internal, "the engine shows a container that Spindown cannot have made");
    let (network, address) = convert::attachment(&found).ok_or_else(unreadable)?;
    let config: ContainerConfig = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let id = labels.get(birth::ID).and_then(|id| ContainerId::parse(id).ok()).ok_or_else(errors::no_container)?;
    let of_image = base.labels.clone().unwrap_or_default();
    // An image that was made of a container of ours has its facts of birth.
    let own = |name: &str, value: &String| birth::is_fact(name) || of_image.get(name) != Some(value);
    let labels = labels.into_iter().filter(|(name, value)| own(name, value)).collect();
    let given = |line: &&String| !base.env.iter().flatten().any(|known| known == *line);
    let pair = |line: &String| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bindings = host.port_bindings.clone().unwrap_or_default();
    let bind = bindings.values().flatten().flatten().find_map(|b| b.host_ip.as_deref()?.parse().ok());
    Ok(Blueprint {
        id,
        name: found.name.as_deref().map(Name::from_engine),
        hostname: config.hostname,
        image: config.image.unwrap_or_default(),
        command: config.cmd.filter(|command| base.cmd.as_ref() != Some(command)),
        env: config.env.iter().flatten().filter(given).filter_map(pair).collect(),
        labels,
        ports: convert::ports(&bindings),
        bind: bind.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
        network,
        address,
        volumes: volume::volumes(Some(&host)),
        limits: limits(&host).ok_or_else(unreadable)?,
    })
}

fn limits(host: &HostConfig) -> Option<Limits> {
    let log = host.log_config.as_ref()?.config.as_ref()?;
    Some(Limits {
        memory: u64::try_from(host.memory?).ok()?,
        cpus: host.nano_cpus? as f64 / 1e9,
        pids: u32::try_from(host.pids_limit?).ok()?,
        log_size: log.get("max-size")?.parse::<u64>().ok()?.checked_mul(LOG_FILES)?,
    })
}
