//! Removing: written down first, so that nothing forgets it; then the container, what is kept of it, and its claims; in
//! this order, so that whatever stops us half-way leaves something that can be removed again.

use crate::{
    model::{Container, ContainerId, EngineId, Error, Kind, Removal, Result},
    policy::succession,
    service::{Spindown, entry::Entry},
    step::{Step, passed},
};

impl Spindown {
    /// Removes a container with everything in it, running or not. Its volumes stay, unless `volumes` says otherwise: then
    /// those go that no other container has.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` without engine or store.
    pub async fn remove_container(&self, name: &str, volumes: bool) -> Result<()> {
        let id = self.find(name)?;
        let _lock = self.locks.lock_in_time(&id).await?;
        self.remove_held(&id, volumes).await
    }

    /// The same. The caller holds its lock.
    pub(in crate::service) async fn remove_held(&self, id: &ContainerId, volumes: bool) -> Result<()> {
        let entry = self.snapshot.require(id)?;
        let engine_id = &entry.container.engine_id;
        // A removal may take long, so an engine that hangs is found out first.
        self.engine.ping().await?;
        // What cannot be written down is not begun.
        let mut removal = entry.container.removing.clone().unwrap_or_default();
        if volumes && let Some(seen) = &entry.seen {
            removal.volumes.extend(seen.volumes.values().cloned());
        }
        self.amend(id, |container| container.removing = Some(removal.clone())).await?;
        passed(Step::RemoveOrdered);
        // Its ports may soon be another's.
        self.divert_or_later().await;
        if let Err(error) = self.remove_with_the_replaced(&entry, &removal).await {
            // Whoever is told that it failed may go on using it.
            if self.engine.inspect(engine_id).await.is_ok() {
                let _ = self.amend(id, |container| container.removing = None).await;
            }
            return Err(error);
        }
        tracing::info!(container = %id, "container removed");
        Ok(())
    }

    /// Finishes the removals that something cut off.
    pub(in crate::service) async fn finish_removals(&self) {
        let ordered: Vec<_> = {
            let snapshot = self.snapshot.read();
            snapshot.entries().filter(|e| e.container.removing.is_some()).map(|e| e.container.id.clone()).collect()
        };
        for id in ordered {
            // Somebody is at it.
            let Some(_lock) = self.locks.try_lock(&id) else { continue };
            let Some(entry) = self.snapshot.get(&id) else { continue };
            let Some(removal) = &entry.container.removing else { continue };
            match self.remove_with_the_replaced(&entry, removal).await {
                Ok(()) => tracing::info!(container = %id, "container removed, as ordered before"),
                Err(error) => tracing::warn!(container = %id, error = error.message(), "a removal is not done yet"),
            }
        }
    }

    /// Removes it, and what a reset has left of the one before: that would be taken for the container again.
    async fn remove_with_the_replaced(&self, entry: &Entry, removal: &Removal) -> Result<()> {
        self.remove_replaced(entry).await?;
        self.discard(&entry.container.id, &entry.container.engine_id, removal).await
    }

    /// Removes the one at the engine whose place this one has taken, if it is still there.
    pub(in crate::service) async fn remove_replaced(&self, entry: &Entry) -> Result<()> {
        let Some(replaced) = entry.seen.as_ref().and_then(succession::replaced_by) else { return Ok(()) };
        match self.engine.inspect(&replaced).await {
            // What runs is in use, whoever started it.
            Ok(old) if old.id == entry.container.id && !old.state.is_up() => {}
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => return Ok(()),
        }
        self.remove_from_engine(&replaced).await
    }

    /// Removes it from the engine, with what is to go with it, and then what is kept of it. The caller holds its lock.
    pub(in crate::service) async fn discard(
        &self,
        id: &ContainerId,
        engine_id: &EngineId,
        removal: &Removal,
    ) -> Result<()> {
        // Whoever looks at it meanwhile must not adopt what was there a moment ago.
        let _look = self.looks.lock(id).await;
        self.remove_from_engine(engine_id).await?;
        passed(Step::RemoveDone);
        for volume in &removal.volumes {
            if self.engine.remove_volume(volume).await? {
                tracing::info!(container = %id, %volume, "volume removed");
            }
        }
        passed(Step::RemoveVolumesDone);
        self.forget(id).await
    }

    /// Sees to it that the engine does not have it.
    pub(in crate::service) async fn remove_from_engine(&self, engine_id: &EngineId) -> Result<()> {
        match self.engine.remove(engine_id).await {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets a container that the engine does not have.
    pub(in crate::service) async fn forget(&self, id: &ContainerId) -> Result<()> {
        let _write = self.writes.lock(id).await;
        self.store.remove_container(id).await?;
        self.snapshot.remove(id);
        passed(Step::RemoveForgotten);
        self.store.release(&self.settings.host, id).await?;
        passed(Step::RemoveReleased);
        Ok(())
    }
}

/// Refuses a container that is being removed: the order stands, whatever keeps it from being carried out.
pub(super) fn unless_removing(container: &Container) -> Result<()> {
    if container.removing.is_none() {
        return Ok(());
    }
    Err(Error::conflict(format!("container \"{}\" is being deleted: repeat DELETE until it is gone", container.name)))
}
