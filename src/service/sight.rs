//! Sight: looking into containers from outside, and what follows for them and for those who connect to them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{Spindown, entry::Entry};
use crate::{
    clock::Stopwatch,
    meter,
    model::{ContainerId, Error, Kind, Look, Result, Stamp, Target},
    policy::sight::{Findings, SETTLED},
};

impl Spindown {
    /// Looks into all containers that are up.
    pub async fn look_into_all(&self) {
        if !self.sight.sees() {
            return;
        }
        let stopwatch = Stopwatch::start();
        let targets: Vec<_> = {
            let (now, snapshot) = (self.clock.now().moment, self.snapshot.read());
            let logins = |entry: &Entry| entry.track.as_ref().is_some_and(|track| track.may_log_in(now));
            snapshot.entries().filter_map(|entry| entry.target(logins(entry))).collect()
        };
        let asked_of: HashMap<_, _> = targets.iter().map(|target| (target.id.clone(), target.clone())).collect();
        let asked = self.clock.now();
        let looks = self.sight.look(targets).await;
        let (mut seen, mut problem): (_, Option<Error>) = (false, None);
        for (id, outcome) in looks {
            let Some(target) = asked_of.get(&id) else { continue };
            match self.take_look(target, outcome, asked) {
                Ok(()) => seen = true,
                // One that has just gone the engine tells of, and better.
                Err(error) if problem.is_some() && error.kind() == Kind::NotFound => {}
                Err(error) => problem = Some(error),
            }
        }
        self.vitals.sight_seen(seen, problem);
        metrics::histogram!(meter::LOOK).record(stopwatch.elapsed().as_secs_f64());
    }

    /// Looks into one container as closely as can be, before anything is done to it. If that fails though it could be looked
    /// into before, it gets fresh grace.
    pub(super) async fn look_into(&self, id: &ContainerId) {
        let target = self.snapshot.get(id).and_then(|entry| entry.target(true)).filter(|_| self.sight.sees());
        let Some(target) = target.map(|target| Target { surely: true, ..target }) else { return };
        let asked = self.clock.now();
        let outcome = self.sight.look(vec![target.clone()]).await.into_iter().next();
        let outcome = outcome.map_or_else(|| Err(Error::unavailable("it was not looked at")), |(_, outcome)| outcome);
        // What was never seen is judged by what it reports.
        let _ = self.take_look(&target, outcome, asked);
    }

    /// Takes in a look at a run of a container, which was begun at `now`.
    fn take_look(&self, target: &Target, outcome: Result<Look>, now: Stamp) -> Result<()> {
        let (id, window) = (&target.id, self.settings.look_window);
        let took = self.clock.now().moment.since(now.moment);
        let findings = self.snapshot.update(id, |entry| {
            if entry.target(false).map(|now| now.pid) != Some(target.pid) {
                // Another run by now.
                return Ok(Findings::default());
            }
            match outcome {
                Ok(look) => Ok(entry.take_look(&look, target.logins, window, now, took)),
                Err(error) => {
                    if entry.lose_sight(now.moment) && error.kind() != Kind::NotFound {
                        tracing::warn!(container = %id, ?error, "what goes on in a container cannot be seen any more");
                    }
                    Err(error)
                }
            }
        });
        let Some(findings) = findings else { return Ok(()) };
        let Findings { fruitless, logged_in, waiting, .. } = findings?;
        self.remember_knocks(id, &fruitless, &logged_in);
        for client in waiting {
            // Nobody told of it, or it was not let in then.
            if self.let_in(id, client) {
                self.thaw_soon(id, None);
            }
        }
        Ok(())
    }

    /// Whether somebody has connected to it so lately that it cannot be told what for, who is not known to knock in vain;
    /// or it was let go on for somebody so lately.
    pub(super) fn is_unsettled(&self, entry: &Entry) -> bool {
        let now = self.clock.now().moment;
        entry.thawed_since.is_some_and(|since| now.since(since) < SETTLED)
            || entry.unsettled.iter().any(|client| self.bear_with(*client, &entry.container.id).is_ok())
    }

    /// Whether whoever sends from there is known to use the container.
    pub(super) fn knows(&self, entry: &Entry, client: IpAddr) -> bool {
        let now = self.clock.now().moment;
        entry.track.as_ref().is_some_and(|track| track.knows(client, now))
    }

    /// Whether a connection from there is open, as far as can be seen; `None` if it cannot.
    pub(super) fn is_open(&self, id: &ContainerId, client: SocketAddr) -> Option<bool> {
        self.snapshot.read().entry(id)?.track.as_ref().map(|track| track.has(client))
    }
}
