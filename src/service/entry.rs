//! An entry of the snapshot: all that is known of one container, and what follows for it from what is seen.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use time::OffsetDateTime;

use crate::{
    model::{
        Activity, CheckIn, Container, Demand, EngineState, IMAGE_PREFIX, Ladder, Look, Moment, Observation, Rungs,
        Shown, Stamp, Status, Stop, StoppedBy, Target, What, status,
    },
    policy::{
        cause::{self, Outage},
        idle::{Evidence, Sign, was_false},
        patience::Tries,
        sight::{Findings, Rule, SETTLED, Track, follow},
        watch,
    },
};

/// Signs of one kind that are no further apart are the same one.
const SAME: Duration = Duration::from_secs(1);

/// A stop that failed and is tried again.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Failures in a row.
    pub failures: u32,
    /// What the last one was, for the caller.
    pub message: String,
    /// When it is tried again.
    pub next_try: Stamp,
}

/// What is known of the engine when a container's end is explained.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EngineHistory {
    pub started_at: Option<OffsetDateTime>,
    pub outage: Option<Outage>,
    /// Since when its events have been followed without a break.
    pub followed_since: Option<OffsetDateTime>,
}

/// All that is known of one container.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub container: Container,
    /// The ladder that holds for it.
    pub ladder: Ladder,
    /// What its image's labels say of that.
    image_rungs: Rungs,
    /// What the engine showed last; `None` if it has no such container.
    pub seen: Option<Observation>,
    /// What is known from looking into it; `None` if it cannot be, or has not been yet.
    pub track: Option<Track>,
    /// Who connected to it so lately that it cannot be told what for.
    pub unsettled: Vec<IpAddr>,
    /// Since when it is up, or down.
    pub since: Option<Moment>,
    /// Since when it is frozen, if that has been seen to begin.
    pub frozen_since: Option<Moment>,
    /// Since when it goes on that was frozen here, for somebody of whom it is not known yet what he wants.
    pub thawed_since: Option<Moment>,
    /// Whether one such has come since it was frozen.
    pub stranger: bool,
    /// Whether somebody has come for it who is to be let in, though it is still frozen, or is being stopped.
    pub wanted: bool,
    /// How many freezes in a row have met somebody.
    pub false_freezes: u32,
    /// Whether the last one met somebody of whom it is not known yet whether he uses it.
    doubtful_freeze: bool,
    /// Whether it could be looked into before, and cannot be now.
    lost_sight: bool,
    /// The stop of which whoever is logged in has been told.
    pub warned_of: Option<Moment>,
    /// From when to when data may have moved only because whoever is logged in was told something.
    pub told: Option<(Moment, Moment)>,
    /// The latest sign of each kind.
    pub signs: BTreeMap<Sign, Stamp>,
    /// What it reported last.
    pub connections: Option<u64>,
    /// Since when it has been known here.
    pub known_since: Moment,
    /// Whether somebody signalled it since it came up.
    pub signalled: bool,
    pub trouble: Option<Trouble>,
    /// How it did when it was woken last; `None` if it has not been.
    pub tries: Option<Tries>,
    /// What happened to it last, the oldest first.
    pub history: VecDeque<(Stamp, What)>,
    /// Whether it runs and has stopped reporting.
    pub silent: bool,
    /// Changed here and not in the store yet.
    pub unsaved: bool,
    /// Whether the last write of it may have been done though it failed.
    pub unsure: bool,
    /// Touched here and not in the store yet.
    pub unflushed: bool,
    /// The last use that the store is known to hold: what it tells again is no news, however the clock was set since.
    stored_use: Option<OffsetDateTime>,
}

impl Entry {
    /// A container of which the store, or its labels, tell; `server` is what holds unless it or its image says otherwise.
    pub(super) fn new(container: Container, server: &Rungs, now: Stamp) -> Self {
        let nothing = Rungs::default();
        Self {
            ladder: Ladder::of(container.idle_timeout, [&container.rungs, &nothing, server]),
            image_rungs: nothing,
            container,
            seen: None,
            track: None,
            unsettled: Vec::new(),
            since: None,
            frozen_since: None,
            thawed_since: None,
            stranger: false,
            wanted: false,
            false_freezes: 0,
            doubtful_freeze: false,
            lost_sight: false,
            warned_of: None,
            told: None,
            signs: BTreeMap::new(),
            connections: None,
            known_since: now.moment,
            signalled: false,
            trouble: None,
            tries: None,
            history: VecDeque::new(),
            silent: false,
            unsaved: false,
            unsure: false,
            unflushed: false,
            stored_use: None,
        }
    }

