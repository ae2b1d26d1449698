//! The promises of the service over the simulated engine and the test clock: nobody is cut off, nobody is forgotten, and
//! ports stay, whatever happens in whatever order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use spindown::{
    clock::{Clock, TestClock},
    engine::{Engine, sim::Sim},
    firewall::NoFirewall,
    model::{
        Activity, Claim, Container, ContainerId, Error, HostName, IdleTimeout, Image, Limits, Moment, Protocol, Result,
        Status, StoppedBy,
    },
    service::{
        Settings, Spindown,
        container::{Filter, NewContainer, Report},
        user::Credentials,
    },
    store::{ActivityStore, Attempt, AttemptStore, ClaimStore, ContainerStore, Store, embedded::Embedded},
};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A tick of the simulation: as often as cron lets a container check in.
const TICK: Duration = Duration::from_secs(60);
/// The idle timeout of all containers, in ticks.
const TIMEOUT_TICKS: u32 = 10;
/// How many containers there are.
const CONTAINERS: usize = 3;

/// A store that can go away.
struct Leave {
    inner: Embedded,
    away: Arc<AtomicBool>,
}

impl Leave {
    fn here(&self) -> Result<&Embedded> {
        if self.away.load(Ordering::SeqCst) {
            Err(Error::unavailable("the store does not answer"))
        } else {
            Ok(&self.inner)
        }
    }
}

#[async_trait]
impl ContainerStore for Leave {
    async fn containers(&self) -> Result<Vec<Container>> {
        self.here()?.containers().await
    }
    async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        self.here()?.container(id).await
    }
    async fn put_container(&self, container: &Container) -> Result<u64> {
        self.here()?.put_container(container).await
    }
    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.here()?.remove_container(id).await
    }
}

#[async_trait]
impl ActivityStore for Leave {
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>> {
        self.here()?.activities().await
    }
    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>> {
        self.here()?.activity(id).await
    }
    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()> {
        self.here()?.merge_activities(activities).await
    }
}

#[async_trait]
impl ClaimStore for Leave {
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>> {
        self.here()?.claim(host, claims, holder).await
    }
    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>> {
        self.here()?.claims(host).await
    }
    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()> {
        self.here()?.release(host, holder).await
    }
}

#[async_trait]
impl AttemptStore for Leave {
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, from: OffsetDateTime) -> Result<Option<Attempt>> {
        self.here()?.begin_attempt(key, attempt, from).await
    }
    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()> {
        self.here()?.abandon_attempt(key, id).await
    }
}

#[async_trait]
impl Store for Leave {
    async fn ping(&self) -> Result<()> {
        self.here()?.ping().await
    }
}

/// What can happen between two ticks.
#[derive(Clone, Debug)]
enum Event {
    /// So many ticks pass in which the server works as it should.
    Pass(u32),
    /// Somebody connects to a container, and stays.
    Connect(usize),
    /// He leaves.
    Leave(usize),
    /// An explicit request.
    Touch(usize),
    /// A person stops it through the API …
    Stop(usize),
    /// … or starts it.
    Start(usize),
    /// Somebody does it behind our back.
    StopBehind(usize),
    StartBehind(usize),
    StoreAway,
    StoreBack,
    EngineAway,
    EngineBack {
        restarted: bool,
    },
    /// The server is killed and started again after so many ticks.
    Restart {
        after: u32,
        store_lost: bool,
    },
    /// The process does not run for so many ticks.
    Stall(u32),
    /// The wall clock is set, by so many seconds.
    Jump(i64),
    /// The next stop at the engine fails.
    FailStop,
}

fn any_event() -> impl Strategy<Value = Event> {
    let one = 0..CONTAINERS;
    prop_oneof![
        8 => (1u32..2 * TIMEOUT_TICKS).prop_map(Event::Pass),
        4 => one.clone().prop_map(Event::Connect),
        4 => one.clone().prop_map(Event::Leave),
        1 => one.clone().prop_map(Event::Touch),
        1 => one.clone().prop_map(Event::Stop),
        3 => one.clone().prop_map(Event::Start),
        1 => one.clone().prop_map(Event::StopBehind),
        1 => one.prop_map(Event::StartBehind),
        1 => Just(Event::StoreAway),
        2 => Just(Event::StoreBack),
        1 => Just(Event::EngineAway),
        2 => any::<bool>().prop_map(|restarted| Event::EngineBack { restarted }),
        1 => (0u32..20, prop::bool::weighted(0.3)).prop_map(|(after, store_lost)| Event::Restart { after, store_lost }),
        1 => (1u32..20).prop_map(Event::Stall),
        1 => (-100_000i64..100_000).prop_map(Event::Jump),
        1 => Just(Event::FailStop),
    ]
}

