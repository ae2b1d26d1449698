//! Freezing by hand.

use super::{Report, remove::unless_removing};
use crate::{
    model::{Result, StoppedBy},
    service::Spindown,
};

impl Spindown {
    /// Freezes a container that runs, until something comes for it; what is frozen stays so.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is not up; `Unavailable` without engine or store.
    pub async fn freeze_container(&self, name: &str) -> Result<Report> {
        let id = self.find(name)?;
        let _lock = self.locks.lock_in_time(&id).await?;
        let entry = self.snapshot.require(&id)?;
        unless_removing(&entry.container)?;
        self.look_again(&id, &entry.container.engine_id).await?;
        let entry = self.snapshot.require(&id)?;
        Self::must_run(&entry)?;
        if !entry.is_frozen_here() {
            self.touch(&id);
            self.freeze(&id, StoppedBy::User).await?;
            tracing::info!(container = %id, "container frozen");
        }
        Ok(self.report(&self.snapshot.require(&id)?))
    }
}
