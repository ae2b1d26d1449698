//! Health: whether each of the parts works that the promises depend on.

use std::{sync::Mutex, time::Duration};

use super::{Spindown, Unpoisoned};
use crate::model::{Error, Moment, Result};

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

/// What is remembered between two looks.
#[derive(Default)]
pub(super) struct Vitals {
    firewall: Mutex<Option<String>>,
    last: tokio::sync::Mutex<Option<(Moment, Vec<Check>)>>,
    listener: Mutex<Option<String>>,
    /// What is wrong with the door, and what may be.
    door: Mutex<(Option<String>, Option<String>)>,
    /// What keeps Spindown from seeing what goes on in containers.
    sight: Mutex<Option<String>>,
    /// What keeps it from hearing what comes for frozen ones.
    ears: Mutex<Option<String>>,
}

impl Vitals {
    pub(super) fn firewall_seen(&self, outcome: Result<()>) {
        *self.firewall.locked() = outcome.err().map(|e| e.message().to_owned());
    }

    /// Notes whether containers can be looked into.
    pub(super) fn sight_seen(&self, outcome: Result<()>) {
        *self.sight.locked() = outcome.err().map(|e| e.message().to_owned());
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
            Check { doubt: doubt.or_else(|| self.vitals.ears.locked().clone()), ..check("door", door) },
            check("disk", disk),
        ];
        if self.sight.sees() {
            checks.push(check("sight", self.vitals.sight.locked().clone()));
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
