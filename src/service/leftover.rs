//! Leftovers: what operations that were cut off have left at the engine and among the claims. It is finished or cleared
//! away with every comparison of the engine and the snapshot.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use super::{Spindown, Unpoisoned, entry::Entry};
use crate::{
    engine::Listed,
    model::{Claim, ContainerId, EngineId, EngineState, Kind, Observation, Removal, Result, Status},
    policy::succession::{self, Candidate},
    step::{Step, passed},
};

/// For how long leftovers may belong to another server that is still at it: longer than the deadlines of a create or a
/// reset together. A server that has its store for itself need not wait: what is under way here is known.
const LEFTOVER_AGE: Duration = Duration::from_secs(120);

/// One of the engine's containers that was never started, or has not got its name after a reset; without it, claims that
/// belong to no container.
pub(super) type Leftover = (ContainerId, Option<EngineId>);

impl Spindown {
    /// Of the engine's list that which is a container: one for each id.
    pub(super) fn choose(&self, all: &[Listed]) -> Vec<Listed> {
        let mut by_id: BTreeMap<&ContainerId, Vec<&Listed>> = BTreeMap::new();
        for listed in all {
            by_id.entry(&listed.id).or_default().push(listed);
        }
        let snapshot = self.snapshot.read();
        let chosen = by_id.into_iter().filter_map(|(id, those)| {
            let known = snapshot.entry(id).map(|entry| &entry.container.engine_id);
            let candidates: Vec<_> = those.iter().map(|l| candidate(l)).collect();
            let chosen = succession::choose(known, &candidates)?;
            those.into_iter().find(|l| l.engine_id == *chosen).cloned()
        });
        chosen.collect()
    }

