//! The engine that is a real Docker, from 20.10 on. This file connects and carries the trait; the files below it make
//! one call of the engine each, or translate at the border: nothing of bollard leaves this module.
//!
//! The API's version is left out of the requests, so every engine answers in its own newest. Pinning the oldest would
//! shut out engines that no longer speak it.

mod archive;
mod blueprint;
mod container;
mod convert;
mod create;
mod deadlines;
mod describe;
mod disk;
mod errors;
mod events;
mod image;
mod logs;
mod network;
mod pull;
mod volume;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bollard::{errors::Error as Fault, query_parameters as query};
use futures::stream::BoxStream;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use self::errors::{Task, translate};
pub use self::{deadlines::Deadlines, describe::Description};
use super::{Engine, EngineEvent, Listed, NetworkSpec};
use crate::{
    clock::Stopwatch,
    meter,
    model::{
        Blueprint, DiskSpace, EngineId, Error, File, Image, ImageReference, LogRange, Name, Observation, PullProgress,
        RegistryCredentials, Result, VolumeName,
    },
};

/// How many calls may be under way at once in each lane. The client opens a socket for every call, so this bounds the
/// sockets; the event stream is not counted.
const LANE: usize = 32;
/// The client's own limit, for the headers of an answer only. Ours are stricter and cover everything; this one must be
/// longer than the longest grace.
const CLIENT_TIMEOUT: u64 = 86_400;
/// How long a container may take to accept a connection: it is on the same machine.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Where the kernel tells of the machine's memory.
const MEMORY: &str = "/proc/meminfo";
/// The network that the engine makes anew whenever it starts.
const DEFAULT_NETWORK: &str = "bridge";

/// Where an engine listens.
#[derive(Debug)]
enum Address {
    Unix(String),
    Tcp(String),
}

/// A Docker Engine.
#[derive(Debug)]
pub struct Docker {
    address: Address,
    instance: String,
    deadlines: Deadlines,
    client: OnceLock<bollard::Docker>,
    /// Short calls and long ones wait in lanes of their own, so that forty slow stops do not make the engine look dead.
    short: Semaphore,
    long: Semaphore,
    /// Containers seen to be ours. Ids are never used again and labels never change, so what was ours stays ours.
    ours: Mutex<HashSet<EngineId>>,
    /// Containers with a command of their own that have not been started yet.
    unproven: Mutex<HashSet<EngineId>>,
    /// The engine's folder, once it has told.
    root: OnceLock<PathBuf>,
}

impl Docker {
    /// An engine at `url` (`unix:///path`, `tcp://host:port` or `http://host:port`), restricted to the containers of
    /// `instance`. Nothing is sent yet: an engine that is down now may be up later.
    ///
    /// # Errors
    /// `Invalid` if the address cannot be read, or asks for TLS, which is not supported yet.
    pub fn connect(url: &str, instance: &str) -> Result<Self> {
        Ok(Self {
            address: Address::parse(url)?,
            instance: instance.to_owned(),
            deadlines: Deadlines::default(),
            client: OnceLock::new(),
            short: Semaphore::new(LANE),
            long: Semaphore::new(LANE),
            ours: Mutex::default(),
            unproven: Mutex::default(),
            root: OnceLock::new(),
        })
    }

    /// The same engine with other deadlines.
    #[must_use]
    pub fn with_deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// The client. It is made when first needed, because making it fails while the socket is not there.
    fn client(&self) -> Result<&bollard::Docker, Fault> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let version = bollard::API_DEFAULT_VERSION;
        let client = match &self.address {
            Address::Unix(path) => bollard::Docker::connect_with_unix(path, CLIENT_TIMEOUT, version)?,
            Address::Tcp(address) => bollard::Docker::connect_with_http(address, CLIENT_TIMEOUT, version)?,
        };
        Ok(self.client.get_or_init(|| client.with_request_modifier(pull::mend_credentials)))
    }

    /// Does one piece of work at the engine, waiting for a free place included, within the task's deadline.
    async fn call<T>(&self, task: Task<'_>, work: impl Future<Output = Result<T, Fault>> + Send) -> Result<T> {
        let lane = if task.is_long() { &self.long } else { &self.short };
        let bounded = async {
            let _place = lane.acquire().await;
            work.await
        };
        let stopwatch = Stopwatch::start();
        let outcome = match tokio::time::timeout(self.deadlines.of(&task), bounded).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => Err(translate(&task, fault)),
            Err(late) => Err(errors::unreachable().caused_by(late)),
        };
        meter::record_call(meter::ENGINE_CALL, task.as_str(), stopwatch, &outcome);
        outcome
    }

    /// Makes sure that a container is ours before anything is done to it.
    async fn own(&self, id: &EngineId) -> Result<()> {
        if locked(&self.ours).contains(id) { Ok(()) } else { self.inspect(id).await.map(drop) }
    }
}

impl Address {
    fn parse(url: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid(format!("{url:?} is no engine's address: {why}")));
        match url.split_once("://") {
            Some(("unix", path)) if Path::new(path).is_absolute() => Ok(Self::Unix(path.to_owned())),
            Some(("unix", _)) => refused("write the whole path, unix:///var/run/docker.sock"),
            Some(("tcp" | "http", rest)) => {
                let address = rest.trim_end_matches('/');
                match address.rsplit_once(':') {
                    Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => {
                        Ok(Self::Tcp(address.to_owned()))
                    }
                    _ => refused("write host and port, tcp://10.0.0.5:2375"),
                }
            }
            Some(("https", _)) => refused(
                "TLS is not supported yet: forward a local port to the engine through SSH, and name it as tcp://",
            ),
            _ => refused("it begins with unix:// or tcp://"),
        }
    }
}

