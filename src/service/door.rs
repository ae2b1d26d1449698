//! The door, as far as containers are concerned: which of their ports are asleep, what a connection to a port is for,
//! and waking. Who is let in, and how bytes get on, is the affair of `wake`.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::Mutex,
    time::Duration,
};

use super::{Spindown, Unpoisoned, entry::Entry};
use crate::{
    meter,
    model::{
        Container, ContainerId, Demand, Error, Kind, Moment, Port, Protocol, Result, Stamp, Status, StoppedBy, What,
    },
    policy::{
        door::{Sleeper, Way, way},
        patience::{self, Tries},
    },
    step::{Step, passed},
};

/// For how long ports of a container that was woken lead to the door: nobody knows when each of them accepts, but whoever
/// has come through.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// For how long a connection waits while others are at its container: whoever starts it may have to wait for his turn, as
/// when a whole class comes at once.
pub(super) const TURN_WITHIN: Duration = Duration::from_secs(120);
/// Refusals for one reason within this time are one piece of news.
const NEWS_AFTER: Duration = Duration::from_secs(60);

/// Those that are being woken.
#[derive(Default)]
pub(super) struct Waking {
    ids: Mutex<HashMap<ContainerId, Wakeup>>,
    /// Held over finding out which ports are asleep and telling the firewall: what is found out later is told later.
    telling: tokio::sync::Mutex<()>,
}

/// A container that slept and is started.
struct Wakeup {
    /// Since when it is up; `None` while it is being started.
    up_since: Option<Moment>,
    /// Whether anybody has come through, or it was not started for a connection.
    done: bool,
    /// The host's ports through which nobody has come yet.
    ports: BTreeSet<u16>,
}

/// What a connection to a port of the host is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The container.
    pub id: ContainerId,
    /// Its address, its own for life.
    pub address: Ipv4Addr,
    /// The port of the container that the host's leads to.
    pub port: u16,
    /// What shows that somebody wants something of it; `None` if it is up, and nothing has to be shown.
    pub demand: Option<Demand>,
    /// Where the connection goes.
    pub way: Way,
}

/// A connection that the carrier has taken.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// Its number there.
    pub number: u64,
    /// The host's port.
    pub port: u16,
    /// Who connected.
    pub client: IpAddr,
    /// How long it waited.
    pub waited: Duration,
}

impl Spindown {
    /// Where a connection to a container goes now.
    fn way(&self, entry: &Entry, waking: bool) -> Way {
        way(&Sleeper {
            status: entry.status(),
            ordered: entry.container.stopping.map(|order| order.by),
            stopped: entry.container.stopped.map(|stop| stop.by),
            wake: entry.container.wake,
            waking,
            removing: entry.container.removing.is_some(),
        })
    }

    /// Whether a connection wakes a container now.
    pub(super) fn wakes(&self, entry: &Entry) -> bool {
        self.settings.door && self.way(entry, false) == Way::Door
    }

    /// Has the kernel send connections for the ports that are asleep to the door, and no others. It holds when this
    /// returns.
    ///
    /// # Errors
    /// `Unavailable` if the kernel cannot be told.
    pub async fn divert(&self) -> Result<()> {
        let _turn = self.waking.telling.lock().await;
        let asleep = self.asleep();
        self.firewall.divert(&asleep).await
    }

    /// The same. What the kernel cannot be told now it is told, and complained of, by [`Spindown::keep_door`].
    pub async fn divert_or_later(&self) {
        let _ = self.divert().await;
    }

    /// The host's ports that are asleep.
    fn asleep(&self) -> BTreeSet<u16> {
        if !self.settings.door {
            return BTreeSet::new();
        }
        let now = self.clock.now().moment;
        let snapshot = self.snapshot.read();
        let mut waking = self.waking.ids.locked();
        let over = |wakeup: &Wakeup| wakeup.up_since.is_some_and(|since| now.since(since) >= READY_WITHIN);
        waking.retain(|_, wakeup| !wakeup.ports.is_empty() && !over(wakeup));
        let mut asleep = BTreeSet::new();
        for entry in snapshot.entries() {
            let coming = waking.get(&entry.container.id).map(|wakeup| &wakeup.ports);
            let here = |port: &u16| {
                let waking = coming.is_some_and(|ports| ports.contains(port));
                self.way(entry, waking) == Way::Door
            };
            asleep.extend(tcp(&entry.container.ports).map(|port| port.host).filter(here));
        }
        asleep
    }

