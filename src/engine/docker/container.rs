//! What is done to one container.

use std::time::Duration;

use bollard::{
    errors::Error as Fault,
    models::{EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest},
    query_parameters as query,
};
use futures::StreamExt;

use super::{
    Docker, convert, create as body,
    errors::{self, Task},
    locked, network,
};
use crate::{
    engine::Engine,
    model::{Blueprint, EngineId, EngineState, Error, Kind, Name, Result},
};

/// What an init process, like a shell, ends with when the command cannot be run, or is not there.
const UNRUNNABLE: [i64; 2] = [126, 127];
/// How often it is looked whether a removal by somebody else is done.
const REMOVAL_CHECK: Duration = Duration::from_millis(50);

/// Makes a container.
pub(super) async fn create(docker: &Docker, blueprint: &Blueprint) -> Result<EngineId> {
    let (task, image) = (Task::Create(blueprint), &blueprint.image);
    // The engine makes a container of no image when the name is empty.
    if !convert::is_image_name(image) {
        return Err(Error::new(Kind::Unsuitable, format!("{image:?} cannot be an image's name")));
    }
    let name = blueprint.name.as_ref().map(|n| n.as_str().to_owned());
    let options = query::CreateContainerOptions { name, ..Default::default() };
    let body = body::body(blueprint);
    let made = async { docker.client()?.create_container(Some(options), body).await };
    let id = EngineId::parse(&docker.call(task, made).await?.id)?;
    locked(&docker.ours).insert(id.clone());
    if blueprint.command.as_ref().is_some_and(|c| !c.is_empty()) {
        locked(&docker.unproven).insert(id.clone());
    }
    Ok(id)
}

/// Starts a container.
pub(super) async fn start(docker: &Docker, id: &EngineId) -> Result<()> {
    docker.own(id).await?;
    let begin = || docker.call(Task::Start, async { docker.client()?.start_container(id.as_str(), None).await });
    match begin().await {
        Err(error) if errors::is_network_missing(&error) => {
            if !attach_again(docker, id).await? {
                return Err(error);
            }
            begin().await?;
        }
        other => other?,
    }
    let unproven = locked(&docker.unproven).remove(id);
    if unproven && cannot_run(docker, id).await { Err(errors::command_unusable()) } else { Ok(()) }
}

/// Attaches a container that is down to the network of the same name that was made since: containers hold on to the
/// id of a network, so one that is removed and made again would keep all of them from starting. Answers whether there
/// is such a network.
async fn attach_again(docker: &Docker, id: &EngineId) -> Result<bool> {
    let found = async { docker.client()?.inspect_container(id.as_str(), None).await };
    let found = docker.call(Task::Inspect, found).await?;
    let Some((name, address)) = convert::attachment(&found) else { return Ok(false) };
    let Some(new) = network::find(docker, &name).await?.into_iter().next().and_then(|n| n.id) else { return Ok(false) };
    let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..Default::default() };
    let endpoint = EndpointSettings { ipam_config: Some(ipam), ..Default::default() };
    let leave = NetworkDisconnectRequest { container: id.to_string(), force: Some(true) };
    let join = NetworkConnectRequest { container: id.to_string(), endpoint_config: Some(endpoint) };
    // One task, so that nothing but an engine that dies comes between the two.
    let moved = async {
        let client = docker.client()?;
        client.disconnect_network(&new, leave).await?;
        client.connect_network(&new, join).await
    };
    docker.call(Task::Start, moved).await?;
    Ok(true)
}

/// Whether a container that was just started ended at once because its command cannot be run.
async fn cannot_run(docker: &Docker, id: &EngineId) -> bool {
    let options = query::WaitContainerOptions { condition: "not-running".to_owned() };
    let Ok(client) = docker.client() else { return false };
    let mut ended = Box::pin(client.wait_container(id.as_str(), Some(options)));
    match tokio::time::timeout(docker.deadlines.proof, ended.next()).await {
        Ok(Some(Err(Fault::DockerContainerWaitError { code, .. }))) => UNRUNNABLE.contains(&code),
        _ => false,
    }
}

/// Halts a container's processes.
pub(super) async fn freeze(docker: &Docker, id: &EngineId) -> Result<()> {
    docker.own(id).await?;
    let outcome = docker.call(Task::Freeze, async { docker.client()?.pause_container(id.as_str()).await }).await;
    unless_already(docker, id, EngineState::Paused, outcome).await
}

/// Lets a frozen container go on.
pub(super) async fn thaw(docker: &Docker, id: &EngineId) -> Result<()> {
    docker.own(id).await?;
    let outcome = docker.call(Task::Thaw, async { docker.client()?.unpause_container(id.as_str()).await }).await;
    unless_already(docker, id, EngineState::Running, outcome).await
}

/// The outcome, unless it is a failure only because the container is in that state already: the engine's answer does not
/// tell that from "it is down", nor from "it cannot be done".
async fn unless_already(docker: &Docker, id: &EngineId, wanted: EngineState, outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if matches!(error.kind(), Kind::Internal | Kind::Conflict) => {
            match docker.inspect(id).await?.state {
                state if state == wanted => Ok(()),
                // It is up, so that is not why.
                state if state.is_up() => Err(error),
                _ => Err(Error::conflict("the container is not running").caused_by(error)),
            }
        }
        other => other,
    }
}

/// Stops a container.
pub(super) async fn stop(docker: &Docker, id: &EngineId, grace: Duration) -> Result<()> {
    docker.own(id).await?;
    // The engine counts whole seconds; a part of one is rounded up, in favour of who is inside.
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    let options = query::StopContainerOptions { t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)), signal: None };
    docker.call(Task::Stop(grace), async { docker.client()?.stop_container(id.as_str(), Some(options)).await }).await
}

/// Removes a container with its anonymous volumes.
pub(super) async fn remove(docker: &Docker, id: &EngineId) -> Result<()> {
    docker.own(id).await?;
    let removed = async {
        let client = docker.client()?;
        let options = query::RemoveContainerOptions { v: true, force: true, link: false };
        match client.remove_container(id.as_str(), Some(options)).await {
            // Somebody else is removing it: its ports and its name are free only when he is done.
            Err(Fault::DockerResponseServerError { status_code: 409, .. }) => {
                while client.inspect_container(id.as_str(), None).await.is_ok() {
                    tokio::time::sleep(REMOVAL_CHECK).await;
                }
                Ok(())
            }
            other => other,
        }
    };
    docker.call(Task::Remove, removed).await?;
    locked(&docker.ours).remove(id);
    locked(&docker.unproven).remove(id);
    Ok(())
}

/// Gives a container another name; the one that it has is fine.
pub(super) async fn rename(docker: &Docker, id: &EngineId, name: &Name) -> Result<()> {
    docker.own(id).await?;
    let options = query::RenameContainerOptions { name: name.as_str().to_owned() };
    let renamed = async { docker.client()?.rename_container(id.as_str(), options).await };
    match docker.call(Task::Rename(name), renamed).await {
        Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Conflict) => {
            if docker.inspect(id).await?.name == *name { Ok(()) } else { Err(error) }
        }
        other => other,
    }
}
