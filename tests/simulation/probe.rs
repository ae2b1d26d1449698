//! The ladder under any order of use, sight and sleep: whoever is there is neither frozen nor stopped, what is frozen goes
//! on or goes down, and is never forgotten. An oracle beside the service knows who typed, what there was to see and what
//! was told; what the service made of that it reads from the engine alone.
//!
//! What runs on timers in a server does so here, and the clock goes along with tokio's: stops and freezes take their time
//! while other things happen.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proptest::{prelude::*, sample::Index, test_runner::FileFailurePersistence};
use spindown::{
    engine::{Engine, sim::Call},
    model::{ContainerId, EngineId, EngineState, Error, Image, Kind, Knock, Protocol, StoppedBy, Timeout},
    service::{Spindown, container::NewContainer},
};
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{
    eyes::Gaze,
    memory::{Access, Fault},
    world::{BEAT, SWEEP, World, minutes, wanted},
};

/// The ladders: idle timeout, when it is frozen, and its age.
const LADDERS: [(&str, &str, &str); 4] =
    [("12m", "4m", "never"), ("30m", "10m", "2h"), ("never", "5m", "never"), ("10m", "never", "never")];
/// The port of users, who are known by what they do …
const WEB: u16 = 8080;
/// … and that of strangers, who guess passwords.
const SSH: u16 = 22;
/// The oracle looks so often.
const TICK: Duration = Duration::from_secs(5);
/// What is to happen at once has happened by then: a beat, and what the oracle's own ticks leave open.
const SOON: Duration = Duration::from_secs(20);
/// A stop waits for whoever has just connected, and is tried again.
const STOPPING: Duration = Duration::from_secs(60);
/// A processor's work is seen by then, however the looks fell.
const WORKING: Duration = Duration::from_secs(130);
/// What happened behind the service's back has reached it by then, though the events got lost.
const HEARD: Duration = Duration::from_secs(60);

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Gap(u64),
    Jump(i64),
    /// A user comes and sends something; he has the container started if it is down.
    Come(Index),
    /// He sends something more; `quietly` if the kernel does not tell of it.
    Send(Index, bool),
    /// He types at a terminal.
    Type(Index),
    Leave(Index),
    Work(Index, bool),
    /// A connection is begun, and nothing more.
    Knock(Index),
    /// A guesser comes, or goes.
    Stranger(Index),
    See(Gaze),
    /// Whether the timer of the looks runs.
    Looks(bool),
    /// It reports so many connections whatever there are.
    Report(Index, Option<u64>),
    Fail(Call, u8),
    StoreFails(Fault),
    Forgive,
    EngineAway(bool),
    EngineBack,
    StoreAway(bool),
    StoreBack,
    LoseEvents(bool),
    Crash(bool),
    Start,
    /// The server is ended in an orderly way, and started.
    Restart,
    PauseBehind(Index),
    UnpauseBehind(Index),
    KillBehind(Index),
    StartBehind(Index),
    Freeze(Index),
    StartUp(Index),
    Stop(Index),
    Request(Index),
    Extend(Index, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    use Step::*;
    let one = any::<Index>;
    let gaze =
        prop_oneof![3 => Just(Gaze::True), 1 => Just(Gaze::Fails), 1 => Just(Gaze::Nothing), 1 => Just(Gaze::Old)];
    let call = prop_oneof![
        3 => Just(Call::Freeze), 3 => Just(Call::Thaw), 3 => Just(Call::Stop), 3 => Just(Call::Inspect),
        1 => Just(Call::List), 1 => Just(Call::Events), 1 => Just(Call::Start),
    ];
    prop_oneof![
        10 => (1u64..120).prop_map(Pass),
        14 => (120u64..30 * 60).prop_map(Pass),
        1 => prop_oneof![1u64..50, 50u64..3_600].prop_map(Gap),
        1 => prop_oneof![-86_400i64..86_400, -20i64..20].prop_map(Jump),
        6 => one().prop_map(Come),
        6 => (one(), any::<bool>()).prop_map(|(i, quietly)| Send(i, quietly)),
        3 => one().prop_map(Type),
        4 => one().prop_map(Leave),
        2 => (one(), any::<bool>()).prop_map(|(i, works)| Work(i, works)),
        1 => one().prop_map(Knock),
        3 => one().prop_map(Stranger),
        3 => gaze.prop_map(See),
        2 => prop::bool::weighted(0.7).prop_map(Looks),
        2 => (one(), prop::option::of(0u64..3)).prop_map(|(i, lie)| Report(i, lie)),
        5 => (call, 1u8..3).prop_map(|(call, times)| Fail(call, times)),
        1 => prop_oneof![Just(Fault::Before), Just(Fault::After)].prop_map(StoreFails),
        2 => Just(Forgive),
        1 => any::<bool>().prop_map(EngineAway),
        3 => Just(EngineBack),
        1 => any::<bool>().prop_map(StoreAway),
        3 => Just(StoreBack),
        1 => any::<bool>().prop_map(LoseEvents),
        2 => prop::bool::weighted(0.1).prop_map(Crash),
        4 => Just(Start),
        1 => Just(Restart),
        2 => one().prop_map(PauseBehind),
        1 => one().prop_map(UnpauseBehind),
        1 => one().prop_map(KillBehind),
        1 => one().prop_map(StartBehind),
        3 => one().prop_map(Freeze),
        3 => one().prop_map(StartUp),
        1 => one().prop_map(Stop),
        1 => one().prop_map(Request),
        1 => (one(), 1u64..90).prop_map(|(i, minutes)| Extend(i, minutes)),
    ]
}

