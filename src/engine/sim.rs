//! A simulated engine: no processes, no disk, no time but the clock's. It keeps the same contract as the real one and
//! holds tens of thousands of containers, and tests make it fail, hang, go down and come back (`control`). What there
//! is, and how it changes, is in `world`; the containers' file systems are in `files`.

mod control;
mod files;
mod image;
mod world;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

use self::world::World;
use super::{Engine, EngineEvent, Happening, Listed, NetworkSpec};
use crate::{
    clock::Clock,
    model::{
        Blueprint, DiskSpace, EngineId, EngineState, Error, File, Image, ImageReference, Kind, LogRange, Name,
        Observation, PullProgress, RegistryCredentials, Result, VolumeName,
    },
};

/// The calls of an engine, for tests that count them, hold them up or let them fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Engine::ping`].
    Ping,
    /// [`Engine::started_at`].
    StartedAt,
    /// [`Engine::accepts`].
    Accepts,
    /// [`Engine::free_memory`].
    FreeMemory,
    /// [`Engine::images`].
    Images,
    /// [`Engine::image`].
    Image,
    /// [`Engine::ensure_network`].
    EnsureNetwork,
    /// [`Engine::list`].
    List,
    /// [`Engine::inspect`].
    Inspect,
    /// [`Engine::blueprint`].
    Blueprint,
    /// [`Engine::create`].
    Create,
    /// [`Engine::start`].
    Start,
    /// [`Engine::freeze`].
    Freeze,
    /// [`Engine::thaw`].
    Thaw,
    /// [`Engine::stop`].
    Stop,
    /// [`Engine::remove`].
    Remove,
    /// [`Engine::rename`].
    Rename,
    /// [`Engine::ensure_volume`].
    EnsureVolume,
    /// [`Engine::remove_volume`].
    RemoveVolume,
    /// [`Engine::put_files`].
    PutFiles,
    /// [`Engine::get_files`].
    GetFiles,
    /// [`Engine::events`].
    Events,
    /// [`Engine::pull`], until it begins.
    Pull,
    /// Each step of a pull that has begun.
    PullStep,
    /// [`Engine::remove_image`].
    RemoveImage,
    /// [`Engine::logs`].
    Logs,
    /// [`Engine::disk`].
    Disk,
    /// [`Engine::disk_use`].
    DiskUse,
}

/// How long a call that is held up waits before it is given up, unless a test says otherwise.
const DEADLINE: Duration = Duration::from_secs(5);

/// What holds calls up.
#[derive(Debug, Default)]
struct Gate {
    all: bool,
    calls: BTreeSet<Call>,
}

/// What a test has arranged, and what it may ask about.
#[derive(Debug, Default)]
struct Script {
    failures: HashMap<Call, VecDeque<Error>>,
    counts: HashMap<Call, usize>,
}

/// A simulated engine.
pub struct Sim {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    gate: watch::Sender<Gate>,
    script: Arc<Mutex<Script>>,
    world: Arc<Mutex<World>>,
}

/// What every call passes, and so every step of what goes on after a call.
struct Doors {
    gate: watch::Receiver<Gate>,
    script: Arc<Mutex<Script>>,
    deadline: Duration,
}

impl Doors {
    /// Waits while a test holds such calls up, and fails if it has arranged that.
    async fn pass(&mut self, call: Call) -> Result<()> {
        *locked(&self.script).counts.entry(call).or_default() += 1;
        let open = self.gate.wait_for(|gate| !gate.all && !gate.calls.contains(&call));
        match tokio::time::timeout(self.deadline, open).await {
            Ok(passed) => drop(passed),
            Err(late) => return Err(unreachable().caused_by(late)),
        }
        locked(&self.script).failures.get_mut(&call).and_then(VecDeque::pop_front).map_or(Ok(()), Err)
    }
}

impl Sim {
    /// An engine that has just started, with the engine's own default network and nothing else.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let world = World::new(clock.now().at);
        let gate = watch::Sender::new(Gate::default());
        Self { clock, deadline: DEADLINE, gate, script: Arc::default(), world: Arc::new(Mutex::new(world)) }
    }

    /// The same engine, giving up on calls that are held up after `deadline` (of tokio's time).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets a call through to the world, or lets it fail as a test has arranged.
    async fn enter(&self, call: Call) -> Result<MutexGuard<'_, World>> {
        let passed = self.doors().pass(call).await;
        let world = self.world();
        if world.is_up() { passed.map(|()| world) } else { Err(unreachable()) }
    }

    fn doors(&self) -> Doors {
        Doors { gate: self.gate.subscribe(), script: Arc::clone(&self.script), deadline: self.deadline }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.world)
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now().at
    }
}

