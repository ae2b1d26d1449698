//! Removing: the container, what is kept of it, and its claims; in this order, so that whatever stops us half-way leaves
//! something that can be removed again.

use crate::{
    model::{ContainerId, EngineId, Kind, Result},
    service::Spindown,
};

impl Spindown {
    /// Removes a container with everything in it, running or not.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` without engine or store.
    pub async fn remove_container(&self, name: &str) -> Result<()> {
        let id = self.find(name)?;
        let _lock = self.locks.lock_in_time(&id).await?;
        let engine_id = self.snapshot.require(&id)?.container.engine_id;
        // What cannot be written down is not begun. A removal may take long, so an engine that hangs is found out first.
        self.store.ping().await?;
        self.engine.ping().await?;
        self.discard(&id, &engine_id).await?;
        tracing::info!(container = %id, "container removed");
        Ok(())
    }

    /// Removes it from the engine, and what is kept of it. The caller holds its lock.
    pub(in crate::service) async fn discard(&self, id: &ContainerId, engine_id: &EngineId) -> Result<()> {
        // Whoever looks at it meanwhile must not adopt what was there a moment ago.
        let _look = self.looks.lock(id).await;
        match self.engine.remove(engine_id).await {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {}
        }
        self.forget(id).await
    }

    /// Forgets a container that the engine does not have.
    pub(in crate::service) async fn forget(&self, id: &ContainerId) -> Result<()> {
        let _write = self.writes.lock(id).await;
        self.store.remove_container(id).await?;
        self.snapshot.remove(id);
        self.store.release(&self.settings.host, id).await
    }
}