/// Whether `text` can be a host in an address: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
        None => !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    }
}

/// What a mutex guards, also after a panic elsewhere: sets of ids cannot be half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[async_trait]
impl Engine for Docker {
    async fn ping(&self) -> Result<()> {
        self.call(Task::Ping, async { self.client()?.ping().await.map(drop) }).await
    }

    async fn started_at(&self) -> Result<Option<OffsetDateTime>> {
        let default = network::find(self, DEFAULT_NETWORK).await?.into_iter().next();
        Ok(default.and_then(|n| n.created).and_then(|date| convert::date(&date)))
    }

    async fn free_memory(&self) -> Result<Option<u64>> {
        // The engine does not tell; on this machine the kernel does.
        if !matches!(self.address, Address::Unix(_)) {
            return Ok(None);
        }
        let text = tokio::fs::read_to_string(MEMORY).await.unwrap_or_default();
        Ok(convert::available_memory(&text))
    }

    async fn accepts(&self, address: Ipv4Addr, port: u16) -> Result<Option<bool>> {
        // The containers' network can be reached from the engine's own machine only.
        if !matches!(self.address, Address::Unix(_)) {
            return Ok(None);
        }
        let attempt = tokio::time::timeout(CONNECT_TIME, tokio::net::TcpStream::connect((address, port)));
        Ok(Some(matches!(attempt.await, Ok(Ok(_)))))
    }

    async fn images(&self) -> Result<Vec<String>> {
        let images =
            self.call(Task::List, async { self.client()?.list_images(None::<query::ListImagesOptions>).await }).await?;
        Ok(convert::tags(images))
    }

    async fn image(&self, name: &str) -> Result<Image> {
        let task = Task::Image(name);
        // The name becomes part of the request's path: what is no name must not lead to another request.
        if !convert::is_image_name(name) {
            return Err(errors::no_image(name));
        }
        self.call(task, async { self.client()?.inspect_image(name).await }).await.map(convert::image)
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        network::ensure(self, network).await
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        let options = query::ListContainersOptions { all: true, filters: Some(self.filters()), ..Default::default() };
        let found = self.call(Task::List, async { self.client()?.list_containers(Some(options)).await }).await?;
        let listed: Vec<Listed> = found.into_iter().filter_map(convert::listed).collect();
        // What is gone is forgotten here. One made meanwhile may be forgotten too: then it is looked at once more.
        *locked(&self.ours) = listed.iter().map(|c| c.engine_id.clone()).collect();
        Ok(listed)
    }

    async fn inspect(&self, id: &EngineId) -> Result<Observation> {
        let found = async { self.client()?.inspect_container(id.as_str(), None).await };
        let found = self.call(Task::Inspect, found).await?;
        let seen = convert::observation(found, &self.instance)?;
        locked(&self.ours).insert(id.clone());
        Ok(seen)
    }

    async fn blueprint(&self, id: &EngineId) -> Result<Blueprint> {
        blueprint::read(self, id).await
    }

    async fn create(&self, blueprint: &Blueprint) -> Result<EngineId> {
        container::create(self, blueprint).await
    }

    async fn start(&self, id: &EngineId) -> Result<()> {
        container::start(self, id).await
    }

    async fn freeze(&self, id: &EngineId) -> Result<()> {
        container::freeze(self, id).await
    }

    async fn thaw(&self, id: &EngineId) -> Result<()> {
        container::thaw(self, id).await
    }

    async fn ensure_volume(&self, name: &VolumeName, owner: &str) -> Result<()> {
        volume::ensure(self, name, owner).await
    }

    async fn remove_volume(&self, name: &VolumeName) -> Result<bool> {
        volume::remove(self, name).await
    }

    async fn stop(&self, id: &EngineId, grace: Duration) -> Result<()> {
        container::stop(self, id, grace).await
    }

    async fn remove(&self, id: &EngineId) -> Result<()> {
        container::remove(self, id).await
    }

    async fn rename(&self, id: &EngineId, name: &Name) -> Result<()> {
        container::rename(self, id, name).await
    }

    async fn put_files(&self, id: &EngineId, into: &str, files: &[File]) -> Result<()> {
        archive::put(self, id, into, files).await
    }

    async fn get_files(&self, id: &EngineId, path: &str, limit: usize) -> Result<Vec<File>> {
        archive::get(self, id, path, limit).await
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>> {
        events::subscribe(self).await
    }

    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        pull::pull(self, image, credentials).await
    }

    async fn remove_image(&self, image: &ImageReference) -> Result<()> {
        image::remove(self, image).await
    }

    async fn logs(&self, id: &EngineId, range: &LogRange) -> Result<BoxStream<'static, Result<Vec<u8>>>> {
        logs::read(self, id, range).await
    }

    async fn disk(&self) -> Result<Option<DiskSpace>> {
        disk::space(self).await
    }

    async fn disk_use(&self, id: &EngineId) -> Result<u64> {
        disk::measure(self, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_host_and_port() {
        for good in ["unix:///run/docker.sock", "tcp://10.0.0.5:2375", "http://engine.lan:80/", "tcp://[::1]:2375"] {
            assert!(Docker::connect(good, "test").is_ok(), "{good}");
        }
        for bad in
            ["", "/run/docker.sock", "unix://docker.sock", "tcp://10.0.0.5", "tcp://:1", "tcp://a:b", "ssh://a:1"]
        {
            assert!(Docker::connect(bad, "test").is_err(), "{bad}");
        }
        let message = Docker::connect("https://10.0.0.5:2376", "test").unwrap_err().message().to_owned();
        assert!(message.contains("TLS"), "{message}");
    }
}
