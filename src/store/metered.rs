//! Any store, its calls measured.

use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{ActivityStore, Attempt, AttemptStore, ClaimStore, ContainerStore, Store};
use crate::{
    clock::Stopwatch,
    meter,
    model::{Activity, Claim, Container, ContainerId, HostName, Result},
};

/// A store that tells [`meter`] how long each of its calls took, and what came of it.
pub struct Metered(Arc<dyn Store>);

impl Metered {
    /// Measures this one.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

/// Awaits a call and measures it.
async fn measured<T>(call: &'static str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let stopwatch = Stopwatch::start();
    let outcome = work.await;
    meter::record_call(meter::STORE_CALL, call, stopwatch, &outcome);
    outcome
}

#[async_trait]
impl ContainerStore for Metered {
    async fn containers(&self) -> Result<Vec<Container>> {
        measured("containers", self.0.containers()).await
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        measured("container", self.0.container(id)).await
    }

    async fn put_container(&self, container: &Container) -> Result<u64> {
        measured("put_container", self.0.put_container(container)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        measured("remove_container", self.0.remove_container(id)).await
    }
}

#[async_trait]
impl ActivityStore for Metered {
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>> {
        measured("activities", self.0.activities()).await
    }

    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>> {
        measured("activity", self.0.activity(id)).await
    }

    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()> {
        measured("merge_activities", self.0.merge_activities(activities)).await
    }
}

#[async_trait]
impl ClaimStore for Metered {
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>> {
        measured("claim", self.0.claim(host, claims, holder)).await
    }

    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>> {
        measured("claims", self.0.claims(host)).await
    }

    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()> {
        measured("release", self.0.release(host, holder)).await
    }
}

#[async_trait]
impl AttemptStore for Metered {
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, valid_from: OffsetDateTime) -> Result<Option<Attempt>> {
        measured("begin_attempt", self.0.begin_attempt(key, attempt, valid_from)).await
    }

    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()> {
        measured("abandon_attempt", self.0.abandon_attempt(key, id)).await
    }
}

#[async_trait]
impl Store for Metered {
    async fn ping(&self) -> Result<()> {
        measured("ping", self.0.ping()).await
    }

    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }
}
