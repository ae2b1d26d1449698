//! The use cases, one noun a file: the only place where policy, engine and store meet. Sees traits, never an adapter.
//!
//! Reads come from the `snapshot`, which the engine's events keep fresh ([`host`]). Every change of a container is made
//! under its lock, written to the store first, done at the engine, inspected, and put into the snapshot before the
//! caller gets its answer.

pub mod activity;
mod carried;
pub mod container;
pub mod disk;
pub mod door;
mod entry;
pub mod event;
mod frozen;
mod gauge;
pub mod health;
pub mod host;
pub mod idle;
pub mod image;
mod leftover;
mod lock;
mod record;
mod sight;
mod snapshot;
pub mod user;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    carrier::Carrier,
    clock::Clock,
    engine::{Engine, NetworkSpec},
    firewall::Firewall,
    model::{ContainerId, HostName, Limits, Moment, Rungs, Stamp, Timeout, What},
    sight::Sight,
    store::Store,
};

use self::{
    activity::CheckInLimiter,
    carried::Carried,
    container::{Account, Cursor, Readers},
    disk::Sizes,
    door::Waking,
    event::EventLog,
    frozen::Frozen,
    health::Vitals,
    host::Watch,
    leftover::Leftover,
    lock::Locks,
    snapshot::Snapshot,
    user::{Credentials, Doorman},
};

/// How many containers' host keys are read at once.
const KEY_READS_AT_ONCE: usize = 2;

/// What the service is told once, at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells apart several Spindowns on one engine; the value of the label `spindown.managed`.
    pub instance: String,
    /// The host that the engine is.
    pub host: HostName,
    /// The containers' network.
    pub network: NetworkSpec,
    /// The host's ports that are handed out.
    pub ports: RangeInclusive<u16>,
    /// The address on which they are published.
    pub bind: IpAddr,
    /// What a container may use unless its creation says otherwise.
    pub limits: Limits,
    /// The memory in bytes that must be left on the host for another container to be started.
    pub memory_reserve: u64,
    /// The bytes that must be free on the disk for another container to be made, or an image to be pulled.
    pub disk_reserve: u64,
    /// After how much idleness a container is stopped unless it says otherwise.
    pub idle_timeout: Timeout,
    /// What holds of the rest of the ladder unless a container or its image says otherwise.
    pub rungs: Rungs,
    /// How far ahead of now a container may be kept up by request.
    pub extend_most: Duration,
    /// How often containers are looked into.
    pub look_every: Duration,
    /// Over how long processors and disks are measured.
    pub look_window: Duration,
    /// How often the idle ones are looked for.
    pub sweep_every: Duration,
    /// How long a container may take to end by itself when it is stopped.
    pub stop_grace: Duration,
    /// How many containers are stopped for idleness at once.
    pub stops_at_once: usize,
    /// How many containers are started at once: an engine that starts many slows each of them down.
    pub starts_at_once: usize,
    /// How many starts may wait for their turn; more are refused.
    pub starts_waiting: usize,
    /// Whether connections to containers that sleep come to the door.
    pub door: bool,
    /// How often touches are written to the store.
    pub flush_every: Duration,
    /// How often the engine's list corrects the snapshot.
    pub drift_every: Duration,
    /// Who may call.
    pub admin: Credentials,
}

