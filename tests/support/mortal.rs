//! What a server that was killed sees of its adapters: nothing, ever again. Its tasks stay where they are.

use std::{future::pending, net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use spindown::{
    engine::{Engine, EngineEvent, Listed, NetworkSpec},
    model::{
        Activity, Blueprint, Claim, Container, ContainerId, DiskSpace, EngineId, File, HostName, Image, ImageReference,
        LogRange, Name, Observation, PullProgress, RegistryCredentials, Result, VolumeName,
    },
    store::{ActivityStore, Attempt, AttemptStore, ClaimStore, ContainerStore, Store},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// An adapter as one server sees it, until that server is killed.
pub struct Mortal<T> {
    pub inner: Arc<T>,
    pub killed: CancellationToken,
}

impl<T> Mortal<T> {
    async fn live<O>(&self, call: impl Future<Output = O>) -> O {
        tokio::select! {
            // What is dead gets no answer, also not one that has just come.
            biased;
            () = self.killed.cancelled() => pending().await,
            outcome = call => outcome,
        }
    }
}

#[async_trait]
impl<T: Engine> Engine for Mortal<T> {
    async fn ping(&self) -> Result<()> {
        self.live(self.inner.ping()).await
    }
    async fn started_at(&self) -> Result<Option<OffsetDateTime>> {
        self.live(self.inner.started_at()).await
    }
    async fn accepts(&self, address: Ipv4Addr, port: u16) -> Result<Option<bool>> {
        self.live(self.inner.accepts(address, port)).await
    }
    async fn free_memory(&self) -> Result<Option<u64>> {
        self.live(self.inner.free_memory()).await
    }
    async fn images(&self) -> Result<Vec<String>> {
        self.live(self.inner.images()).await
    }
    async fn image(&self, name: &str) -> Result<Image> {
        self.live(self.inner.image(name)).await
    }
    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.live(self.inner.ensure_network(network)).await
    }
    async fn list(&self) -> Result<Vec<Listed>> {
        self.live(self.inner.list()).await
    }
    async fn inspect(&self, id: &EngineId) -> Result<Observation> {
        self.live(self.inner.inspect(id)).await
    }
    async fn blueprint(&self, id: &EngineId) -> Result<Blueprint> {
        self.live(self.inner.blueprint(id)).await
    }
    async fn create(&self, blueprint: &Blueprint) -> Result<EngineId> {
        self.live(self.inner.create(blueprint)).await
    }
    async fn start(&self, id: &EngineId) -> Result<()> {
        self.live(self.inner.start(id)).await
    }
    async fn freeze(&self, id: &EngineId) -> Result<()> {
        self.live(self.inner.freeze(id)).await
    }
    async fn thaw(&self, id: &EngineId) -> Result<()> {
        self.live(self.inner.thaw(id)).await
    }
    async fn stop(&self, id: &EngineId, grace: Duration) -> Result<()> {
        self.live(self.inner.stop(id, grace)).await
    }
    async fn remove(&self, id: &EngineId) -> Result<()> {
        self.live(self.inner.remove(id)).await
    }
    async fn ensure_volume(&self, name: &VolumeName, owner: &str) -> Result<()> {
        self.live(self.inner.ensure_volume(name, owner)).await
    }
    async fn remove_volume(&self, name: &VolumeName) -> Result<bool> {
        self.live(self.inner.remove_volume(name)).await
    }
    async fn rename(&self, id: &EngineId, name: &Name) -> Result<()> {
        self.live(self.inner.rename(id, name)).await
    }
    async fn put_files(&self, id: &EngineId, into: &str, files: &[File]) -> Result<()> {
        self.live(self.inner.put_files(id, into, files)).await
    }
    async fn get_files(&self, id: &EngineId, path: &str, limit: usize) -> Result<Vec<File>> {
        self.live(self.inner.get_files(id, path, limit)).await
    }
    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>> {
        self.live(self.inner.events()).await
    }
    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        self.live(self.inner.pull(image, credentials)).await
    }
    async fn remove_image(&self, image: &ImageReference) -> Result<()> {
        self.live(self.inner.remove_image(image)).await
    }
    async fn logs(&self, id: &EngineId, range: &LogRange) -> Result<BoxStream<'static, Result<Vec<u8>>>> {
        self.live(self.inner.logs(id, range)).await
    }
    async fn disk(&self) -> Result<Option<DiskSpace>> {
        self.live(self.inner.disk()).await
    }
    async fn disk_use(&self, id: &EngineId) -> Result<u64> {
        self.live(self.inner.disk_use(id)).await
    }
}

#[async_trait]
impl<T: Store> ContainerStore for Mortal<T> {
    async fn containers(&self) -> Result<Vec<Container>> {
        self.live(self.inner.containers()).await
    }
    async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        self.live(self.inner.container(id)).await
    }
    async fn put_container(&self, container: &Container) -> Result<u64> {
        self.live(self.inner.put_container(container)).await
    }
    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.live(self.inner.remove_container(id)).await
    }
}

#[async_trait]
impl<T: Store> ActivityStore for Mortal<T> {
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>> {
        self.live(self.inner.activities()).await
    }
    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>> {
        self.live(self.inner.activity(id)).await
    }
    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()> {
        self.live(self.inner.merge_activities(activities)).await
    }
}

#[async_trait]
impl<T: Store> ClaimStore for Mortal<T> {
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>> {
        self.live(self.inner.claim(host, claims, holder)).await
    }
    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>> {
        self.live(self.inner.claims(host)).await
    }
    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()> {
        self.live(self.inner.release(host, holder)).await
    }
}

#[async_trait]
impl<T: Store> AttemptStore for Mortal<T> {
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, valid_from: OffsetDateTime) -> Result<Option<Attempt>> {
        self.live(self.inner.begin_attempt(key, attempt, valid_from)).await
    }
    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()> {
        self.live(self.inner.abandon_attempt(key, id)).await
    }
}

#[async_trait]
impl<T: Store> Store for Mortal<T> {
    async fn ping(&self) -> Result<()> {
        self.live(self.inner.ping()).await
    }
    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
}
