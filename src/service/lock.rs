//! A lock per container.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use super::Unpoisoned;
use crate::model::{ContainerId, Error, Result};

/// How many locks may be kept before the unused ones are swept out.
const SWEEP_ABOVE: usize = 1_024;

/// How long a caller waits for others who change the same container: as long as a stop and a start take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Locks by container; those that nobody holds are forgotten.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the container's lock, in the order of asking.
    pub(super) async fn lock(&self, id: &ContainerId) -> OwnedMutexGuard<()> {
        self.of(id).lock_owned().await
    }

    /// Waits for the container's lock, but not for ever: with an engine that does not answer everybody ahead holds it until
    /// his deadline.
    ///
    /// # Errors
    /// `Unavailable` if it is not free in time.
    pub(super) async fn lock_in_time(&self, id: &ContainerId) -> Result<OwnedMutexGuard<()>> {
        self.lock_within(PATIENCE, id).await
    }

    /// The same for one who waits so long.
    ///
    /// # Errors
    /// `Unavailable` if it is not free in time.
    pub(super) async fn lock_within(&self, patience: Duration, id: &ContainerId) -> Result<OwnedMutexGuard<()>> {
        tokio::time::timeout(patience, self.lock(id)).await.map_err(|late| {
            Error::unavailable("others are changing the container and take long over it: try again in a while")
                .caused_by(late)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn locks_that_nobody_holds_are_forgotten_and_no_others() {
        let locks = Locks::default();
        let id = |number: u128| ContainerId::from_bits(number);
        let held: Vec<_> = (0..10).map(|number| locks.try_lock(&id(number)).unwrap()).collect();
        for number in 10..20_000 {
            drop(locks.lock(&id(number)).await);
            assert!(locks.0.locked().len() <= SWEEP_ABOVE + 1);
        }
        assert!((0..10).all(|number| locks.try_lock(&id(number)).is_none()));
        drop(held);
        assert!((0..10).all(|number| locks.try_lock(&id(number)).is_some()));
    }
}