/// The server, what it stands on, and what is really going on.
struct World {
    clock: Arc<TestClock>,
    sim: Arc<Sim>,
    away: Arc<AtomicBool>,
    folder: TempDir,
    spindown: Option<Arc<Spindown>>,
    engine_up: bool,
    containers: Vec<Report>,
    connected: BTreeSet<usize>,
    /// When each was last in use, or might have been unseen.
    busy: BTreeMap<usize, Moment>,
    admin: Credentials,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(TestClock::new(OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000)));
        let sim = Arc::new(Sim::new(Arc::clone(&clock) as Arc<dyn Clock>));
        sim.add_image(
            "sandbox",
            Image { exposed: vec![(80, Protocol::Tcp), (443, Protocol::Tcp)], labels: BTreeMap::new() },
        );
        let mut world = Self {
            clock,
            sim,
            away: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
            spindown: None,
            engine_up: true,
            containers: Vec::new(),
            connected: BTreeSet::new(),
            busy: BTreeMap::new(),
            admin: Credentials::with_password("admin", "secret").unwrap(),
        };
        world.open().await;
        for number in 0..CONTAINERS {
            let report = world.spindown().create_container("admin", sandbox(), None).await.unwrap();
            world.containers.push(report);
            world.note(number);
        }
        world
    }

    async fn open(&mut self) {
        let store = Leave { inner: Embedded::open(self.folder.path()).unwrap(), away: Arc::clone(&self.away) };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let settings = settings(self.admin.clone());
        let spindown = Spindown::new(
            settings,
            Arc::clone(&self.sim) as Arc<dyn Engine>,
            Arc::new(store),
            Arc::new(NoFirewall),
            clock,
        );
        self.spindown = Some(spindown);
        self.meet().await;
    }

    fn spindown(&self) -> Arc<Spindown> {
        Arc::clone(self.spindown.as_ref().unwrap())
    }

    async fn meet(&self) {
        if self.spindown().meet_engine().await.is_err() {
            self.spindown().lose_engine();
        }
    }

    fn now(&self) -> Moment {
        self.clock.now().moment
    }

    fn note(&mut self, number: usize) {
        self.busy.insert(number, self.now());
    }

    /// Something may have been missed: everybody may have been in use until now.
    fn interrupt(&mut self) {
        for number in 0..CONTAINERS {
            self.note(number);
        }
    }

    fn report(&self, number: usize) -> Report {
        self.spindown().find_container(self.containers[number].container.id.as_str()).unwrap()
    }

    /// One tick in which the server runs.
    async fn tick(&mut self) {
        self.clock.advance(TICK);
        let spindown = self.spindown();
        spindown.beat();
        if !self.engine_up || self.away.load(Ordering::SeqCst) {
            // Nothing may be stopped meanwhile, and afterwards everybody has fresh grace.
            self.interrupt();
        }
        if self.engine_up && spindown.refresh_all(false).await.is_err() && !self.away.load(Ordering::SeqCst) {
            panic!("the list cannot be read");
        }
        for number in 0..CONTAINERS {
            let up = self.report(number).status == Status::Running;
            if up && self.connected.contains(&number) {
                self.note(number);
            }
            if up {
                let address = IpAddr::V4(self.containers[number].container.address.unwrap());
                let _ = spindown.check_in(address, u64::from(self.connected.contains(&number)));
            }
        }
        spindown.flush().await;
        spindown.retry_stops().await;
        let before: Vec<Status> = (0..CONTAINERS).map(|n| self.report(n).status).collect();
        spindown.sweep().await;
        // Here, in the world, and with whoever lets the ticks pass.
        Self::settle(&spindown, 3).await;
        self.check(&before);
    }

    /// Lets what was begun beside the callers come to its end: whatever is at work holds the service.
    async fn settle(spindown: &Arc<Spindown>, holders: usize) {
        let done = async {
            while Arc::strong_count(spindown) > holders {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), done).await.expect("nothing of it runs on");
    }

    fn check(&self, before: &[Status]) {
        let mut held = BTreeSet::new();
        for (number, was) in before.iter().enumerate() {
            let now = self.report(number);
            let born = &self.containers[number].container;
            assert_eq!(
                (&now.container.ports, now.container.address),
                (&born.ports, born.address),
                "ports and address stay"
            );
            assert!(now.container.ports.iter().all(|p| held.insert(p.host)), "a port belongs to one container");
            let slept = *was == Status::Running && now.container.stopped.is_some_and(|s| s.by == StoppedBy::Idle);
            if slept {
                let idle = self.now().since(self.busy[&number]);
                assert!(!self.connected.contains(&number), "container {number} was stopped with somebody in it");
                assert!(idle >= TICK * TIMEOUT_TICKS, "container {number} was stopped after {idle:?}");
                assert!(self.engine_up && !self.away.load(Ordering::SeqCst), "stopped during an outage");
            }
        }
    }

    async fn happen(&mut self, event: Event) {
        let spindown = self.spindown();
        let name = |n: usize| self.containers[n].container.id.to_string();
        let engine_id = |n: usize| self.containers[n].container.engine_id.clone();
        match event {
            Event::Pass(ticks) => {
                for _ in 0..ticks {
                    self.tick().await;
                }
            }
            Event::Connect(n) => drop(self.connected.insert(n)),
            Event::Leave(n) => drop(self.connected.remove(&n)),
            Event::Touch(n) => {
                let change = spindown::service::container::Change {
                    labels: Some(BTreeMap::from([("touched".to_owned(), "yes".to_owned())])),
                    ..Default::default()
                };
                let _ = spindown.update_container(&name(n), change).await;
                self.note(n);
            }
            Event::Stop(n) => {
                let _ = spindown.stop_container(&name(n)).await;
                Self::settle(&spindown, 2).await;
            }
            Event::Start(n) => {
                let _ = spindown.start_container(&name(n)).await;
                self.note(n);
            }
            Event::StopBehind(n) if self.engine_up => self.sim.kill_behind(&engine_id(n)),
            Event::StartBehind(n) if self.engine_up => {
                let down = !self.sim.inspect(&engine_id(n)).await.unwrap().state.is_up();
                if down && self.sim.start_behind(&engine_id(n)).is_ok() {
                    self.note(n);
                }
            }
            Event::StopBehind(_) | Event::StartBehind(_) => {}
            Event::StoreAway => self.away.store(true, Ordering::SeqCst),
            Event::StoreBack => self.away.store(false, Ordering::SeqCst),
            Event::EngineAway => {
                if std::mem::replace(&mut self.engine_up, false) {
                    self.sim.go_down();
                    spindown.lose_engine();
                }
            }
            Event::EngineBack { restarted } => self.engine_back(restarted).await,
            Event::Restart { after, store_lost } => {
                spindown.shutdown().cancel();
                self.spindown = None;
                Self::settle(&spindown, 1).await;
                drop(spindown);
                if store_lost {
                    self.away.store(false, Ordering::SeqCst);
                    // As when somebody removes the data folder: the file goes once the server has let go of it.
                    self.folder = tempfile::tempdir().unwrap();
                }
                self.clock.advance(TICK * after);
                // A server does not start without its store.
                self.away.store(false, Ordering::SeqCst);
                // Nor can anything be adopted while the engine is away.
                if !self.engine_up {
                    self.engine_up = true;
                    self.sim.come_back(true);
                }
                self.open().await;
                self.interrupt();
            }
            Event::Stall(ticks) => {
                // The server's tick after it is what may notice the gap; short ones are nothing to notice.
                self.clock.advance(TICK * (ticks + 6));
                self.interrupt();
            }
            Event::Jump(seconds) => {
                let now = self.clock.now().at;
                self.clock.jump_to(now + time::Duration::seconds(seconds));
                if seconds.unsigned_abs() > 5 {
                    self.interrupt();
                }
            }
            Event::FailStop => {
                self.sim.fail_next(spindown::engine::sim::Call::Stop, Error::unavailable("the engine does not answer"));
            }
        }
    }

    async fn engine_back(&mut self, restarted: bool) {
        if !std::mem::replace(&mut self.engine_up, true) {
            self.sim.come_back(restarted);
            self.meet().await;
            self.interrupt();
        }
    }

    /// Everything works again and nobody is there: after the timeout and a sweep nothing is up.
    async fn come_to_rest(&mut self) {
        self.connected.clear();
        self.away.store(false, Ordering::SeqCst);
        self.engine_back(false).await;
        self.meet().await;
        for _ in 0..TIMEOUT_TICKS + 4 {
            self.tick().await;
        }
        for number in 0..CONTAINERS {
            let report = self.report(number);
            assert_eq!(report.status, Status::Stopped, "container {number} was forgotten");
            let seen = self.sim.inspect(&report.container.engine_id).await.unwrap();
            assert!(!seen.state.is_up(), "the snapshot and the engine agree");
        }
        let listed = self.spindown().list_containers(&Filter::default()).unwrap();
        assert_eq!(listed.len(), CONTAINERS);
    }
}