    /// The host's TCP ports of containers that are down: nobody else is to get them meanwhile.
    pub fn ports_down(&self) -> BTreeSet<u16> {
        let snapshot = self.snapshot.read();
        let down = snapshot.entries().filter(|entry| entry.status() == Status::Stopped);
        down.flat_map(|entry| tcp(&entry.container.ports)).map(|port| port.host).collect()
    }

    /// What a TCP connection to a port of the host is for; `None` if the port is no container's.
    pub fn called(&self, port: u16) -> Option<Called> {
        let snapshot = self.snapshot.read();
        let entry = snapshot.at_port(port)?;
        let waking = self.waking.ids.locked().get(&entry.container.id).is_some_and(|w| w.ports.contains(&port));
        let up = matches!(entry.status(), Status::Running | Status::Frozen);
        Some(Called {
            id: entry.container.id.clone(),
            address: entry.container.address?,
            port: tcp(&entry.container.ports).find(|p| p.host == port)?.container,
            demand: (!up).then(|| entry.demand()),
            way: self.way(entry, waking),
        })
    }

    /// Has a container up for a connection. Whoever comes while another does this waits for him, and finds it done. Its
    /// ports lead to the door until somebody has come through each of them.
    ///
    /// # Errors
    /// `Conflict` if it does not wake; `TooMany` if it, or the client, was woken for too often to no avail; else as for
    /// [`Spindown::start_container`].
    pub async fn wake(&self, id: &ContainerId, client: IpAddr) -> Result<()> {
        let status = self.snapshot.require(id)?.status();
        if matches!(status, Status::Stopped | Status::Stopping) {
            self.bear_with(client, id)?;
        }
        // Whoever is stopping it for being idle hears of this before he goes on.
        self.snapshot.update(id, |entry| entry.wanted |= entry.status() == Status::Stopping);
        let _lock = self.locks.lock_within(TURN_WITHIN, id).await?;
        let closed = || Error::conflict("it does not wake for connections: start it with PATCH status=running");
        match self.way(&self.snapshot.require(id)?, false) {
            Way::Through => return Ok(()),
            Way::Closed => return Err(closed()),
            Way::Door => {}
        }
        // An idle stop that was ordered and not carried out yet is overruled with that.
        let entry = self.ready_to_start(id).await?;
        match self.way(&entry, false) {
            Way::Through => return Ok(()),
            Way::Closed => return Err(closed()),
            Way::Door => {}
        }
        self.bear_with(client, id)?;
        let tries = try_anew(&entry, self.clock.now().moment)?;
        self.store.ping().await?;
        let outcome = self.start_behind_the_door(&entry, true).await;
        match &outcome {
            Ok(()) => drop(self.snapshot.update(id, |entry| entry.tries = Some(tries.came_up()))),
            // It was not tried at all.
            Err(error) if error.kind() == Kind::Exhausted => {}
            Err(_) => drop(self.snapshot.update(id, |entry| entry.tries = Some(tries))),
        }
        if outcome.is_ok() {
            // It was started for somebody, who may yet be kept from coming through.
            self.note_connection(id);
            tracing::info!(container = %id, %client, "container woken");
        }
        outcome
    }

