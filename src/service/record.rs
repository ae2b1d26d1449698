//! The snapshot and the store, kept in step: what a caller asks for is written to the store first and fails with it;
//! what the engine showed is written when the store can take it.

use super::{Spindown, Unpoisoned, entry::Entry};
use crate::model::{Container, ContainerId, Kind, Observation, Result};

/// How often a write is tried again over a newer version.
const TRIES: usize = 5;

impl Spindown {
    /// Changes what is kept of a container, in the store and then in the snapshot. `change` may be applied several times,
    /// to newer versions that other servers wrote.
    pub(super) async fn amend(&self, id: &ContainerId, change: impl Fn(&mut Container) + Send + Sync) -> Result<()> {
        // Two writes of ours at once would have to be told from those of other servers.
        let _write = self.writes.lock(id).await;
        let mut tries = 0;
        loop {
            let base = self.snapshot.require(id)?.container;
            let mut next = base.clone();
            change(&mut next);
            match self.store.put_container(&next).await {
                Ok(version) => {
                    self.snapshot.update(id, |entry| {
                        entry.unsure = false;
                        if entry.container == base {
                            entry.container = next;
                            entry.unsaved = false;
                        } else {
                            // The engine showed something new meanwhile: that is still to be saved.
                            change(&mut entry.container);
                            entry.unsaved = true;
                        }
                        entry.container.version = version;
                        entry.fit(&self.settings.rungs);
                    });
                    return Ok(());
                }
                Err(error) if error.kind() == Kind::Conflict && tries < TRIES => {
                    tries += 1;
                    self.reload(id).await?;
                }
                Err(error) => {
                    // It may have been done all the same.
                    self.snapshot.update(id, |entry| entry.unsure = true);
                    return Err(error);
                }
            }
        }
    }

    /// Writes what the engine showed of a container, if that is not in the store yet. A store that is away keeps it
    /// waiting.
    pub(super) async fn save(&self, id: &ContainerId) {
        if self.has_store()
            && self.snapshot.read().entry(id).is_some_and(|e| e.unsaved)
            && let Err(error) = self.amend(id, |_| {}).await
        {
            if error.kind() == Kind::Unavailable {
                self.store_answered(false);
            }
            tracing::warn!(container = %id, error = error.message(), "what the engine showed is not saved yet");
        }
    }

    /// Writes all that is not saved yet.
    pub(super) async fn save_all(&self) {
        let unsaved: Vec<_> =
            self.snapshot.read().entries().filter(|e| e.unsaved).map(|e| e.container.id.clone()).collect();
        for id in unsaved {
            self.save(&id).await;
        }
    }

    /// Takes over what another server wrote of a container since it was last read here.
    pub(super) async fn catch_up(&self, id: &ContainerId) -> Result<()> {
        let Some(known) = self.snapshot.get(id) else { return Ok(()) };
        if let Some(stored) = self.store.container(id).await?
            && known.container.version < stored.version
        {
            self.take_over(stored);
        }
        Ok(())
    }

    /// Takes over what the store has, whatever it is.
    pub(super) async fn reload(&self, id: &ContainerId) -> Result<()> {
        if let Some(stored) = self.store.container(id).await? {
            self.take_over(stored);
            return Ok(());
        }
        match self.engine.inspect(&self.snapshot.require(id)?.container.engine_id).await {
            Ok(_) => self.lose_record(id),
            // Removed by another server: nothing of it may be written again.
            Err(error) if error.kind() == Kind::NotFound => self.snapshot.remove(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes that the store knows nothing of a container which the engine has: the store was emptied, since whoever
    /// removes a container removes it from the engine first.
    pub(super) fn lose_record(&self, id: &ContainerId) {
        self.snapshot.update(id, |entry| {
            entry.container.version = 0;
            entry.unsaved = true;
        });
    }

    /// Puts a newer stored version into the snapshot, and what the engine shows on top of it.
    pub(super) fn take_over(&self, stored: Container) {
        let (now, history) = (self.clock.now(), self.watch.locked().history());
        let id = stored.id.clone();
        self.snapshot.update(&id, |entry| {
            // These are found out here. A record from before would make them forgotten.
            let keys = std::mem::take(&mut entry.container.ssh_host_keys);
            entry.container = stored;
            (entry.unsaved, entry.unsure) = (false, false);
            if entry.container.ssh_host_keys.is_empty() && !keys.is_empty() {
                entry.container.ssh_host_keys = keys;
                entry.unsaved = true;
            }
            if let Some(seen) = entry.seen.clone() {
                entry.observe(Some(seen), now, &history);
            }
            entry.fit(&self.settings.rungs);
        });
    }

    /// Takes up a container of which only the engine knows.
    pub(super) fn adopt(&self, seen: &Observation) {
        let container = Container::adopt(seen, self.settings.host.clone(), self.settings.idle_timeout);
        tracing::info!(container = %container.id, name = %container.name, "container adopted");
        let mut entry = Entry::new(container, &self.settings.rungs, self.clock.now());
        entry.unsaved = true;
        self.snapshot.add(entry);
    }
}
