//! Pulling images.

use std::time::Duration;

use bollard::{
    BollardRequest, auth::DockerCredentials, errors::Error as Fault, models::CreateImageInfo, query_parameters as query,
};
use futures::{StreamExt, stream::BoxStream};

use super::{
    Docker, convert,
    errors::{self, Task},
};
use crate::model::{Error, ImageReference, PullProgress, RegistryCredentials, Result};

/// The header in which the engine takes credentials.
const CREDENTIALS: &str = "X-Registry-Auth";
/// What stands in the place of a secret.
const MASK: &str = "****";

/// A pull that goes on.
struct Pull {
    lines: BoxStream<'static, Result<CreateImageInfo, Fault>>,
    image: ImageReference,
    secrets: Vec<String>,
    patience: Duration,
}

impl Pull {
    /// The next that is told of it; `None` when the image is there.
    async fn next(&mut self) -> Option<Result<PullProgress>> {
        loop {
            match tokio::time::timeout(self.patience, self.lines.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(line))) => {
                    if let Some(progress) = convert::progress(line) {
                        return Some(Ok(progress));
                    }
                }
                Ok(Some(Err(fault))) => return Some(Err(self.failure(&fault))),
                Err(late) => {
                    let message = format!("nothing moved for {} s, so the pull was given up", self.patience.as_secs());
                    return Some(Err(Error::unavailable(message).caused_by(late)));
                }
            }
        }
    }

    /// What the engine writes of a failure may repeat what it was told.
    fn failure(&self, fault: &Fault) -> Error {
        let text = fault.to_string();
        let text = self.secrets.iter().fold(text, |text, secret| text.replace(secret, MASK));
        errors::sense(&Task::Pull(&self.image), fault).caused_by(text)
    }
}

/// Begins to pull an image, and waits for the first that is told of it.
pub(super) async fn pull(
    docker: &Docker,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
) -> Result<BoxStream<'static, Result<PullProgress>>> {
    let options = query::CreateImageOptions {
        from_image: Some(image.repository().to_owned()),
        // Without it the engine would pull all tags there are.
        tag: Some(image.version().to_owned()),
        ..Default::default()
    };
    let client = docker.client().map_err(|fault| errors::translate(&Task::Pull(image), fault))?;
    let mut pull = Pull {
        lines: client.create_image(Some(options), None, credentials.map(passed_on)).boxed(),
        image: image.clone(),
        secrets: credentials.iter().flat_map(|c| c.secrets()).map(str::to_owned).collect(),
        patience: docker.deadlines.pull,
    };
    let first = match pull.next().await {
        Some(first) => Some(Ok(first?)),
        None => None,
    };
    let rest = futures::stream::unfold(Some(pull), |pull| async {
        let mut pull = pull?;
        let told = pull.next().await?;
        let goes_on = told.is_ok();
        Some((told, goes_on.then_some(pull)))
    });
    Ok(futures::stream::iter(first).chain(rest).boxed())
}

fn passed_on(credentials: &RegistryCredentials) -> DockerCredentials {
    DockerCredentials {
        username: credentials.username.clone(),
        password: credentials.password.clone(),
        identitytoken: credentials.identity_token.clone(),
        registrytoken: credentials.registry_token.clone(),
        serveraddress: credentials.server.clone(),
        ..Default::default()
    }
}

/// Writes the credentials in the alphabet that the engine reads. The client uses the other one, and an engine that cannot
/// read them goes on without a word as if there were none.
pub(super) fn mend_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(CREDENTIALS) {
        let mended = value.to_str().ok().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(mended) = mended.and_then(|text| text.parse().ok()) {
            *value = mended;
        }
        value.set_sensitive(true);
    }
    request
}
