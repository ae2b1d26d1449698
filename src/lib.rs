//! Spindown hands out sandbox containers, watches who uses them and puts the idle ones to sleep.
//!
//! The map: [`model`] has the nouns and [`policy`] the decisions, both pure. [`engine`], [`store`], [`firewall`] and
//! [`sight`] are what is asked of the outside, with their adapters; [`carrier`] is a process of its own. [`service`] brings
//! them together, one noun a file; [`reconcile`] calls it on timers and signals, [`http`] for whoever calls, [`wake`] for
//! whoever connects. This file assembles a [`Server`] from adapters.

pub mod carrier;
pub mod clock;
pub mod config;
pub mod engine;
pub mod firewall;
pub mod http;
mod listener;
pub mod meter;
pub mod model;
pub mod policy;
pub mod reconcile;
pub mod service;
pub mod sight;
mod socket;
pub mod step;
pub mod store;
pub mod wake;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_cron_scheduler::JobScheduler;

use crate::{
    carrier::Carrier,
    clock::Clock,
    config::Loaded,
    engine::Engine,
    firewall::Firewall,
    http::TrustedProxies,
    listener::Listener,
    model::{Kind, Result},
    service::Spindown,
    sight::Sight,
    store::{Store, metered::Metered},
    wake::door::Door,
};

/// How long stops may take to finish when the server ends; Rocket gives running requests about as long before that.
const FINISH: Duration = Duration::from_secs(15);

/// The adapters that a server stands on.
pub struct Adapters {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The rules that isolate the containers.
    pub firewall: Arc<dyn Firewall>,
    /// Who carries the connections that come through the door.
    pub carrier: Arc<dyn Carrier>,
    /// Who looks into containers.
    pub sight: Arc<dyn Sight>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// A running server.
pub struct Server {
    spindown: Arc<Spindown>,
    api: Listener,
    scheduler: JobScheduler,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts serving. An engine that is away is waited for in the background; everything else that is wrong stops the
    /// start.
    ///
    /// # Errors
    /// Whatever keeps the server from keeping its promises, with what to do about it.
    pub async fn start(loaded: &Loaded, adapters: Adapters) -> Result<Self> {
        meter::install();
        let Adapters { engine, store, firewall, carrier, sight, clock } = adapters;
        let store: Arc<dyn Store> = Arc::new(Metered::new(store));
        store.ping().await?;
        firewall.ensure().await?;
        let spindown = Spindown::new(loaded.settings()?, engine, store, firewall, Arc::clone(&carrier), sight, clock);
        let met = match spindown.meet_engine().await {
            Err(error) if error.kind() == Kind::Unavailable => {
                tracing::error!(
                    error = error.message(),
                    "starting without the engine; it will be taken up when it answers"
                );
                spindown.lose_engine();
                None
            }
            outcome => Some(outcome?),
        };
        let proxies = TrustedProxies(loaded.config.auth.trusted_proxies.clone());
        let api = http::api_server(loaded.figment.clone(), Arc::clone(&spindown), proxies);
        let api = listener::launch(api).await?;
        let mut workers = Vec::new();
        if loaded.config.check_in.enabled {
            let address = (loaded.network().gateway(), loaded.config.check_in.port).into();
            workers.push(listener::serve_check_ins(loaded.figment.clone(), address, Arc::clone(&spindown)).await?);
        }
        workers.push(tokio::spawn(reconcile::drift::run(Arc::clone(&spindown), met)));
        workers.push(tokio::spawn(reconcile::touch::run(Arc::clone(&spindown))));
        workers.push(tokio::spawn(reconcile::firewall::run(Arc::clone(&spindown))));
        workers.push(tokio::spawn(reconcile::disk::run(Arc::clone(&spindown))));
        workers.push(tokio::spawn(reconcile::sight::run(Arc::clone(&spindown))));
        if let Some(port) = loaded.door() {
            let door = Door::open(port, Arc::clone(&spindown), carrier)?;
            workers.push(tokio::spawn(door.run()));
            workers.push(tokio::spawn(wake::keep(Arc::clone(&spindown))));
            workers.push(tokio::spawn(wake::hear_knocks(Arc::clone(&spindown))));
        }
        let scheduler = reconcile::idle::start(Arc::clone(&spindown)).await?;
        Ok(Self { spindown, api, scheduler, workers })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// Serves until the API's listener fails; [`Server::stop`] is the other way to end.
    ///
    /// # Errors
    /// Why the listener failed.
    pub async fn failed(&mut self) -> Result<()> {
        match (&mut self.api.task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(model::Error::new(Kind::Internal, "the API's listener ended").caused_by(error)),
        }
    }

    /// Ends: no new work, running requests and stops finish within a bound, touches are written. Containers keep running.
    pub async fn stop(mut self) {
        tracing::info!("shutting down");
        self.spindown.shutdown().cancel();
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "the scheduler did not end well");
        }
        self.api.end().await;
        self.spindown.close(FINISH).await;
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}
