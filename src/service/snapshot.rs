//! The snapshot: what is known of every container, in memory. Every read of the API is answered from here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    ops::Bound,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{entry::Entry, event::EventLog};
use crate::{
    clock::Clock,
    meter,
    model::{Container, ContainerId, EngineId, Error, Name, Protocol, Reference, Result, Status, What, changes},
};

/// How much of its history is kept of one container.
const HISTORY: usize = 32;

/// The containers and the ways to find one. Whatever changes here and is news becomes an event.
pub(super) struct Snapshot {
    index: RwLock<Index>,
    events: Arc<EventLog>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
pub(super) struct Index {
    entries: BTreeMap<ContainerId, Entry>,
    by_engine_id: BTreeMap<EngineId, ContainerId>,
    by_name: HashMap<Name, ContainerId>,
    by_address: HashMap<Ipv4Addr, ContainerId>,
    by_port: HashMap<u16, ContainerId>,
}

impl Snapshot {
    /// Without containers.
    pub(super) fn new(events: Arc<EventLog>, clock: Arc<dyn Clock>) -> Self {
        Self { index: RwLock::default(), events, clock }
    }

    /// Looks at it. Keep it short: nothing may wait meanwhile.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(|e| e.into_inner())
    }

    /// A copy of one entry.
    pub(super) fn get(&self, id: &ContainerId) -> Option<Entry> {
        self.read().entries.get(id).cloned()
    }

    /// A copy of one entry that must be there.
    pub(super) fn require(&self, id: &ContainerId) -> Result<Entry> {
        self.get(id).ok_or_else(|| not_found(id.as_str()))
    }

    /// Puts an entry in, unless there is one.
    pub(super) fn add(&self, mut entry: Entry) {
        let mut index = self.write();
        if !index.entries.contains_key(&entry.container.id) {
            index.link(&entry.container);
            self.tell(&mut entry, What::Created);
            index.entries.insert(entry.container.id.clone(), entry);
        }
    }

    /// Changes an entry; nothing if there is none.
    pub(super) fn update<T>(&self, id: &ContainerId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut guard = self.write();
        let index = &mut *guard;
        let entry = index.entries.get_mut(id)?;
        let before = (entry.container.name.clone(), entry.container.engine_id.clone());
        let (shown, silent, false_freezes) = (entry.shown(), entry.silent, entry.false_freezes);
        let answer = change(entry);
        if entry.false_freezes > false_freezes {
            metrics::counter!(meter::FALSE_SLEEPS).increment(1);
        }
        if let Some(what) = changes(&shown, &entry.shown()) {
            self.tell(entry, what);
        }
        match (silent, entry.silent) {
            (false, true) => self.tell(entry, What::CheckInLost),
            (true, false) if entry.status() == Status::Running => self.tell(entry, What::CheckInBack),
            _ => {}
        }
        if (&before.0, &before.1) != (&entry.container.name, &entry.container.engine_id) {
            let container = entry.container.clone();
            index.unlink(id, &before.0, &before.1);
            index.link(&container);
        }
        Some(answer)
    }

    /// Forgets one.
    pub(super) fn remove(&self, id: &ContainerId) {
        let mut index = self.write();
        if let Some(mut entry) = index.entries.remove(id) {
            index.unlink(id, &entry.container.name, &entry.container.engine_id);
            self.tell(&mut entry, What::Removed);
            index.by_address.retain(|_, of| of != id);
            index.by_port.retain(|_, of| of != id);
        }
    }

    /// Tells what happened to a container, beside what follows from how it changes.
    pub(super) fn note(&self, id: &ContainerId, what: What) {
        if let Some(entry) = self.write().entries.get_mut(id) {
            self.tell(entry, what);
        }
    }

    fn tell(&self, entry: &mut Entry, what: What) {
        let (now, subject) = (self.clock.now(), (entry.container.id.clone(), entry.container.name.clone()));
        if self.events.note_container(now, subject, what.clone()) {
            if entry.history.len() == HISTORY {
                entry.history.pop_front();
            }
            entry.history.push_back((now, what));
        }
    }

    /// The container that has the address.
    pub(super) fn at_address(&self, address: Ipv4Addr) -> Option<ContainerId> {
        self.read().by_address.get(&address).cloned()
    }

    /// The container that the caller means.
    pub(super) fn find(&self, text: &str) -> Result<ContainerId> {
        let index = self.read();
        let found = match Reference::parse(text) {
            Some(Reference::Digits(digits)) => index.by_digits(&digits),
            Some(Reference::Name(name)) => index.by_name.get(&name).into_iter().collect(),
            None => BTreeSet::new(),
        };
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id.clone()),
            (None, _) => Err(not_found(text)),
            (Some(_), Some(_)) => {
                Err(Error::conflict(format!("{text:?} could be several containers: give more digits")))
            }
        }
    }
}

impl Index {
    /// All entries, in the order of their ids.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// One entry.
    pub(super) fn entry(&self, id: &ContainerId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The one that has the host's TCP port.
    pub(super) fn at_port(&self, port: u16) -> Option<&Entry> {
        self.entries.get(self.by_port.get(&port)?)
    }

    fn link(&mut self, container: &Container) {
        let id = &container.id;
        self.by_engine_id.insert(container.engine_id.clone(), id.clone());
        self.by_name.insert(container.name.clone(), id.clone());
        if let Some(address) = container.address {
            self.by_address.insert(address, id.clone());
        }
        let ports = container.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        self.by_port.extend(ports.map(|port| (port.host, id.clone())));
    }

    fn unlink(&mut self, id: &ContainerId, name: &Name, engine_id: &EngineId) {
        self.by_engine_id.remove(engine_id);
        // Another container may have taken the name meanwhile.
        if self.by_name.get(name) == Some(id) {
            self.by_name.remove(name);
        }
    }

    fn by_digits(&self, digits: &str) -> BTreeSet<&ContainerId> {
        let from = (Bound::Included(digits), Bound::Unbounded);
        let own = self.entries.range::<str, _>(from).map(|(id, _)| (id.as_str(), id));
        let of_engine = self.by_engine_id.range::<str, _>(from).map(|(id, own)| (id.as_str(), own));
        let own = own.take_while(|(text, _)| text.starts_with(digits)).map(|(_, id)| id);
        let of_engine = of_engine.take_while(|(text, _)| text.starts_with(digits)).map(|(_, id)| id);
        own.chain(of_engine).collect()
    }
}

/// There is no such container.
pub(super) fn not_found(text: &str) -> Error {
    Error::not_found(format!(
        "there is no container {text:?}: name it by its id, by 12 or more of its digits, or by its name"
    ))
}
