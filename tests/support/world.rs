//! A world of one service over the simulated engine, a store in memory and a clock that stands still until it is told to
//! move. What runs on timers is driven by hand, except that the engine is followed as it is in a server. Tokio's own
//! clock must be paused (`start_paused`): then nothing here waits for real, and the same happens every time.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use spindown::{
    carrier::NoCarrier,
    clock::{Clock, TestClock},
    engine::{Engine, NetworkSpec, sim::Sim},
    model::{
        Blueprint, Container, ContainerId, EngineId, EngineState, HostName, Image, Limits, Observation, Port, Protocol,
        Result, Rungs, Status, Timeout, Wake,
    },
    reconcile,
    service::{
        Settings, Spindown,
        container::{Change, Filter, NewContainer, Report},
        user::Credentials,
    },
    wake,
};
use time::{OffsetDateTime, macros::datetime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{eyes::Eyes, kernel::Kernel, memory::MemoryStore, mortal::Mortal};

/// The image that containers are made from; it exposes two ports.
pub const IMAGE: &str = "sandbox";
/// How often the service beats, flushes and retries.
pub const BEAT: Duration = Duration::from_secs(10);
/// How often it sweeps.
pub const SWEEP: Duration = Duration::from_secs(60);
/// Longer than a missed beat may be.
pub const GAP: Duration = Duration::from_secs(51);
/// For so long leftovers of a create may belong to somebody who is still at it.
pub const LEFTOVER: Duration = Duration::from_secs(120);

const NOON: OffsetDateTime = datetime!(2026-03-04 12:00 UTC);

/// One run of the service.
pub struct Life {
    pub spindown: Arc<Spindown>,
    clock: Arc<TestClock>,
    follower: JoinHandle<()>,
    listener: JoinHandle<()>,
    killed: CancellationToken,
}

impl Life {
    fn end(self) {
        self.killed.cancel();
        self.follower.abort();
        self.listener.abort();
    }
}

pub struct World {
    pub sim: Arc<Sim>,
    pub store: MemoryStore,
    /// The kernel of the machine, which goes on when the service ends.
    pub kernel: Arc<Kernel>,
    /// What is to be seen in containers: nothing until the eyes are opened.
    pub eyes: Arc<Eyes>,
    pub settings: Settings,
    engine_clock: Arc<TestClock>,
    life: Option<Life>,
    /// Since the last sweep.
    swept: Duration,
    /// Whether containers are looked into with each beat, or else with each sweep.
    pub looks_often: bool,
    /// Whether they are looked into at all, but before something is done to one.
    pub looks: bool,
    /// The containers that somebody is connected to, and how many are.
    users: BTreeMap<ContainerId, u64>,
}

impl World {
    /// A world whose service has met its engine.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with other settings.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let engine_clock = Arc::new(TestClock::new(NOON));
        let sim = Arc::new(Sim::new(engine_clock.clone()));
        sim.add_image(IMAGE, sandbox());
        sim.set_free_memory(Some(u64::MAX));
        let (store, kernel) = (MemoryStore::default(), Arc::default());
        let eyes = Arc::new(Eyes::new(engine_clock.clone()));
        let (life, swept, users) = (None, Duration::ZERO, BTreeMap::new());
        let (looks_often, looks) = (true, true);
        let mut world =
            Self { sim, store, kernel, eyes, settings, engine_clock, life, swept, looks_often, looks, users };
        world.start().await;
        world
    }

    /// The service that runs.
    pub fn service(&self) -> Arc<Spindown> {
        Arc::clone(&self.life.as_ref().expect("the service runs").spindown)
    }

    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Kills the service: whatever it was doing is never done.
    pub fn crash(&mut self) {
        if let Some(life) = self.life.take() {
            life.end();
        }
    }

    /// Starts the service, and gives it time to meet the engine.
    pub async fn start(&mut self) {
        assert!(self.life.is_none(), "the service runs already");
        let life = self.another();
        self.life = Some(life);
        self.swept = Duration::ZERO;
        self.settle().await;
    }

    /// Another server over the same engine and store, beside the one that [`World::pass`] drives.
    pub fn another(&self) -> Life {
        let clock = match &self.life {
            Some(life) => Arc::clone(&life.clock),
            None => Arc::new(TestClock::new(self.engine_clock.now().at)),
        };
        let killed = CancellationToken::new();
        let spindown = Spindown::new(
            self.settings.clone(),
            Arc::new(Mortal { inner: Arc::clone(&self.sim), killed: killed.clone() }),
            Arc::new(Mortal { inner: Arc::new(self.store.clone()), killed: killed.clone() }),
            self.kernel.clone(),
            Arc::new(NoCarrier),
            self.eyes.clone(),
            clock.clone(),
        );
        let follower = tokio::spawn(reconcile::drift::run(Arc::clone(&spindown), None));
        let listener = tokio::spawn(wake::hear_knocks(Arc::clone(&spindown)));
        Life { spindown, clock, follower, listener, killed }
    }

    pub async fn restart(&mut self) {
        self.crash();
        self.start().await;
    }

    /// The date, by the wall clock.
    pub fn now(&self) -> OffsetDateTime {
        self.life.as_ref().map_or(self.engine_clock.now().at, |life| life.clock.now().at)
    }

    /// Sets the wall clock of the machine, which is the engine's too.
    pub fn jump(&self, by: time::Duration) {
        let at = self.now() + by;
        self.engine_clock.jump_to(at);
        if let Some(life) = &self.life {
            life.clock.jump_to(at);
        }
    }

    /// Lets the engine's clock be wrong, as another machine's may be.
    pub fn skew_engine(&self, by: time::Duration) {
        self.engine_clock.jump_to(self.engine_clock.now().at + by);
    }

    /// Time in which the service does not get to run.
    pub fn gap(&mut self, span: Duration) {
        self.engine_clock.advance(span);
        if let Some(life) = &self.life {
            life.clock.advance(span);
        }
        self.swept += span;
    }

    /// Lets whatever is at work come to its end, or to where it waits for something that does not happen by itself.
    pub async fn settle(&self) {
        // Tokio's clock is paused: it moves when nothing else is left to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// When the next beat is due, or the next sweep if that is sooner.
    pub fn next_beat(&self) -> Duration {
        match SWEEP.saturating_sub(self.swept) {
            Duration::ZERO => BEAT,
            sweep => sweep.min(BEAT),
        }
    }

    /// Lets time pass as in a server: beats, flushes, check-ins each minute, sweeps.
    pub async fn pass(&mut self, span: Duration) {
        let mut left = span;
        while left > Duration::ZERO {
            let step = left.min(self.next_beat());
            left -= step;
            self.gap(step);
            // Tokio's clock goes along, so that the engine's list is compared as often as in a server.
            tokio::time::sleep(step).await;
            if self.swept >= SWEEP {
                self.check_in_all();
            }
            self.beat().await;
            if self.swept >= SWEEP {
                self.sweep().await;
            }
        }
    }

    /// What the timer of the touches does.
    pub async fn beat(&self) {
        let Some(life) = &self.life else { return };
        life.spindown.beat();
        life.spindown.flush().await;
        life.spindown.retry_stops().await;
        life.spindown.watch_or_later().await;
        if self.looks && (self.looks_often || self.swept >= SWEEP) {
            life.spindown.look_into_all().await;
        }
        life.spindown.retry_thaws();
        self.settle().await;
    }

    pub async fn sweep(&mut self) {
        self.swept = Duration::ZERO;
        let Some(life) = &self.life else { return };
        life.spindown.sweep().await;
        self.settle().await;
    }

    /// Waits for what happens by itself, without letting time pass.
    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if done() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never came to this: {what}");
    }

    /// Waits until nothing goes on that does not wait for something else. What is held up stays so: no time passes.
    pub async fn quiet(&self) {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }

    /// Makes a container with this timeout.
    /// A container that runs, made as the service makes one, of which it knows nothing yet.
    pub async fn put_running(
        &self,
        number: usize,
        address: Ipv4Addr,
        timeout: Timeout,
        rungs: &Rungs,
    ) -> (ContainerId, EngineId) {
        let id = ContainerId::from_bits(number as u128);
        let nothing = BTreeMap::new();
        let mut labels =
            Container::birth_labels(&self.settings.instance, &id, "admin", timeout, Wake::Always, &nothing);
        labels.extend(rungs.birth_labels());
        let blueprint = Blueprint {
            labels,
            id: id.clone(),
            name: None,
            hostname: None,
            image: IMAGE.to_owned(),
            command: None,
            env: BTreeMap::new(),
            ports: vec![Port { container: 8080, host: 20_000 + number as u16, protocol: Protocol::Tcp }],
            bind: self.settings.bind,
            network: self.settings.network.name.clone(),
            address,
            limits: self.settings.limits,
            volumes: BTreeMap::new(),
        };
        let engine_id = self.sim.create(&blueprint).await.unwrap();
        self.sim.start(&engine_id).await.unwrap();
        (id, engine_id)
    }

    pub async fn create(&self, idle_timeout: &str) -> ContainerId {
        let wanted = NewContainer { idle_timeout: Some(Timeout::parse(idle_timeout).unwrap()), ..wanted() };
        self.service().create_container("admin", wanted, None).await.unwrap().container.id
    }

    pub fn find(&self, id: &ContainerId) -> Result<Report> {
        self.service().find_container(id.as_str())
    }

    pub fn report(&self, id: &ContainerId) -> Report {
        self.find(id).unwrap()
    }

    pub fn status(&self, id: &ContainerId) -> Status {
        self.report(id).status
    }

    pub fn list(&self) -> Vec<Report> {
        self.service().list_containers(&Filter::default()).unwrap()
    }

    /// The engine's id of a container, from the engine.
    pub async fn engine_id(&self, id: &ContainerId) -> Option<EngineId> {
        self.sim.list().await.unwrap().into_iter().find(|l| l.id == *id).map(|l| l.engine_id)
    }

    /// What the engine shows of a container.
    pub async fn seen(&self, id: &ContainerId) -> Option<Observation> {
        let id = self.engine_id(id).await?;
        Some(self.sim.inspect(&id).await.unwrap())
    }

    /// Whether it runs, as the engine says.
    pub async fn runs(&self, id: &ContainerId) -> bool {
        self.seen(id).await.is_some_and(|seen| seen.state == EngineState::Running)
    }

    pub async fn kill_behind(&self, id: &ContainerId) {
        self.sim.kill_behind(&self.engine_id(id).await.unwrap());
    }

    pub async fn start_behind(&self, id: &ContainerId) {
        self.sim.start_behind(&self.engine_id(id).await.unwrap()).unwrap();
    }

    /// The container reports.
    pub fn check_in(&self, id: &ContainerId, connections: u64) -> Result<ContainerId> {
        let address = self.find(id)?.container.address.unwrap();
        self.service().check_in(address.into(), connections)
    }

    /// So many users are connected from now on; the container reports them each minute.
    pub fn connect(&mut self, id: &ContainerId, users: u64) {
        self.users.insert(id.clone(), users);
    }

    /// The container reports no more.
    pub fn disconnect(&mut self, id: &ContainerId) {
        self.users.remove(id);
    }

    fn check_in_all(&self) {
        for (id, users) in self.users.iter().filter(|_| self.life.is_some()) {
            let _ = self.check_in(id, *users);
        }
    }

    /// Somebody asks for something of the container without changing it.
    pub async fn request(&self, id: &ContainerId) -> Result<Report> {
        self.service().update_container(id.as_str(), Change::default()).await
    }

    pub async fn set_timeout(&self, id: &ContainerId, timeout: &str) -> Result<Report> {
        let change = Change { idle_timeout: Some(Timeout::parse(timeout).unwrap()), ..Change::default() };
        self.service().update_container(id.as_str(), change).await
    }

    pub async fn order_start(&self, id: &ContainerId) -> Result<Report> {
        self.service().start_container(id.as_str()).await
    }

    pub async fn order_stop(&self, id: &ContainerId) -> Result<Report> {
        self.service().stop_container(id.as_str()).await
    }

    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.service().remove_container(id.as_str(), false).await
    }
}

