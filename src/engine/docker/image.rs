//! Taking images away.

use bollard::{models::ContainerSummary, query_parameters as query};

use super::{Docker, errors::Task};
use crate::model::{Error, ImageReference, Result, birth};

/// As many containers are named as read well.
const NAMED: usize = 10;

/// Removes an image. The engine itself would take a tag from under a container if the image has another; and where it
/// does refuse, it names no container but by its id.
pub(super) async fn remove(docker: &Docker, image: &ImageReference) -> Result<()> {
    let (task, name) = (Task::RemoveImage(image), image.to_string());
    let found = docker.call(task, async { docker.client()?.inspect_image(&name).await }).await?;
    let is_last = found.repo_tags.is_none_or(|tags| tags.len() <= 1);
    let users = users(docker, image, found.id.as_deref(), is_last).await?;
    if !users.is_empty() {
        return Err(in_use(image, &users));
    }
    let options = query::RemoveImageOptions { force: false, noprune: false, platforms: None };
    let removed = async { docker.client()?.remove_image(&name, Some(options), None).await };
    docker.call(task, removed).await.map(drop)
}

/// The names of the containers that need this tag, ours first: those made from it and, if it is the image's last, those
/// made from the image under any other name.
async fn users(docker: &Docker, image: &ImageReference, image_id: Option<&str>, is_last: bool) -> Result<Vec<String>> {
    let options = query::ListContainersOptions { all: true, ..Default::default() };
    let all = docker.call(Task::List, async { docker.client()?.list_containers(Some(options)).await }).await?;
    let is_ours = |container: &ContainerSummary| {
        container.labels.as_ref().and_then(|labels| labels.get(birth::MANAGED)) == Some(&docker.instance)
    };
    let name = |container: ContainerSummary| {
        let first = container.names.and_then(|names| names.into_iter().next()).or(container.id).unwrap_or_default();
        first.trim_start_matches('/').to_owned()
    };
    let made_from_it = |container: &ContainerSummary| {
        container.image.as_deref().and_then(|name| ImageReference::parse(name).ok()).as_ref() == Some(image)
    };
    let using = all.into_iter().filter(|c| c.image_id.as_deref() == image_id && (is_last || made_from_it(c)));
    let mut users: Vec<_> = using.map(|container| (!is_ours(&container), name(container))).collect();
    users.sort_unstable();
    Ok(users.into_iter().map(|(_, name)| name).collect())
}

/// The image is in use by these.
fn in_use(image: &ImageReference, users: &[String]) -> Error {
    let named = users.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match users.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::conflict(format!("the image \"{image}\" is in use by {named}{more}: DELETE them first"))
}
