//! Freezing as a probe: a container that nobody seems to use is frozen, and whoever then comes for it through the network or
//! through us has it go on at once. The kernel tells who comes; a look into it finds what that has missed.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::stream::BoxStream;

use super::{Spindown, Unpoisoned, door::TURN_WITHIN, entry::Entry};
use crate::{
    clock::Stopwatch,
    meter,
    model::{ContainerId, Demand, Error, Freeze, Knock, Moment, Result, Status, StoppedBy, What},
    policy::idle::{Sign, Verdict},
    step::{Step, passed},
};

/// How many connections of one kind are remembered.
const REMEMBERED: usize = 4_096;
/// A connection that begins is another one from the same port if the last began longer ago.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// Said of a thaw that failed.
const NOT_YET: &str = "a frozen container could not be let go on yet";

/// Connections to containers, and when something was noted of each.
type Remembered = HashMap<(ContainerId, SocketAddr), Moment>;

/// Remembers a connection; answers since when it was before.
fn remember(all: &Mutex<Remembered>, id: &ContainerId, client: SocketAddr, now: Moment) -> Option<Moment> {
    let mut all = all.locked();
    if all.len() >= REMEMBERED {
        all.clear();
    }
    all.insert((id.clone(), client), now)
}

/// What is known of those that come for frozen containers.
#[derive(Default)]
pub(super) struct Frozen {
    /// Those that are being let go on, and for whom.
    thawing: Mutex<BTreeSet<ContainerId>>,
    /// For whom containers were let go on, and when: what becomes of them decides how much patience there is with them.
    callers: Mutex<Remembered>,
    /// The connections that began lately at containers that wait for data, and when.
    begun: Mutex<Remembered>,
    /// Whether it has been told that their memory cannot be given back.
    keeps_memory: AtomicBool,
    /// Held over finding out which are frozen and telling the firewall: what is found out later is told later.
    telling: tokio::sync::Mutex<()>,
}

impl Spindown {
    /// Has the kernel tell of what comes for the containers that are frozen, or being frozen, here, and for no others. It
    /// holds when this returns.
    ///
    /// # Errors
    /// `Unavailable` if the kernel cannot be told.
    pub async fn watch_frozen(&self) -> Result<()> {
        let _turn = self.frozen.telling.lock().await;
        let addresses: BTreeSet<Ipv4Addr> = {
            let snapshot = self.snapshot.read();
            let watched = |entry: &&Entry| {
                let up = entry.seen.as_ref().is_some_and(|seen| seen.state.is_up());
                up && entry.container.freezing.is_some()
            };
            snapshot.entries().filter(watched).filter_map(|entry| entry.container.address).collect()
        };
        self.firewall.watch(&addresses).await
    }

    /// The same. What the kernel cannot be told now it is told by [`Spindown::keep_door`].
    pub async fn watch_or_later(&self) {
        let _ = self.watch_frozen().await;
    }

