//! Health: whether each of the parts works that the promises depend on.

use std::{sync::Mutex, time::Duration};

use super::{Spindown, Unpoisoned};
use crate::model::{Error, Kind, Moment, Result};

/// For how long an answer is given again: health is open to everybody, and must not become a way to load the engine.
const FRESH: Duration = Duration::from_secs(1);
/// After how many intervals without a sweep the scheduler counts as broken: one is due by then, and overdue.
const LATE_SWEEPS: u32 = 2;

/// One part and what is wrong with it, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The part.
    pub part: &'static str,
    /// What is wrong.
    pub problem: Option<String>,
    /// What may be wrong, and cannot be known from here.
    pub doubt: Option<String>,
}

/// What is said where no container's main process is on this machine.
const ELSEWHERE: &str = "none of the containers' processes can be seen from here, as if the engine ran on another machine: what \
                         they report counts instead";

/// Two remarks as one.
fn both(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
        (one, other) => one.or(other),
    }
}

/// What is remembered between two looks.
#[derive(Default)]
pub(super) struct Vitals {
    firewall: Mutex<Option<String>>,
    last: tokio::sync::Mutex<Option<(Moment, Vec<Check>)>>,
    listener: Mutex<Option<String>>,
    /// What is wrong with the door, and what may be.
    door: Mutex<(Option<String>, Option<String>)>,
    /// What comes of looking into containers.
    sight: Mutex<Seen>,
    /// What keeps it from hearing what comes for frozen ones.
    ears: Mutex<Option<String>>,
}

/// What came of looking into containers.
#[derive(Default)]
struct Seen {
    /// Whether something has ever been seen.
    ever: bool,
    /// Whether none of them was there at the last look.
    nobody: bool,
    /// What is wrong, and what may be.
    problem: Option<String>,
    doubt: Option<String>,
}

impl Vitals {
    pub(super) fn firewall_seen(&self, outcome: Result<()>) {
        *self.firewall.locked() = outcome.err().map(|e| e.message().to_owned());
    }

    /// Notes what came of looking into all containers: whether any was seen, and why the last one was not that was not. One
    /// alone that is not seen is its own affair.
    pub(super) fn sight_seen(&self, any: bool, error: Option<Error>) {
        let mut sight = self.sight.locked();
        sight.ever |= any;
        let error = error.filter(|_| !any);
        // One has gone at times before it is looked at. All of them, time after time, are somewhere else.
        let nobody = error.as_ref().is_some_and(|error| error.kind() == Kind::NotFound);
        let again = std::mem::replace(&mut sight.nobody, nobody);
        sight.doubt = (nobody && again).then(|| ELSEWHERE.to_owned());
        sight.problem = error.filter(|_| !nobody).map(|error| error.message().to_owned());
    }

    /// Whether containers could be looked into before, and none can be now.
    pub(super) fn went_blind(&self) -> bool {
        let sight = self.sight.locked();
        sight.ever && sight.problem.is_some()
    }

    /// Notes whether it is heard what comes for frozen containers.
    pub(super) fn ears_seen(&self, outcome: Result<()>) {
        *self.ears.locked() = outcome.err().map(|e| e.message().to_owned());
    }

    /// Whether it is known that it is not.
    pub(super) fn is_deaf(&self) -> bool {
        self.ears.locked().is_some()
    }

    /// Notes whether the door can do its work, or what may be in its way; news of that is logged.
    pub(super) fn door_seen(&self, outcome: Result<Option<String>>) {
        let now = match outcome {
            Ok(doubt) => (None, doubt),
            Err(error) => (Some(error.message().to_owned()), None),
        };
        let before = std::mem::replace(&mut *self.door.locked(), now.clone());
        if before == now {
            return;
        }
        match now.0.or(now.1) {
            Some(told) => tracing::warn!(told, "connections to sleeping containers may not wake them"),
            None => tracing::info!("connections wake sleeping containers again"),
        }
    }
}

impl Spindown {
    /// Looks at every part, at most once a second.
    pub async fn health(&self) -> Vec<Check> {
        let mut last = self.vitals.last.lock().await;
        let now = self.clock.now().moment;
        if let Some((at, checks)) = &*last
            && now.since(*at) < FRESH
        {
            return checks.clone();
        }
        let (engine, store, disk) = tokio::join!(self.check_engine(), self.store.ping(), self.disk_problem());
        let check = |part, problem| Check { part, problem, doubt: None };
        let (door, doubt) = self.vitals.door.locked().clone();
        let message = |outcome: Result<()>| outcome.err().map(|e: Error| e.message().to_owned());
        let mut checks = vec![
            check("engine", message(engine)),
            check("store", message(store)),
            check("firewall", self.vitals.firewall.locked().clone()),
            check("scheduler", self.scheduler_problem()),
            check("check_in", self.vitals.listener.locked().clone()),
            Check { doubt: both(doubt, self.vitals.ears.locked().clone()), ..check("door", door) },
            check("disk", disk),
        ];
        if self.sight.sees() {
            let sight = self.vitals.sight.locked();
            checks.push(Check { doubt: sight.doubt.clone(), ..check("sight", sight.problem.clone()) });
        }
        *last = Some((now, checks.clone()));
        checks
    }

    /// Tells whether the listener for check-ins serves.
    pub fn listener_seen(&self, problem: Option<String>) {
        *self.vitals.listener.locked() = problem;
    }

    fn scheduler_problem(&self) -> Option<String> {
        let late = self.since_last_sweep();
        let bound = self.settings.sweep_every * LATE_SWEEPS + Duration::from_secs(1);
        (late > bound).then(|| format!("the last sweep was {} s ago", late.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_told() {
        let vitals = Vitals::default();
        let told = || {
            let sight = vitals.sight.locked();
            (sight.problem.is_some(), sight.doubt.is_some())
        };
        let (gone, dark) = (|| Some(Error::not_found("gone")), || Some(Error::unavailable("dark")));
        vitals.sight_seen(false, dark());
        assert_eq!((told(), vitals.went_blind()), ((true, false), false), "it never saw anything");
        vitals.sight_seen(true, dark());
        assert_eq!((told(), vitals.went_blind()), ((false, false), false), "one alone");
        vitals.sight_seen(false, dark());
        assert_eq!((told(), vitals.went_blind()), ((true, false), true));
        vitals.sight_seen(false, gone());
        assert_eq!((told(), vitals.went_blind()), ((false, false), false), "it may have just gone");
        vitals.sight_seen(false, gone());
        assert_eq!((told(), vitals.went_blind()), ((false, true), false), "the engine may be elsewhere");
        vitals.sight_seen(false, None);
        assert_eq!(told(), (false, false), "there are none");
    }
}