/// Who froze it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
    /// Others did, while the service was at it as well: nobody can tell.
    Unclear,
}

/// One container, as the oracle has it.
struct Guest {
    id: ContainerId,
    engine_id: EngineId,
    address: Ipv4Addr,
    idle: Option<Duration>,
    freeze: Option<Duration>,
    age: Option<Duration>,
    /// A user's connection, and since when it is there.
    visit: Option<(SocketAddr, Duration)>,
    stranger: Option<SocketAddr>,
    /// Since when processors work for it.
    works: Option<Duration>,
    /// What it reports whatever there is.
    lie: Option<u64>,
    /// When data moved last on that connection, when something was typed last, and when connections were last reported.
    moved: Option<Duration>,
    typed: Option<Duration>,
    reported: Option<Duration>,
    /// The last use of which the service has certainly learnt.
    known: Duration,
    state: EngineState,
    /// When that changed last.
    turned: Duration,
    /// Since when it is up, or frozen.
    since: Duration,
    whose: Whose,
    /// Whether somebody asked for it to be frozen, or to be stopped.
    by_hand: bool,
    ordered: bool,
    /// Since when it should go on: it was frozen though it was in use, or somebody wants something of it.
    wanted: Option<Duration>,
    /// When something happened last that may let it stay up or frozen for longer.
    touched: Duration,
    /// Whether somebody has ever asked for it to be kept up.
    extended: bool,
    /// When something was done to it last behind the service's back.
    behind: Duration,
}

struct Model {
    world: World,
    guests: Vec<Guest>,
    timers: Vec<JoinHandle<()>>,
    now: Duration,
    sees: bool,
    gaze: Gaze,
    looks: Arc<AtomicBool>,
    engine_away: bool,
    /// Whether failures are arranged that keep it from knowing what there is, or from doing anything.
    faulty: bool,
    /// Since when server, engine and store are there …
    steady: Duration,
    /// … and nothing is arranged to fail.
    calm: Duration,
    /// Since when the eyes are true, and look.
    true_since: Duration,
    /// Since when the eyes have done nothing but fail.
    dark_since: Option<Duration>,
    /// How many have come so far.
    visits: u16,
}

