//! The snapshot: what is known of every container, in memory. Every read of the API is answered from here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::Ipv4Addr,
    ops::Bound,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use time::OffsetDateTime;

use super::event::EventLog;
use crate::{
    clock::Clock,
    model::{
        Activity, CheckIn, Container, ContainerId, EngineId, EngineState, Error, Moment, Name, Observation, Protocol,
        Reference, Result, Shown, Stamp, Status, Stop, What, changes, status,
    },
    policy::{
        cause::{self, Outage},
        idle::{Evidence, Sign},
        patience::Tries,
        watch,
    },
};

/// How much of its history is kept of one container.
const HISTORY: usize = 32;

/// A stop that failed and is tried again.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Failures in a row.
    pub failures: u32,
    /// What the last one was, for the caller.
    pub message: String,
    /// When it is tried again.
    pub next_try: Stamp,
}

/// What is known of the engine when a container's end is explained.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EngineHistory {
    pub started_at: Option<OffsetDateTime>,
    pub outage: Option<Outage>,
    /// Since when its events have been followed without a break.
    pub followed_since: Option<OffsetDateTime>,
}

/// All that is known of one container.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub container: Container,
    /// What the engine showed last; `None` if it has no such container.
    pub seen: Option<Observation>,
    /// The latest sign of each kind.
    pub signs: BTreeMap<Sign, Stamp>,
    /// What it reported last.
    pub connections: Option<u64>,
    /// Since when it has been known here.
    pub known_since: Moment,
    /// Whether somebody signalled it since it came up.
    pub signalled: bool,
    pub trouble: Option<Trouble>,
    /// How it did when it was woken last; `None` if it has not been.
    pub tries: Option<Tries>,
    /// What happened to it last, the oldest first.
    pub history: VecDeque<(Stamp, What)>,
    /// Whether it runs and has stopped reporting.
    pub silent: bool,
    /// Changed here and not in the store yet.
    pub unsaved: bool,
    /// Whether the last write of it may have been done though it failed.
    pub unsure: bool,
    /// Touched here and not in the store yet.
    pub unflushed: bool,
    /// The last use that the store is known to hold: what it tells again is no news, however the clock was set since.
    stored_use: Option<OffsetDateTime>,
}

impl Entry {
    /// A container of which the store, or its labels, tell.
    pub(super) fn new(container: Container, now: Stamp) -> Self {
        Self {
            container,
            seen: None,
            signs: BTreeMap::new(),
            connections: None,
            known_since: now.moment,
            signalled: false,
            trouble: None,
            tries: None,
            history: VecDeque::new(),
            silent: false,
            unsaved: false,
            unsure: false,
            unflushed: false,
            stored_use: None,
        }
    }

    pub(super) fn status(&self) -> Status {
        let ordered_down = self.container.stopping.is_some() || self.container.removing.is_some();
        status(ordered_down, self.seen.as_ref().map(|s| s.state))
    }

    /// What its events follow from.
    fn shown(&self) -> Shown {
        let up = self.seen.as_ref().filter(|seen| seen.state.is_up());
        Shown {
            status: self.status(),
            run: up.and_then(|up| up.started_at),
            ordered: self.container.stopping.map(|order| order.by),
            stopped: self.container.stopped.map(|stop| stop.by),
            exit_code: self.seen.as_ref().and_then(|seen| seen.exit_code),
        }
    }

    /// Whether it has reported before, and now has not for a while though it runs and has been watched.
    pub(super) fn has_fallen_silent(&self, watched_since: Moment, now: Moment) -> bool {
        let sign = |sign| self.signs.get(&sign).map(|stamp: &Stamp| stamp.moment);
        let heard = sign(Sign::CheckIn).map(|heard| heard.max(watched_since).max(sign(Sign::Start).unwrap_or(heard)));
        self.status() == Status::Running && heard.is_some_and(|heard| watch::silent(heard, now))
    }

    /// Notes a sign of use or of life.
    pub(super) fn note(&mut self, sign: Sign, at: Stamp) {
        let latest = self.signs.entry(sign).or_insert(at);
        if at.moment >= latest.moment {
            *latest = at;
        }
        self.unflushed = true;
    }

    /// Notes a report.
    pub(super) fn check_in(&mut self, connections: u64, at: Stamp) {
        self.note(Sign::CheckIn, at);
        if connections > 0 {
            self.note(Sign::Connections, at);
        }
        self.connections = Some(connections);
        self.silent = false;
    }

