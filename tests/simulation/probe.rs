//! The ladder under any order of use, sight and sleep: whoever is there is neither frozen nor stopped, what is frozen goes
//! on or goes down, and is never forgotten. An oracle beside the service knows who typed, what there was to see and what
//! was told; what the service made of that it reads from the engine alone.
//!
//! What runs on timers in a server does so here, and the clock goes along with tokio's: stops and freezes take their time
//! while other things happen.

mod oracle;
mod step;

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use spindown::{
    model::{ContainerId, EngineId, EngineState, Image, Protocol, Timeout},
    service::{Spindown, container::NewContainer},
};
use tokio::{task::JoinHandle, time::Instant};

use self::step::{Step, any_step};
use crate::support::{
    eyes::Gaze,
    property::stories,
    world::{BEAT, SWEEP, World, wanted},
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
            // Who has just been let go is taken down by the next sweep.
            let kept = report.container.kept_until.is_some_and(|at| at + SWEEP + STOPPING > self.world.now());
            let up = guest.state.is_up() && guest.whose == Whose::Ours && !kept;
            assert!(!up || guest.idle.is_none(), "forgotten: {report:#?}");
        }
        self.stop_timers();
    }
}

proptest! {
    #![proptest_config(stories(50))]

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