fn sandbox() -> NewContainer {
    NewContainer {
        image: "sandbox".to_owned(),
        name: None,
        command: None,
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        authorized_keys: None,
        idle_timeout: Some(IdleTimeout::After(TICK * TIMEOUT_TICKS)),
        memory: None,
        cpus: None,
    }
}

fn settings(admin: Credentials) -> Settings {
    let subnet = "10.99.0.0/24".parse().unwrap();
    Settings {
        instance: "simulated".to_owned(),
        host: HostName::local(),
        network: spindown::engine::NetworkSpec { name: "simulated".to_owned(), bridge: "simulated".to_owned(), subnet },
        ports: 20_000..=20_099,
        bind: IpAddr::from([127, 0, 0, 1]),
        limits: Limits { memory: 64 << 20, cpus: 1.0, pids: 64, log_size: 1 << 20 },
        memory_reserve: 0,
        idle_timeout: IdleTimeout::After(TICK * TIMEOUT_TICKS),
        sweep_every: TICK,
        stop_grace: Duration::from_secs(10),
        stops_at_once: 2,
        starts_at_once: 2,
        starts_waiting: 10,
        // A beat a tick: five missed ones are a gap.
        flush_every: TICK,
        drift_every: TICK,
        admin,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_cut_off_and_nobody_is_forgotten(events in prop::collection::vec(any_event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for event in events {
                world.happen(event).await;
            }
            world.come_to_rest().await;
        });
    }
}
