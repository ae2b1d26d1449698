//! Starting: one at a time per container, a few at once per engine.

use std::time::Duration;

use super::{Report, remove::unless_removing, stop::missing};
use crate::{
    model::{ContainerId, EngineId, Error, Kind, Port, Result, Status},
    service::{Spindown, entry::Entry},
};

/// How long the answer to a create or a start may wait for the SSH server …
pub(super) const SSH_PATIENCE: Duration = Duration::from_millis(500);
/// … and how often it is tried.
const SSH_TRY_EVERY: Duration = Duration::from_millis(5);

impl Spindown {
    /// Brings a container up, on the ports it has always had; what runs stays so. Returns when it is up.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the engine has it no more or somebody else has one of its ports; `Exhausted` if the host
    /// has no memory left or too many starts are waiting; `Unavailable` without engine or store.
    pub async fn start_container(&self, name: &str) -> Result<Report> {
        let id = self.find(name)?;
        self.touch(&id);
        let _lock = self.locks.lock_in_time(&id).await?;
        let entry = self.ready_to_start(&id).await?;
        match entry.status() {
            Status::Running => {}
            Status::Missing => return Err(missing(&entry.container.name)),
            Status::Frozen => self.thaw(&id).await?,
            Status::Stopped | Status::Stopping => {
                self.store.ping().await?;
                self.start_behind_the_door(&entry, false).await?;
                self.await_ssh(&id, SSH_PATIENCE).await;
                tracing::info!(container = %id, "container started");
            }
        }
        self.touch(&id);
        Ok(self.report(&self.snapshot.require(&id)?))
    }

    /// What there is to start, as the engine has it now; an order to stop is overruled. The caller holds its lock.
    pub(in crate::service) async fn ready_to_start(&self, id: &ContainerId) -> Result<Entry> {
        if self.snapshot.require(id)?.unsure {
            // There may be an order to stop of which only the store knows.
            self.reload(id).await?;
        }
        let entry = self.snapshot.require(id)?;
        unless_removing(&entry.container)?;
        // Nobody is told that it runs who has only heard so before the engine went away.
        self.look_again(id, &entry.container.engine_id).await?;
        if self.snapshot.require(id)?.container.stopping.is_some() {
            self.withdraw_stop(id).await?;
        }
        self.snapshot.require(id)
    }

    /// Gives a container that serves SSH the moment it needs for that, so that whoever asked for it can log in at once.
    pub(super) async fn await_ssh(&self, id: &ContainerId, patience: Duration) {
        let Some(entry) = self.snapshot.get(id) else { return };
        let (Some(address), Some(_)) = (entry.container.address, Port::ssh(&entry.container.ports)) else { return };
        let accepted = async {
            while let Ok(Some(false)) = self.engine.accepts(address, Port::SSH).await {
                tokio::time::sleep(SSH_TRY_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(patience, accepted).await;
    }

    /// Starts it when its turn comes.
    pub(in crate::service) async fn start_at_engine(&self, engine_id: &EngineId) -> Result<()> {
        let _place = self.starts_waiting.try_acquire().map_err(|_| {
            Error::new(Kind::Exhausted, "too many containers are waiting to be started: try again in a while")
        })?;
        let Ok(_turn) = self.starts.acquire().await else {
            return Err(Error::unavailable("the server is shutting down"));
        };
        if let Some(free) = self.engine.free_memory().await?
            && free < self.settings.memory_reserve
        {
            let message =
                "the host has no memory left for another container: stop some, or lower limits.memory_reserve";
            return Err(Error::new(Kind::Exhausted, message));
        }
        self.engine.start(engine_id).await
    }
}
