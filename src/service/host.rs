//! The host: following the engine's events, correcting the snapshot from its list, and what it means when it goes away.

use std::{collections::BTreeSet, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use time::OffsetDateTime;

use super::{
    Spindown, Unpoisoned,
    entry::{EngineHistory, Entry},
};
use crate::{
    engine::{EngineEvent, Happening, Listed},
    model::{ContainerId, EngineId, EngineState, Error, Kind, Moment, Observation, Result, Stamp, What},
    policy::{cause::Outage, idle::Hold, succession, watch},
};

/// How many containers are inspected at once when all are.
const LOOKS_AT_ONCE: usize = 8;
/// How many beats may be missed before watching counts as interrupted …
const MISSED_BEATS: u32 = 5;
/// … and the least time that is.
const LEAST_GAP: Duration = Duration::from_secs(5);

/// What is known of the watching itself: whether signs of use may have been missed.
#[derive(Debug)]
pub(super) struct Watch {
    /// Since when nothing can have been missed.
    pub since: Moment,
    last_beat: Stamp,
    pub engine_up: bool,
    /// Whether the engine has been met since the server began: before, nobody knows what there is.
    engine_met: bool,
    followed_since: Option<OffsetDateTime>,
    lost_at: Option<Stamp>,
    pub store_up: bool,
    pub last_store_word: Option<Moment>,
    /// Whether the store's records were ever read.
    records_read: bool,
    pub last_sweep: Option<Stamp>,
    engine_started_at: Option<OffsetDateTime>,
    outage: Option<Outage>,
}

impl Watch {
    pub(super) fn new(now: Stamp) -> Self {
        Self {
            since: now.moment,
            last_beat: now,
            engine_up: false,
            engine_met: false,
            followed_since: None,
            lost_at: None,
            store_up: true,
            last_store_word: None,
            records_read: false,
            last_sweep: None,
            engine_started_at: None,
            outage: None,
        }
    }

    pub(super) fn history(&self) -> EngineHistory {
        EngineHistory { started_at: self.engine_started_at, outage: self.outage, followed_since: self.followed_since }
    }

    pub(super) fn hold(&self) -> Option<Hold> {
        match (self.engine_up, self.store_up) {
            (false, _) => Some(Hold::EngineAway),
            (true, false) => Some(Hold::StoreAway),
            (true, true) => None,
        }
    }
}

/// The events of an engine since it was met.
pub struct Following(BoxStream<'static, EngineEvent>);

impl Spindown {
    /// Notes that the server is alive; after a gap or a jump of the clock everybody gets fresh grace. Called on every
    /// timer, and before every verdict.
    pub fn beat(&self) -> Stamp {
        let now = self.clock.now();
        let gap = (self.settings.flush_every * MISSED_BEATS).max(LEAST_GAP);
        let mut watch = self.watch.locked();
        if watch::interrupted(watch.last_beat, now, gap) {
            tracing::warn!(last = %watch.last_beat.at, now = %now.at, "a gap or a jump of the clock: idle clocks start anew");
            watch.since = now.moment;
        }
        watch.last_beat = now;
        now
    }

    /// Notes whether the store answered. When it comes back everybody gets fresh grace: other servers may have been kept
    /// from telling what they saw.
    pub(super) fn store_answered(&self, up: bool) {
        let now = self.clock.now();
        let mut watch = self.watch.locked();
        match (watch.store_up, up) {
            (true, false) => {
                tracing::error!("the store does not answer: idle stops are suspended, touches are kept");
                self.events.note_host(now, What::StoreDown);
            }
            (false, true) => {
                tracing::info!("the store answers again");
                self.events.note_host(now, What::StoreUp);
                watch.since = now.moment;
            }
            _ => {}
        }
        watch.store_up = up;
        watch.last_store_word = Some(now.moment);
    }

    /// Whether the store answered last. While it does not, only the flush asks it again: whoever follows the engine would
    /// fall behind if each step waited for a store that hangs.
    pub(super) fn has_store(&self) -> bool {
        self.watch.locked().store_up
    }

    /// Gets to know the engine, at the start and whenever it comes back: the network stands, the snapshot is fresh, and
    /// what happens from here on is among the events that it answers, for [`Spindown::follow_engine`].
    ///
    /// # Errors
    /// `Unavailable` while the engine does not answer, or at first the store; `Conflict` if the network cannot be made.
    pub async fn meet_engine(&self) -> Result<Following> {
        // Before the list, so that nothing falls between the two.
        let events = self.engine.events().await?;
        self.watch.locked().followed_since = Some(self.clock.now().at);
        let started_at = self.engine.started_at().await?;
        self.engine.ensure_network(&self.settings.network).await?;
        let now = self.clock.now();
        {
            let mut watch = self.watch.locked();
            if let Some(lost) = watch.lost_at {
                // It may have been met before, but not for long enough.
                let known = watch.outage.is_some_and(|o| o.lost_at == lost.at && o.restarted);
                let restarted = known || started_at.is_none() || started_at != watch.engine_started_at;
                watch.outage = Some(Outage { lost_at: lost.at, back_at: now.at, restarted });
                tracing::info!(restarted, "the engine answers again");
            }
            watch.engine_started_at = started_at;
        }
        // The list does not show everything: what runs may have been started anew, and an end from before may turn out to
        // have been the engine's own.
        self.refresh_all(true).await?;
        let mut watch = self.watch.locked();
        let now = self.clock.now();
        if watch.lost_at.take().is_some() {
            self.events.note_host(now, What::HostUp);
        }
        watch.engine_up = true;
        watch.engine_met = true;
        watch.since = now.moment;
        drop(watch);
        self.events.open();
        Ok(Following(events))
    }

    /// That it is known which containers there are.
    ///
    /// # Errors
    /// `Unavailable` until the engine has been met: what is not known yet must not be told to be gone.
    pub(super) fn know(&self) -> Result<()> {
        if self.watch.locked().engine_met {
            return Ok(());
        }
        Err(Error::unavailable("the engine does not answer yet, so it is not known which containers there are"))
    }

    /// Notes that the engine is out of reach.
    pub fn lose_engine(&self) {
        let now = self.clock.now();
        let mut watch = self.watch.locked();
        if watch.engine_up {
            tracing::error!("the connection to the engine is lost: idle stops are suspended");
        }
        watch.engine_up = false;
        watch.followed_since = None;
        if watch.lost_at.is_none() {
            self.events.note_host(now, What::HostDown);
            watch.lost_at = Some(now);
        }
    }

    /// Follows the engine that was met until the connection is lost or the server ends. The list corrects what the events
    /// miss: they are hints, and dropped under load.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer any more.
    pub async fn follow_engine(&self, Following(mut events): Following) -> Result<()> {
        let mut correction = tokio::time::interval(self.settings.drift_every);
        correction.reset();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.heed(event).await?,
                    None => return Ok(()),
                },
                _ = correction.tick() => self.refresh_all(false).await?,
                () = self.shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Looks at what an event is about. Whoever cannot has to meet the engine anew: the hint would be lost.
    async fn heed(&self, event: EngineEvent) -> Result<()> {
        if event.what == Happening::Signalled {
            self.snapshot.update(&event.id, |entry| entry.signalled = true);
            return Ok(());
        }
        self.look_again(&event.id, &event.engine_id).await
    }

    /// Whether the engine answers, and is the one whose events are followed.
    ///
    /// # Errors
    /// `Unavailable` if it is not.
    pub(super) async fn check_engine(&self) -> Result<()> {
        let started_at = self.engine.started_at().await?;
        let watch = self.watch.locked();
        if watch.engine_up && watch.engine_started_at == started_at {
            return Ok(());
        }
        Err(Error::unavailable("the engine answers, but its events are not being followed yet"))
    }

    /// Corrects the snapshot from the engine's list and from what other servers wrote; with `audit` every container is
    /// inspected, otherwise those that differ from the snapshot. A store that does not answer does not keep the engine
    /// from being looked at.
    ///
    /// # Errors
    /// `Unavailable` if the engine does not answer, or the store never did.
    pub async fn refresh_all(&self, audit: bool) -> Result<()> {
        let (asked, read) = (self.has_store(), self.watch.locked().records_read);
        let unrecorded = if asked || !read {
            match self.refresh_records().await {
                // What is known goes on being watched. Before anything is known every container would be a stranger.
                Err(error) if read => {
                    tracing::warn!(error = error.message(), "the store cannot be compared with the engine");
                    self.store_answered(false);
                    None
                }
                outcome => Some(outcome?),
            }
        } else {
            None
        };
        let all = self.engine.list().await?;
        let listed = self.choose(&all);
        let differs =
            |l: &&Listed| {
                audit
                    || self.snapshot.read().entry(&l.id).and_then(|e| e.seen.as_ref()).is_none_or(|seen| {
                        seen.state != l.state || seen.engine_id != l.engine_id || seen.name != l.name
                    })
            };
        let gone: Vec<_> = {
            let there: BTreeSet<_> = listed.iter().map(|l| &l.id).collect();
            let snapshot = self.snapshot.read();
            let gone = snapshot.entries().filter(|e| e.seen.is_some() && !there.contains(&e.container.id));
            gone.map(|e| (e.container.id.clone(), e.container.engine_id.clone())).collect()
        };
        let looked = listed.iter().filter(differs).map(|l| (l.id.clone(), l.engine_id.clone())).chain(gone);
        let looked: Vec<_> = looked.collect();
        let mut looks = stream::iter(looked)
            .map(|(id, engine_id)| async move { self.look_again(&id, &engine_id).await })
            .buffer_unordered(LOOKS_AT_ONCE);
        while let Some(outcome) = looks.next().await {
            outcome?;
        }
        drop(looks);
        let Some(unrecorded) = unrecorded else { return Ok(()) };
        for id in unrecorded {
            if listed.iter().any(|l| l.id == id) {
                self.lose_record(&id);
                self.save(&id).await;
            } else {
                // Removed by another server.
                self.snapshot.remove(&id);
            }
        }
        if let Err(error) = self.tidy(&all).await {
            tracing::warn!(error = error.message(), "claims and leftovers are looked after later");
        }
        Ok(())
    }

    /// Takes in what the store has and the snapshot has not. Answers what the snapshot has and the store has not.
    async fn refresh_records(&self) -> Result<Vec<ContainerId>> {
        let recorded = |entry: &&Entry| entry.container.version > 0;
        let mut missing: BTreeSet<_> =
            self.snapshot.read().entries().filter(recorded).map(|e| e.container.id.clone()).collect();
        let (containers, activities) = tokio::try_join!(self.store.containers(), self.store.activities())?;
        self.store_answered(true);
        self.watch.locked().records_read = true;
        let now = self.clock.now();
        for stored in containers {
            missing.remove(&stored.id);
            let known = self.snapshot.read().entry(&stored.id).map(|e| e.container.version);
            match known {
                None => self.snapshot.add(Entry::new(stored, &self.settings.rungs, now)),
                Some(version) if version < stored.version => self.take_over(stored),
                Some(_) => {}
            }
        }
        for (id, activity) in activities {
            self.snapshot.update(&id, |entry| entry.remember(activity, now));
        }
        Ok(missing.into_iter().collect())
    }

    /// Inspects a container and takes in what the engine shows.
    ///
    /// # Errors
    /// `Unavailable` if the engine does not answer.
    pub(super) async fn look_again(&self, id: &ContainerId, engine_id: &EngineId) -> Result<()> {
        let _look = self.looks.lock(id).await;
        let seen = match self.engine.inspect(engine_id).await {
            Ok(seen) => Some(seen),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(seen) = &seen
            && !self.is_the_container(seen).await?
        {
            return Ok(());
        }
        let seen = seen.map(succession::with_its_name);
        if let Some(seen) = &seen
            && self.is_unexplained_end(id, seen)
        {
            // A socket that outlives the engine leads to its next run before it has come out that the last one is over.
            // Met like that, an end that came with the engine's would look like somebody's deed.
            if self.engine.started_at().await? != self.watch.locked().engine_started_at {
                return Err(Error::unavailable("the engine was started anew a moment ago"));
            }
            // Another server may have ordered it. If the store does not tell, what shows is all there is.
            if self.has_store() {
                let _ = self.catch_up(id).await;
            }
        }
        if self.snapshot.read().entry(id).is_none() {
            match &seen {
                // Being made, here or by another server, or left over: not one that was handed out.
                Some(seen) if seen.state == EngineState::Created || self.in_flight.locked().contains(id) => {
                    return Ok(());
                }
                Some(seen) => self.adopt(seen),
                None => return Ok(()),
            }
        }
        let (now, history) = (self.clock.now(), self.watch.locked().history());
        let came_up = self.snapshot.update(id, |entry| {
            // A container that was replaced under the same id is not the one that was looked at.
            if entry.container.engine_id != *engine_id && seen.is_none() {
                return false;
            }
            let was_up = entry.seen.as_ref().is_some_and(|s| s.state.is_up());
            entry.observe(seen, now, &history);
            entry.fit(&self.settings.rungs);
            !was_up && entry.seen.as_ref().is_some_and(|s| s.state.is_up())
        });
        self.save(id).await;
        if came_up == Some(true) {
            let (id, engine_id) = (id.clone(), engine_id.clone());
            self.spawn(|spindown| async move { spindown.learn_host_keys(&id, &engine_id).await });
        }
        Ok(())
    }

    /// Whether the engine shows an end that nobody ordered, and that has not been seen before.
    fn is_unexplained_end(&self, id: &ContainerId, seen: &Observation) -> bool {
        let explained = |entry: &Entry| {
            entry.container.stopping.is_some()
                || entry.container.stopped.is_some_and(|known| seen.finished_at.is_some_and(|at| known.at >= at))
        };
        seen.state == EngineState::Exited && !self.snapshot.read().entry(id).is_some_and(explained)
    }
}