    /// Starts a container. If it slept its ports lead to the door until somebody has come through; `woken` if that is for a
    /// connection. The caller holds its lock.
    pub(super) async fn start_behind_the_door(&self, entry: &Entry, woken: bool) -> Result<()> {
        let Container { id, engine_id, ports, .. } = &entry.container;
        if self.wakes(entry) {
            let ports = tcp(ports).map(|port| port.host).collect();
            self.waking.ids.locked().insert(id.clone(), Wakeup { up_since: None, done: !woken, ports });
        }
        let outcome = self.start_at_engine(engine_id).await;
        passed(if woken { Step::WakeStarted } else { Step::StartDone });
        let outcome = outcome.and(self.look_again(id, engine_id).await);
        let (now, mut waking) = (self.clock.now().moment, self.waking.ids.locked());
        match &outcome {
            Ok(()) => drop(waking.entry(id.clone()).and_modify(|wakeup| wakeup.up_since = Some(now))),
            Err(_) => drop(waking.remove(id)),
        }
        outcome
    }

    /// Notes that a connection has come through to its container: new ones to that port go straight there.
    pub async fn came_through(&self, id: &ContainerId, passed: Passed) {
        let Passed { number, port, client, waited } = passed;
        self.note_connection(id);
        metrics::histogram!(meter::WAKE).record(waited.as_secs_f64());
        let (news, released) = match self.waking.ids.locked().get_mut(id) {
            Some(wakeup) => (!std::mem::replace(&mut wakeup.done, true), wakeup.ports.remove(&port)),
            None => (false, false),
        };
        if news {
            self.note_waker(number, client, id);
            self.snapshot.note(id, What::Woken { client, took: waited });
        }
        if released {
            self.divert_or_later().await;
        }
    }

    /// Notes that a connection that would have woken a container came to nothing, and why.
    pub fn refuse_wake(&self, id: &ContainerId, client: IpAddr, error: &Error) {
        let (now, reason) = (self.clock.now().moment, error.message());
        let told = |(at, what): &(Stamp, What)| {
            matches!(what, What::WakeRefused { reason: before, .. } if before == reason)
                && now.since(at.moment) < NEWS_AFTER
        };
        let known = self.snapshot.read().entry(id).is_none_or(|entry| entry.history.iter().any(told));
        if !known {
            tracing::info!(container = %id, %client, error = error.message(), "a connection came to nothing");
            self.snapshot.note(id, What::WakeRefused { client, reason: reason.to_owned().into() });
        }
    }

    /// Sees to it that the door can do its work: the kernel knows which ports are asleep, there is a carrier, and what it
    /// carries is heard of. [`Spindown::health`] tells what is wrong with that.
    pub async fn keep_door(&self) {
        let outcome = async {
            self.divert().await?;
            self.watch_frozen().await?;
            self.carrier.ready().await?;
            self.heed_carried().await?;
            self.firewall.obstacle().await
        };
        self.vitals.door_seen(outcome.await);
    }

    /// Gives back to those that are up the ports at which somebody was still to come through: the door is about to close.
    pub async fn give_back(&self) {
        self.waking.ids.locked().clear();
        if let Err(error) = self.divert().await {
            tracing::warn!(error = error.message(), "some ports may be closed until the server is back");
        }
    }
}

/// Whether a container may be tried now, and what is remembered of that.
fn try_anew(entry: &Entry, now: Moment) -> Result<Tries> {
    let own = entry.container.stopped.filter(|stop| stop.by == StoppedBy::Own);
    let began = entry.seen.as_ref().and_then(|seen| seen.started_at);
    let ran = own.zip(began).map(|(stop, began)| (stop.at - began).try_into().unwrap_or_default());
    let fell = ran.is_some_and(patience::fell);
    let until = entry.tries.map_or(now, |tries| tries.waits_until(fell));
    if until > now {
        let why = if fell { "it ends by itself soon after each start" } else { "it could not be started" };
        return Err(Error::new(Kind::TooMany, format!("{why}: it is tried again in a while, and ever more seldom")));
    }
    Ok(Tries::next(entry.tries, fell, now))
}

/// The ports that a connection can be made to.
fn tcp(ports: &[Port]) -> impl Iterator<Item = &Port> {
    ports.iter().filter(|port| port.protocol == Protocol::Tcp)
}