    /// Finds out anew which ladder holds: something that it follows from may have changed.
    pub(super) fn fit(&mut self, server: &Rungs) {
        let container = &self.container;
        self.ladder = Ladder::of(container.idle_timeout, [&container.rungs, &self.image_rungs, server]);
    }

    pub(super) fn status(&self) -> Status {
        let ordered_down = self.container.stopping.is_some() || self.container.removing.is_some();
        status(ordered_down, self.seen.as_ref().map(|s| s.state))
    }

    /// What its events follow from.
    pub(super) fn shown(&self) -> Shown {
        let up = self.seen.as_ref().filter(|seen| seen.state.is_up());
        Shown {
            status: self.status(),
            run: up.and_then(|up| up.started_at),
            ordered: self.container.stopping.map(|order| order.by),
            stopped: self.container.stopped.map(|stop| stop.by),
            exit_code: self.seen.as_ref().and_then(|seen| seen.exit_code),
        }
    }

    /// Whether it has reported before, and now has not for a while though it runs and has been watched.
    pub(super) fn has_fallen_silent(&self, watched_since: Moment, now: Moment) -> bool {
        let sign = |sign| self.signs.get(&sign).map(|stamp: &Stamp| stamp.moment);
        let heard = sign(Sign::CheckIn).map(|heard| heard.max(watched_since).max(sign(Sign::Start).unwrap_or(heard)));
        self.status() == Status::Running && heard.is_some_and(|heard| watch::silent(heard, now))
    }

    /// Notes a sign of use or of life.
    pub(super) fn note(&mut self, sign: Sign, at: Stamp) {
        let latest = self.signs.entry(sign).or_insert(at);
        if at.moment >= latest.moment {
            *latest = at;
        }
        self.unflushed = true;
        let thawed = self.thawed_since.filter(|_| self.doubtful_freeze && self.is_use(sign));
        if thawed.is_some_and(|since| (since..=since + 2 * SETTLED).contains(&at.moment)) {
            self.doubtful_freeze = false;
            self.false_freezes += 1;
        }
    }

    /// Notes a report.
    pub(super) fn check_in(&mut self, connections: u64, at: Stamp) {
        self.note(Sign::CheckIn, at);
        if connections > 0 {
            self.note(Sign::Connections, at);
        }
        self.connections = Some(connections);
        self.silent = false;
    }

    /// Merges what the store remembers.
    pub(super) fn remember(&mut self, activity: Activity, now: Stamp) {
        let unflushed = self.unflushed;
        let known = self.activity();
        if self.stored_use.is_none_or(|stored| activity.last_active_at > stored) {
            self.stored_use = Some(activity.last_active_at);
            self.note(Sign::Remembered, Stamp::recall(activity.last_active_at, now));
        }
        if let Some(report) = activity.check_in
            && known.and_then(|k| k.check_in).is_none_or(|k| report.at > k.at)
        {
            self.note(Sign::CheckIn, Stamp::recall(report.at, now));
            self.connections = Some(report.connections);
        }
        self.unflushed = unflushed;
    }

    /// Notes that the store holds this now.
    pub(super) fn flushed(&mut self, written: Activity) {
        self.stored_use = self.stored_use.max(Some(written.last_active_at));
        self.unflushed = self.activity() != Some(written);
    }

    /// Whether it was frozen here, rather than by somebody else.
    pub(super) fn is_frozen_here(&self) -> bool {
        let run = self.seen.as_ref().map(|seen| seen.started_at);
        self.status() == Status::Frozen && self.container.freezing.is_some_and(|freeze| Some(freeze.run) == run)
    }

