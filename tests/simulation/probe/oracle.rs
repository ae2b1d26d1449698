//! The oracle: what it knows of each container, and what must hold of it at any time.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use spindown::model::{EngineState, StoppedBy};

use super::{Guest, HEARD, Model, SOON, STOPPING, WORKING, Whose};
use crate::support::{eyes::Gaze, world::SWEEP};

impl Model {
    /// Whether everything is there, and nobody is known to have been kept from anything.
    pub(super) fn is_steady(&self) -> bool {
        self.world.is_up() && self.world.store.answers() && !self.engine_away
    }

    pub(super) fn sees_true(&self) -> bool {
        self.sees && self.gaze == Gaze::True && self.looks.load(Ordering::Relaxed)
    }

    /// The last use of a container that its next step down has to know of.
    pub(super) fn proof(&self, guest: &Guest) -> Duration {
        let long_enough = |since: Duration, span| self.now - since >= span;
        let mut proof = guest.known;
        if self.sees_true() && long_enough(self.true_since, SOON) {
            let moved = guest.visit.and(guest.moved);
            proof = proof.max(moved.unwrap_or_default()).max(guest.typed.unwrap_or_default());
            let busy = guest.works.is_some_and(|since| long_enough(since.max(guest.since), WORKING));
            if busy && guest.state == EngineState::Running && long_enough(self.true_since, WORKING) {
                proof = self.now;
            }
        }
        if !self.sees || self.dark_since.is_some_and(|since| long_enough(since, SOON)) {
            proof = proof.max(guest.reported.unwrap_or_default());
        }
        proof
    }

    /// What must hold at any time.
    pub(super) fn check(&mut self) {
        let now = self.now;
        if !self.is_steady() {
            self.steady = now;
        }
        self.calm = if self.faulty { now } else { self.calm.max(self.steady) };
        if !self.sees_true() {
            self.true_since = now;
        }
        self.dark_since = (self.gaze == Gaze::Fails).then(|| self.dark_since.unwrap_or(now));
        for index in 0..self.guests.len() {
            let state = self.world.sim.peek(&self.guests[index].engine_id).unwrap().state;
            if state != self.guests[index].state {
                self.changed(index, state);
            }
            self.learn(index);
            if self.is_kept(index) {
                self.guests[index].touched = now;
            }
            self.is_not_left(index);
        }
        self.is_watched();
    }

    /// Use that has certainly been seen: whatever is seen later, it was.
    pub(super) fn learn(&mut self, index: usize) {
        let (now, guest) = (self.now, &self.guests[index]);
        let seen = self.sees_true() && now - self.true_since >= SOON && now - self.calm >= SOON;
        if !seen || guest.state != EngineState::Running {
            return;
        }
        let lasted = guest.visit.is_some_and(|(_, since)| now - since >= Duration::from_secs(45));
        let uses = [guest.moved.filter(|_| lasted), guest.typed];
        let old = |at: &Duration| now - *at >= SOON;
        let known = uses.into_iter().flatten().filter(old).max().unwrap_or_default();
        let guest = &mut self.guests[index];
        guest.known = guest.known.max(known);
    }

