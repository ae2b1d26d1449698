//! Sight: containers that are up are looked into at regular intervals.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use crate::service::Spindown;

/// Runs until the server ends.
pub async fn run(spindown: Arc<Spindown>) {
    let mut ticks = interval(spindown.settings().look_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => spindown.look_into_all().await,
            () = spindown.shutdown().cancelled() => return,
        }
    }
}
