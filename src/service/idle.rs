//! The sweep: looks for the idle containers and stops them, each only after its evidence has been read again under its
//! lock.

use super::{Spindown, Unpoisoned};
use crate::{
    model::{ContainerId, Result, StoppedBy},
    policy::idle::Verdict,
};

impl Spindown {
    /// Judges every container and stops those that are idle, several at once; returns when all of that is done. While a
    /// sweep runs another one does nothing.
    pub async fn sweep(&self) {
        let Ok(_alone) = self.sweeping.try_lock() else {
            tracing::debug!("the last sweep is still at work");
            return;
        };
        let now = self.beat();
        let idle: Vec<ContainerId> = {
            let (snapshot, mut judge) = (self.snapshot.read(), self.judging(now));
            let idle = snapshot.entries().filter(|entry| judge(entry).verdict == Verdict::Sleep);
            idle.map(|entry| entry.container.id.clone()).collect()
        };
        if !idle.is_empty() {
            tracing::info!(count = idle.len(), "idle containers found");
        }
        let stops = idle.into_iter().map(|id| {
            self.spawn(|spindown| async move {
                if let Err(error) = spindown.stop_if_idle(&id).await {
                    tracing::warn!(container = %id, error = error.message(), "an idle container could not be stopped");
                }
            })
        });
        futures::future::join_all(stops).await;
        self.watch.locked().last_sweep = Some(self.clock.now());
    }

    /// Compare-and-stop: what was read before is only a reason to look closer.
    async fn stop_if_idle(&self, id: &ContainerId) -> Result<()> {
        let Ok(_turn) = self.stops.acquire().await else { return Ok(()) };
        // Whoever holds it is changing the container, which is a sign of use; the next sweep looks again.
        let Some(_lock) = self.locks.try_lock(id) else { return Ok(()) };
        if self.shutdown.is_cancelled() || !self.is_idle(id).await? {
            return Ok(());
        }
        self.order_stop(id, StoppedBy::Idle).await?;
        // What came in while the order was written overrules it.
        if !self.is_idle_but_for_the_order(id) {
            tracing::info!(container = %id, "kept: it came into use at the last moment");
            return self.withdraw_stop(id).await;
        }
        self.carry_out_stop(id).await
    }

    /// The verdict, after all evidence has been read again: the engine's present state, and what other servers saw.
    async fn is_idle(&self, id: &ContainerId) -> Result<bool> {
        let engine_id = self.snapshot.require(id)?.container.engine_id;
        self.look_again(id, &engine_id).await?;
        self.read_evidence(id).await?;
        let now = self.beat();
        Ok(self.judge(&self.snapshot.require(id)?, now).verdict == Verdict::Sleep)
    }

    /// Takes in what other servers saw and changed.
    pub(super) async fn read_evidence(&self, id: &ContainerId) -> Result<()> {
        let remembered = self.store.activity(id).await?;
        self.catch_up(id).await?;
        let now = self.clock.now();
        if let Some(remembered) = remembered {
            self.snapshot.update(id, |entry| entry.remember(remembered, now));
        }
        Ok(())
    }

    /// The verdict as if the order to stop had not been given.
    pub(super) fn is_idle_but_for_the_order(&self, id: &ContainerId) -> bool {
        let now = self.beat();
        let Some(mut entry) = self.snapshot.get(id) else { return false };
        entry.container.stopping = None;
        self.judge(&entry, now).verdict == Verdict::Sleep
    }
}