    /// Merges what the store remembers.
    pub(super) fn remember(&mut self, activity: Activity, now: Stamp) {
        let unflushed = self.unflushed;
        let known = self.activity();
        if self.stored_use.is_none_or(|stored| activity.last_active_at > stored) {
            self.stored_use = Some(activity.last_active_at);
            self.note(Sign::Remembered, Stamp::recall(activity.last_active_at, now));
        }
        if let Some(report) = activity.check_in
            && known.and_then(|k| k.check_in).is_none_or(|k| report.at > k.at)
        {
            self.note(Sign::CheckIn, Stamp::recall(report.at, now));
            self.connections = Some(report.connections);
        }
        self.unflushed = unflushed;
    }

    /// Notes that the store holds this now.
    pub(super) fn flushed(&mut self, written: Activity) {
        self.stored_use = self.stored_use.max(Some(written.last_active_at));
        self.unflushed = self.activity() != Some(written);
    }

    pub(super) fn evidence(&self) -> impl Iterator<Item = Evidence> {
        self.signs.iter().map(|(sign, stamp)| Evidence { sign: *sign, at: stamp.moment })
    }

    /// When it was last in use.
    pub(super) fn last_active_at(&self) -> Option<OffsetDateTime> {
        self.signs.iter().filter(|(sign, _)| sign.is_activity()).map(|(_, stamp)| stamp.at).max()
    }

    /// What the store is to remember.
    pub(super) fn activity(&self) -> Option<Activity> {
        let report = self.signs.get(&Sign::CheckIn).zip(self.connections);
        Some(Activity {
            last_active_at: self.last_active_at()?,
            check_in: report.map(|(stamp, connections)| CheckIn { at: stamp.at, connections }),
        })
    }

    /// Takes in what the engine shows now, and what follows from it.
    pub(super) fn observe(&mut self, seen: Option<Observation>, now: Stamp, engine: &EngineHistory) {
        let before = std::mem::replace(&mut self.seen, seen);
        let container = self.container.clone();
        match self.seen.clone() {
            Some(up) if up.state.is_up() => self.observe_up(before.as_ref(), &up, now),
            Some(down) if down.state != EngineState::Removing => self.observe_down(&down, now, engine),
            Some(_) => {}
            None => self.container.stopping = None,
        }
        if let Some(seen) = &self.seen {
            self.container.name = seen.name.clone();
            self.container.engine_id = seen.engine_id.clone();
        }
        if self.container.stopping.is_none() {
            self.trouble = None;
        }
        self.unsaved |= self.container != container;
    }

    fn observe_up(&mut self, before: Option<&Observation>, up: &Observation, now: Stamp) {
        let started_at = up.started_at.unwrap_or(now.at);
        let started = before.is_none_or(|b| !b.state.is_up() || b.started_at != up.started_at);
        let thawed = before.is_some_and(|b| b.state == EngineState::Paused) && up.state == EngineState::Running;
        // What another server wrote may be older than what is seen. It may also tell of the end of this very run, before
        // that is seen here.
        let of_this_run = |stop: &Stop| !started && up.started_at.is_some_and(|run| stop.at >= run);
        self.container.stopped = self.container.stopped.filter(of_this_run);
        self.container.stopping = self.container.stopping.filter(|order| order.run == up.started_at);
        if started {
            // Seen coming up, it came up now: the engine's clock may be another machine's, and wrong.
            let seen_down = before.is_some_and(|b| !b.state.is_up());
            let start = if seen_down { Stamp { at: started_at, ..now } } else { Stamp::recall(started_at, now) };
            self.note(Sign::Start, start);
            self.signalled = false;
            self.connections = self.connections.filter(|_| before.is_none());
        }
        if thawed {
            // While frozen it could not report.
            self.note(Sign::Start, now);
        }
    }

    fn observe_down(&mut self, down: &Observation, now: Stamp, engine: &EngineHistory) {
        let at = down.finished_at.unwrap_or(now.at);
        if let Some(order) = self.container.stopping.take() {
            self.container.stopped = Some(Stop { by: order.by, at, ordered: true });
            return;
        }
        let ending = cause::Ending {
            at,
            exit_code: down.exit_code,
            signalled: engine.followed_since.is_some_and(|since| since <= at).then_some(self.signalled),
            engine_started_at: engine.started_at,
            outage: engine.outage,
        };
        // An end that was explained when it was seen stays explained: whoever stopped it a moment before the engine went
        // down did so all the same.
        if self.container.stopped.is_none_or(|known| known.at < at) {
            self.container.stopped = Some(Stop { by: cause::infer(&ending), at, ordered: false });
        }
    }
}

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
        let (shown, silent) = (entry.shown(), entry.silent);
        let answer = change(entry);
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