impl Model {
    async fn new(sees: bool) -> Self {
        let world = World::with(|settings| settings.look_every = BEAT).await;
        world.store.make_exclusive();
        let exposed = vec![(SSH, Protocol::Tcp), (WEB, Protocol::Tcp)];
        world.sim.add_image("probed", Image { exposed, ..Image::default() });
        if sees {
            world.eyes.open();
        }
        let zero = Duration::ZERO;
        let mut model = Self {
            world,
            guests: Vec::new(),
            timers: Vec::new(),
            now: zero,
            sees,
            gaze: Gaze::True,
            looks: Arc::new(AtomicBool::new(true)),
            engine_away: false,
            faulty: false,
            steady: zero,
            calm: zero,
            true_since: zero,
            dark_since: None,
            visits: 0,
        };
        for ladder in LADDERS {
            model.create(ladder).await;
        }
        // The clock is never behind tokio's, lest somebody is waited for who has had his time.
        model.world.gap(TICK);
        model.now += TICK;
        model.run_timers();
        model
    }

    async fn create(&mut self, (idle, freeze, age): (&str, &str, &str)) {
        let span = |text| Timeout::parse(text).unwrap().span();
        let mut wanted =
            NewContainer { image: "probed".to_owned(), idle_timeout: Some(Timeout::parse(idle).unwrap()), ..wanted() };
        wanted.rungs.set("freeze_after", freeze).unwrap();
        wanted.rungs.set("max_age", age).unwrap();
        let made = self.world.service().create_container("admin", wanted, None).await.unwrap().container;
        self.guests.push(Guest {
            id: made.id,
            engine_id: made.engine_id,
            address: made.address.unwrap(),
            idle: span(idle),
            freeze: span(freeze),
            age: span(age),
            visit: None,
            stranger: None,
            works: None,
            lie: None,
            moved: None,
            typed: None,
            reported: None,
            known: Duration::ZERO,
            state: EngineState::Running,
            turned: Duration::ZERO,
            since: Duration::ZERO,
            whose: Whose::Ours,
            by_hand: false,
            ordered: false,
            wanted: None,
            touched: Duration::ZERO,
            extended: false,
            behind: Duration::ZERO,
        });
    }