fn unreachable() -> Error {
    Error::unavailable("the engine does not answer")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[async_trait]
impl Engine for Sim {
    async fn ping(&self) -> Result<()> {
        self.enter(Call::Ping).await.map(drop)
    }

    async fn started_at(&self) -> Result<Option<OffsetDateTime>> {
        Ok(Some(self.enter(Call::StartedAt).await?.started_at()))
    }

    async fn free_memory(&self) -> Result<Option<u64>> {
        Ok(self.enter(Call::FreeMemory).await?.free_memory)
    }

    async fn accepts(&self, address: Ipv4Addr, _: u16) -> Result<Option<bool>> {
        let world = self.enter(Call::Accepts).await?;
        Ok(Some(world.runs_at(address)))
    }

    async fn images(&self) -> Result<Vec<String>> {
        Ok(self.enter(Call::Images).await?.images.keys().cloned().collect())
    }

    async fn image(&self, name: &str) -> Result<Image> {
        let world = self.enter(Call::Image).await?;
        let found = world.images.get(&world::tagged(name)).cloned();
        found.ok_or_else(|| Error::not_found(format!("the image {name:?} is not on the host")))
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.enter(Call::EnsureNetwork).await?.ensure_network(network)
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        Ok(self.enter(Call::List).await?.list())
    }

    async fn inspect(&self, id: &EngineId) -> Result<Observation> {
        self.enter(Call::Inspect).await?.observe(id)
    }

    async fn blueprint(&self, id: &EngineId) -> Result<Blueprint> {
        self.enter(Call::Blueprint).await?.blueprint(id)
    }

    async fn create(&self, blueprint: &Blueprint) -> Result<EngineId> {
        self.enter(Call::Create).await?.create(blueprint, self.now())
    }

    async fn start(&self, id: &EngineId) -> Result<()> {
        self.enter(Call::Start).await?.start(id, self.now())
    }

    async fn freeze(&self, id: &EngineId) -> Result<()> {
        let mut world = self.enter(Call::Freeze).await?;
        if !world.ours(id)?.state.is_up() {
            return Err(Error::conflict("the container is not running"));
        }
        world.freeze(id);
        Ok(())
    }

    async fn thaw(&self, id: &EngineId) -> Result<()> {
        let mut world = self.enter(Call::Thaw).await?;
        match world.ours(id)?.state {
            EngineState::Running => Ok(()),
            EngineState::Paused => {
                world.ours_mut(id)?.state = EngineState::Running;
                world.tell(id, Happening::Changed);
                Ok(())
            }
            _ => Err(Error::conflict("the container is not running")),
        }
    }

    async fn stop(&self, id: &EngineId, _grace: Duration) -> Result<()> {
        let mut world = self.enter(Call::Stop).await?;
        world.ours(id)?;
        world.stop(id, self.now());
        Ok(())
    }

    async fn remove(&self, id: &EngineId) -> Result<()> {
        let mut world = self.enter(Call::Remove).await?;
        world.ours(id)?;
        world.remove(id, self.now());
        Ok(())
    }

    async fn ensure_volume(&self, name: &VolumeName, owner: &str) -> Result<()> {
        self.enter(Call::EnsureVolume).await?.ensure_volume(name, owner)
    }

    async fn remove_volume(&self, name: &VolumeName) -> Result<bool> {
        Ok(self.enter(Call::RemoveVolume).await?.remove_volume(name))
    }

    async fn rename(&self, id: &EngineId, name: &Name) -> Result<()> {
        self.enter(Call::Rename).await?.rename(id, name)
    }

    async fn put_files(&self, id: &EngineId, into: &str, files: &[File]) -> Result<()> {
        self.enter(Call::PutFiles).await?.ours_mut(id)?.files.put(into, files)
    }

    async fn get_files(&self, id: &EngineId, path: &str, limit: usize) -> Result<Vec<File>> {
        let files = self.enter(Call::GetFiles).await?.ours(id)?.files.get(path)?;
        let size: usize = files.iter().filter_map(|f| f.content.as_ref()).map(Vec::len).sum();
        if size > limit {
            return Err(Error::new(Kind::Unsuitable, format!("{path:?} holds more than {limit} bytes")));
        }
        Ok(files)
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.enter(Call::Events).await?.listeners.push(sender);
        let next = |mut receiver: mpsc::UnboundedReceiver<_>| async { receiver.recv().await.map(|e| (e, receiver)) };
        Ok(futures::stream::unfold(receiver, next).boxed())
    }

    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        image::pull(self, image, credentials).await
    }

    async fn remove_image(&self, image: &ImageReference) -> Result<()> {
        self.enter(Call::RemoveImage).await?.remove_image(&image.to_string())
    }

    async fn logs(&self, id: &EngineId, range: &LogRange) -> Result<BoxStream<'static, Result<Vec<u8>>>> {
        let now = self.now();
        let (said, more) = self.enter(Call::Logs).await?.read_log(id, range, now)?;
        let next = |more: Option<mpsc::UnboundedReceiver<Vec<u8>>>| async {
            let mut more = more?;
            more.recv().await.map(|line| (Ok(line), Some(more)))
        };
        Ok(futures::stream::iter(said.into_iter().map(Ok)).chain(futures::stream::unfold(more, next)).boxed())
    }

    async fn disk(&self) -> Result<Option<DiskSpace>> {
        Ok(self.enter(Call::Disk).await?.disk)
    }

    async fn disk_use(&self, id: &EngineId) -> Result<u64> {
        Ok(self.enter(Call::DiskUse).await?.ours(id)?.written)
    }
}
