//! What tests do to a simulated engine: what people, processes and fate do to a real one.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    Call, Sim,
    image::Published,
    locked,
    world::{self, Holder},
};
use crate::model::{
    Blueprint, ContainerId, DiskSpace, EngineId, EngineState, Error, File, Image, Limits, Observation, Protocol,
    VolumeName,
};

impl Sim {
    /// Gives the engine an image; without a tag, `latest` is meant.
    pub fn add_image(&self, name: &str, image: Image) {
        self.world().images.insert(world::tagged(name), image);
    }

    /// Sets the memory in bytes that the machine could still give.
    pub fn set_free_memory(&self, bytes: Option<u64>) {
        self.world().free_memory = bytes;
    }

    /// Takes an image away.
    pub fn remove_image(&self, name: &str) {
        self.world().images.remove(&world::tagged(name));
    }

    /// Removes a network, as somebody may when nothing is up on it.
    pub fn remove_network(&self, name: &str) {
        self.world().networks.remove(name);
    }

    /// Makes commands that begin with `word` unusable, whatever the image.
    pub fn forbid_command(&self, word: &str) {
        self.world().unrunnable.insert(word.to_owned());
    }

    /// Makes a container that Spindown did not make. Its image need not exist.
    pub fn add_foreign(&self) -> EngineId {
        const IMAGE: &str = "somebody/else";
        let blueprint = Blueprint {
            id: ContainerId::from_bits(0),
            name: None,
            hostname: None,
            image: IMAGE.to_owned(),
            command: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            ports: Vec::new(),
            bind: Ipv4Addr::LOCALHOST.into(),
            network: String::new(),
            address: Ipv4Addr::UNSPECIFIED,
            limits: Limits { memory: 0, cpus: 0.0, pids: 0, log_size: 0 },
            volumes: BTreeMap::new(),
        };
        let now = self.now();
        let mut world = self.world();
        let image = world.images.insert(world::tagged(IMAGE), Image::default());
        #[expect(clippy::unwrap_used, reason = "the image was put there above, and the name is made up")]
        let id = world.create(&blueprint, now).unwrap();
        match image {
            Some(image) => world.images.insert(world::tagged(IMAGE), image),
            None => world.images.remove(&world::tagged(IMAGE)),
        };
        id
    }

    /// Makes a volume that Spindown did not make.
    pub fn add_foreign_volume(&self, name: VolumeName) {
        self.world().volumes.insert(name, None);
    }

    /// Whether the engine has this volume, ours or not.
    pub fn has_volume(&self, name: &VolumeName) -> bool {
        self.world().volumes.contains_key(name)
    }

    /// Whether the engine has this container, ours or not.
    pub fn has(&self, id: &EngineId) -> bool {
        self.world().has(id)
    }

    /// What there is to see of a container, also while the engine does not answer.
    pub fn peek(&self, id: &EngineId) -> Option<Observation> {
        self.world().observe(id).ok()
    }

    /// Whether a container is up, also while the engine does not answer.
    pub fn is_up(&self, id: &EngineId) -> bool {
        self.world().ours(id).is_ok_and(|inmate| inmate.state.is_up())
    }

    /// Whether a container is frozen, also while the engine does not answer.
    pub fn is_frozen(&self, id: &EngineId) -> bool {
        self.world().ours(id).is_ok_and(|inmate| inmate.state == EngineState::Paused)
    }

    /// Lets something outside the engine take a port of the host.
    pub fn occupy_port(&self, port: u16, protocol: Protocol) {
        self.world().ports.insert((port, protocol), Holder::Stranger);
    }

    /// Frees a port taken with [`Sim::occupy_port`].
    pub fn free_port(&self, port: u16, protocol: Protocol) {
        let mut world = self.world();
        if world.ports.get(&(port, protocol)) == Some(&Holder::Stranger) {
            world.ports.remove(&(port, protocol));
        }
    }

    /// Freezes a container, as `docker pause` does.
    pub fn freeze_behind(&self, id: &EngineId) {
        self.world().freeze(id);
    }

