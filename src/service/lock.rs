//! A lock per container.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::OwnedMutexGuard;

use super::Unpoisoned;
use crate::model::ContainerId;

/// How many locks may be kept before the unused ones are swept out.
const SWEEP_ABOVE: usize = 1_024;

/// Locks by container; those that nobody holds are forgotten.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the container's lock, in the order of asking.
    pub(super) async fn lock(&self, id: &ContainerId) -> OwnedMutexGuard<()> {
        self.of(id).lock_owned().await
    }

    /// The container's lock if nobody holds it.
    pub(super) fn try_lock(&self, id: &ContainerId) -> Option<OwnedMutexGuard<()>> {
        self.of(id).try_lock_owned().ok()
    }

    fn of(&self, id: &ContainerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.locked();
        if locks.len() > SWEEP_ABOVE {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(locks.entry(id.clone()).or_default())
    }
}
