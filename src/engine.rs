//! The engine: what Spindown asks of Docker, and nothing more. `docker` speaks to a real one, `sim` simulates one for
//! scale and time; one contract suite holds for both.

pub mod docker;
pub mod sim;

use std::{net::Ipv4Addr, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use ipnet::Ipv4Net;
use time::OffsetDateTime;

use crate::model::{
    Blueprint, ContainerId, DiskSpace, EngineId, File, Image, ImageReference, LogRange, Name, Observation,
    PullProgress, RegistryCredentials, Result, VolumeName,
};

/// The network that the containers are on.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// Its name at the engine.
    pub name: String,
    /// The bridge's interface name on the host.
    pub bridge: String,
    /// Its addresses. The engine gives out addresses of its own only from [`NetworkSpec::foreign`], so that no stranger
    /// on the network ever gets an address of ours.
    pub subnet: Ipv4Net,
}

impl NetworkSpec {
    /// The host's own address on the network: the first.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.hosts().next().unwrap_or(self.subnet.network())
    }

    /// The part of the subnet, its last sixteenth, from which the engine serves whoever else is attached.
    pub fn foreign(&self) -> Ipv4Net {
        let length = (self.subnet.prefix_len() + 4).min(32);
        self.subnet.subnets(length).ok().and_then(Iterator::last).unwrap_or(self.subnet)
    }

    /// The addresses for containers of ours, in order.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (gateway, foreign) = (self.gateway(), self.foreign());
        self.subnet.hosts().filter(move |a| *a != gateway && !foreign.contains(a))
    }
}

/// What an event of the engine is about. Events are hints: whoever gets one looks for himself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// Spindown's id of the container it is about.
    pub id: ContainerId,
    /// The engine's id of it.
    pub engine_id: EngineId,
    /// What happened.
    pub what: Happening,
}

/// The happenings that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Somebody sent it a signal or told it to stop (comes before `Ended`).
    Signalled,
    /// Its main process ended.
    Ended,
    /// It was removed.
    Removed,
    /// Something else about it changed: started, frozen, thawed, renamed …
    Changed,
}

/// A container as a list shows it: enough to see whether it must be inspected again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Spindown's id, from the label.
    pub id: ContainerId,
    /// The engine's id.
    pub engine_id: EngineId,
    /// Its present name.
    pub name: Name,
    /// What it is doing.
    pub state: crate::model::EngineState,
    /// Whose place it was made to take at a reset.
    pub replaces: Option<EngineId>,
}

/// A Docker Engine, restricted to the containers of one instance of Spindown. Every call has a deadline and fails with
/// `Unavailable` when it passes, or when the engine cannot be reached.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Whether it answers.
    async fn ping(&self) -> Result<()>;

    /// When the present run of the engine began, where that can be told.
    async fn started_at(&self) -> Result<Option<OffsetDateTime>>;

    /// The memory in bytes that its machine could still give, where that can be told.
    async fn free_memory(&self) -> Result<Option<u64>>;

    /// The tags of all its images, sorted.
    async fn images(&self) -> Result<Vec<String>>;

    /// One image. `NotFound` if the engine does not have it.
    async fn image(&self, name: &str) -> Result<Image>;

    /// Makes sure that the network exists as specified. `Conflict` if one of that name differs, or if its addresses or
    /// bridge are taken.
    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()>;

    /// All containers of this instance, in any state.
    async fn list(&self) -> Result<Vec<Listed>>;

    /// One container. `NotFound` if there is none, or if it is not of this instance.
    async fn inspect(&self, id: &EngineId) -> Result<Observation>;

    /// What one was made with, without what its image adds to that by itself.
    async fn blueprint(&self, id: &EngineId) -> Result<Blueprint>;

    /// Makes a container and does not start it. `Conflict` if the name is in use, `Unsuitable` if the image is gone or
    /// the command is unusable.
    async fn create(&self, blueprint: &Blueprint) -> Result<EngineId>;

    /// Starts it; starting what runs is fine. `Conflict` if a port is taken, `Unsuitable` if its command cannot be run,
    /// `Exhausted` if the host has no room.
    async fn start(&self, id: &EngineId) -> Result<()>;

    /// Halts its processes, which notice nothing of it; one that is frozen is fine. `Conflict` if it is down.
    async fn freeze(&self, id: &EngineId) -> Result<()>;

    /// Lets a frozen one go on; one that runs is fine.
    async fn thaw(&self, id: &EngineId) -> Result<()>;

    /// Makes a volume for `owner`, unless it is there. `Conflict` if one of that name is somebody else's, or not the plain
    /// one of a directory that the engine keeps.
    async fn ensure_volume(&self, name: &VolumeName, owner: &str) -> Result<()>;

    /// Removes a volume of this instance's with everything in it; answers whether it is gone. One that a container has,
    /// running or not, stays.
    async fn remove_volume(&self, name: &VolumeName) -> Result<bool>;

    /// Asks it to end, and makes it after `grace`. Returns when it is down; stopping what is down is fine.
    async fn stop(&self, id: &EngineId, grace: Duration) -> Result<()>;

    /// Removes it with everything in it, running or not; `NotFound` if it is gone.
    async fn remove(&self, id: &EngineId) -> Result<()>;

    /// Gives it another name. `Conflict` if that is in use.
    async fn rename(&self, id: &EngineId, name: &Name) -> Result<()>;

    /// Whether something accepts connections at this port of a container's address; `None` where that cannot be tried from
    /// here.
    async fn accepts(&self, address: Ipv4Addr, port: u16) -> Result<Option<bool>>;

    /// Puts files into its file system below the directory `into`, in the order given, running or not.
    async fn put_files(&self, id: &EngineId, into: &str, files: &[File]) -> Result<()>;

    /// Reads a file, or all below a directory, from its file system, running or not. Paths begin with the last part of
    /// `path`. `NotFound` if there is nothing; `Unsuitable` above `limit` bytes.
    async fn get_files(&self, id: &EngineId, path: &str, limit: usize) -> Result<Vec<File>>;

    /// Events about containers of this instance from now on. When the connection is lost the stream ends.
    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>>;

    /// Pulls an image. Answers once the registry has let it through and the engine has begun; the stream tells how far it
    /// has come, ends when the image is there, and after an error. Whoever drops it gives the pull up. `NotFound` if the
    /// registry has no such image, `Unsuitable` if it refuses the credentials, or the lack of them, `Unavailable` if it does
    /// not answer or nothing moves for too long.
    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>>;

    /// Takes a tag away, and the image with it if that was its last. `NotFound` if there is none; `Conflict`, naming them,
    /// if containers were made from it, or from the image and this is its last tag, whoever made them.
    async fn remove_image(&self, image: &ImageReference) -> Result<()>;

    /// A container's output, running or not: both streams, in the order in which they were written. Following ends with
    /// the container; whoever drops the stream ends it sooner.
    async fn logs(&self, id: &EngineId, range: &LogRange) -> Result<BoxStream<'static, Result<Vec<u8>>>>;

    /// The room on the disk that containers and images are on, where that can be told.
    async fn disk(&self) -> Result<Option<DiskSpace>>;

    /// The bytes that a container has written over its image. The engine walks all of its files for that.
    async fn disk_use(&self, id: &EngineId) -> Result<u64>;
}