/// The service: one per server, shared by everything above it.
pub struct Spindown {
    me: Weak<Self>,
    settings: Settings,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
    firewall: Arc<dyn Firewall>,
    carrier: Arc<dyn Carrier>,
    sight: Arc<dyn Sight>,
    clock: Arc<dyn Clock>,
    snapshot: Snapshot,
    events: Arc<EventLog>,
    watch: Mutex<Watch>,
    vitals: Vitals,
    /// Who logs in to containers of an image, by the image's id.
    accounts: Mutex<HashMap<String, Account>>,
    /// Serialises what changes a container.
    locks: Locks,
    /// Serialises inspections of a container, so that a later one is never overwritten by an earlier one.
    looks: Locks,
    /// Serialises writes of a container's record. Whoever takes several of these takes them in this order.
    writes: Locks,
    /// Containers that are being made here and must not be adopted or cleared away meanwhile.
    in_flight: Mutex<BTreeSet<ContainerId>>,
    /// What operations left that did not finish, since when it has been seen.
    leftovers: Mutex<HashMap<Leftover, Moment>>,
    cursor: Mutex<Cursor>,
    /// The addresses that containers get, in order.
    addresses: Vec<Ipv4Addr>,
    check_ins: CheckInLimiter,
    doorman: Doorman,
    key_reads: Semaphore,
    starts: Semaphore,
    starts_waiting: Semaphore,
    stops: Semaphore,
    /// Containers that were found idle and whose turn to be stopped has not ended.
    going_to_sleep: Mutex<BTreeSet<ContainerId>>,
    pulls: Arc<Semaphore>,
    frozen: Frozen,
    waking: Waking,
    carried: Carried,
    /// Those who read the output of containers.
    readers: Readers,
    sizes: Sizes,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Spindown {
    /// A service over these adapters. It knows nothing of its containers until [`Spindown::meet_engine`] has run.
    pub fn new(
        settings: Settings,
        engine: Arc<dyn Engine>,
        store: Arc<dyn Store>,
        firewall: Arc<dyn Firewall>,
        carrier: Arc<dyn Carrier>,
        sight: Arc<dyn Sight>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let now = clock.now();
        let events = Arc::new(EventLog::new(now));
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            snapshot: Snapshot::new(Arc::clone(&events), Arc::clone(&clock)),
            events,
            watch: Mutex::new(Watch::new(now)),
            vitals: Vitals::default(),
            accounts: Mutex::default(),
            locks: Locks::default(),
            looks: Locks::default(),
            writes: Locks::default(),
            in_flight: Mutex::default(),
            leftovers: Mutex::default(),
            cursor: Mutex::default(),
            addresses: settings.network.addresses().collect(),
            check_ins: CheckInLimiter::new(Arc::clone(&clock)),
            doorman: Doorman::new(settings.admin.clone()),
            key_reads: Semaphore::new(KEY_READS_AT_ONCE),
            starts: Semaphore::new(settings.starts_at_once),
            starts_waiting: Semaphore::new(settings.starts_at_once + settings.starts_waiting),
            stops: Semaphore::new(settings.stops_at_once),
            going_to_sleep: Mutex::default(),
            pulls: Arc::new(Semaphore::new(image::PULLS_AT_ONCE)),
            frozen: Frozen::default(),
            waking: Waking::default(),
            carried: Carried::default(),
            readers: Readers::default(),
            sizes: Sizes::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            settings,
            engine,
            store,
            firewall,
            carrier,
            sight,
            clock,
        })
    }

    /// Lets `work` go on beside the caller, logged under the same request. The server waits for it when it ends.
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> tokio::task::JoinHandle<()> {
        let me = self.me.upgrade().expect("whoever calls this holds it");
        self.tasks.spawn(work(me).in_current_span())
    }

    /// Now, by the clock of the service.
    pub fn now(&self) -> Stamp {
        self.clock.now()
    }

    /// What it was told at the start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Told when the server is to end: whatever runs on a timer stops then.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Puts the firewall rules in place if they are not.
    pub async fn ensure_firewall(&self) {
        let outcome = self.firewall.ensure().await;
        match &outcome {
            Ok(true) => {
                tracing::warn!("firewall rules were gone and have been put back");
                self.events.note_host(self.clock.now(), What::RulesRestored);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = error.message(), source = ?error, "firewall rules cannot be put in place")
            }
        }
        self.vitals.firewall_seen(outcome.map(|_| ()));
    }

    /// Ends: no new work, what runs may finish within `bound`, touches are written. Containers keep running.
    pub async fn close(&self, bound: Duration) {
        self.shutdown.cancel();
        self.tasks.close();
        // Nobody tells any more who comes for what is frozen: it goes on at once, whatever else is to be waited for.
        let thawed = tokio::time::timeout(bound, self.thaw_all());
        let (done, _) = tokio::join!(tokio::time::timeout(bound, self.tasks.wait()), thawed);
        if done.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "some stops did not finish in time; they are taken up at the next start"
            );
        }
        // What was halted for a stop that did not come about.
        if tokio::time::timeout(bound, self.thaw_all()).await.is_err() {
            tracing::warn!("not all containers that are frozen could be let go on");
        }
        self.flush().await;
    }
}

/// A lock whose holders leave nothing half-done, so that a panic of one does not matter to the next.
trait Unpoisoned<T> {
    fn locked(&self) -> std::sync::MutexGuard<'_, T>;
}

impl<T> Unpoisoned<T> for Mutex<T> {
    fn locked(&self) -> std::sync::MutexGuard<'_, T> {
        self.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
