//! The sweep: looks for the containers that are due to go down a rung, and takes them there, each only after its evidence
//! has been read again under its lock.

use std::{sync::Arc, time::Duration};

use super::{Spindown, Unpoisoned, container::count_stop};
use crate::{
    clock::Stopwatch,
    meter,
    model::{ContainerId, EngineState, Result, Stamp, StoppedBy, What, format_duration},
    policy::{
        idle::{Due, Judgement, Verdict, warning},
        sight::SETTLED,
    },
    step::{Step, passed},
};

/// Within this time whoever is logged in has been told something …
const TOLD_WITHIN: Duration = Duration::from_secs(15);
/// … and after this time it has come to him and has been seen to.
const TOLD_FOR: Duration = Duration::from_secs(2);
/// The kernel counts the time since data moved in ticks of up to ten milliseconds, at both ends: it may say that what comes
/// of the telling came that much before.
const TICKS: Duration = Duration::from_millis(20);
/// How often a container is looked into while it settles.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a sweep found.
#[derive(Default)]
struct Found {
    /// How many are to be kept.
    kept: u64,
    /// Which are to go down a rung, and which.
    due: Vec<(ContainerId, Verdict)>,
    /// Which have fallen silent, or speak again.
    spoken: Vec<(ContainerId, bool)>,
    /// Which stops are near.
    near: Vec<(ContainerId, Due)>,
}

/// A container's turn to go down a rung, from when it was found to be due; however it ends.
struct Turn {
    spindown: Arc<Spindown>,
    id: ContainerId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.spindown.going_to_sleep.locked().remove(&self.id);
    }
}

impl Spindown {
    /// Judges every container, and begins to take those down a rung that are due. The sweep is over when this returns: slow
    /// steps keep no later one from judging. The answer can be awaited for the steps that it began.
    pub fn sweep(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopwatch = Stopwatch::start();
        let now = self.beat();
        let Found { kept, due, spoken, near } = self.find_due(now);
        for (id, silent) in spoken {
            self.snapshot.update(&id, |entry| entry.silent = silent);
        }
        for (id, stop) in near {
            self.warn(&id, stop, now);
        }
        metrics::counter!(meter::VERDICTS, "verdict" => Verdict::Keep.as_str()).increment(kept);
        for (id, verdict) in &due {
            tracing::debug!(container = %id, verdict = verdict.as_str(), "due");
            metrics::counter!(meter::VERDICTS, "verdict" => verdict.as_str()).increment(1);
        }
        // One that a former sweep found may still wait for its turn.
        let due: Vec<_> = due.into_iter().filter(|(id, _)| self.going_to_sleep.locked().insert(id.clone())).collect();
        let steps = due.into_iter().map(|(id, _)| {
            self.spawn(|spindown| async move {
                let turn = Turn { spindown, id };
                if let Err(error) = turn.spindown.step_down(&turn.id).await {
                    tracing::warn!(container = %turn.id, error = error.message(), "a container could not go down a rung");
                }
            })
        });
        let steps = futures::future::join_all(steps.collect::<Vec<_>>());
        self.watch.locked().last_sweep = Some(self.clock.now());
        metrics::histogram!(meter::SWEEP).record(stopwatch.elapsed().as_secs_f64());
        async { drop(steps.await) }
    }

    /// Judges every container.
    fn find_due(&self, now: Stamp) -> Found {
        let watched_since = self.watch.locked().since;
        let mut found = Found::default();
        let (snapshot, mut judge) = (self.snapshot.read(), self.verdicts(now));
        for entry in snapshot.entries() {
            let id = || entry.container.id.clone();
            let judgement = judge(entry);
            match judgement.verdict {
                Verdict::Keep => found.kept += 1,
                verdict => found.due.push((id(), verdict)),
            }
            let warning = |due| warning(due, &entry.ladder, entry.warned_of, now.moment);
            // Only now is it looked up whether a timetable puts it off.
            let stop = warning(judgement.due).and_then(|_| warning(self.judge(entry, now).due));
            found.near.extend(stop.map(|stop| (id(), stop)));
            let silent = entry.has_fallen_silent(watched_since, now.moment);
            if silent != entry.silent {
                found.spoken.push((id(), silent));
            }
        }
        found
    }

    /// Tells that a container is stopped soon: in an event, and whoever is logged in to it.
    fn warn(&self, id: &ContainerId, stop: Due, now: Stamp) {
        let (at, left) = (now.date_of(stop.at), stop.at.since(now.moment));
        self.snapshot.update(id, |entry| entry.warned_of = Some(stop.at));
        self.snapshot.note(id, What::Warned { stops_at: at });
        // What is frozen would write it when it goes on: for somebody, and then it is not true any more.
        let running = self.snapshot.get(id).filter(|entry| !entry.is_paused());
        let Some(target) = running.and_then(|entry| entry.target(false)) else { return };
        // What it is told moves on the connections of whoever is logged in, which shows nothing of him.
        let from = now.moment.before(TICKS);
        self.snapshot.update(id, |entry| entry.told = Some((from, from + TOLD_WITHIN)));
        let left = format_duration(left.max(Duration::from_secs(1)));
        let line = match stop.by {
            StoppedBy::Age => {
                format!("This machine has been up for as long as it may: it is stopped in {left}. Its files are kept.")
            }
            _ => format!(
                "Nobody seems to use this machine: it is stopped in {left}, unless you type something. Its files are kept."
            ),
        };
        self.spawn(|spindown| async move {
            if let Err(error) = spindown.sight.tell(&target, &line).await {
                tracing::info!(container = %target.id, error = error.message(), "nobody in it could be told");
            }
            let until = spindown.clock.now().moment + TOLD_FOR;
            spindown.snapshot.update(&target.id, |entry| entry.told = Some((from, until)));
        });
    }