    /// Lets a container end by itself.
    pub fn end(&self, id: &EngineId, exit_code: i64) {
        let now = self.now();
        self.world().end(id, exit_code, now);
    }

    /// Stops a container behind Spindown's back, as `docker stop` does.
    pub fn kill_behind(&self, id: &EngineId) {
        let now = self.now();
        self.world().stop(id, now);
    }

    /// Starts a container behind Spindown's back, as `docker start` does.
    ///
    /// # Errors
    /// As [`crate::engine::Engine::start`].
    pub fn start_behind(&self, id: &EngineId) -> Result<(), Error> {
        let now = self.now();
        self.world().start(id, now)
    }

    /// Removes a container behind Spindown's back, as `docker rm -f` does.
    pub fn remove_behind(&self, id: &EngineId) {
        let now = self.now();
        self.world().remove(id, now);
    }

    /// Writes a file, as a process inside would.
    ///
    /// # Errors
    /// `NotFound` if there is no such container or directory.
    pub fn write(&self, id: &EngineId, into: &str, file: File) -> Result<(), Error> {
        self.world().ours_mut(id)?.files.put(into, &[file])
    }

    /// The engine goes away: every call fails, and event streams end.
    pub fn go_down(&self) {
        let now = self.now();
        self.world().go_down(now);
    }

    /// The engine is there again. If it was `restarted`, its containers have ended with 143 when it went down, and
    /// [`crate::engine::Engine::started_at`] is now; otherwise only the connection was lost.
    pub fn come_back(&self, restarted: bool) {
        let now = self.now();
        self.world().come_back(restarted, now);
    }

    /// The engine takes calls and does not answer: each fails when its deadline passes.
    pub fn hang(&self) {
        self.gate.send_modify(|gate| gate.all = true);
    }

    /// The engine answers again, also the calls that still wait.
    pub fn resume(&self) {
        self.gate.send_modify(|gate| gate.all = false);
    }

    /// Calls of this kind wait until they are released, or their deadline passes.
    pub fn hold(&self, call: Call) {
        self.gate.send_modify(|gate| _ = gate.calls.insert(call));
    }

    /// Lets calls of this kind go on.
    pub fn release(&self, call: Call) {
        self.gate.send_modify(|gate| _ = gate.calls.remove(&call));
    }

    /// Lets the next call of this kind fail, before it does anything; several wait in line.
    pub fn fail_next(&self, call: Call, error: Error) {
        locked(&self.script).failures.entry(call).or_default().push_back(error);
    }

    /// Forgets the failures that were arranged and have not happened.
    pub fn forgive(&self) {
        locked(&self.script).failures.clear();
    }

    /// Whether events get lost from now on, as they do at a real engine under load.
    pub fn lose_events(&self, lost: bool) {
        self.world().mute = lost;
    }

    /// How often a call of this kind was made, whatever came of it.
    pub fn count(&self, call: Call) -> usize {
        locked(&self.script).counts.get(&call).copied().unwrap_or_default()
    }

    /// Gives a registry an image that everybody, or only who knows this name and password, may pull.
    pub fn publish(&self, name: &str, image: Image, keeper: Option<(&str, &str)>) {
        let keeper = keeper.map(|(name, password)| (name.to_owned(), password.to_owned()));
        self.world().registry.insert(world::tagged(name), Published { image, keeper });
    }

    /// Sets the room on the engine's disk.
    pub fn set_disk(&self, space: Option<DiskSpace>) {
        self.world().disk = space;
    }

    /// Lets a container have written so many bytes over its image.
    ///
    /// # Errors
    /// `NotFound` if there is no such container.
    pub fn fill(&self, id: &EngineId, bytes: u64) -> Result<(), Error> {
        self.world().ours_mut(id)?.written = bytes;
        Ok(())
    }

    /// Lets a container write a line to its output.
    ///
    /// # Errors
    /// `NotFound` if there is no such container.
    pub fn say(&self, id: &EngineId, line: &str) -> Result<(), Error> {
        self.world().say(id, line)
    }
}