    /// What comes for them, from now on.
    ///
    /// # Errors
    /// `Unavailable` if that cannot be told.
    pub async fn knocks(&self) -> Result<BoxStream<'static, Knock>> {
        self.firewall.knocks().await
    }

    /// Notes whether it is heard what comes for frozen containers. While it is not, none is frozen as a probe.
    pub fn hears(&self, outcome: Result<()>) {
        self.vitals.ears_seen(outcome);
    }

    /// Freezes a container that nobody seems to use. The caller holds its lock.
    pub(super) async fn freeze_as_a_probe(&self, id: &ContainerId) -> Result<()> {
        self.freeze(id, StoppedBy::Idle).await?;
        // What it was doing until then is known now for good.
        self.look_into(id).await;
        let idle = self.as_if_it_ran(id).is_some_and(|judgement| judgement.verdict != Verdict::Keep);
        if !idle {
            tracing::info!(container = %id, "not frozen: it may have come into use at the last moment");
            // Should it fail it is tried again.
            self.snapshot.update(id, |entry| entry.wanted = true);
            return self.thaw(id).await;
        }
        self.give_memory_back(id);
        Ok(())
    }

    /// Freezes a container. The caller holds its lock.
    pub(super) async fn freeze(&self, id: &ContainerId, by: StoppedBy) -> Result<()> {
        let entry = self.snapshot.require(id)?;
        let run = entry.seen.and_then(|seen| seen.started_at);
        let order = Freeze { by, at: self.clock.now().at, run };
        self.amend(id, |container| container.freezing = Some(order)).await?;
        passed(Step::FreezeOrdered);
        // Before it is frozen, so that nothing comes in between.
        let watched = if self.settings.door { self.watch_frozen().await } else { Ok(()) };
        let outcome = match watched {
            Ok(()) => self.engine.freeze(&entry.container.engine_id).await,
            failed => failed,
        };
        passed(Step::FreezeDone);
        let looked = self.look_again(id, &entry.container.engine_id).await;
        let frozen = self.snapshot.get(id).is_some_and(|entry| entry.is_frozen_here());
        match (outcome, looked) {
            (_, Ok(())) if frozen => Ok(()),
            // The engine may have done it all the same: the order stands until that is known, lest it is forgotten.
            (outcome, Err(error)) => outcome.and(Err(error)),
            (outcome, Ok(())) => {
                self.amend(id, |container| container.freezing = None).await?;
                outcome
            }
        }
    }

    /// Halts a container that is about to be stopped, so that it can be looked at in peace. One that cannot be is stopped
    /// all the same. The caller holds its lock.
    pub(super) async fn halt(&self, id: &ContainerId) {
        let Some(entry) = self.snapshot.get(id) else { return };
        if let Err(error) = self.engine.freeze(&entry.container.engine_id).await {
            tracing::warn!(container = %id, error = error.message(), "stopped without having been frozen first");
        }
    }

    /// Lets a frozen container go on, whoever froze it. The caller holds its lock.
    pub(super) async fn thaw(&self, id: &ContainerId) -> Result<()> {
        let engine_id = self.snapshot.require(id)?.container.engine_id;
        self.engine.thaw(&engine_id).await?;
        passed(Step::ThawDone);
        self.look_again(id, &engine_id).await
    }

    /// Lets those go on that have been wanted since they were frozen, and have not gone on: an engine that did not answer
    /// then may do so now.
    pub fn retry_thaws(&self) {
        let wanted: Vec<_> = {
            let snapshot = self.snapshot.read();
            let wanted = snapshot.entries().filter(|entry| entry.is_frozen_here() && entry.is_wanted());
            wanted.map(|entry| entry.container.id.clone()).collect()
        };
        for id in wanted {
            self.let_go_on(&id, None, true);
        }
    }

    /// Lets it go on if it was frozen here and is in use now; should that fail it is tried again. The caller holds its
    /// lock.
    pub(super) async fn thaw_if_frozen(&self, id: &ContainerId) {
        if self.snapshot.get(id).is_some_and(|entry| entry.is_frozen_here())
            && let Err(error) = self.thaw(id).await
        {
            tracing::warn!(container = %id, error = error.message(), "{NOT_YET}");
        }
    }

    /// Takes in that something has come for a container. Whether that shows that somebody wants something of it is decided
    /// as at the door.
    pub fn heed_knock(&self, knock: Knock) {
        let Some(id) = self.snapshot.at_address(knock.address) else { return };
        let Some(entry) = self.snapshot.get(&id).filter(|entry| entry.container.freezing.is_some()) else { return };
        let demand = entry.demand();
        let exposed = entry.container.ports.iter().any(|port| port.container == knock.port);
        if !exposed || !knock.data && demand == Demand::Bytes && !self.begins_again(&id, knock.client) {
            return;
        }
        if self.let_in(&id, knock.client.ip()) {
            self.thaw_soon(&id, Some(knock.client));
        }
    }

    /// Decides whether whoever comes for a frozen container is to have it go on, and remembers that. Who has been there for
    /// a while, or has logged in, does not knock: he uses it.
    pub(super) fn let_in(&self, id: &ContainerId, client: IpAddr) -> bool {
        let Some(entry) = self.snapshot.get(id) else { return false };
        let known = self.knows(&entry, client);
        if !known && let Err(error) = self.bear_with(client, id) {
            self.refuse_wake(id, client, &error);
            return false;
        }
        let now = self.clock.now();
        self.snapshot.update(id, |entry| {
            entry.wanted |= entry.is_paused();
            entry.stranger |= !known;
            if known {
                entry.note(Sign::Traffic, now);
            }
        });
        true
    }

    /// Whether a connection that begins has begun before, and so was not answered: what is frozen takes none up, and the
    /// kernel keeps only so many for it. Nobody can send data then, however much he wants something.
    fn begins_again(&self, id: &ContainerId, client: SocketAddr) -> bool {
        let now = self.clock.now().moment;
        let before = remember(&self.frozen.begun, id, client, now);
        before.is_some_and(|before| now.since(before) < BEGINS_WITHIN)
    }

    /// Has it go on for whoever has come, unless somebody is at that already, or it was not frozen here.
    pub(super) fn thaw_soon(&self, id: &ContainerId, client: Option<SocketAddr>) {
        self.let_go_on(id, client, false);
    }

    /// The same; the failure of a try that is not the first is no news.
    fn let_go_on(&self, id: &ContainerId, client: Option<SocketAddr>, again: bool) {
        let frozen = self.snapshot.read().entry(id).is_some_and(|entry| entry.container.freezing.is_some());
        if !frozen || !self.frozen.thawing.locked().insert(id.clone()) {
            return;
        }
        let id = id.clone();
        self.spawn(|spindown| async move {
            let stopwatch = Stopwatch::start();
            let outcome = spindown.thaw_for(&id, client, stopwatch).await;
            spindown.frozen.thawing.locked().remove(&id);
            match outcome {
                Err(error) if again => tracing::debug!(container = %id, error = error.message(), "{NOT_YET}"),
                Err(error) => tracing::warn!(container = %id, error = error.message(), "{NOT_YET}"),
                Ok(()) => {}
            }
        });
    }

    async fn thaw_for(&self, id: &ContainerId, client: Option<SocketAddr>, stopwatch: Stopwatch) -> Result<()> {
        let _lock = self.locks.lock_within(TURN_WITHIN, id).await?;
        if !self.snapshot.get(id).is_some_and(|entry| entry.is_frozen_here()) {
            return Ok(());
        }
        self.thaw(id).await?;
        let took = stopwatch.elapsed();
        metrics::histogram!(meter::THAW).record(took.as_secs_f64());
        tracing::info!(container = %id, ?client, ?took, "somebody came: it goes on");
        if let Some(client) = client {
            self.snapshot.note(id, What::Woken { client: client.ip(), took });
            remember(&self.frozen.callers, id, client, self.clock.now().moment);
        }
        Ok(())
    }

    /// Remembers what became of those who connected to a container: who is gone that it was let go on for, whose logins at
    /// its SSH server came to nothing, and who has logged in.
    pub(super) fn remember_knocks(&self, id: &ContainerId, fruitless: &[IpAddr], logged_in: &[IpAddr]) {
        let now = self.clock.now().moment;
        let over = |(of, client): &(ContainerId, SocketAddr), _: &mut Moment| {
            of == id && self.is_open(id, *client) == Some(false)
        };
        let gone: Vec<_> = self.frozen.callers.locked().extract_if(over).collect();
        for ((_, client), since) in gone {
            self.remember_source(client.ip(), id, now.since(since), now);
        }
        for client in fruitless {
            self.remember_source(*client, id, Duration::ZERO, now);
        }
        for client in logged_in {
            self.remember_source(*client, id, Duration::MAX, now);
        }
    }

    /// Gives the memory of what is frozen back to the host where the kernel can do that.
    fn give_memory_back(&self, id: &ContainerId) {
        let Some(target) = self.snapshot.get(id).and_then(|entry| entry.target(false)) else { return };
        self.spawn(|spindown| async move {
            match spindown.sight.reclaim(&target).await {
                Ok(Some(bytes)) => tracing::info!(container = %target.id, bytes, "memory of a frozen container given back"),
                Ok(None) => {
                    let told = spindown.frozen.keeps_memory.swap(true, Ordering::Relaxed);
                    if !told {
                        tracing::info!("what is frozen keeps its memory here: giving it back takes cgroup v2");
                    }
                }
                Err(error) => {
                    tracing::info!(container = %target.id, error = error.message(), "its memory could not be given back");
                }
            }
        });
    }

    /// Lets all go on that were frozen here, or halted for a stop that did not come about: nobody would notice any more who
    /// comes for them.
    pub(super) async fn thaw_all(&self) {
        let still = |entry: &Entry| entry.is_frozen_here() || entry.is_halted();
        let frozen: Vec<_> = {
            let snapshot = self.snapshot.read();
            let frozen = snapshot.entries().filter(|entry| still(entry));
            frozen.map(|entry| entry.container.id.clone()).collect()
        };
        let thaws = frozen.into_iter().map(|id| async move {
            let Ok(_lock) = self.locks.lock_in_time(&id).await else { return };
            if !self.snapshot.get(&id).is_some_and(|entry| still(&entry)) {
                return;
            }
            if let Err(error) = self.thaw(&id).await {
                tracing::warn!(container = %id, error = error.message(), "a container stays frozen");
            }
        });
        futures::future::join_all(thaws).await;
    }

    /// What is to be said to whoever wants something frozen that is not up.
    pub(super) fn must_run(entry: &Entry) -> Result<()> {
        match entry.status() {
            Status::Running | Status::Frozen => Ok(()),
            other => Err(Error::conflict(format!("it is {}: only what runs can be frozen", other.as_str()))),
        }
    }
}
