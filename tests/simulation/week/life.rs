//! The life of the week: lets time pass beat by beat, lets users and fate do what is due, lets the containers report, and
//! compares what the engine has with the truth.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use spindown::{
    engine::sim::Call,
    model::{Knock, Rungs, StoppedBy, Timeout},
    service::Settings,
};

use super::{
    fault::{self, Fault},
    truth::{Guest, Met, PORT, Probe, Sight},
    user::{self, Habit, Move},
};
use crate::support::{
    eyes::Gaze,
    world::{BEAT, GAP, SWEEP, World, minutes},
};

/// One report in so many is lost on its way.
const LOST: u32 = 30;
/// How often the engine's list is compared. A server does it every thirty seconds; here that would be most of the work.
const DRIFT: Duration = Duration::from_secs(300);
/// One container in so many has the whole ladder and is looked into; the others report.
const LADDER: usize = 10;
/// A thaw sooner than this after the freeze makes that a false one.
const FALSE: Duration = minutes(5);
/// In so many parts of the minute the containers report.
const SLOTS: u64 = SWEEP.as_secs() / BEAT.as_secs();

/// What happened in the week.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    visits: u64,
    pub wakes: u64,
    refused_wakes: u64,
    requests: u64,
    check_ins: u64,
    pub lost: u64,
    refused: u64,
    pub idle_stops: u64,
    /// … of which somebody was there, for less than a minute.
    newcomers: u64,
    /// … of which somebody was there, whose reports were all lost.
    unheard: u64,
    /// … of which somebody was there, who had sent nothing that could be seen.
    still: u64,
    pub freezes: u64,
    pub thaws: u64,
    /// … of which the freeze had been over within five minutes: it should not have been.
    false_sleeps: u64,
    /// Stopped for their age, however busy.
    aged: u64,
    pub ordered_stops: u64,
    taken_by_engine: u64,
    faults: u64,
    /// The latest stop after its due.
    latest: Duration,
    /// What happened to whom and when, as one number.
    digest: u64,
}

pub struct Week {
    pub world: World,
    guests: Vec<Guest>,
    moves: BinaryHeap<Reverse<(Duration, usize, Move)>>,
    /// What is still to go wrong, the latest first.
    pub faults: Vec<(Duration, Fault)>,
    rng: StdRng,
    /// Decides which reports are lost.
    losses: StdRng,
    now: Duration,
    sight: Sight,
    gaze: Gaze,
    engine_away: bool,
    engine_down: bool,
    /// Whether something went wrong since the last beat, and since the one before it.
    disturbed: bool,
    was_disturbed: bool,
    /// Until when it may not have heard what was done behind its back.
    deaf_until: Duration,
    /// Steps since the beginning.
    steps: u64,
    stops: usize,
    tally: Tally,
}

