//! Resetting: a new container is made of the image, with the old one's id, ports and keys, and takes its place. Until it
//! has been started the old one is the container, from then on the new one is: `policy::succession` tells them apart,
//! whatever cuts the reset off. What fails puts the old one back.

use super::{Report, files::Keys, start::SSH_PATIENCE};
use crate::{
    model::{Blueprint, EngineId, Error, Kind, Name, Result, Status, StoppedBy},
    policy::succession,
    service::{Spindown, entry::Entry},
    step::{Step, passed},
};

impl Spindown {
    /// Puts a container back to its image; it runs then, whatever it did before. Everything in it is lost but the keys:
    /// those that may log in, and those by which it is known.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the engine has it no more or it is being changed by another server; `Unsuitable` if the
    /// image is gone or its command cannot be run; `Exhausted` if the host has no memory left or too many starts are
    /// waiting; `Unavailable` without engine or store.
    pub async fn reset_container(&self, name: &str) -> Result<Report> {
        let id = self.find(name)?;
        self.touch(&id);
        let _lock = self.locks.lock_in_time(&id).await?;
        let entry = self.ready_to_start(&id).await?;
        if entry.status() == Status::Missing {
            return Err(nothing_to_go_by(&entry.container.name));
        }
        self.store.ping().await?;
        // One that an earlier reset could not remove would have no successor any more.
        self.remove_replaced(&entry).await?;
        let old = &entry.container.engine_id;
        let blueprint = self.engine.blueprint(old).await?;
        let image = self.wanted_image(&blueprint.image).await?;
        let keys = self.read_keys(old, &image).await?;
        let new = self.make_successor(&entry, blueprint).await?;
        passed(Step::ResetMade);
        if let Err(error) = self.hand_over(&entry, &new, &keys).await {
            self.put_back(&entry, &new).await;
            return Err(error);
        }
        self.look_again(&id, &new).await?;
        passed(Step::ResetTakenUp);
        if let Err(error) = self.finish_reset(&id, &new).await {
            tracing::warn!(container = %id, error = error.message(), "the rest of a reset is done later");
        }
        self.await_ssh(&id, SSH_PATIENCE).await;
        self.touch(&id);
        tracing::info!(container = %id, "container reset");
        Ok(self.report(&self.snapshot.require(&id)?))
    }

    /// Has the engine make the one that is to take its place.
    async fn make_successor(&self, entry: &Entry, mut blueprint: Blueprint) -> Result<EngineId> {
        let container = &entry.container;
        blueprint.name = Some(succession::temporary_name(&container.id));
        blueprint.bind = self.settings.bind;
        blueprint.labels.extend(container.succession_labels(&container.engine_id));
        match self.engine.create(&blueprint).await {
            // The name says that a reset is under way, or was cut off.
            Err(error) if error.kind() == Kind::Conflict => {
                if self.store.is_shared() {
                    let message =
                        "another server is resetting the container, or was cut off at it: try again in a while";
                    return Err(Error::conflict(message).caused_by(error));
                }
                let listed = self.engine.list().await?;
                for left in listed.iter().filter(|l| l.id == container.id && l.engine_id != container.engine_id) {
                    self.clear_leftover(&container.id, Some(&left.engine_id)).await?;
                }
                self.engine.create(&blueprint).await
            }
            outcome => outcome,
        }
    }

    /// Brings the old one down and the new one up. The caller undoes it when it fails.
    async fn hand_over(&self, entry: &Entry, new: &EngineId, keys: &Keys) -> Result<()> {
        let container = &entry.container;
        self.hand_keys_over(new, &container.image, keys).await?;
        passed(Step::ResetKeysPut);
        if matches!(entry.status(), Status::Running | Status::Frozen) {
            self.order_stop(&container.id, StoppedBy::User).await?;
            self.engine.stop(&container.engine_id, self.settings.stop_grace).await?;
            self.look_again(&container.id, &container.engine_id).await?;
        }
        passed(Step::ResetOldStopped);
        self.start_at_engine(new).await?;
        passed(Step::ResetStarted);
        Ok(())
    }

    /// Lets the old one be the container again, as it was; what cannot be undone now is when the engine is compared.
    async fn put_back(&self, entry: &Entry, new: &EngineId) {
        let (id, old) = (&entry.container.id, &entry.container.engine_id);
        let undone = async {
            // As long as the new one may run, the old one must not: who is in use is never removed.
            self.remove_from_engine(new).await?;
            if self.snapshot.require(id)?.container.stopping.is_some() {
                self.withdraw_stop(id).await?;
            }
            if matches!(entry.status(), Status::Running | Status::Frozen) {
                self.engine.start(old).await?;
            }
            self.look_again(id, old).await
        };
        if let Err(error) = undone.await {
            tracing::warn!(container = %id, error = error.message(), "a reset that failed is not undone yet");
        }
    }
}

/// What it was made with is gone with it.
fn nothing_to_go_by(name: &Name) -> Error {
    Error::conflict(format!(
        "the engine has no container \"{name}\" any more, and what it was made with is gone with it: DELETE it and make a \
         new one"
    ))
}
