//! Images: what the engine has, what it is to pull, what is to go.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Spindown;
use crate::model::{Error, ImageReference, Kind, PullProgress, RegistryCredentials, Result};

/// How many images are pulled at once: each takes some of the network and of the disk.
pub(super) const PULLS_AT_ONCE: usize = 4;
/// How much of a pull's progress may wait for a reader; the rest is left out, and only the outcome never is.
const WAITING: usize = 64;

/// What is told of a pull that has begun.
#[derive(Debug)]
pub enum Told {
    /// How far it has come.
    Progress(PullProgress),
    /// The image is there. Nothing comes after.
    Done,
    /// It failed. Nothing comes after.
    Failed(Error),
}

/// A pull that has begun. It is given up when this is dropped.
#[derive(Debug)]
pub struct Pulling(mpsc::Receiver<Told>);

impl Pulling {
    /// What is told next.
    pub async fn next(&mut self) -> Told {
        let ended = || Told::Failed(Error::new(Kind::Internal, "the pull ended without an outcome"));
        self.0.recv().await.unwrap_or_else(ended)
    }
}

impl Spindown {
    /// The tags of the engine's images, sorted.
    ///
    /// # Errors
    /// `Unavailable` if the engine does not answer.
    pub async fn images(&self) -> Result<Vec<String>> {
        self.engine.images().await
    }

    /// Begins to pull an image; the credentials are passed on to the engine and kept nowhere. Answers once the registry
    /// has let it through.
    ///
    /// # Errors
    /// `Invalid` if the credentials are for another registry; `TooMany` if enough is being pulled; `Exhausted` if the disk
    /// is nearly full; and those of [`crate::engine::Engine::pull`].
    pub async fn pull_image(&self, image: ImageReference, credentials: Option<RegistryCredentials>) -> Result<Pulling> {
        if !credentials.as_ref().is_none_or(|c| c.suit(&image)) {
            let registry = image.registry().unwrap_or_default();
            let message = format!("X-Registry-Auth: its serveraddress is not {registry:?}, where the image is");
            return Err(Error::invalid(message));
        }
        let turn = Arc::clone(&self.pulls).try_acquire_owned().map_err(|_| {
            let message = format!("{PULLS_AT_ONCE} images are being pulled already: try again when one is there");
            Error::new(Kind::TooMany, message)
        })?;
        self.require_disk().await?;
        let progress = tokio::select! {
            progress = self.engine.pull(&image, credentials.as_ref()) => progress?,
            () = self.shutdown.cancelled() => return Err(shutting_down()),
        };
        let (teller, told) = mpsc::channel(WAITING);
        self.spawn(|spindown| async move { spindown.see_through(image, progress, teller, turn).await });
        Ok(Pulling(told))
    }

    /// Reads a pull to its end, however slowly anybody listens, unless nobody does any more.
    async fn see_through(
        &self,
        image: ImageReference,
        mut progress: BoxStream<'static, Result<PullProgress>>,
        teller: mpsc::Sender<Told>,
        _turn: OwnedSemaphorePermit,
    ) {
        let outcome = loop {
            let next = tokio::select! {
                next = progress.next() => next,
                () = teller.closed() => {
                    tracing::info!(%image, "nobody waits for the image any more: its pull is given up");
                    return;
                }
                () = self.shutdown.cancelled() => Some(Err(shutting_down())),
            };
            match next {
                // One place is left for the outcome.
                Some(Ok(progress)) if teller.capacity() > 1 => drop(teller.try_send(Told::Progress(progress))),
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error),
                // The engine's stream ends in the same way if the engine does.
                None => break self.engine.image(&image.to_string()).await,
            }
        };
        match outcome {
            Ok(_) => {
                tracing::info!(%image, "image pulled");
                let _ = teller.try_send(Told::Done);
            }
            Err(error) => drop(teller.try_send(Told::Failed(error))),
        }
    }

    /// Takes a tag away, and the image with it if that was its last.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Conflict`, naming them, if containers use it; `Unavailable` without the engine.
    pub async fn remove_image(&self, image: &ImageReference) -> Result<()> {
        self.know()?;
        self.engine.image(&image.to_string()).await?;
        // A tag that has come to mean another image is still what these were made from, and may be made anew from.
        let is_made_from = |name: &str| ImageReference::parse(name).is_ok_and(|made_from| made_from == *image);
        let users: Vec<_> = {
            let snapshot = self.snapshot.read();
            let there = snapshot.entries().filter(|e| e.seen.is_some() && is_made_from(&e.container.image));
            there.map(|e| e.container.name.to_string()).take(10).collect()
        };
        if !users.is_empty() {
            let users = users.join(", ");
            return Err(Error::conflict(format!("the image \"{image}\" is in use by {users}: DELETE them first")));
        }
        self.engine.remove_image(image).await?;
        tracing::info!(%image, "image removed");
        Ok(())
    }
}

fn shutting_down() -> Error {
    Error::unavailable("the server is shutting down")
}