impl Week {
    /// So many containers that run and nobody uses yet, and all that goes wrong on so many days.
    pub async fn furnish(seed: u64, many: usize, days: u64, change: impl FnOnce(&mut Settings)) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::with(|settings| {
            settings.network.subnet = "10.64.0.0/16".parse().unwrap();
            settings.ports = 20_000..=29_999;
            settings.drift_every = DRIFT;
            settings.look_every = SWEEP;
            change(settings);
        })
        .await;
        let addresses: Vec<_> = world.settings.network.addresses().take(many).collect();
        let mut guests = Vec::new();
        for (number, address) in addresses.into_iter().enumerate() {
            guests.push(guest(&world, number, address, &mut rng).await);
        }
        world.looks_often = false;
        world.eyes.open_for(guests.iter().filter(|guest| guest.probe.is_some()).map(|guest| guest.id.clone()));
        // They are adopted, as those of an earlier run are.
        world.restart().await;
        assert_eq!(world.list().len(), many);
        let moves = guests.iter().enumerate().map(|(i, guest)| {
            let at = guest.habit.next_visit(Duration::ZERO, &mut rng);
            Reverse((at, i, Move::Come))
        });
        let moves = moves.collect();
        let mut faults = fault::agenda(days, &mut rng);
        faults.reverse();
        Self {
            world,
            guests,
            moves,
            faults,
            losses: StdRng::seed_from_u64(rng.random()),
            rng,
            now: Duration::ZERO,
            sight: Sight { clear: true, ..Sight::default() },
            gaze: Gaze::True,
            engine_away: false,
            engine_down: false,
            disturbed: false,
            was_disturbed: false,
            deaf_until: Duration::ZERO,
            steps: 0,
            stops: 0,
            tally: Tally::default(),
        }
    }

    /// Lives for as long as that, and then until all that is idle is down.
    pub async fn live(mut self, span: Duration) -> Tally {
        while self.now < span {
            self.step().await;
        }
        // Everybody goes home and leaves no work behind, and there is no fault any more.
        self.moves.clear();
        for index in 0..self.guests.len() {
            self.goes_home(index);
            let guest = &mut self.guests[index];
            guest.connections = 0;
            guest.probe.iter_mut().for_each(|probe| probe.works = None);
        }
        self.faults.clear();
        let back = Fault::EngineBack { restarted: false };
        for fault in [back, Fault::StoreBack, Fault::Start, Fault::Heard, Fault::Eyes(Gaze::True), Fault::Looks(true)] {
            self.go_wrong(fault).await;
        }
        let longest = self.guests.iter().filter_map(|guest| guest.timeout).max().unwrap_or_default();
        let end = self.now + longest + 2 * SWEEP;
        while self.now < end {
            self.step().await;
        }
        let left = self.guests.iter().filter(|guest| guest.up && guest.timeout.is_some());
        let left: Vec<_> = left.map(|guest| self.world.service().activity(guest.id.as_str())).collect();
        assert!(left.is_empty(), "forgotten: {left:#?}");
        self.tally
    }

    /// Until the next beat.
    async fn step(&mut self) {
        let before = self.faults.len();
        while let Some((_, fault)) = self.faults.pop_if(|(at, _)| *at <= self.now) {
            self.go_wrong(fault).await;
        }
        if self.faults.len() < before {
            // What was held up and is let go comes to its end before anything else happens.
            self.world.settle().await;
            self.check();
        }
        while self.moves.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Reverse((_, index, step)) = self.moves.pop().unwrap();
            self.go(index, step).await;
        }
        // What was done behind the service's back gets to it, and what people stopped goes down.
        self.world.settle().await;
        self.check();
        self.report_all();
        let span = self.world.next_beat();
        self.now += span;
        self.steps += 1;
        self.world.pass(span).await;
        self.look();
        self.check();
        if let Some(guest) = self.guests.iter().find(|guest| guest.is_missed(self.sight, self.now)) {
            let why = self.world.service().activity(guest.id.as_str());
            panic!("missed at {:?}: {why:?}; last use {:?}, {:?}", self.now, guest.last_use, self.sight.maybe_blind);
        }
    }

    /// What the service can have seen by now.
    fn look(&mut self) {
        let clear = self.world.is_up() && self.world.store.answers() && !self.engine_away;
        if !self.world.is_up() || !self.world.store.answers() || self.engine_down {
            self.sight.surely_blind = self.now;
        }
        if !clear || self.disturbed || self.was_disturbed {
            self.sight.maybe_blind = self.now;
        }
        self.was_disturbed = std::mem::take(&mut self.disturbed) || !clear;
        self.sight.clear = clear;
        if self.gaze != Gaze::True || !self.world.looks {
            self.sight.eyes_off = self.now;
        }
        self.sight.dark = (self.gaze == Gaze::Fails).then(|| self.sight.dark.unwrap_or(self.now));
    }

    async fn go_wrong(&mut self, fault: Fault) {
        if fault == Fault::Start && self.world.is_up() {
            return;
        }
        self.note(usize::MAX, &fault);
        match fault {
            Fault::Crash => self.world.crash(),
            Fault::Start => self.world.start().await,
            Fault::StoreAway { hangs: true } => self.world.store.hang(),
            Fault::StoreAway { hangs: false } => self.world.store.go_down(),
            Fault::StoreBack => self.world.store.come_back(),
            Fault::EngineAway { hangs } => {
                if hangs {
                    self.world.sim.hang()
                } else {
                    self.world.sim.go_down()
                }
                self.engine_away = true;
                self.engine_down |= !hangs;
            }
            Fault::EngineBack { restarted } => {
                let restarted = restarted && self.engine_away;
                self.world.sim.resume();
                self.world.sim.come_back(restarted);
                (self.engine_away, self.engine_down) = (false, false);
                for index in 0..if restarted { self.guests.len() } else { 0 } {
                    if self.guests[index].up {
                        self.tally.taken_by_engine += 1;
                        self.came_down(index);
                    }
                }
            }
            Fault::Jump(by) => self.world.jump(time::Duration::seconds(by)),
            Fault::Halt(span) => {
                self.world.gap(span);
                self.now += span;
            }
            Fault::Eyes(gaze) => {
                self.world.eyes.set_gaze(gaze);
                (self.gaze, self.sight.eyes_off) = (gaze, self.now);
                self.sight.dark = None;
            }
            Fault::Looks(on) => (self.world.looks, self.sight.eyes_off) = (on, self.now),
            Fault::Deaf => {
                self.world.sim.lose_events(true);
                self.deaf_until = Duration::MAX;
            }
            Fault::Heard => {
                self.world.sim.lose_events(false);
                self.deaf_until = self.now + DRIFT;
            }
        }
        let began = matches!(fault, Fault::Crash | Fault::StoreAway { .. } | Fault::EngineAway { .. } | Fault::Deaf);
        let at_once = matches!(fault, Fault::Jump(_) | Fault::Halt(_));
        self.tally.faults += u64::from(began || at_once);
        let felt = match fault {
            Fault::Jump(by) => by.abs() > 5,
            Fault::Halt(span) => span >= GAP,
            Fault::Deaf | Fault::Heard => false,
            _ => true,
        };
        self.disturbed |= felt || at_once;
        if felt && (at_once || !self.world.is_up() || fault == Fault::Start) {
            self.sight.surely_blind = self.now;
        }
    }

    /// What a user does.
    async fn go(&mut self, index: usize, step: Move) {
        self.note(index, &step);
        let (world, now, guest) = (&mut self.world, self.now, &mut self.guests[index]);
        match step {
            Move::Come if self.rng.random_bool(0.05) => {
                // By the way, and without connecting.
                if world.is_up() && world.request(&guest.id).await.is_ok() {
                    guest.last_use = now;
                    self.tally.requests += 1;
                }
                let next = guest.habit.next_visit(now, &mut self.rng);
                self.plan(index, next);
            }
            Move::Come => {
                // An event that got lost is made up for by the list.
                let heard_by = if now < self.deaf_until { now + DRIFT + BEAT } else { now };
                if !guest.up && !wake(world, guest, self.engine_away, heard_by, &mut self.rng).await {
                    self.tally.refused_wakes += 1;
                    let pause = Duration::from_secs(self.rng.random_range(30..300));
                    self.plan(index, now + pause);
                    return;
                }
                if !guest.up {
                    self.tally.wakes += 1;
                    (guest.up, guest.ordered, guest.last_use, guest.unheard) = (true, false, now, false);
                }
                self.tally.visits += 1;
                (guest.connections, guest.connected_at) = (self.rng.random_range(1..4), now);
                guest.visit += 1;
                if self.rng.random_bool(0.02) {
                    guest.silent_until = now + minutes(self.rng.random_range(1..30));
                }
                let stay = guest.habit.stay(&mut self.rng);
                self.moves.push(Reverse((now + stay, index, Move::Leave(guest.visit))));
                if let Some(probe) = &mut guest.probe {
                    // Some only look at what is there for a while, and some leave work behind.
                    let still = minutes(self.rng.random_range(10..120));
                    probe.still_until = if self.rng.random_bool(0.3) { now + still } else { Duration::ZERO };
                    let work = minutes(self.rng.random_range(10..300));
                    probe.works = self.rng.random_bool(0.1).then_some((now, now + work));
                    self.send(index);
                }
            }
            Move::Leave(visit) if visit == guest.visit => {
                self.goes_home(index);
                let (world, guest) = (&self.world, &mut self.guests[index]);
                guest.connections = 0;
                if guest.up && self.rng.random_bool(guest.habit.tidy) {
                    if self.rng.random_bool(0.3) && !self.engine_away {
                        world.sim.kill_behind(&guest.engine_id);
                        guest.up = false;
                    } else if world.is_up() {
                        guest.ordered |= world.order_stop(&guest.id).await.is_ok();
                    }
                }
                let next = guest.habit.next_visit(now, &mut self.rng);
                self.plan(index, next);
            }
            Move::Leave(_) => {}
        }
    }

    /// The user of one that is looked into sends something.
    fn send(&mut self, index: usize) {
        let (now, world, guest) = (self.now, &self.world, &mut self.guests[index]);
        let client = guest.client();
        let Some(probe) = &mut guest.probe else { return };
        probe.moved = now;
        probe.may_show(now);
        if !world.sim.is_frozen(&guest.engine_id) {
            world.eyes.moves(&guest.id, PORT, client);
            return;
        }
        world.eyes.arrives(&guest.id, PORT, client);
        let IpAddr::V4(address) = guest.address else { unreachable!("there is no other") };
        world.kernel.knock(Knock { client, address, port: PORT, data: true });
        probe.waits = probe.waits.or(Some(now));
    }

    /// The user of one that is looked into is there no more.
    fn goes_home(&mut self, index: usize) {
        let (world, guest) = (&self.world, &mut self.guests[index]);
        let client = guest.client();
        if let Some(probe) = &mut guest.probe {
            world.eyes.ends(&guest.id, PORT, client);
            probe.waits = None;
        }
    }

    /// What goes on in one that is looked into, minute by minute.
    fn go_on(&mut self, index: usize) {
        let (now, guest) = (self.now, &mut self.guests[index]);
        let sends = guest.connections > 0;
        let frozen = self.world.sim.is_frozen(&guest.engine_id);
        let Some(probe) = &mut guest.probe else { return };
        probe.works = probe.works.filter(|(_, until)| *until > now);
        self.world.eyes.works(&guest.id, if probe.works.is_some() && !frozen { 800 } else { 0 });
        if probe.works.is_some() {
            // It is measured over a while.
            probe.may_show(now + 3 * SWEEP);
        }
        if sends && now >= probe.still_until {
            self.send(index);
        }
    }

    /// Looks who is frozen, and whether he should be.
    fn check_frozen(&mut self) {
        let (now, sight) = (self.now, self.sight);
        for guest in self.guests.iter_mut().step_by(LADDER) {
            guest.learn(sight, now);
            let (frozen, known) = (self.world.sim.is_frozen(&guest.engine_id), guest.surely(sight, now));
            let Some(probe) = &mut guest.probe else { continue };
            match (probe.frozen, frozen) {
                (None, true) => {
                    self.tally.freezes += 1;
                    let quiet = now.saturating_sub(known);
                    assert!(quiet >= probe.freeze, "a false freeze of {} at {now:?}: {quiet:?}", guest.id);
                    probe.frozen = Some(now);
                }
                (Some(since), false) if self.world.sim.is_up(&guest.engine_id) => {
                    self.tally.thaws += 1;
                    self.tally.false_sleeps += u64::from(now - since < FALSE);
                    self.world.eyes.reads(&guest.id);
                    (probe.frozen, probe.waits) = (None, None);
                    probe.may_show(now);
                    probe.works = probe.works.map(|(_, until)| (now, until));
                }
                // It went on down.
                (Some(_), false) => {}
                (Some(_), true) => {
                    let out = probe.waits.is_some_and(|since| sight.clear && sight.maybe_blind < since && now > since);
                    assert!(!out, "{} is frozen at {now:?}, and somebody waits since {:?}", guest.id, probe.waits);
                }
                (None, false) => {}
            }
        }
    }

    fn plan(&mut self, index: usize, at: Duration) {
        self.moves.push(Reverse((at, index, Move::Come)));
    }

    /// Lets those report whose part of the minute it is.
    fn report_all(&mut self) {
        let service = self.world.is_up().then(|| self.world.service());
        let now = self.now;
        for index in (0..self.guests.len()).skip((self.steps % SLOTS) as usize).step_by(SLOTS as usize) {
            if !self.guests[index].up {
                continue;
            }
            self.go_on(index);
            let guest = &mut self.guests[index];
            if guest.probe.is_some() && self.world.sim.is_frozen(&guest.engine_id) {
                continue;
            }
            self.tally.check_ins += 1;
            guest.unheard = now < guest.silent_until || self.losses.random_ratio(1, LOST);
            if guest.unheard {
                self.tally.lost += 1;
                continue;
            }
            let taken = service.as_ref().is_some_and(|s| s.check_in(guest.address, guest.connections).is_ok());
            let hears = self.sight.clear && !self.was_disturbed && !self.disturbed && now >= self.deaf_until;
            assert!(taken || !hears, "{} reported and was refused at {now:?}", guest.id);
            self.tally.refused += u64::from(!taken);
            if let Some(probe) = &mut guest.probe {
                if guest.connections > 0 {
                    probe.may_show(now);
                    probe.reported = if taken { now } else { probe.reported };
                }
            } else if guest.connections > 0 {
                // Also if it was refused: that is the service's affair and not the user's.
                guest.last_use = now;
            }
        }
    }

    /// Looks whether somebody was stopped, and judges it.
    fn check(&mut self) {
        self.check_frozen();
        let stops = self.world.sim.count(Call::Stop);
        if std::mem::replace(&mut self.stops, stops) == stops {
            return;
        }
        for index in 0..self.guests.len() {
            let guest = &self.guests[index];
            if !guest.up || self.world.sim.is_up(&guest.engine_id) {
                continue;
            }
            if guest.ordered {
                self.tally.ordered_stops += 1;
            } else if self.world.report(&guest.id).container.stopped.is_some_and(|stop| stop.by == StoppedBy::Age) {
                assert!(guest.probe.as_ref().is_some_and(|probe| probe.aged), "{} may have any age", guest.id);
                self.tally.aged += 1;
            } else {
                let met = guest.judge_stop(self.sight, self.now);
                let met = met.unwrap_or_else(|why| panic!("{} at {:?}: {why}", guest.id, self.now));
                let shown = self.world.report(&guest.id).container.stopped;
                assert_eq!(shown.map(|stop| stop.by), Some(StoppedBy::Idle));
                self.tally.idle_stops += 1;
                self.tally.newcomers += u64::from(met == Met::Newcomer);
                self.tally.still += u64::from(met == Met::Still);
                self.tally.unheard += u64::from(met == Met::Unheard);
                let late = guest.overdue(self.sight, self.now).unwrap_or_default();
                self.tally.latest = self.tally.latest.max(late);
            }
            self.came_down(index);
        }
    }

    /// It is down. Whoever was there notices, and comes back.
    fn came_down(&mut self, index: usize) {
        self.note(index, &"down");
        let guest = &mut self.guests[index];
        (guest.up, guest.ordered) = (false, false);
        if let Some(probe) = &mut guest.probe {
            (probe.frozen, probe.waits, probe.works) = (None, None, None);
            self.world.eyes.goes_down(&guest.id);
        }
        if std::mem::take(&mut guest.connections) > 0 {
            guest.visit += 1;
            let at = self.now + Duration::from_secs(self.rng.random_range(30..300));
            self.plan(index, at);
        }
    }

    fn note(&mut self, index: usize, what: &impl std::fmt::Debug) {
        let mut hasher = DefaultHasher::new();
        (self.tally.digest, self.now, index, format!("{what:?}")).hash(&mut hasher);
        self.tally.digest = hasher.finish();
    }
}