    /// What runs on timers in a server.
    fn run_timers(&mut self) {
        let looks = Arc::clone(&self.looks);
        let of = |run: fn(Arc<Spindown>, Arc<AtomicBool>) -> futures::future::BoxFuture<'static, ()>| {
            tokio::spawn(run(self.world.service(), Arc::clone(&looks)))
        };
        self.timers = vec![
            of(|service, _| {
                Box::pin(async move {
                    loop {
                        tokio::time::sleep(BEAT).await;
                        service.beat();
                        service.flush().await;
                        service.retry_stops().await;
                        service.retry_thaws();
                    }
                })
            }),
            of(|service, looks| {
                Box::pin(async move {
                    loop {
                        tokio::time::sleep(BEAT).await;
                        if looks.load(Ordering::Relaxed) {
                            service.look_into_all().await;
                        }
                    }
                })
            }),
            of(|service, _| {
                Box::pin(async move {
                    loop {
                        tokio::time::sleep(SWEEP).await;
                        drop(service.sweep());
                    }
                })
            }),
            of(|service, _| {
                Box::pin(async move {
                    let mut changes = service.last_event();
                    loop {
                        tokio::select! {
                            Ok(()) = changes.changed() => {
                                service.divert_or_later().await;
                                service.watch_or_later().await;
                            }
                            () = tokio::time::sleep(BEAT) => service.keep_door().await,
                        }
                    }
                })
            }),
        ];
    }

    fn stop_timers(&mut self) {
        self.timers.drain(..).for_each(|timer| timer.abort());
    }

    /// Lets time pass, looking at each tick.
    async fn pass(&mut self, span: Duration) {
        let mut left = span;
        while left > Duration::ZERO {
            let step = left.min(TICK);
            left -= step;
            if self.now.as_secs() / 60 != (self.now + step).as_secs() / 60 {
                self.report_all();
            }
            self.world.gap(step);
            self.now += step;
            tokio::time::sleep(step).await;
            self.check();
        }
    }

    /// Does something that may take its time, which passes meanwhile.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (began, mut passed) = (Instant::now(), Duration::ZERO);
        let mut work = pin!(work);
        loop {
            let outcome = tokio::select! {
                biased;
                outcome = &mut work => Some(outcome),
                () = tokio::time::sleep(Duration::from_secs(1)) => None,
            };
            let span = began.elapsed() - passed;
            passed += span;
            self.world.gap(span);
            self.now += span;
            self.check();
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    fn report_all(&mut self) {
        if !self.world.is_up() {
            return;
        }
        for guest in self.guests.iter_mut().filter(|guest| guest.state == EngineState::Running) {
            let connections = guest.lie.unwrap_or(u64::from(guest.visit.is_some()));
            let taken = self.world.service().check_in(guest.address.into(), connections).is_ok();
            if connections > 0 {
                guest.touched = self.now;
                guest.reported = guest.reported.max(taken.then_some(self.now));
            }
        }
    }

    /// Whether everything is there, and nobody is known to have been kept from anything.
    fn is_steady(&self) -> bool {
        self.world.is_up() && self.world.store.answers() && !self.engine_away
    }

    fn sees_true(&self) -> bool {
        self.sees && self.gaze == Gaze::True && self.looks.load(Ordering::Relaxed)
    }

    /// The last use of a container that its next step down has to know of.
    fn proof(&self, guest: &Guest) -> Duration {
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
    fn check(&mut self) {
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
    fn learn(&mut self, index: usize) {
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
    fn changed(&mut self, index: usize, state: EngineState) {
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
    fn is_kept(&self, index: usize) -> bool {
        let (up, now) = (self.world.is_up() && self.guests[index].extended, self.world.now());
        up && self.world.find(&self.guests[index].id).is_ok_and(|r| r.container.kept_until.is_some_and(|at| at > now))
    }

    /// Nobody waits in vain for what is frozen, and nothing stays frozen for good.
    fn is_not_left(&self, index: usize) {
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
    fn is_watched(&self) {
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

    async fn go(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => self.pass(Duration::from_secs(*seconds)).await,
            Step::Gap(seconds) => {
                let span = Duration::from_secs(*seconds);
                self.world.gap(span);
                self.now += span;
                (self.steady, self.true_since) = (self.now, self.now);
            }
            Step::Jump(seconds) => {
                self.world.jump(time::Duration::seconds(*seconds));
                (self.steady, self.true_since) = (self.now, self.now);
            }
            Step::See(gaze) => {
                // What was true for a moment in between may not have been looked at.
                (self.gaze, self.true_since, self.dark_since) = (*gaze, self.now, None);
                self.world.eyes.set_gaze(*gaze);
            }
            Step::Looks(on) => self.looks.store(*on, Ordering::Relaxed),
            Step::Fail(call, times) => {
                for _ in 0..*times {
                    self.world.sim.fail_next(*call, Error::new(Kind::Internal, "as arranged"));
                }
                self.faulty = true;
            }
            Step::StoreFails(fault) => {
                self.world.store.fail_next(Access::Put, *fault);
                self.faulty = true;
            }
            Step::Forgive => self.forgive(),
            Step::EngineAway(hangs) => {
                if *hangs {
                    self.world.sim.hang();
                } else {
                    self.world.sim.go_down();
                }
                self.engine_away = true;
            }
            Step::EngineBack => {
                self.world.sim.resume();
                self.world.sim.come_back(false);
                self.engine_away = false;
            }
            Step::StoreAway(true) => self.world.store.hang(),
            Step::StoreAway(false) => self.world.store.go_down(),
            Step::StoreBack => self.world.store.come_back(),
            Step::LoseEvents(lost) => self.world.sim.lose_events(*lost),
            Step::Crash(wipe) => self.crash(*wipe),
            Step::Start => self.start().await,
            Step::Restart if self.world.is_up() => self.restart().await,
            Step::Restart => {}
            Step::Come(i)
            | Step::Send(i, _)
            | Step::Type(i)
            | Step::Leave(i)
            | Step::Work(i, _)
            | Step::Knock(i)
            | Step::Stranger(i)
            | Step::Report(i, _)
            | Step::PauseBehind(i)
            | Step::UnpauseBehind(i)
            | Step::KillBehind(i)
            | Step::StartBehind(i) => self.go_with(step, i.index(self.guests.len())).await,
            Step::Freeze(i) | Step::StartUp(i) | Step::Stop(i) | Step::Request(i) | Step::Extend(i, _) => {
                if self.world.is_up() {
                    self.ask(step, i.index(self.guests.len())).await;
                }
            }
        }
        self.check();
    }

    fn forgive(&mut self) {
        self.world.sim.forgive();
        self.world.store.forgive();
        self.faulty = false;
        self.calm = self.now;
    }

    fn crash(&mut self, wipe: bool) {
        self.stop_timers();
        self.world.crash();
        self.steady = self.now;
        for guest in &mut self.guests {
            if !self.sees {
                // Who knocked is told to nobody any more, and cannot be seen.
                guest.wanted = None;
            }
            if wipe && guest.whose == Whose::Theirs {
                // Nobody knows any more.
                guest.whose = Whose::Unclear;
            }
        }
        if wipe {
            self.world.store.wipe();
        }
    }

    async fn start(&mut self) {
        if !self.world.is_up() {
            self.world.gap(TICK);
            self.now += TICK;
            self.world.start().await;
            self.run_timers();
        }
    }

    /// The server is ended, which leaves nothing frozen, and started.
    async fn restart(&mut self) {
        self.stop_timers();
        let sound = self.is_steady() && self.now - self.calm >= HEARD;
        let service = self.world.service();
        self.during(async move { service.close(Duration::from_secs(20)).await }).await;
        for guest in self.guests.iter().filter(|guest| sound && self.now - guest.behind >= HEARD) {
            let left = guest.state == EngineState::Paused && guest.whose == Whose::Ours;
            assert!(!left, "nobody would notice who comes: {:#?}", self.world.store.records());
        }
        self.crash(false);
        self.start().await;
    }

    /// Something comes for a container through the network.
    fn arrive(&mut self, index: usize, client: SocketAddr, port: u16, quietly: bool) {
        let now = self.now;
        let (world, guest) = (&self.world, &mut self.guests[index]);
        world.eyes.arrives(&guest.id, port, client);
        let seen = self.sees && self.gaze == Gaze::True;
        let told = !quietly && world.is_up() && world.kernel.watched().contains(&guest.address);
        if !quietly {
            world.kernel.knock(Knock { client, address: guest.address, port, data: true });
        }
        guest.touched = now;
        // Strangers have to wait now and then.
        if port == WEB && guest.whose == Whose::Ours && (seen || told) {
            guest.wanted = guest.wanted.or(Some(now));
        }
    }

    async fn go_with(&mut self, step: &Step, index: usize) {
        let (now, away) = (self.now, self.engine_away);
        let state = self.guests[index].state;
        match step {
            Step::Come(_) if self.guests[index].visit.is_none() => self.come(index).await,
            Step::Send(_, quietly) => {
                let Some((client, _)) = self.guests[index].visit else { return };
                match state {
                    EngineState::Running => self.move_data(index),
                    EngineState::Paused => {
                        self.guests[index].moved = Some(now);
                        self.arrive(index, client, WEB, *quietly);
                    }
                    _ => {}
                }
            }
            Step::Type(_) if state == EngineState::Running => {
                let guest = &mut self.guests[index];
                (guest.typed, guest.touched) = (Some(now), now);
                self.world.eyes.inside(&guest.id, |inside, now| inside.typed = Some(now));
            }
            Step::Leave(_) => self.leave(index),
            Step::Work(_, works) => self.work(index, *works),
            Step::Knock(_) => {
                let guest = &self.guests[index];
                let client = SocketAddr::from(([192, 0, 2, 250], 40_000));
                self.world.kernel.knock(Knock { client, address: guest.address, port: WEB, data: false });
            }
            Step::Stranger(_) => self.stranger(index),
            Step::Report(_, lie) => self.guests[index].lie = *lie,
            Step::PauseBehind(_) if state == EngineState::Running && !away => {
                let id = &self.guests[index].id;
                let kept = self.world.store.records().into_iter().find(|container| container.id == *id);
                let known = self.world.is_up().then(|| self.world.find(id).ok()).flatten().map(|r| r.container);
                // What there is no record of was wiped, or not saved yet.
                let unknown = kept.is_none();
                let at_it = [kept, known].iter().flatten().any(|c| c.stopping.is_some() || c.freezing.is_some());
                let whose = if at_it || unknown { Whose::Unclear } else { Whose::Theirs };
                self.world.sim.freeze_behind(&self.guests[index].engine_id);
                let guest = &mut self.guests[index];
                (guest.whose, guest.behind) = (whose, now);
            }
            Step::UnpauseBehind(_) if state == EngineState::Paused && !away => {
                let guest = &mut self.guests[index];
                (guest.whose, guest.behind) = (Whose::Ours, now);
                // A failure that is arranged may strike here.
                let _ = self.world.sim.thaw(&guest.engine_id).await;
                if self.world.sim.peek(&guest.engine_id).unwrap().state == EngineState::Paused {
                    guest.whose = Whose::Unclear;
                }
            }
            Step::KillBehind(_) if state.is_up() && !away => {
                let guest = &mut self.guests[index];
                (guest.ordered, guest.behind) = (true, now);
                self.world.sim.kill_behind(&guest.engine_id);
            }
            Step::StartBehind(_) if !state.is_up() && !away => {
                let guest = &mut self.guests[index];
                guest.behind = now;
                self.world.sim.start_behind(&guest.engine_id).unwrap();
            }
            _ => {}
        }
    }

    fn move_data(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        let Some((client, _)) = guest.visit else { return };
        (guest.moved, guest.touched) = (Some(self.now), self.now);
        self.world.eyes.moves(&guest.id, WEB, client);
    }

    /// A user comes, from where nobody has come before.
    async fn come(&mut self, index: usize) {
        if !self.guests[index].state.is_up() {
            if !self.world.is_up() {
                return;
            }
            let (service, id) = (self.world.service(), self.guests[index].id.clone());
            let _ = self.during(async move { service.start_container(id.as_str()).await }).await;
        }
        self.visits += 1;
        let [high, low] = self.visits.to_be_bytes();
        let client = SocketAddr::from(([198, 18, high, low], 40_000));
        let (now, guest) = (self.now, &mut self.guests[index]);
        match guest.state {
            EngineState::Running => {
                guest.visit = Some((client, now));
                self.move_data(index);
            }
            EngineState::Paused => {
                (guest.visit, guest.moved) = (Some((client, now)), Some(now));
                self.arrive(index, client, WEB, false);
            }
            _ => {}
        }
    }

    fn leave(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        if let Some((client, _)) = guest.visit.take() {
            self.world.eyes.ends(&guest.id, WEB, client);
            // Nobody waits any more.
            guest.wanted = None;
        }
    }

    fn work(&mut self, index: usize, works: bool) {
        let guest = &mut self.guests[index];
        guest.works = works.then(|| guest.works.unwrap_or(self.now));
        guest.touched = self.now;
        let working = works && guest.state == EngineState::Running;
        self.world.eyes.works(&guest.id, if working { 800 } else { 0 });
    }

    fn stranger(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        guest.touched = self.now;
        if let Some(client) = guest.stranger.take() {
            self.world.eyes.ends(&guest.id, SSH, client);
            return;
        }
        self.visits += 1;
        let client = SocketAddr::from(([203, 0, 113, 5], 1_024 + self.visits));
        match guest.state {
            EngineState::Running => self.world.eyes.moves(&guest.id, SSH, client),
            EngineState::Paused => self.arrive(index, client, SSH, false),
            _ => return,
        }
        self.guests[index].stranger = Some(client);
    }

    /// Somebody asks for something through the API.
    async fn ask(&mut self, step: &Step, index: usize) {
        let (service, id) = (self.world.service(), self.guests[index].id.clone());
        let guest = &mut self.guests[index];
        let theirs = guest.whose == Whose::Theirs;
        // What comes of it is not known before it is over.
        if matches!(step, Step::Freeze(_) | Step::StartUp(_) | Step::Stop(_)) && guest.whose != Whose::Ours {
            guest.whose = Whose::Unclear;
        }
        guest.by_hand |= matches!(step, Step::Freeze(_));
        guest.extended |= matches!(step, Step::Extend(..));
        guest.ordered |= matches!(step, Step::Stop(_));
        let asked = step.clone();
        let done = self
            .during(async move {
                let name = id.as_str();
                match asked {
                    Step::Freeze(_) => service.freeze_container(name).await.is_ok(),
                    Step::StartUp(_) => service.start_container(name).await.is_ok(),
                    Step::Stop(_) => service.stop_container(name).await.is_ok(),
                    Step::Extend(_, by) => service.extend_container(name, minutes(by)).await.is_ok(),
                    _ => service.update_container(name, Default::default()).await.is_ok(),
                }
            })
            .await;
        let (now, guest) = (self.now, &mut self.guests[index]);
        guest.touched = now;
        match step {
            Step::Freeze(_) | Step::StartUp(_) if done => {
                (guest.whose, guest.ordered, guest.wanted) = (Whose::Ours, false, None);
            }
            Step::Stop(_) if !done && theirs && guest.state == EngineState::Paused => guest.whose = Whose::Unclear,
            _ => {}
        }
        guest.by_hand &= guest.state == EngineState::Paused;
    }

    /// Everything works again.
    async fn end(&mut self) {
        self.world.sim.lose_events(false);
        self.forgive();
        for step in [Step::EngineBack, Step::StoreBack, Step::Start, Step::See(Gaze::True), Step::Looks(true)] {
            self.go(&step).await;
        }
        self.pass(2 * HEARD + STOPPING).await;
        // Whoever comes now for what is frozen here is heard.
        for index in 0..self.guests.len() {
            self.leave(index);
            if self.guests[index].state == EngineState::Paused {
                self.come(index).await;
            }
        }
        self.pass(STOPPING + SOON).await;
        for index in 0..self.guests.len() {
            let guest = &self.guests[index];
            assert!(
                guest.state != EngineState::Paused || guest.whose != Whose::Ours || guest.visit.is_none(),
                "whoever came was not heard"
            );
            if guest.stranger.is_some() {
                self.stranger(index);
            }
            self.guests[index].lie = Some(0);
            self.leave(index);
            self.work(index, false);
        }
        let longest = self.guests.iter().filter_map(|guest| guest.idle).max().unwrap();
        self.pass(longest + 4 * SWEEP).await;
        for guest in &self.guests {
            let Ok(report) = self.world.find(&guest.id) else { panic!("it is gone") };
            let kept = report.container.kept_until.is_some_and(|at| at > self.world.now());
            let up = guest.state.is_up() && guest.whose == Whose::Ours && !kept;
            assert!(!up || guest.idle.is_none(), "forgotten: {report:#?}");
        }
        self.stop_timers();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(50, |cases| cases.parse().unwrap()),
        max_shrink_iters: 2_000,
        // What once failed is tried first ever after.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_is_frozen_out_and_nothing_is_left_frozen(
        sees in prop::bool::weighted(0.8), steps in prop::collection::vec(any_step(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new(sees).await;
            for step in &steps {
                model.go(step).await;
            }
            model.end().await;
        });
    }
}