    /// Whether what was seen is the container that is known under its id, or has taken that one's place. Where nothing is
    /// known it is.
    pub(super) async fn is_the_container(&self, seen: &Observation) -> Result<bool> {
        let known = self.snapshot.read().entry(&seen.id).map(|entry| entry.container.engine_id.clone());
        let Some(known) = known.filter(|known| *known != seen.engine_id) else { return Ok(true) };
        if seen.state == EngineState::Created {
            return Ok(false);
        }
        match self.engine.inspect(&known).await {
            Ok(old) => Ok(succession::has_replaced(seen, &old)),
            Err(error) if error.kind() == Kind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Finishes what was cut off, brings claims and containers together, and clears away what belongs to nobody.
    pub(super) async fn tidy(&self, all: &[Listed]) -> Result<()> {
        self.finish_removals().await;
        self.withdraw_freezes().await;
        let claims = self.store.claims(&self.settings.host).await?;
        let held: HashSet<_> = claims.iter().map(|(claim, id)| (*claim, id)).collect();
        let unclaimed: Vec<_> = {
            let snapshot = self.snapshot.read();
            let containers = snapshot.entries().map(|e| (&e.container.id, e.container.claims()));
            let unclaimed = containers.filter(|(id, claims)| claims.iter().any(|claim| !held.contains(&(*claim, id))));
            unclaimed.map(|(id, claims)| (id.clone(), claims)).collect()
        };
        for (id, claims) in unclaimed {
            if let Some(taken) = self.store.claim(&self.settings.host, &claims, &id).await? {
                tracing::warn!(container = %id, ?taken, "a container's port or address is claimed by another");
            }
        }
        self.clear_leftovers(all, &claims).await
    }

    /// Takes back orders to freeze what is not frozen: whoever gave one was cut off, or its end could not be written down.
    /// It would be watched for ever, and if others froze it taken for ours.
    async fn withdraw_freezes(&self) {
        let now = self.clock.now().at;
        let age = self.leftover_age();
        let left = |entry: &Entry| {
            let old = entry.container.freezing.is_some_and(|order| (now - order.at).unsigned_abs() >= age);
            old && matches!(entry.status(), Status::Running | Status::Frozen) && !entry.is_frozen_here()
        };
        let suspects: Vec<_> = {
            let snapshot = self.snapshot.read();
            let suspects = snapshot.entries().filter(|entry| left(entry));
            suspects.map(|entry| (entry.container.id.clone(), entry.container.engine_id.clone())).collect()
        };
        for (id, engine_id) in suspects {
            // Somebody is at it.
            let Some(_lock) = self.locks.try_lock(&id) else { continue };
            // It may have been frozen a moment ago.
            if self.look_again(&id, &engine_id).await.is_err() || !self.snapshot.get(&id).is_some_and(|e| left(&e)) {
                continue;
            }
            match self.amend(&id, |container| container.freezing = None).await {
                Ok(()) => self.watch_or_later().await,
                Err(error) => {
                    tracing::warn!(container = %id, error = error.message(), "an order to freeze is left over")
                }
            }
        }
    }

    /// For how long what looks like a leftover may be somebody's who is still at it.
    fn leftover_age(&self) -> Duration {
        if self.store.is_shared() { LEFTOVER_AGE } else { Duration::ZERO }
    }

    /// Removes the one that was replaced, and gives its name to the one that is the container now. The caller holds its
    /// lock.
    pub(super) async fn finish_reset(&self, id: &ContainerId, engine_id: &EngineId) -> Result<()> {
        let Some(entry) = self.snapshot.get(id).filter(|e| e.container.engine_id == *engine_id) else { return Ok(()) };
        self.remove_replaced(&entry).await?;
        passed(Step::ResetOldRemoved);
        let Some(name) = succession::name_to_get(&self.engine.inspect(engine_id).await?) else { return Ok(()) };
        self.engine.rename(engine_id, &name).await?;
        passed(Step::ResetRenamed);
        self.look_again(id, engine_id).await
    }

    /// Clears leftovers away once nobody can be at work on them.
    async fn clear_leftovers(&self, all: &[Listed], claims: &[(Claim, ContainerId)]) -> Result<()> {
        let now = self.clock.now().moment;
        let age = self.leftover_age();
        let there: BTreeSet<_> = all.iter().map(|l| &l.id).collect();
        let due: Vec<Leftover> = {
            let (snapshot, in_flight) = (self.snapshot.read(), self.in_flight.locked());
            let unheld =
                claims.iter().map(|(_, id)| id).filter(|id| snapshot.entry(id).is_none() && !there.contains(*id));
            let unfinished =
                |l: &&Listed| l.state == EngineState::Created || l.name == succession::temporary_name(&l.id);
            let unfinished = all.iter().filter(unfinished).map(|l| (l.id.clone(), Some(l.engine_id.clone())));
            let suspects: BTreeSet<_> = unheld
                .map(|id| (id.clone(), None))
                .chain(unfinished)
                .filter(|(id, _)| !in_flight.contains(id))
                .collect();
            let mut leftovers = self.leftovers.locked();
            leftovers.retain(|leftover, _| suspects.contains(leftover));
            let due = suspects.into_iter().filter(|leftover| {
                let first_seen = *leftovers.entry(leftover.clone()).or_insert(now);
                now.since(first_seen) >= age
            });
            due.collect()
        };
        for (id, engine_id) in due {
            // Somebody is at it.
            let Some(_lock) = self.locks.try_lock(&id) else { continue };
            self.clear_leftover(&id, engine_id.as_ref()).await?;
        }
        Ok(())
    }

    /// Clears away what a create with this id has left that was cut off, if it got as far as that. The caller holds its
    /// lock.
    pub(super) async fn clear_attempt(&self, id: &ContainerId) -> Result<()> {
        let listed = self.engine.list().await?;
        let left = listed.iter().find(|l| l.id == *id).map(|l| &l.engine_id);
        self.clear_leftover(id, left).await
    }

    /// Clears one away, or finishes it if it is the container. The caller holds its lock.
    pub(super) async fn clear_leftover(&self, id: &ContainerId, engine_id: Option<&EngineId>) -> Result<()> {
        if let Some(engine_id) = engine_id {
            // The list is old by now: what has been started meanwhile is nobody's leftover.
            match self.engine.inspect(engine_id).await {
                Ok(seen) if seen.state != EngineState::Created => return self.finish_reset(id, engine_id).await,
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                _ => {}
            }
        }
        let known = self.snapshot.get(id).is_some();
        match engine_id {
            // Of a reset: the container itself is another one.
            Some(engine_id) if known => self.remove_from_engine(engine_id).await?,
            Some(engine_id) => self.discard(id, engine_id, &Removal::default()).await?,
            None if known => return Ok(()),
            None => self.forget(id).await?,
        }
        tracing::info!(container = %id, "cleared away what was left unfinished");
        Ok(())
    }
}

fn candidate(listed: &Listed) -> Candidate<'_> {
    Candidate { engine_id: &listed.engine_id, state: listed.state, replaces: listed.replaces.as_ref() }
}