/// Starts a container for its user; answers whether it runs.
async fn wake(world: &World, guest: &mut Guest, engine_away: bool, heard_by: Duration, rng: &mut StdRng) -> bool {
    if rng.random_bool(0.1) && !engine_away {
        guest.start_heard_by = heard_by;
        return world.sim.start_behind(&guest.engine_id).is_ok();
    }
    // An engine that answers late may have started it all the same.
    world.is_up() && (world.order_start(&guest.id).await.is_ok() || world.sim.is_up(&guest.engine_id))
}

/// Makes a container that runs, of which the service knows nothing yet.
async fn guest(world: &World, number: usize, address: Ipv4Addr, rng: &mut StdRng) -> Guest {
    let timeout: Timeout = user::any_timeout(rng);
    let ladder = number.is_multiple_of(LADDER);
    let (mut rungs, mut probe) = (Rungs::default(), None);
    if ladder {
        let freeze = minutes([2, 5, 15][rng.random_range(0..3)]);
        let aged = rng.random_bool(0.2);
        rungs.freeze_after = Some(Timeout::After(freeze));
        rungs.max_age = aged.then(|| Timeout::After(minutes(12 * 60)));
        let never = Duration::ZERO;
        probe = Some(Probe {
            freeze,
            aged,
            frozen: None,
            waits: None,
            moved: never,
            still_until: never,
            works: None,
            reported: never,
            seen: never,
            latest: never,
        });
    }
    let (id, engine_id) = world.put_running(number, address, timeout, &rungs).await;
    Guest {
        id,
        engine_id,
        address: address.into(),
        timeout: timeout.span(),
        habit: Habit::any(rng),
        up: true,
        connections: 0,
        connected_at: Duration::ZERO,
        visit: 0,
        last_use: Duration::ZERO,
        start_heard_by: Duration::ZERO,
        unheard: false,
        silent_until: Duration::ZERO,
        ordered: false,
        probe,
    }
}