    /// The engine shows something else of a container.
    pub(super) fn changed(&mut self, index: usize, state: EngineState) {
        let proof = self.proof(&self.guests[index]);
        // What happened a moment ago may have come after the last look, while an engine was slow.
        let fresh = self.now - self.calm < SOON && self.now - proof < SOON;
        let world = &self.world;
        let (now, guest) = (self.now, &mut self.guests[index]);
        let before = std::mem::replace(&mut guest.state, state);
        guest.turned = now;
        match state {
            EngineState::Paused => {
                let in_use = guest.freeze.is_none_or(|after| now.saturating_sub(proof) < after);
                guest.wanted = (in_use && !fresh && !guest.by_hand && guest.whose == Whose::Ours).then_some(now);
                guest.since = now;
            }
            EngineState::Running => {
                assert!(guest.whose != Whose::Theirs, "what others froze was let go on");
                world.eyes.reads(&guest.id);
                (guest.wanted, guest.by_hand, guest.whose) = (None, false, Whose::Ours);
                guest.touched = now;
                if before != EngineState::Paused {
                    guest.since = now;
                }
            }
            _ => {
                let stopped = world.is_up().then(|| world.find(&guest.id).ok()?.container.stopped).flatten();
                let aged = stopped.is_some_and(|stop| stop.by == StoppedBy::Age);
                assert!(!aged || guest.age.is_some(), "it has no age");
                if !guest.ordered && !aged {
                    let idle = guest.idle.expect("what is never to be stopped was stopped");
                    let quiet = now.saturating_sub(proof);
                    assert!(guest.whose != Whose::Theirs, "what others froze was stopped");
                    assert!(fresh || quiet >= idle, "stopped {quiet:?} after its last use, with a timeout of {idle:?}");
                }
                world.eyes.goes_down(&guest.id);
                (guest.visit, guest.stranger, guest.works) = (None, None, None);
                (guest.moved, guest.typed, guest.reported, guest.known) = (None, None, None, Duration::ZERO);
                (guest.wanted, guest.by_hand, guest.ordered, guest.whose) = (None, false, false, Whose::Ours);
            }
        }
        let working = guest.works.is_some() && state == EngineState::Running;
        world.eyes.works(&guest.id, if working { 800 } else { 0 });
    }

    /// Whether somebody has asked for it to be kept up.
    pub(super) fn is_kept(&self, index: usize) -> bool {
        let (up, now) = (self.world.is_up() && self.guests[index].extended, self.world.now());
        up && self.world.find(&self.guests[index].id).is_ok_and(|r| r.container.kept_until.is_some_and(|at| at > now))
    }

    /// Nobody waits in vain for what is frozen, and nothing stays frozen for good.
    pub(super) fn is_not_left(&self, index: usize) {
        let (now, guest) = (self.now, &self.guests[index]);
        if guest.state != EngineState::Paused || guest.whose != Whose::Ours {
            return;
        }
        let since = self.calm.max(if self.sees { self.true_since } else { Duration::ZERO }).max(guest.behind);
        let story = || (self.world.service().activity(guest.id.as_str()), self.world.store.records());
        if let Some(wanted) = guest.wanted
            && now - wanted.max(since) >= SOON
        {
            let stopping = self.world.report(&guest.id).container.stopping.is_some();
            assert!(stopping && now - wanted.max(since) < STOPPING, "frozen, and somebody waits: {:#?}", story());
        }
        if let Some(idle) = guest.idle {
            let long = now.saturating_sub(since.max(guest.since).max(guest.touched));
            assert!(long <= idle + 3 * SWEEP + STOPPING, "frozen for {long:?}: {:#?}", story());
        }
    }

    /// What is frozen here is watched, and nothing else.
    pub(super) fn is_watched(&self) {
        // To ask at each tick would be most of the work.
        if !self.now.as_secs().is_multiple_of(30) {
            return;
        }
        let settled = |guest: &Guest| self.now - guest.behind >= HEARD && self.now - guest.turned >= SOON;
        let heard = self.guests.iter().all(settled);
        if self.now - self.calm < HEARD || !heard || self.guests.iter().any(|guest| guest.whose == Whose::Unclear) {
            return;
        }
        if self.world.list().iter().any(|report| report.container.stopping.is_some()) {
            return;
        }
        let ours = |guest: &&Guest| guest.state == EngineState::Paused && guest.whose == Whose::Ours;
        let frozen: BTreeSet<_> = self.guests.iter().filter(ours).map(|guest| guest.address).collect();
        assert_eq!(self.world.kernel.watched(), frozen, "{:#?}", self.world.store.records());
    }
}
