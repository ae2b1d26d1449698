//! Stopping: the order is written down first, so that nothing forgets it; carrying it out may fail and is tried again.

use crate::{
    meter,
    model::{Container, ContainerId, Error, Name, Result, Status, Stop, StopOrder, StoppedBy},
    policy::retry,
    service::{Spindown, entry::Trouble},
    step::{Step, passed},
};

use super::Report;

impl Spindown {
    /// Begins to stop a container and answers at once; what is stopped already stays so, and does not wake any more.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` if the engine has it no more, `Unavailable` without engine or store.
    pub async fn stop_container(&self, name: &str) -> Result<Report> {
        let id = self.find(name)?;
        let lock = self.locks.lock_in_time(&id).await?;
        if self.order_by_user(&id).await? {
            let id = id.clone();
            self.spawn(|spindown| async move {
                let _lock = lock;
                // A failure is noted, seen in the container's activity, and tried again.
                let _ = spindown.carry_out_stop(&id).await;
            });
        }
        Ok(self.report(&self.snapshot.require(&id)?))
    }

    /// Orders a container to stop, and leaves it to [`Spindown::retry_stops`] to carry that out.
    pub(super) async fn order_down(&self, id: &ContainerId) -> Result<Report> {
        let _lock = self.locks.lock_in_time(id).await?;
        self.order_by_user(id).await?;
        Ok(self.report(&self.snapshot.require(id)?))
    }

    /// Writes down that a user stops it, unless it is down or is being stopped. Answers whether it has. The caller holds
    /// the container's lock.
    async fn order_by_user(&self, id: &ContainerId) -> Result<bool> {
        let entry = self.snapshot.require(id)?;
        if matches!(entry.status(), Status::Running | Status::Frozen) {
            // The order is for the run that is going on now.
            self.look_again(id, &entry.container.engine_id).await?;
        }
        let entry = self.snapshot.require(id)?;
        match entry.status() {
            Status::Stopped | Status::Stopping => {
                self.make_it_the_users(id).await?;
                Ok(false)
            }
            Status::Missing => Err(missing(&entry.container.name)),
            Status::Running | Status::Frozen => {
                self.order_stop(id, StoppedBy::User).await?;
                Ok(true)
            }
        }
    }

    /// Writes down that a user wants it down that is, or is going, down for another reason: from here on no connection
    /// wakes it. The caller holds the container's lock.
    async fn make_it_the_users(&self, id: &ContainerId) -> Result<()> {
        let Container { stopping, stopped, .. } = self.snapshot.require(id)?.container;
        if stopping.map(|order| order.by).or(stopped.map(|stop| stop.by)) == Some(StoppedBy::User) {
            return Ok(());
        }
        self.amend(id, |container| {
            container.stopping = container.stopping.map(|order| StopOrder { by: StoppedBy::User, ..order });
            container.stopped = container.stopped.map(|stop| Stop { by: StoppedBy::User, ordered: true, ..stop });
        })
        .await?;
        self.divert_or_later().await;
        Ok(())
    }

    /// Writes down the order to stop. The caller holds the container's lock.
    pub(in crate::service) async fn order_stop(&self, id: &ContainerId, by: StoppedBy) -> Result<()> {
        let run = self.snapshot.require(id)?.seen.and_then(|seen| seen.started_at);
        let order = StopOrder { by, at: self.clock.now().at, run };
        self.amend(id, |container| container.stopping = Some(order)).await?;
        passed(Step::StopOrdered);
        Ok(())
    }

    /// Takes the order back. The caller holds the container's lock.
    pub(in crate::service) async fn withdraw_stop(&self, id: &ContainerId) -> Result<()> {
        self.snapshot.update(id, |entry| entry.trouble = None);
        let entry = self.snapshot.require(id)?;
        let halted = entry.container.stopping.is_some_and(|order| order.by.is_policy());
        if halted && !matches!(entry.status(), Status::Missing | Status::Stopped) {
            // It was to be looked at in peace.
            self.thaw(id).await?;
        }
        self.snapshot.update(id, |entry| entry.wanted = false);
        self.amend(id, |container| container.stopping = None).await
    }

