//! The promises under any order of use, outages, crashes and jumps of the clock. A model beside the service knows when
//! somebody was connected and when the service was able to see it; it is told of nothing else.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use proptest::{prelude::*, sample::Index};
use spindown::{
    engine::{Engine, sim::Call},
    model::{EngineId, EngineState, Error, File, Kind, Knock, Observation, Status, StoppedBy},
};

use crate::support::{
    eyes::Gaze,
    property::stories,
    world::{GAP, LEFTOVER, SWEEP, World, minutes},
};

/// The timeouts that containers have; the last is never.
const TIMEOUTS: [&str; 4] = ["5m", "12m", "30m", "never"];
/// How many containers there may be.
const MOST: usize = 5;

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Gap(u64),
    Jump(i64),
    Sweep,
    Create(Index),
    Remove(Index),
    Connect(Index),
    Leave(Index),
    Request(Index),
    Timeout(Index, Index),
    OrderStart(Index),
    OrderStop(Index),
    KillBehind(Index),
    StartBehind(Index),
    /// Somebody has it frozen until something comes for it …
    Freeze(Index),
    /// … as a client does, who sends something.
    Knock(Index),
    /// Whether it is seen what goes on in containers.
    Eyes(Gaze),
    StoreAway {
        hangs: bool,
    },
    StoreBack,
    EngineAway {
        hangs: bool,
    },
    EngineBack {
        restarted: bool,
    },
    Crash {
        wipe: bool,
    },
    Start,
    StopsFail(u8),
    LoseEvents(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    use Step::*;
    let one = any::<Index>;
    prop_oneof![
        8 => (1u64..40 * 60).prop_map(Pass),
        2 => prop_oneof![1u64..60, 60u64..7_200].prop_map(Gap),
        2 => prop_oneof![-86_400i64..86_400, -20i64..20].prop_map(Jump),
        2 => Just(Sweep),
        2 => one().prop_map(Create),
        1 => one().prop_map(Remove),
        5 => one().prop_map(Connect),
        3 => one().prop_map(Leave),
        2 => one().prop_map(Request),
        2 => (one(), one()).prop_map(|(i, t)| Timeout(i, t)),
        3 => one().prop_map(OrderStart),
        2 => one().prop_map(OrderStop),
        2 => one().prop_map(KillBehind),
        2 => one().prop_map(StartBehind),
        1 => one().prop_map(Freeze),
        2 => one().prop_map(Knock),
        1 => prop_oneof![Just(Gaze::True), Just(Gaze::Fails)].prop_map(Eyes),
        1 => any::<bool>().prop_map(|hangs| StoreAway { hangs }),
        2 => Just(StoreBack),
        1 => any::<bool>().prop_map(|hangs| EngineAway { hangs }),
        2 => any::<bool>().prop_map(|restarted| EngineBack { restarted }),
        1 => prop::bool::weighted(0.2).prop_map(|wipe| Crash { wipe }),
        3 => Just(Start),
        2 => (1u8..8).prop_map(StopsFail),
        1 => any::<bool>().prop_map(LoseEvents),
    ]
}

/// One container, as the model has it.
struct Guest {
    engine_id: EngineId,
    birth: Observation,
    timeout: Option<Duration>,
    up: bool,
    present: bool,
    /// When it was last told to the service that it is in use.
    last_use: Duration,
    /// Whether a person has ordered it to stop, so that it may go down.
    ordered: bool,
}

struct Model {
    world: World,
    guests: Vec<Guest>,
    /// Time that has passed since the beginning.
    now: Duration,
    /// Until when the service may have missed something.
    blind: Duration,
    /// Time since its last beat.
    unbeaten: Duration,
    engine_away: bool,
    /// Away so that the connection is lost.
    engine_down: bool,
}

impl Model {
    async fn new() -> Self {
        let (world, guests) = (World::new().await, Vec::new());
        world.eyes.open();
        let zero = Duration::ZERO;
        let mut model =
            Self { world, guests, now: zero, blind: zero, unbeaten: zero, engine_away: false, engine_down: false };
        for timeout in 0..3 {
            model.create(timeout).await;
        }
        model
    }