    /// Whether somebody has come for it who is to be let in, or has used it, since it was frozen.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted || self.is_in_use_since_frozen()
    }

    fn is_in_use_since_frozen(&self) -> bool {
        let since = self.frozen_since.unwrap_or(self.known_since);
        self.signs.iter().any(|(sign, stamp)| self.is_use(*sign) && stamp.moment > since)
    }

    /// Whether its processes are halted, whoever did that and what for.
    pub(super) fn is_paused(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.state == EngineState::Paused)
    }

    /// Whether nothing tells whether it is in use: it cannot be looked into though it could be before, or others could
    /// (`blind`), and has not reported since.
    pub(super) fn is_unknown(&self, blind: bool) -> bool {
        let reported = self.signs.get(&Sign::CheckIn).is_some_and(|report| report.moment >= self.known_since);
        self.track.is_none() && (self.lost_sight || blind) && !reported
    }

    /// Whether it was halted for a stop for idleness, or for its age, that is not done yet.
    pub(super) fn is_halted(&self) -> bool {
        self.is_paused() && self.container.stopping.is_some_and(|order| order.by.is_policy())
    }

    /// What shows that somebody wants something of it.
    pub(super) fn demand(&self) -> Demand {
        self.seen.as_ref().map_or(Demand::Bytes, |seen| Demand::of(&seen.labels))
    }

    /// Where to look into it, while it is up.
    pub(super) fn target(&self, logins: bool) -> Option<Target> {
        let Container { id, engine_id, .. } = &self.container;
        let pid = self.seen.as_ref()?.pid?;
        Some(Target { id: id.clone(), engine_id: engine_id.clone(), pid, logins, surely: false })
    }

    /// Whether such a sign is use of it.
    pub(super) fn is_use(&self, sign: Sign) -> bool {
        sign.counts(&self.ladder.evidence, self.track.is_some())
    }

    /// The signs that were seen, without what is use elsewhere and not here.
    pub(super) fn evidence(&self) -> impl Iterator<Item = Evidence> {
        let counts = |(sign, _): &(&Sign, &Stamp)| !sign.is_activity() || self.is_use(**sign);
        self.signs.iter().filter(counts).map(|(sign, stamp)| Evidence { sign: *sign, at: stamp.moment })
    }

    /// Takes in what was seen by looking into it, after `now`: signs may come out a little too old, and never too young.
    /// It `took` as long as that.
    pub(super) fn take_look(
        &mut self,
        look: &Look,
        logins: bool,
        window: Duration,
        now: Stamp,
        took: Duration,
    ) -> Findings {
        if self.track.as_ref().is_some_and(|track| track.is_newer_than(now.moment)) {
            // It was overtaken by a closer one.
            return Findings::default();
        }
        let rule = Rule {
            ports: &self.container.ports,
            heeds: &self.ladder.evidence,
            window,
            logins,
            frozen: self.is_paused(),
            demand: self.demand(),
        };
        let (track, mut findings) = follow(self.track.as_ref(), look, rule, now.moment);
        if self.container.freezing.is_none() {
            // What others froze is not ours to let go on.
            findings.waiting.clear();
        }
        (self.track, self.lost_sight) = (Some(track), false);
        self.unsettled.clone_from(&findings.unsettled);
        for seen in &findings.evidence {
            // The age of what has been noted comes out a little different each time.
            let known = self.signs.get(&seen.sign).is_some_and(|known| seen.at <= known.moment + SAME);
            let told = self.told.is_some_and(|(from, to)| seen.at + took >= from && seen.at <= to);
            let told = told && seen.sign == Sign::Traffic;
            if !known && !told {
                self.note(seen.sign, Stamp { moment: seen.at, at: now.date_of(seen.at) });
            }
        }
        findings
    }

    /// Notes that it cannot be looked into; answers whether it could before. Then what happened since may have been missed.
    pub(super) fn lose_sight(&mut self, now: Moment) -> bool {
        self.unsettled.clear();
        let lost = self.track.take().is_some();
        if lost {
            (self.known_since, self.lost_sight) = (now, true);
        }
        lost
    }

    /// When it was last in use.
    pub(super) fn last_active_at(&self) -> Option<OffsetDateTime> {
        self.signs.iter().filter(|(sign, _)| self.is_use(**sign)).map(|(_, stamp)| stamp.at).max()
    }

    /// What the store is to remember.
    pub(super) fn activity(&self) -> Option<Activity> {
        let report = self.signs.get(&Sign::CheckIn).zip(self.connections);
        Some(Activity {
            last_active_at: self.last_active_at()?,
            check_in: report.map(|(stamp, connections)| CheckIn { at: stamp.at, connections }),
        })
    }

    /// Takes in what the engine shows now, and what follows from it.
    pub(super) fn observe(&mut self, seen: Option<Observation>, now: Stamp, engine: &EngineHistory) {
        let before = std::mem::replace(&mut self.seen, seen);
        let container = self.container.clone();
        if let Some(seen) = &self.seen
            && before.as_ref().is_none_or(|before| before.labels != seen.labels)
        {
            self.image_rungs = self.read_labels(&seen.labels);
        }
        match self.seen.clone() {
            Some(up) if up.state.is_up() => self.observe_up(before.as_ref(), &up, now),
            Some(down) if down.state != EngineState::Removing => self.observe_down(before.as_ref(), &down, now, engine),
            Some(_) => {}
            None => self.container.stopping = None,
        }
        if let Some(seen) = &self.seen {
            self.container.name = seen.name.clone();
            self.container.engine_id = seen.engine_id.clone();
        }
        if self.container.stopping.is_none() {
            self.trouble = None;
        }
        self.wanted &= self.is_paused() || self.container.stopping.is_some();
        self.unsaved |= self.container != container;
    }

    /// What the labels of its image say of its ladder. The engine gives a container its image's labels.
    fn read_labels(&self, labels: &BTreeMap<String, String>) -> Rungs {
        let (rungs, faults) = Rungs::of_labels(labels, IMAGE_PREFIX);
        for fault in faults {
            tracing::warn!(container = %self.container.id, image = self.container.image, "{}", fault.message());
        }
        rungs
    }

    fn observe_up(&mut self, before: Option<&Observation>, up: &Observation, now: Stamp) {
        let started_at = up.started_at.unwrap_or(now.at);
        let started = before.is_none_or(|b| !b.state.is_up() || b.started_at != up.started_at);
        let thawed = before.is_some_and(|b| b.state == EngineState::Paused) && up.state == EngineState::Running;
        // What another server wrote may be older than what is seen. It may also tell of the end of this very run, before
        // that is seen here.
        let of_this_run = |stop: &Stop| !started && up.started_at.is_some_and(|run| stop.at >= run);
        self.container.stopped = self.container.stopped.filter(of_this_run);
        self.container.stopping = self.container.stopping.filter(|order| order.run == up.started_at);
        if started {
            // Seen coming up, it came up now: the engine's clock may be another machine's, and wrong.
            let seen_down = before.is_some_and(|b| !b.state.is_up());
            let start = if seen_down { Stamp { at: started_at, ..now } } else { Stamp::recall(started_at, now) };
            self.note(Sign::Start, start);
            self.since = Some(start.moment);
            (self.track, self.frozen_since) = (None, None);
            self.unsettled.clear();
            self.signalled = false;
            self.connections = self.connections.filter(|_| before.is_none());
        }
        if up.state == EngineState::Paused && before.is_some_and(|b| b.state == EngineState::Running) {
            self.frozen_since = Some(now.moment);
        }
        if thawed {
            // Halted for a stop that did not come about it was for a moment only. Frozen here it goes on for whoever came,
            // and whether that is use is seen by what he does; where it cannot be seen, nobody could tell.
            let here = self.container.freezing.is_some();
            if self.container.stopping.is_none() && (!here || self.track.is_none()) {
                self.note(Sign::Start, now);
            }
            let for_a_stranger = here && std::mem::take(&mut self.stranger);
            self.thawed_since = for_a_stranger.then_some(now.moment);
            let as_a_probe = self.container.freezing.is_some_and(|freeze| freeze.by == StoppedBy::Idle);
            // Whoever stops it has it go on for that.
            if as_a_probe && self.container.stopping.is_none() {
                let met = self.frozen_since.is_some_and(|since| was_false(now.moment.since(since)));
                let in_use = self.is_in_use_since_frozen() || self.track.is_none();
                self.doubtful_freeze = met && for_a_stranger && !in_use;
                match met {
                    false => self.false_freezes = 0,
                    true if !self.doubtful_freeze => self.false_freezes += 1,
                    true => {}
                }
            }
            (self.container.freezing, self.frozen_since) = (None, None);
        }
    }

    fn observe_down(&mut self, before: Option<&Observation>, down: &Observation, now: Stamp, engine: &EngineHistory) {
        let at = down.finished_at.unwrap_or(now.at);
        if before.is_none_or(|before| before.state.is_up()) {
            self.since = Some(Stamp::recall(at, now).moment);
        }
        (self.container.freezing, self.frozen_since, self.warned_of) = (None, None, None);
        (self.false_freezes, self.doubtful_freeze) = (0, false);
        (self.track, self.unsettled, self.stranger) = (None, Vec::new(), false);
        if let Some(order) = self.container.stopping.take() {
            self.container.stopped = Some(Stop { by: order.by, at, ordered: true });
            return;
        }
        let ending = cause::Ending {
            at,
            exit_code: down.exit_code,
            signalled: engine.followed_since.is_some_and(|since| since <= at).then_some(self.signalled),
            engine_started_at: engine.started_at,
            outage: engine.outage,
        };
        // An end that was explained when it was seen stays explained: whoever stopped it a moment before the engine went
        // down did so all the same.
        if self.container.stopped.is_none_or(|known| known.at < at) {
            self.container.stopped = Some(Stop { by: cause::infer(&ending), at, ordered: false });
        }
    }
}