/// A container like any other.
pub fn wanted() -> NewContainer {
    NewContainer {
        image: IMAGE.to_owned(),
        name: None,
        command: None,
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        authorized_keys: None,
        idle_timeout: None,
        rungs: Rungs::default(),
        wake: Wake::Always,
        memory: None,
        cpus: None,
        volumes: BTreeMap::new(),
    }
}

/// So many minutes.
pub const fn minutes(number: u64) -> Duration {
    Duration::from_secs(60 * number)
}

/// What that image says of itself.
pub fn sandbox() -> Image {
    Image { exposed: vec![(8080, Protocol::Tcp), (9090, Protocol::Udp)], ..Image::default() }
}

fn settings() -> Settings {
    // Hashing a password takes its time.
    static ADMIN: OnceLock<Credentials> = OnceLock::new();
    Settings {
        instance: "test".to_owned(),
        host: HostName::local(),
        network: NetworkSpec {
            name: "spindown-test".to_owned(),
            bridge: "spindown-test0".to_owned(),
            subnet: "10.77.0.0/24".parse().unwrap(),
        },
        ports: 20_000..=20_099,
        bind: Ipv4Addr::LOCALHOST.into(),
        limits: Limits { memory: 256 << 20, cpus: 0.5, pids: 100, log_size: 1 << 20 },
        memory_reserve: 1 << 30,
        disk_reserve: 1 << 30,
        idle_timeout: Timeout::After(minutes(150)),
        rungs: Rungs::default(),
        extend_most: Duration::from_secs(86_400),
        look_every: Duration::from_secs(5),
        look_window: Duration::from_secs(60),
        sweep_every: SWEEP,
        stop_grace: Duration::from_secs(10),
        stops_at_once: 8,
        starts_at_once: 4,
        starts_waiting: 64,
        door: true,
        flush_every: BEAT,
        drift_every: Duration::from_secs(30),
        admin: ADMIN.get_or_init(|| Credentials::with_password("admin", "secret").unwrap()).clone(),
    }
}
