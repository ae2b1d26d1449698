//! Named volumes of the engine.

use std::collections::HashMap;

use bollard::{
    models::{HostConfig, Mount, MountType, VolumeCreateRequest},
    query_parameters as query,
};

use super::{Docker, errors::Task};
use crate::model::{Error, Kind, MountPoint, Result, VolumeName, Volumes, birth};

/// The driver that keeps volumes on the engine's own disk.
const LOCAL: &str = "local";

/// Makes a volume, unless it is there.
pub(super) async fn ensure(docker: &Docker, name: &VolumeName, owner: &str) -> Result<()> {
    let labels = [(birth::MANAGED, docker.instance.as_str()), (birth::OWNER, owner)];
    let labels: HashMap<String, String> =
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let wanted = VolumeCreateRequest {
        name: Some(name.to_string()),
        driver: Some(LOCAL.to_owned()),
        labels: Some(labels.clone()),
        ..Default::default()
    };
    // The engine answers with the one that is there, as it is.
    let volume = async { docker.client()?.create_volume(wanted).await };
    let volume = docker.call(Task::Volume(name), volume).await?;
    let is_ours = labels.iter().all(|(key, value)| volume.labels.get(key) == Some(value));
    if is_ours && volume.driver == LOCAL && volume.options.is_empty() { Ok(()) } else { Err(not_ours(name)) }
}

/// Removes a volume of this instance's that no container has. Answers whether it is gone now.
pub(super) async fn remove(docker: &Docker, name: &VolumeName) -> Result<bool> {
    let volume = async { docker.client()?.inspect_volume(name.as_str()).await };
    match docker.call(Task::Volume(name), volume).await {
        Ok(volume) if volume.labels.get(birth::MANAGED) != Some(&docker.instance) => return Ok(false),
        Err(error) if error.kind() == Kind::NotFound => return Ok(true),
        outcome => drop(outcome?),
    }
    let removed = async { docker.client()?.remove_volume(name.as_str(), None::<query::RemoveVolumeOptions>).await };
    match docker.call(Task::Volume(name), removed).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == Kind::NotFound => Ok(true),
        Err(error) if error.kind() == Kind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the engine is told of a container's volumes. What the image has at the mount point is copied into a fresh one.
pub(super) fn mounts(volumes: &Volumes) -> Option<Vec<Mount>> {
    let mount = |(at, name): (&MountPoint, &VolumeName)| Mount {
        target: Some(at.as_str().to_owned()),
        source: Some(name.to_string()),
        typ: Some(MountType::VOLUME),
        ..Default::default()
    };
    (!volumes.is_empty()).then(|| volumes.iter().map(mount).collect())
}

/// The same, read back.
pub(super) fn volumes(host: Option<&HostConfig>) -> Volumes {
    let mounts = host.and_then(|host| host.mounts.as_ref()).into_iter().flatten();
    let named = mounts.filter(|mount| mount.typ == Some(MountType::VOLUME)).filter_map(|mount| {
        let name = VolumeName::parse(mount.source.as_deref()?).ok()?;
        Some((MountPoint::from_engine(mount.target.as_deref()?), name))
    });
    named.collect()
}

/// Whoever made it did not mean it for this.
fn not_ours(name: &VolumeName) -> Error {
    Error::conflict(format!(
        "volumes: the engine has a volume {:?} that is not this owner's at Spindown: use another name",
        name.as_str()
    ))
}