    fn sees(&self) -> bool {
        self.world.is_up() && self.world.store.answers() && !self.engine_away
    }

    /// Whether it is known at once that something is missed: a store that is away, or an engine that hangs, is noticed at
    /// the next beat or later, and what is reported until then is kept.
    fn cut_off(&self) -> bool {
        !self.world.is_up() || self.engine_down
    }

    fn guest(&mut self, index: &Index) -> Option<usize> {
        (!self.guests.is_empty()).then(|| index.index(self.guests.len()))
    }

    async fn create(&mut self, timeout: usize) {
        if !self.world.is_up() || self.guests.len() >= MOST {
            return;
        }
        let mut wanted = spindown::service::container::NewContainer {
            idle_timeout: Some(spindown::model::Timeout::parse(TIMEOUTS[timeout]).unwrap()),
            ..crate::support::world::wanted()
        };
        // There is nothing to see in any: what they report counts.
        wanted.rungs.set("evidence", "connections=on").unwrap();
        let Ok(made) = self.world.service().create_container("admin", wanted, None).await else { return };
        let engine_id = made.container.engine_id;
        let file = File { path: "work".into(), mode: 0o600, uid: 0, gid: 0, content: Some(b"mine".to_vec()) };
        self.world.sim.write(&engine_id, "/root", file).unwrap();
        self.guests.push(Guest {
            birth: self.world.sim.peek(&engine_id).unwrap(),
            engine_id,
            timeout: made.container.idle_timeout.span(),
            up: true,
            present: false,
            last_use: self.now,
            ordered: false,
        });
    }

    /// Lets time pass, looking after each beat.
    async fn pass(&mut self, span: Duration) {
        let mut left = span;
        while left > Duration::ZERO {
            let step = left.min(self.world.next_beat());
            left -= step;
            self.now += step;
            for guest in &self.guests {
                self.world.connect(&guest.birth.id, u64::from(guest.present));
            }
            self.world.pass(step).await;
            self.beaten(true);
            self.check();
        }
    }

    /// The service has run, and may have asked the store.
    fn beaten(&mut self, flushed: bool) {
        if self.unbeaten >= GAP || flushed && !self.world.store.answers() || self.cut_off() {
            self.blind = self.now;
        }
        self.unbeaten = Duration::ZERO;
    }

