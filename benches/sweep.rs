//! The sweep over a hundred thousand simulated containers, none of which is idle.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use spindown::{
    carrier::NoCarrier,
    clock::SystemClock,
    engine::{Engine, NetworkSpec, sim::Sim},
    firewall::NoFirewall,
    model::{Blueprint, Container, ContainerId, HostName, Image, Rungs, Timeout, Wake},
    service::{Settings, Spindown, user::Credentials},
    sight::NoSight,
    store::Store,
};

use crate::{
    rival::LIMITS,
    support::memory::MemoryStore,
    table::{Aim, Row, median},
};

const MANY: usize = 100_000;
const ROUNDS: usize = 21;
const IMAGE: &str = "sandbox";

/// A service over a simulated engine with so many containers that run, all at addresses of this network.
pub async fn simulated(many: usize, network: NetworkSpec, store: Arc<dyn Store>) -> Arc<Spindown> {
    let clock = Arc::new(SystemClock::new());
    let sim = Arc::new(Sim::new(clock.clone()));
    sim.add_image(IMAGE, Image::default());
    sim.ensure_network(&network).await.unwrap();
    for address in network.addresses().take(many) {
        let id = ContainerId::from_bits(rand::random());
        let idle_timeout = Timeout::After(Duration::from_secs(9_000));
        let blueprint = Blueprint {
            labels: Container::birth_labels("bench", &id, "admin", idle_timeout, Wake::Always, &BTreeMap::new()),
            id,
            name: None,
            hostname: None,
            image: IMAGE.to_owned(),
            command: None,
            env: BTreeMap::new(),
            ports: Vec::new(),
            bind: Ipv4Addr::LOCALHOST.into(),
            network: network.name.clone(),
            address,
            limits: LIMITS,
            volumes: Default::default(),
        };
        let id = sim.create(&blueprint).await.unwrap();
        sim.start(&id).await.unwrap();
    }
    let settings = Settings {
        instance: "bench".to_owned(),
        host: HostName::local(),
        network,
        ports: 20_000..=29_999,
        bind: Ipv4Addr::LOCALHOST.into(),
        limits: LIMITS,
        memory_reserve: 0,
        disk_reserve: 0,
        idle_timeout: Timeout::Never,
        rungs: Rungs::default(),
        extend_most: Duration::from_secs(86_400),
        look_every: Duration::from_secs(5),
        look_window: Duration::from_secs(60),
        sweep_every: Duration::from_secs(60),
        stop_grace: Duration::from_secs(10),
        stops_at_once: 8,
        starts_at_once: 4,
        starts_waiting: 200,
        door: true,
        flush_every: Duration::from_secs(1),
        drift_every: Duration::from_secs(30),
        admin: Credentials::with_password("admin", "spindocker").unwrap(),
    };
    let spindown =
        Spindown::new(settings, sim, store, Arc::new(NoFirewall), Arc::new(NoCarrier), Arc::new(NoSight), clock);
    spindown.meet_engine().await.unwrap();
    spindown
}

pub async fn measure() -> Vec<Row> {
    let subnet = "10.0.0.0/15".parse().unwrap();
    let network = NetworkSpec { name: "bench".to_owned(), bridge: "bench".to_owned(), subnet };
    let spindown = simulated(MANY, network, Arc::new(MemoryStore::default())).await;
    // What an adoption set going is over then.
    spindown.flush().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut sweeps = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        spindown.sweep().await;
        sweeps.push(begun.elapsed());
    }
    spindown.close(Duration::from_secs(1)).await;
    let figure = median(&sweeps).as_secs_f64() * 1e3;
    vec![Row::figure("a sweep over 100,000 simulated", figure, "ms", Aim::AtMost(50.0))]
}