    /// Stops the container as ordered. The caller holds its lock. A failure is noted for [`Spindown::retry_stops`].
    pub(in crate::service) async fn carry_out_stop(&self, id: &ContainerId) -> Result<()> {
        let Container { engine_id, stopping, .. } = self.snapshot.require(id)?.container;
        let by = stopping.map_or(StoppedBy::User, |order| order.by);
        let outcome = self.engine.stop(&engine_id, self.settings.stop_grace).await;
        passed(Step::StopDone);
        let looked = self.look_again(id, &engine_id).await;
        // Gone or down all the same: what it shows is what counts.
        let done = self.snapshot.get(id).is_none_or(|entry| entry.container.stopping.is_none());
        let error = match outcome.and(looked) {
            Err(error) if !done => error,
            _ => {
                tracing::info!(container = %id, "container stopped");
                count_stop(by, "done");
                return Ok(());
            }
        };
        count_stop(by, "failed");
        let now = self.clock.now();
        self.snapshot.update(id, |entry| {
            let failures = entry.trouble.as_ref().map_or(0, |t| t.failures) + 1;
            let pause = retry::pause(failures);
            let next_try = crate::model::Stamp { moment: now.moment + pause, at: now.at + pause };
            tracing::warn!(container = %id, failures, error = error.message(), "a stop failed and will be tried again");
            entry.trouble = Some(Trouble { failures, message: error.message().to_owned(), next_try });
        });
        Err(error)
    }

    /// Takes up the stops that failed, or that an earlier run of the server left, when their time has come.
    pub async fn retry_stops(&self) {
        let now = self.clock.now();
        let due: Vec<_> = {
            let snapshot = self.snapshot.read();
            let due = snapshot.entries().filter(|entry| {
                entry.status() == Status::Stopping
                    && entry.container.stopping.is_some()
                    && entry.trouble.as_ref().is_none_or(|t| t.next_try.moment <= now.moment)
            });
            due.map(|e| e.container.id.clone()).collect()
        };
        for id in due {
            // Somebody is at it: the stop itself, most often.
            let Some(lock) = self.locks.try_lock(&id) else { continue };
            self.spawn(|spindown| async move {
                let _lock = lock;
                let Ok(_turn) = spindown.stops.acquire().await else { return };
                if let Err(error) = spindown.take_up_stop(&id).await {
                    tracing::debug!(container = %id, error = error.message(), "a stop is not done yet");
                }
            });
        }
    }

    /// Carries out an order from before, if it still stands: time has passed since it was given.
    async fn take_up_stop(&self, id: &ContainerId) -> Result<()> {
        let engine_id = self.snapshot.require(id)?.container.engine_id;
        let order = |spindown: &Self| -> Result<_> {
            Ok(spindown.snapshot.require(id)?.container.stopping.map(|order| order.by))
        };
        let looked = self.look_again(id, &engine_id).await;
        if order(self)?.is_some_and(StoppedBy::is_policy) {
            looked?;
            self.read_evidence(id).await?;
        }
        match order(self)? {
            None => Ok(()),
            Some(by) if by.is_policy() => self.stop_in_peace(id, by).await,
            Some(_) => self.carry_out_stop(id).await,
        }
    }
}

/// Counts a stop that was ordered here, by what became of it.
pub(in crate::service) fn count_stop(by: StoppedBy, outcome: &'static str) {
    metrics::counter!(meter::STOPS, "by" => by.as_str(), "outcome" => outcome).increment(1);
}

/// The engine has it no more.
pub(super) fn missing(name: &Name) -> Error {
    Error::conflict(format!(
        "the engine has no container \"{name}\" any more: it was removed behind Spindown's back; DELETE it to free its ports"
    ))
}