    async fn go(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => self.pass(Duration::from_secs(*seconds)).await,
            Step::Gap(seconds) => {
                let span = Duration::from_secs(*seconds);
                self.world.gap(span);
                (self.now, self.unbeaten) = (self.now + span, self.unbeaten + span);
            }
            Step::Jump(seconds) => {
                self.world.jump(time::Duration::seconds(*seconds));
                self.world.beat().await;
                self.beaten(true);
                if seconds.abs() > 5 {
                    self.blind = self.now;
                }
            }
            Step::Sweep => {
                self.world.sweep().await;
                self.beaten(false);
            }
            Step::Create(timeout) => self.create(timeout.index(TIMEOUTS.len())).await,
            Step::StoreAway { hangs: true } => self.world.store.hang(),
            Step::StoreAway { hangs: false } => self.world.store.go_down(),
            Step::StoreBack => self.world.store.come_back(),
            Step::EngineAway { hangs } => {
                if *hangs {
                    self.world.sim.hang()
                } else {
                    self.world.sim.go_down()
                }
                self.engine_away = true;
                self.engine_down |= !hangs;
            }
            Step::EngineBack { restarted } => {
                self.world.sim.resume();
                self.world.sim.come_back(*restarted && self.engine_away);
                if *restarted && self.engine_away {
                    for guest in &mut self.guests {
                        (guest.up, guest.present) = (false, false);
                    }
                }
                (self.engine_away, self.engine_down) = (false, false);
            }
            Step::Crash { wipe } => {
                self.world.crash();
                if *wipe {
                    self.world.store.wipe();
                    for guest in &mut self.guests {
                        guest.timeout = timeout_of(&guest.birth);
                        guest.ordered = false;
                    }
                }
            }
            Step::Start if !self.world.is_up() => {
                self.world.start().await;
                (self.blind, self.unbeaten) = (self.now, Duration::ZERO);
            }
            Step::Start => {}
            Step::StopsFail(times) => {
                for _ in 0..*times {
                    self.world.sim.fail_next(Call::Stop, Error::new(Kind::Internal, "as arranged"));
                }
            }
            Step::LoseEvents(lost) => self.world.sim.lose_events(*lost),
            Step::Eyes(gaze) => {
                self.world.eyes.set_gaze(*gaze);
                self.world.beat().await;
                self.beaten(true);
            }
            Step::Remove(i)
            | Step::Connect(i)
            | Step::Leave(i)
            | Step::Request(i)
            | Step::Timeout(i, _)
            | Step::OrderStart(i)
            | Step::OrderStop(i)
            | Step::KillBehind(i)
            | Step::StartBehind(i)
            | Step::Freeze(i)
            | Step::Knock(i) => {
                if let Some(guest) = self.guest(i) {
                    self.go_with(step, guest).await;
                }
            }
        }
        self.world.settle().await;
        if self.cut_off() {
            self.blind = self.now;
        }
        self.check();
    }

    /// What happens to one container.
    async fn go_with(&mut self, step: &Step, index: usize) {
        let (world, now, guest) = (&self.world, self.now, &mut self.guests[index]);
        let id = &guest.birth.id;
        match step {
            Step::KillBehind(_) if !self.engine_away && guest.up => {
                world.sim.kill_behind(&guest.engine_id);
                (guest.up, guest.present) = (false, false);
            }
            Step::StartBehind(_) if !self.engine_away && !guest.up => {
                world.sim.start_behind(&guest.engine_id).unwrap();
                (guest.up, guest.ordered, guest.last_use) = (true, false, now);
            }
            Step::Leave(_) => guest.present = false,
            Step::Connect(_) if guest.up && !world.sim.is_frozen(&guest.engine_id) => {
                guest.present = true;
                if world.is_up() && world.check_in(id, 1).is_ok() {
                    guest.last_use = now;
                }
            }
            _ if !world.is_up() => {}
            Step::Request(_) if world.request(id).await.is_ok() => guest.last_use = now,
            Step::Timeout(_, timeout) => {
                let timeout = TIMEOUTS[timeout.index(TIMEOUTS.len())];
                if let Ok(report) = world.set_timeout(id, timeout).await {
                    (guest.timeout, guest.last_use) = (report.container.idle_timeout.span(), now);
                }
            }
            Step::OrderStart(_) => {
                let started = world.order_start(id).await;
                // An engine that answers late may have started it all the same.
                let runs = world.sim.peek(&guest.engine_id).unwrap().state.is_up();
                if started.is_ok() {
                    (guest.ordered, guest.last_use) = (false, now);
                }
                if runs != guest.up {
                    (guest.up, guest.last_use) = (runs, now);
                }
            }
            Step::Freeze(_) => {
                // It cannot report, and nobody is connected who would wait for it.
                guest.present = false;
                // What is frozen stays so, and nobody has used it.
                let frozen = world.sim.is_frozen(&guest.engine_id);
                if world.service().freeze_container(id.as_str()).await.is_ok() && !frozen {
                    guest.last_use = now;
                }
            }
            Step::Knock(_) if world.sim.is_frozen(&guest.engine_id) => {
                let (address, port) = (guest.birth.address.unwrap(), guest.birth.ports[0].container);
                let client = SocketAddr::from(([192, 0, 2, 7], 40_000));
                // To be let in is no use yet where it is seen what he does then.
                world.kernel.knock(Knock { client, address, port, data: true });
            }
            Step::OrderStop(_) => guest.ordered |= world.order_stop(id).await.is_ok(),
            Step::Remove(_) if world.remove(id).await.is_ok() => _ = self.guests.remove(index),
            _ => {}
        }
    }

    /// What must hold at any time.
    fn check(&mut self) {
        let (now, blind, sees) = (self.now, self.blind, self.sees());
        let mut held = BTreeSet::new();
        for guest in &mut self.guests {
            if guest.present {
                // It reports each minute.
                guest.last_use = guest.last_use.max(now.saturating_sub(SWEEP));
            }
            let id = &guest.birth.id;
            let seen = self.world.sim.peek(&guest.engine_id).expect("nothing but DELETE loses a container");
            assert_eq!((&seen.id, &seen.ports, seen.address), (id, &guest.birth.ports, guest.birth.address));
            for port in &seen.ports {
                assert!(held.insert(port.host), "port {} has two containers", port.host);
            }
            let up = seen.state.is_up();
            assert!(!up || guest.up, "nobody has started it");
            if up || !guest.up {
                continue;
            }
            guest.up = false;
            if !std::mem::take(&mut guest.ordered) {
                let quiet = now.saturating_sub(guest.last_use.max(blind));
                let timeout = guest.timeout.expect("what is never to be stopped was stopped");
                assert!(!guest.present, "somebody was cut off");
                assert!(sees, "stopped while the service was blind");
                assert!(
                    quiet >= timeout,
                    "stopped {quiet:?} after its last use at {:?} or since {blind:?}, with a timeout of {timeout:?}",
                    guest.last_use
                );
                assert_eq!(self.world.report(id).container.stopped.map(|s| s.by), Some(StoppedBy::Idle));
            }
            guest.present = false;
        }
    }

    /// Everything works again and nobody is there.
    async fn end(&mut self) {
        let sim = &self.world.sim;
        sim.forgive();
        sim.lose_events(false);
        self.world.eyes.set_gaze(Gaze::True);
        self.go(&Step::EngineBack { restarted: false }).await;
        self.world.store.come_back();
        for guest in &mut self.guests {
            guest.present = false;
        }
        self.go(&Step::Start).await;
        // Also what failed is tried again by then.
        self.pass(minutes(2)).await;
        self.is_as_the_engine_says();
        let longest = self.guests.iter().filter_map(|g| g.timeout).max().unwrap_or_default();
        self.pass(longest.max(2 * LEFTOVER) + SWEEP).await;
        for guest in &self.guests {
            let report = self.world.service().activity(guest.birth.id.as_str());
            assert!(!guest.up || guest.timeout.is_none(), "forgotten: {report:?}");
            let work = File { path: "work".into(), mode: 0o600, uid: 0, gid: 0, content: Some(b"mine".to_vec()) };
            let kept = self.world.sim.get_files(&guest.engine_id, "/root/work", 1_000).await.unwrap();
            assert_eq!(kept, [work], "its files are gone");
        }
        self.is_as_the_engine_says();
        super::create::nothing_is_held_twice(&self.world);
        assert_eq!(self.world.store.held_claims().len(), 3 * self.guests.len());
    }

    /// What is told is what is.
    fn is_as_the_engine_says(&self) {
        let listed = self.world.list();
        assert_eq!(listed.len(), self.guests.len(), "{listed:?}");
        for guest in &self.guests {
            let report = self.world.report(&guest.birth.id);
            let expected = match self.world.sim.peek(&guest.engine_id).unwrap().state {
                EngineState::Paused => Status::Frozen,
                _ if guest.up => Status::Running,
                _ => Status::Stopped,
            };
            assert_eq!(report.status, expected, "{report:?}");
            let container = report.container;
            assert_eq!((container.stopping, container.stopped.is_some()), (None, !guest.up));
            assert_eq!((&container.ports, container.address), (&guest.birth.ports, guest.birth.address));
            assert_eq!(container.idle_timeout.span(), guest.timeout);
            assert!(self.world.store.records().contains(&container), "it is not in the store as it is shown");
        }
    }
}

fn timeout_of(birth: &Observation) -> Option<Duration> {
    let label = &birth.labels[spindown::model::birth::IDLE_TIMEOUT];
    spindown::model::Timeout::parse(label).unwrap().span()
}

proptest! {
    #![proptest_config(stories(200))]

    #[test]
    fn the_promises_hold_whatever_happens(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in &steps {
                model.go(step).await;
            }
            model.end().await;
        });
    }
}
