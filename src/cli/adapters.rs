//! The real adapters, made from the configuration.

use std::sync::Arc;

use spindown::{
    Adapters,
    carrier::{Carrier, NoCarrier, link::Link},
    clock::SystemClock,
    config::Loaded,
    engine::docker::Docker,
    firewall::{
        Firewall, NoFirewall,
        nft::Nft,
        rules::{Door, Rules},
    },
    model::Result,
    sight::{NoSight, Sight, linux::Linux},
    store::{Store, embedded::Embedded, redis::Redis},
};

use super::carry;

/// All that a server stands on.
pub(super) async fn adapters(loaded: &Loaded) -> Result<Adapters> {
    let config = &loaded.config;
    let store: Arc<dyn Store> = match &config.redis_url {
        Some(url) => Arc::new(Redis::connect(url, &config.instance.to_string()).await?),
        None => Arc::new(Embedded::open(config.data.path())?),
    };
    let firewall: Arc<dyn Firewall> = if config.firewall.enabled {
        Arc::new(Nft::new(rules(loaded))?)
    } else {
        tracing::warn!("the firewall is switched off: containers reach each other's ports and the host's services");
        Arc::new(NoFirewall)
    };
    let carrier: Arc<dyn Carrier> = match loaded.door() {
        Some(_) => Arc::new(Link::new(config.data.path(), Box::new(carry::start))),
        None => Arc::new(NoCarrier),
    };
    let sight: Arc<dyn Sight> = match config.evidence.enabled && config.engine.as_str().starts_with("unix:") {
        true => Arc::new(Linux::new()?),
        false => Arc::new(NoSight),
    };
    Ok(Adapters {
        carrier,
        sight,
        engine: Arc::new(engine(loaded)?),
        store,
        firewall,
        clock: Arc::new(SystemClock::new()),
    })
}

/// The engine.
pub(super) fn engine(loaded: &Loaded) -> Result<Docker> {
    Docker::connect(loaded.config.engine.as_str(), &loaded.config.instance.to_string())
}

/// The rules for the containers' network.
pub(super) fn rules(loaded: &Loaded) -> Rules {
    let network = loaded.network();
    Rules {
        table: network.name.clone(),
        bridge: network.bridge.clone(),
        gateway: network.gateway(),
        check_in_port: loaded.config.check_in.port,
        subnet: network.subnet,
        door: loaded.door().map(|port| Door { port, published: loaded.config.ports.bind }),
    }
}
