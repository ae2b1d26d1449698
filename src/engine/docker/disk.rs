//! What containers take of the disk, and what is left of it.

use std::path::PathBuf;

use bollard::query_parameters::InspectContainerOptions;

use super::{Address, Docker, errors::Task};
use crate::model::{DiskSpace, EngineId, Error, Kind, Result};

/// The room on the disk that the engine's folder is on. An engine on another machine does not tell.
pub(super) async fn space(docker: &Docker) -> Result<Option<DiskSpace>> {
    if !matches!(docker.address, Address::Unix(_)) {
        return Ok(None);
    }
    let Some(root) = root(docker).await? else { return Ok(None) };
    // A network's file system may take its time, or for ever.
    let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&root));
    let told = tokio::time::timeout(docker.deadlines.look, asked).await;
    let told = told.map_err(|late| Error::unavailable("the engine's disk does not answer").caused_by(late))?;
    // It may be nowhere in sight: when this process is in a container, say.
    let Ok(Ok(told)) = told else { return Ok(None) };
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Ok(Some(DiskSpace { free: bytes(told.f_bavail), total: bytes(told.f_blocks) }))
}

/// The engine's folder, which stays where it is while the engine runs.
async fn root(docker: &Docker) -> Result<Option<PathBuf>> {
    if let Some(root) = docker.root.get() {
        return Ok(Some(root.clone()));
    }
    let info = docker.call(Task::Ping, async { docker.client()?.info().await }).await?;
    Ok(info.docker_root_dir.map(|root| docker.root.get_or_init(|| PathBuf::from(root)).clone()))
}

/// What a container has written over its image. A list with sizes would measure all of them at once.
pub(super) async fn measure(docker: &Docker, id: &EngineId) -> Result<u64> {
    docker.own(id).await?;
    let options = InspectContainerOptions { size: true };
    let measured = async { docker.client()?.inspect_container(id.as_str(), Some(options)).await };
    let size = docker.call(Task::Measure, measured).await?.size_rw;
    // The engine says -1 of what it cannot measure.
    size.and_then(|size| u64::try_from(size).ok())
        .ok_or_else(|| Error::new(Kind::Internal, "the engine cannot measure the container"))
}
