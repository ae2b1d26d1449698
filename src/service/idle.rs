//! The sweep: looks for the idle containers and stops them, each only after its evidence has been read again under its
//! lock.

use std::sync::Arc;

use super::{Spindown, Unpoisoned, container::count_stop};
use crate::{
    clock::Stopwatch,
    meter,
    model::{ContainerId, Result, Stamp, StoppedBy},
    policy::idle::Verdict,
};

/// What a sweep found.
#[derive(Default)]
struct Findings {
    /// How many are to be kept.
    kept: u64,
    /// Which are to sleep.
    idle: Vec<ContainerId>,
    /// Which have fallen silent, or speak again.
    spoken: Vec<(ContainerId, bool)>,
}

/// A container's turn to be stopped, from when it was found idle; however it ends.
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
    /// Judges every container, and begins to stop those that are idle. The sweep is over when this returns: slow stops
    /// keep no later one from judging. The answer can be awaited for the stops that it began.
    pub fn sweep(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopwatch = Stopwatch::start();
        let now = self.beat();
        let Findings { kept, idle, spoken } = self.find_idle(now);
        for (id, silent) in spoken {
            self.snapshot.update(&id, |entry| entry.silent = silent);
        }
        if !idle.is_empty() {
            tracing::info!(count = idle.len(), "idle containers found");
        }
        metrics::counter!(meter::VERDICTS, "verdict" => "keep").increment(kept);
        metrics::counter!(meter::VERDICTS, "verdict" => "sleep").increment(idle.len() as u64);
        // One that a former sweep found may still wait for its turn.
        let due: Vec<_> = idle.into_iter().filter(|id| self.going_to_sleep.locked().insert(id.clone())).collect();
        let stops = due.into_iter().map(|id| {
            self.spawn(|spindown| async move {
                let turn = Turn { spindown, id };
                if let Err(error) = turn.spindown.stop_if_idle(&turn.id).await {
                    tracing::warn!(container = %turn.id, error = error.message(), "an idle container could not be stopped");
                }
            })
        });
        let stops = futures::future::join_all(stops.collect::<Vec<_>>());
        self.watch.locked().last_sweep = Some(self.clock.now());
        metrics::histogram!(meter::SWEEP).record(stopwatch.elapsed().as_secs_f64());
        async { drop(stops.await) }
    }

    /// Judges every container.
    fn find_idle(&self, now: Stamp) -> Findings {
        let watched_since = self.watch.locked().since;
        let mut findings = Findings::default();
        let (snapshot, mut judge) = (self.snapshot.read(), self.judging(now));
        for entry in snapshot.entries() {
            let id = || entry.container.id.clone();
            match judge(entry).verdict {
                Verdict::Keep => findings.kept += 1,
                Verdict::Sleep => findings.idle.push(id()),
            }
            let silent = entry.has_fallen_silent(watched_since, now.moment);
            if silent != entry.silent {
                findings.spoken.push((id(), silent));
            }
        }
        findings
    }

    /// Compare-and-stop: what was read before is only a reason to look closer.
    async fn stop_if_idle(&self, id: &ContainerId) -> Result<()> {
        let Ok(_turn) = self.stops.acquire().await else { return Ok(()) };
        // Whoever holds it is changing the container, which is a sign of use; the next sweep looks again.
        let Some(_lock) = self.locks.try_lock(id) else { return Ok(()) };
        if self.shutdown.is_cancelled() || !self.is_idle(id).await? {
            return Ok(());
        }
        self.order_stop(id, StoppedBy::Idle).await?;
        // From here on whoever connects comes to the door, and is not lost with it.
        if let Err(error) = self.divert().await {
            tracing::warn!(container = %id, error = error.message(), "connections while it stops may be lost");
        }
        // What came in until then overrules the order.
        if !self.is_idle_but_for_the_order(id) {
            tracing::info!(container = %id, "kept: it came into use at the last moment");
            count_stop(StoppedBy::Idle, "withdrawn");
            self.withdraw_stop(id).await?;
            return self.divert().await;
        }
        self.carry_out_stop(id).await
    }

    /// The verdict, after all evidence has been read again: the engine's present state, and what other servers saw.
    async fn is_idle(&self, id: &ContainerId) -> Result<bool> {
        let engine_id = self.snapshot.require(id)?.container.engine_id;
        self.look_again(id, &engine_id).await?;
        self.read_evidence(id).await?;
        let now = self.beat();
        Ok(self.judge(&self.snapshot.require(id)?, now).verdict == Verdict::Sleep)
    }

    /// Takes in what other servers saw and changed, and which connections are carried.
    pub(super) async fn read_evidence(&self, id: &ContainerId) -> Result<()> {
        let remembered = self.store.activity(id).await?;
        self.catch_up(id).await?;
        self.heed_carried().await?;
        let now = self.clock.now();
        if let Some(remembered) = remembered {
            self.snapshot.update(id, |entry| entry.remember(remembered, now));
        }
        Ok(())
    }

    /// The verdict as if the order to stop had not been given.
    pub(super) fn is_idle_but_for_the_order(&self, id: &ContainerId) -> bool {
        let now = self.beat();
        let Some(mut entry) = self.snapshot.get(id) else { return false };
        entry.container.stopping = None;
        self.judge(&entry, now).verdict == Verdict::Sleep
    }
}