    /// Takes a container down the rung that it is due for, under its lock: what was read before is only a reason to look
    /// closer.
    async fn step_down(&self, id: &ContainerId) -> Result<()> {
        let Ok(_turn) = self.stops.acquire().await else { return Ok(()) };
        // Whoever holds it is changing the container, which is a sign of use; the next sweep looks again.
        let Some(_lock) = self.locks.try_lock(id) else { return Ok(()) };
        if self.shutdown.is_cancelled() {
            return Ok(());
        }
        let judgement = self.judge_anew(id).await?;
        match judgement.verdict {
            Verdict::Keep => Ok(()),
            Verdict::Freeze => self.freeze_as_a_probe(id).await,
            Verdict::Sleep => self.stop_unused(id, judgement.due.map_or(StoppedBy::Idle, |due| due.by)).await,
            Verdict::Delete => {
                tracing::info!(container = %id, "deleted: it has been down for as long as it may");
                self.remove_held(id, false).await
            }
        }
    }

    /// Compare-and-stop.
    async fn stop_unused(&self, id: &ContainerId, by: StoppedBy) -> Result<()> {
        self.order_stop(id, by).await?;
        // From here on whoever connects comes to the door, and is not lost with it.
        if let Err(error) = self.divert().await {
            tracing::warn!(container = %id, error = error.message(), "connections while it stops may be lost");
        }
        self.let_settle(id).await;
        if self.shutdown.is_cancelled() {
            // There is no time to find out who that was, and it must not stay frozen for it.
            self.withdraw_stop(id).await?;
            return self.divert().await;
        }
        self.stop_in_peace(id, by).await
    }

    /// Stops a container that nobody uses, as ordered, unless that has changed. The caller holds its lock.
    pub(super) async fn stop_in_peace(&self, id: &ContainerId, by: StoppedBy) -> Result<()> {
        // From here on nothing happens in it that a last look could miss.
        self.halt(id).await;
        passed(Step::StopHalted);
        self.look_into(id).await;
        // What came in until then overrules the order.
        if !self.is_idle_but_for_the_order(id) || by == StoppedBy::Idle && self.may_be_wanted(id) {
            tracing::info!(container = %id, "kept: it may have come into use after all");
            count_stop(by, "withdrawn");
            self.withdraw_stop(id).await?;
            return self.divert().await;
        }
        let outcome = self.carry_out_stop(id).await;
        if outcome.is_err() {
            // Until the next try it can be used.
            let _ = self.thaw(id).await;
        }
        outcome
    }

    /// Waits for whoever has connected so lately that it cannot be told what for: he goes, or turns out to be a user. New
    /// ones come to the door meanwhile, and overrule the order there.
    async fn let_settle(&self, id: &ContainerId) {
        let settled = async {
            loop {
                // What is frozen lets nobody show what he came for: it goes on for that if it must.
                let Some(entry) = self.snapshot.get(id).filter(|entry| !entry.is_paused()) else { return };
                if entry.wanted || !self.is_unsettled(&entry) || !self.is_idle_but_for_the_order(id) {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
                if self.shutdown.is_cancelled() {
                    return;
                }
                self.look_into(id).await;
            }
        };
        let _ = tokio::time::timeout(SETTLED + LOOK_AGAIN, settled).await;
    }

    /// Whether somebody has come for it of whom it cannot be told yet whether he uses it: before its ports led to the door,
    /// to the door, or to what is frozen.
    fn may_be_wanted(&self, id: &ContainerId) -> bool {
        self.snapshot.get(id).is_some_and(|entry| entry.wanted || self.is_unsettled(&entry))
    }

    /// The verdict, after all evidence has been read again: the engine's present state, what other servers saw, and what
    /// there is to be seen in it.
    async fn judge_anew(&self, id: &ContainerId) -> Result<Judgement> {
        let engine_id = self.snapshot.require(id)?.container.engine_id;
        self.look_again(id, &engine_id).await?;
        self.read_evidence(id).await?;
        let now = self.beat();
        Ok(self.judge(&self.snapshot.require(id)?, now))
    }

    /// Takes in what other servers saw and changed, which connections are carried, and what is to be seen in it.
    pub(super) async fn read_evidence(&self, id: &ContainerId) -> Result<()> {
        let remembered = self.store.activity(id).await?;
        self.catch_up(id).await?;
        self.heed_carried().await?;
        self.look_into(id).await;
        let now = self.clock.now();
        if let Some(remembered) = remembered {
            self.snapshot.update(id, |entry| entry.remember(remembered, now));
        }
        Ok(())
    }

    /// Whether it would go down, had nobody begun to take it down.
    pub(super) fn is_idle_but_for_the_order(&self, id: &ContainerId) -> bool {
        self.as_if_it_ran(id).is_some_and(|judgement| judgement.verdict == Verdict::Sleep)
    }

    /// The verdict as if nobody had ordered it to stop, nor frozen it.
    pub(super) fn as_if_it_ran(&self, id: &ContainerId) -> Option<Judgement> {
        let now = self.beat();
        let mut entry = self.snapshot.get(id)?;
        entry.container.stopping = None;
        if let Some(seen) = entry.seen.as_mut().filter(|seen| seen.state == EngineState::Paused) {
            seen.state = EngineState::Running;
        }
        Some(self.judge(&entry, now))
    }
}
