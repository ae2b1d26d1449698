//! What a simulated engine has, and how that changes. Everything here happens at once and under one lock.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::Ipv4Addr,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{files::Files, image::Published};
use crate::{
    engine::{EngineEvent, Happening, Listed, NetworkSpec},
    model::{
        Blueprint, ContainerId, DiskSpace, EngineId, EngineState, Error, Image, Kind, LogRange, Name, Observation,
        Protocol, Result, VolumeName, birth,
    },
};

/// What a process ends with that was asked to.
pub(super) const TERMINATED: i64 = 143;
/// What the init process ends with when the command is not there.
const NO_COMMAND: i64 = 127;

/// Who holds a port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Container(EngineId),
    Stranger,
}

/// One container.
#[derive(Debug)]
pub(super) struct Inmate {
    pub(super) blueprint: Blueprint,
    /// What its image was labelled with, which it is as well.
    pub(super) image_labels: BTreeMap<String, String>,
    pub(super) name: Name,
    pub(super) state: EngineState,
    pub(super) exit_code: i64,
    pub(super) created_at: OffsetDateTime,
    pub(super) started_at: Option<OffsetDateTime>,
    pub(super) finished_at: Option<OffsetDateTime>,
    pub(super) files: Files,
    /// What it has written out, by lines.
    pub(super) log: Vec<String>,
    /// Who follows that.
    pub(super) followers: Vec<UnboundedSender<Vec<u8>>>,
    /// The bytes that it has written over its image.
    pub(super) written: u64,
}

impl Inmate {
    /// Spindown's id of it, if it is ours: the labels decide, as they do at a real engine.
    fn id(&self) -> Option<ContainerId> {
        let labels = &self.blueprint.labels;
        labels.get(birth::MANAGED)?;
        ContainerId::parse(labels.get(birth::ID)?).ok()
    }
}

/// What a container has written, by pieces, and what it is yet to write.
pub(super) type Log = (Vec<Vec<u8>>, Option<UnboundedReceiver<Vec<u8>>>);

/// Everything that the engine has.
#[derive(Debug)]
pub(super) struct World {
    /// What the machine could still give; nothing is known without it.
    pub(super) free_memory: Option<u64>,
    /// The room on its disk; nothing is known without it.
    pub(super) disk: Option<DiskSpace>,
    pub(super) images: BTreeMap<String, Image>,
    /// What can be pulled.
    pub(super) registry: BTreeMap<String, Published>,
    pub(super) networks: HashMap<String, NetworkSpec>,
    pub(super) listeners: Vec<UnboundedSender<EngineEvent>>,
    pub(super) ports: HashMap<(u16, Protocol), Holder>,
    /// First words of commands that no image has.
    pub(super) unrunnable: HashSet<String>,
    /// Whether events get lost.
    pub(super) mute: bool,
    /// Volumes with their owners; without one it is somebody else's.
    pub(super) volumes: BTreeMap<VolumeName, Option<String>>,
    containers: HashMap<EngineId, Inmate>,
    names: HashMap<Name, EngineId>,
    addresses: HashMap<(String, Ipv4Addr), EngineId>,
    made: u64,
    started_at: OffsetDateTime,
    went_down_at: Option<OffsetDateTime>,
}

impl World {
    pub(super) fn new(now: OffsetDateTime) -> Self {
        Self {
            free_memory: None,
            disk: None,
            images: BTreeMap::new(),
            registry: BTreeMap::new(),
            networks: HashMap::new(),
            listeners: Vec::new(),
            ports: HashMap::new(),
            unrunnable: HashSet::new(),
            mute: false,
            volumes: BTreeMap::new(),
            containers: HashMap::new(),
            names: HashMap::new(),
            addresses: HashMap::new(),
            made: 0,
            started_at: now,
            went_down_at: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.went_down_at.is_none()
    }

    /// Whether a container that runs has the address.
    pub(super) fn runs_at(&self, address: Ipv4Addr) -> bool {
        let mut held = self.addresses.iter().filter(|((_, held), _)| *held == address);
        held.any(|(_, id)| self.containers.get(id).is_some_and(|inmate| inmate.state == EngineState::Running))
    }

    pub(super) fn started_at(&self) -> OffsetDateTime {
        self.started_at
    }

    pub(super) fn has(&self, id: &EngineId) -> bool {
        self.containers.contains_key(id)
    }

    /// A container of ours.
    pub(super) fn ours(&self, id: &EngineId) -> Result<&Inmate> {
        self.containers.get(id).filter(|inmate| inmate.id().is_some()).ok_or_else(no_container)
    }

    /// A container of ours, to be changed.
    pub(super) fn ours_mut(&mut self, id: &EngineId) -> Result<&mut Inmate> {
        self.containers.get_mut(id).filter(|inmate| inmate.id().is_some()).ok_or_else(no_container)
    }

    /// Tells everybody who listens.
    pub(super) fn tell(&mut self, id: &EngineId, what: Happening) {
        if self.mute {
            return;
        }
        let Some(ours) = self.containers.get(id).and_then(Inmate::id) else { return };
        let event = EngineEvent { id: ours, engine_id: id.clone(), what };
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let listed = self.containers.iter().filter_map(|(engine_id, inmate)| {
            let (engine_id, name) = (engine_id.clone(), inmate.name.clone());
            let replaces = inmate.blueprint.labels.get(birth::REPLACES).and_then(|id| EngineId::parse(id).ok());
            Some(Listed { id: inmate.id()?, engine_id, name, state: inmate.state, replaces })
        });
        listed.collect()
    }

    pub(super) fn observe(&self, id: &EngineId) -> Result<Observation> {
        let inmate = self.ours(id)?;
        let blueprint = &inmate.blueprint;
        let mut ports = blueprint.ports.clone();
        ports.sort_unstable();
        Ok(Observation {
            id: inmate.id().ok_or_else(no_container)?,
            engine_id: id.clone(),
            name: inmate.name.clone(),
            image: blueprint.image.clone(),
            state: inmate.state,
            exit_code: (inmate.state == EngineState::Exited).then_some(inmate.exit_code),
            created_at: inmate.created_at,
            started_at: inmate.started_at,
            // As good as any: nobody looks there.
            pid: inmate.state.is_up().then_some(1),
            finished_at: inmate.finished_at,
            address: Some(blueprint.address),
            ports,
            labels: inmate.image_labels.clone().into_iter().chain(blueprint.labels.clone()).collect(),
            volumes: blueprint.volumes.clone(),
        })
    }

    pub(super) fn ensure_volume(&mut self, name: &VolumeName, owner: &str) -> Result<()> {
        let of = self.volumes.entry(name.clone()).or_insert_with(|| Some(owner.to_owned()));
        if of.as_deref() == Some(owner) {
            return Ok(());
        }
        let name = name.as_str();
        Err(Error::conflict(format!(
            "volumes: the engine has a volume {name:?} that is not this owner's: use another name"
        )))
    }

    pub(super) fn remove_volume(&mut self, name: &VolumeName) -> bool {
        let in_use = self.containers.values().any(|inmate| inmate.blueprint.volumes.values().any(|held| held == name));
        match self.volumes.get(name) {
            Some(Some(_)) if !in_use => self.volumes.remove(name).is_some(),
            found => found.is_none(),
        }
    }

    pub(super) fn blueprint(&self, id: &EngineId) -> Result<Blueprint> {
        let inmate = self.ours(id)?;
        Ok(Blueprint { name: Some(inmate.name.clone()), ..inmate.blueprint.clone() })
    }

    pub(super) fn ensure_network(&mut self, spec: &NetworkSpec) -> Result<()> {
        if let Some(network) = self.networks.get(&spec.name) {
            if network.subnet == spec.subnet && network.bridge == spec.bridge {
                return Ok(());
            }
            return Err(Error::conflict(format!(
                "the engine's network {:?} differs: remove it, or change the settings below \"network\"",
                spec.name
            )));
        }
        for network in self.networks.values() {
            if network.subnet.contains(&spec.subnet) || spec.subnet.contains(&network.subnet) {
                let subnet = spec.subnet;
                return Err(Error::conflict(format!(
                    "the addresses {subnet} overlap with another network's: change \"network.subnet\""
                )));
            }
            if network.bridge == spec.bridge {
                return Err(Error::conflict(format!(
                    "the bridge {:?} belongs to another network: change \"network.bridge\"",
                    spec.bridge
                )));
            }
        }
        self.networks.insert(spec.name.clone(), spec.clone());
        Ok(())
    }

    pub(super) fn create(&mut self, blueprint: &Blueprint, now: OffsetDateTime) -> Result<EngineId> {
        let image = &blueprint.image;
        let Some(found) = self.images.get(&tagged(image)) else {
            return Err(Error::new(Kind::Unsuitable, format!("the image {image:?} is not on the host")));
        };
        let image_labels = found.labels.clone();
        self.made += 1;
        let name = blueprint.name.clone().unwrap_or_else(|| Name::from_engine(&format!("sim_{}", self.made)));
        if self.names.contains_key(&name) {
            return Err(name_in_use(&name));
        }
        let id = engine_id(self.made)?;
        let inmate = Inmate {
            blueprint: blueprint.clone(),
            image_labels,
            name: name.clone(),
            state: EngineState::Created,
            exit_code: 0,
            created_at: now,
            started_at: None,
            finished_at: None,
            files: Files::default(),
            log: Vec::new(),
            followers: Vec::new(),
            written: 0,
        };
        self.names.insert(name, id.clone());
        self.containers.insert(id.clone(), inmate);
        self.tell(&id, Happening::Changed);
        Ok(id)
    }

    pub(super) fn start(&mut self, id: &EngineId, now: OffsetDateTime) -> Result<()> {
        let inmate = self.ours(id)?;
        match inmate.state {
            EngineState::Running => return Ok(()),
            EngineState::Paused | EngineState::Removing => {
                return Err(Error::conflict("the container is frozen or being removed"));
            }
            EngineState::Created | EngineState::Exited => {}
        }
        let blueprint = &inmate.blueprint;
        let command = blueprint.command.iter().flatten().next();
        let unrunnable = command.is_some_and(|word| self.unrunnable.contains(word));
        let ports: Vec<_> = blueprint.ports.iter().map(|p| (p.host, p.protocol)).collect();
        let address = (blueprint.network.clone(), blueprint.address);
        let network = self.networks.get(&blueprint.network);
        let network = network.ok_or_else(|| Error::unavailable("the containers' network is missing"))?;
        if !network.subnet.contains(&blueprint.address) {
            return Err(Error::conflict(
                "the container's address is not on the network: the network's subnet has changed",
            ));
        }
        if network.gateway() == blueprint.address || self.addresses.contains_key(&address) {
            return Err(Error::conflict("the container's address is in use on the network by something else"));
        }
        if let Some((port, _)) = ports.iter().find(|port| self.ports.contains_key(port)) {
            return Err(Error::conflict(format!("port {port} of the host is in use by something else")));
        }
        self.ports.extend(ports.into_iter().map(|port| (port, Holder::Container(id.clone()))));
        self.addresses.insert(address, id.clone());
        let inmate = self.ours_mut(id)?;
        inmate.state = EngineState::Running;
        inmate.started_at = Some(now);
        self.tell(id, Happening::Changed);
        if unrunnable {
            self.end(id, NO_COMMAND, now);
            return Err(Error::new(Kind::Unsuitable, "the command cannot be run in this image"));
        }
        Ok(())
    }

    /// Brings a container down as the engine does when it is told to; nothing happens to one that is down.
    pub(super) fn stop(&mut self, id: &EngineId, now: OffsetDateTime) {
        if self.containers.get(id).is_some_and(|inmate| inmate.state.is_up()) {
            self.tell(id, Happening::Signalled);
            self.end(id, TERMINATED, now);
            self.tell(id, Happening::Changed);
        }
    }

    /// Ends a container's main process.
    pub(super) fn end(&mut self, id: &EngineId, exit_code: i64, now: OffsetDateTime) {
        let Some(inmate) = self.containers.get_mut(id).filter(|inmate| inmate.state.is_up()) else { return };
        inmate.state = EngineState::Exited;
        inmate.exit_code = exit_code;
        inmate.finished_at = Some(now);
        inmate.followers.clear();
        let blueprint = &inmate.blueprint;
        self.addresses.remove(&(blueprint.network.clone(), blueprint.address));
        for port in &blueprint.ports {
            self.ports.remove(&(port.host, port.protocol));
        }
        self.tell(id, Happening::Ended);
    }

    pub(super) fn freeze(&mut self, id: &EngineId) {
        let Some(inmate) = self.containers.get_mut(id).filter(|inmate| inmate.state == EngineState::Running) else {
            return;
        };
        inmate.state = EngineState::Paused;
        self.tell(id, Happening::Changed);
    }

    pub(super) fn remove(&mut self, id: &EngineId, now: OffsetDateTime) {
        if self.containers.get(id).is_some_and(|inmate| inmate.state.is_up()) {
            self.tell(id, Happening::Signalled);
            self.end(id, TERMINATED, now);
        }
        self.tell(id, Happening::Removed);
        if let Some(inmate) = self.containers.remove(id) {
            self.names.remove(&inmate.name);
        }
    }

    pub(super) fn rename(&mut self, id: &EngineId, name: &Name) -> Result<()> {
        let old = self.ours(id)?.name.clone();
        if old == *name {
            return Ok(());
        }
        if self.names.contains_key(name) {
            return Err(name_in_use(name));
        }
        self.names.remove(&old);
        self.names.insert(name.clone(), id.clone());
        self.ours_mut(id)?.name = name.clone();
        self.tell(id, Happening::Changed);
        Ok(())
    }

    /// Takes an image away that no container uses.
    pub(super) fn remove_image(&mut self, name: &str) -> Result<()> {
        if !self.images.contains_key(name) {
            return Err(Error::not_found(format!("the image {name:?} is not on the host")));
        }
        let using = self.containers.values().filter(|inmate| tagged(&inmate.blueprint.image) == name);
        let mut users: Vec<_> = using.map(|inmate| (inmate.id().is_none(), inmate.name.as_str())).collect();
        users.sort_unstable();
        if !users.is_empty() {
            let named = users.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ");
            return Err(Error::conflict(format!("the image \"{name}\" is in use by {named}: DELETE them first")));
        }
        self.images.remove(name);
        Ok(())
    }

    /// A container writes a line.
    pub(super) fn say(&mut self, id: &EngineId, line: &str) -> Result<()> {
        let inmate = self.ours_mut(id)?;
        inmate.log.push(line.to_owned());
        inmate.followers.retain(|follower| follower.send(format!("{line}\n").into_bytes()).is_ok());
        Ok(())
    }

    /// What a container has written, and what it is yet to write if that is asked for.
    pub(super) fn read_log(&mut self, id: &EngineId, range: &LogRange, now: OffsetDateTime) -> Result<Log> {
        let inmate = self.ours_mut(id)?;
        let lines = range.tail.map_or(inmate.log.len(), |tail| inmate.log.len().min(tail as usize));
        let date = if range.timestamps { now.format(&Rfc3339).unwrap_or_default() + " " } else { String::new() };
        let last = &inmate.log[inmate.log.len() - lines..];
        let said = last.iter().map(|line| format!("{date}{line}\n").into_bytes()).collect();
        let more = (range.follow && inmate.state.is_up()).then(|| {
            let (sender, receiver) = unbounded_channel();
            inmate.followers.push(sender);
            receiver
        });
        Ok((said, more))
    }

    pub(super) fn go_down(&mut self, now: OffsetDateTime) {
        self.went_down_at.get_or_insert(now);
        self.listeners.clear();
        self.containers.values_mut().for_each(|inmate| inmate.followers.clear());
    }

    /// The engine answers again; if it was `restarted`, everything that ran ended when it went down.
    pub(super) fn come_back(&mut self, restarted: bool, now: OffsetDateTime) {
        let down = self.went_down_at.take().unwrap_or(now);
        if restarted {
            self.listeners.clear();
            self.started_at = now;
            let up = self.containers.iter().filter(|(_, inmate)| inmate.state.is_up());
            let up: Vec<EngineId> = up.map(|(id, _)| id.clone()).collect();
            for id in up {
                self.end(&id, TERMINATED, down);
            }
        }
    }
}

/// The whole name of an image: without a tag, `latest` is meant.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

fn no_container() -> Error {
    Error::not_found("the engine has no such container")
}

fn name_in_use(name: &Name) -> Error {
    Error::conflict(format!("the name {:?} is in use", name.as_str()))
}

/// The engine's id of the container made as number `made`: scattered, as real ones are, so that prefixes differ.
fn engine_id(made: u64) -> Result<EngineId> {
    let words = (0..4).map(|salt: u64| {
        // The mixing step of splitmix64, which maps different numbers to different ones.
        let mixed = made.wrapping_add(salt << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", mixed ^ (mixed >> 31))
    });
    EngineId::parse(&words.collect::<String>())
}
